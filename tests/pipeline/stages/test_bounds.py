"""The bounds on bodies: set on both, and held to where the size is known already."""

from collections.abc import Callable

import pytest

from sidecar.message import Body, Reply, Request
from sidecar.pipeline.exchange import Exchange
from tests.support.exchanges import a_body, a_request, a_route
from tests.support.upstream import Arrival, Upstream, answer
from tests.support.virtual_time import in_virtual_time


def announced(length: int) -> Request:
    """A request that announces so many bytes, none of which has come."""
    return a_request("POST", body=Body(lambda: 0.0), length=length)


def chunked(*pieces: bytes) -> Request:
    """A request whose pieces have come, without having been announced."""
    return a_request("POST", body=a_body(*pieces))


@pytest.mark.parametrize("request_of", [lambda: announced(10), lambda: chunked(b"x" * 9, b"y")])
@in_virtual_time
async def test_a_body_as_large_as_allowed_passes(request_of: Callable[[], Request]) -> None:
    route = a_route(Upstream(answer(201)), max_body=10)

    assert (await route.ask(request_of())).status == 201


@pytest.mark.parametrize("request_of", [lambda: announced(11), lambda: chunked(b"x" * 10, b"y")])
@in_virtual_time
async def test_a_body_larger_than_allowed_never_goes_upstream(request_of: Callable[[], Request]) -> None:
    upstream = Upstream()
    route = a_route(upstream, max_body=10)

    got = await route.ask(request_of())

    assert (got.status, route.fates, upstream.arrivals) == (413, ["bad_request"], [])


@in_virtual_time
async def test_what_still_comes_is_bounded_too() -> None:
    request = a_request("POST", body=Body(lambda: 0.0))
    await a_route(Upstream(answer()), max_body=10, idle=60).ask(request)

    assert request.body is not None
    assert (request.body.limit, request.body.idle) == (10, 60)


@in_virtual_time
async def test_the_replys_body_gets_its_bounds_also_when_it_is_an_answer_of_ours() -> None:
    seen: list[tuple[float | None, float | None]] = []

    async def asked(exchange: Exchange) -> Reply:
        return await Upstream(answer())(exchange)

    route = a_route(asked, idle=60, body=3600)
    for request in (a_request(), a_request("POST", body=a_body(b"x"))):
        reply = await route.pipeline.call(Exchange(request, "a-route", lambda: 0.0, route.done.append))
        seen.append((reply.idle, reply.lifetime))
        reply.close()

    assert seen == [(60, 3600), (60, 3600)]


@in_virtual_time
async def test_a_request_without_a_body_has_nothing_to_bound() -> None:
    upstream = Upstream(answer())

    assert (await a_route(upstream, max_body=1, idle=1).get()).status == 200
    assert upstream.arrivals == [Arrival(0, b"GET", b"/", "answered", 0, [None])]
