"""From a request to its route, and an answer, an id and a record for whatever finds none."""

import json
from itertools import count

import pytest

from sidecar.config.pattern import parse_path
from sidecar.config.router import RouteMatch, Router
from sidecar.counts import Histogram
from sidecar.errors import HeadTooLarge, RequestHeadTimeout
from sidecar.message import Reply, Request
from sidecar.pipeline.assemble import Policy, assemble
from sidecar.pipeline.dispatch import NO_ROUTE, Dispatcher
from sidecar.pipeline.exchange import Exchange
from tests.support.exchanges import a_request, some_parts
from tests.support.upstream import Upstream, answer
from tests.support.virtual_time import in_virtual_time


class Table:
    """A dispatcher of two routes, `orders` and `rest`, and what it recorded."""

    def __init__(self) -> None:
        self.done: list[Exchange] = []
        self.orders, self.rest = Upstream(then=answer(200)), Upstream(then=answer(404))
        parts, ids = some_parts(), count(1)
        matches = [RouteMatch(parse_path("/orders/**")), RouteMatch(parse_path("/rest"))]
        pipelines = [
            assemble(Policy(route=name, upstream=name), parts, Histogram(), upstream)
            for name, upstream in (("orders", self.orders), ("rest", self.rest))
        ]
        self.dispatcher = Dispatcher(
            Router(matches), pipelines, parts, self.done.append, lambda: b"new-%d" % next(ids)
        )

    async def ask(self, request: Request) -> Reply:
        reply = await self.dispatcher(request)
        reply.close()
        return reply


@in_virtual_time
async def test_a_request_goes_to_the_first_route_that_matches() -> None:
    table = Table()

    statuses = [(await table.ask(a_request(target=target))).status for target in ("/orders/7?x=1", "/rest")]

    assert statuses == [200, 404]
    assert [arrival.target for arrival in table.orders.arrivals] == [b"/orders/7?x=1"]
    assert [(exchange.route, str(exchange.fate)) for exchange in table.done] == [
        ("orders", "ok"),
        ("rest", "ok"),
    ]


@in_virtual_time
async def test_a_request_without_a_route_is_a_404_of_ours() -> None:
    table = Table()

    reply = await table.ask(a_request(target="/elsewhere"))

    assert isinstance(reply.body, bytes)
    problem = json.loads(reply.body)
    assert (reply.status, problem["code"], "route" in problem) == (404, "no_route", False)
    assert [(exchange.route, str(exchange.fate)) for exchange in table.done] == [(NO_ROUTE, "no_route")]
    assert NO_ROUTE == "_none"


@pytest.mark.parametrize("method", ["OPTIONS", "TRACE"])
@in_virtual_time
async def test_a_request_that_must_go_no_further_does_not(method: str) -> None:
    table = Table()

    reply = await table.ask(a_request(method, "/orders/7", max_forwards=0))

    assert reply.status == 200
    assert (table.orders.arrivals, len(table.done)) == ([], 1)


@in_virtual_time
async def test_bytes_that_are_no_request_get_an_answer_an_id_and_a_record() -> None:
    table = Table()

    replies = [
        table.dispatcher.refuse(error, "192.0.2.1") for error in (HeadTooLarge(), RequestHeadTimeout())
    ]
    assert table.done == []
    for reply in replies:
        reply.close()

    assert [reply.status for reply in replies] == [431, 408]
    assert [dict(reply.extra)[b"X-Request-ID"] for reply in replies] == [b"new-1", b"new-2"]
    assert [(one.route, str(one.fate), one.status, one.request.client) for one in table.done] == [
        (NO_ROUTE, "bad_request", 431, "192.0.2.1"),
        (NO_ROUTE, "bad_request", 408, "192.0.2.1"),
    ]


# --- maintenance ---


@in_virtual_time
async def test_a_route_under_maintenance_refuses_and_the_others_go_on() -> None:
    table = Table()

    table.dispatcher.maintain({"orders": 120.0})
    refused = await table.ask(a_request(target="/orders/1"))
    passed = await table.ask(a_request(target="/rest"))

    assert (refused.status, refused.fields.first(b"retry-after")) == (503, b"120")
    assert isinstance(refused.body, bytes)
    assert b"maintenance" in refused.body
    assert passed.status == 404
    assert [(each.route, str(each.fate)) for each in table.done] == [
        ("orders", "maintenance"),
        ("rest", "ok"),
    ]
    assert table.orders.arrivals == []


@in_virtual_time
async def test_after_maintenance_everything_is_as_before() -> None:
    table = Table()
    table.dispatcher.maintain({"orders": 120.0, "rest": 1.0})

    table.dispatcher.maintain({})

    assert [(await table.ask(a_request(target=each))).status for each in ("/orders/1", "/rest")] == [200, 404]
    assert [pipeline.route for pipeline in table.dispatcher.pipelines] == ["orders", "rest"]
