"""No default ends a long upload: the bounds on the answer run from when the request was whole, or stopped moving."""

import asyncio

import pytest

from sidecar.message import Body, Reply
from sidecar.pipeline.exchange import Exchange
from tests.support.exchanges import Settings, a_request, a_route, some_parts
from tests.support.upstream import Upstream, answer, fail, hang
from tests.support.virtual_time import in_virtual_time, now

BOUNDS: dict[str, Settings] = {
    "attempt": {"attempt": 10.0},
    "total": {"total": 10.0},
    "both": {"attempt": 10.0, "total": 15.0},
}


def upload(*times: float, ends: float | None = None, piece: bytes = b"piece" * 2000) -> Body:
    """Make a body of which a piece comes at each of `times`, and its end at `ends` (None: never)."""
    loop = asyncio.get_running_loop()
    body = Body(loop.time)
    for time in times:
        loop.call_at(time, body.feed, piece)
    if ends is not None:
        loop.call_at(ends, body.finish)
    return body


async def answer_when_whole(exchange: Exchange) -> Reply:
    """Read the request to its end, and answer three seconds later."""
    body = exchange.request.body
    assert body is not None
    while await body.read():
        pass
    await asyncio.sleep(3)
    return await Upstream(answer(201))(exchange)


@pytest.mark.parametrize("bounds", BOUNDS)
@in_virtual_time
async def test_an_upload_may_take_as_long_as_it_moves(bounds: str) -> None:
    route = a_route(answer_when_whole, **BOUNDS[bounds])

    got = await route.ask(a_request("PUT", body=upload(*range(0, 3600, 5), ends=3600)))
    await asyncio.sleep(1000)  # whatever was forgotten has the time to show

    assert (got.status, got.at, route.fates) == (201, 3603, ["ok"])


@pytest.mark.parametrize(
    ("bounds", "at", "fate"),
    [("attempt", 70, "timeout_attempt"), ("total", 70, "timeout_total"), ("both", 70, "timeout_attempt")],
)
@in_virtual_time
async def test_after_a_whole_upload_the_answer_has_the_time_that_any_answer_has(
    bounds: str, at: float, fate: str
) -> None:
    upstream = Upstream(hang())
    route = a_route(upstream, **BOUNDS[bounds])

    got = await route.ask(a_request("PUT", body=upload(0, 8, 16, 24, 32, 40, 48, 56, ends=60)))

    assert (got.status, got.at, route.fates) == (504, at, [fate])
    assert upstream.under_way == 0


@pytest.mark.parametrize("bounds", ["attempt", "total"])
@in_virtual_time
async def test_an_upload_that_stops_moving_puts_nothing_off(bounds: str) -> None:
    route = a_route(Upstream(hang()), **BOUNDS[bounds])

    got = await route.ask(a_request("PUT", body=upload(0, 7)))

    assert (got.status, got.at) == (504, 17)


@pytest.mark.parametrize(("bounds", "fate"), [("attempt", "timeout_attempt"), ("total", "timeout_total")])
@in_virtual_time
async def test_an_upload_that_only_trickles_puts_nothing_off(bounds: str, fate: str) -> None:
    """A byte a second would hold a connection to the upstream for as long as its client likes."""
    route = a_route(Upstream(hang()), **BOUNDS[bounds])

    got = await route.ask(a_request("PUT", body=upload(*range(100), piece=b"x")))

    assert (got.status, got.at, route.fates) == (504, 10, [fate])


@in_virtual_time
async def test_a_body_that_was_whole_from_the_beginning_puts_nothing_off() -> None:
    route = a_route(Upstream(hang()), **BOUNDS["both"])

    got = await route.ask(a_request("PUT", body=upload(0, ends=0)))

    assert (got.status, got.at) == (504, 10)


@pytest.mark.parametrize("bounds", BOUNDS)
@pytest.mark.parametrize("at", [5, 12, 20, 31])
@in_virtual_time
async def test_a_client_that_leaves_in_its_upload_leaves_no_timer_behind(at: float, bounds: str) -> None:
    upstream = Upstream(hang(), answer())
    route = a_route(upstream, **BOUNDS[bounds])
    task = route.start(a_request("PUT", body=upload(*range(0, 100, 4))))
    await asyncio.sleep(at)

    task.cancel()
    await asyncio.wait([task])

    assert (task.cancelled(), route.fates, upstream.under_way) == (True, ["client_gone"], 0)
    await asyncio.sleep(200)
    assert now() == at + 200


@pytest.mark.parametrize("bounds", BOUNDS)
@pytest.mark.parametrize("error", [False, True], ids=["answered", "failed"])
@in_virtual_time
async def test_an_answer_during_the_upload_ends_every_timer(bounds: str, *, error: bool) -> None:
    step = fail(ConnectionError(), after=35) if error else answer(413, after=35)

    def ignore(exchange: Exchange, fault: Exception) -> None:
        pass

    route = a_route(Upstream(step), parts=some_parts(on_fault=ignore), **BOUNDS[bounds])

    got = await route.ask(a_request("PUT", body=upload(0, 8, 16, 24, 32)))
    assert (got.status, got.at) == (500 if error else 413, 35)
    await asyncio.sleep(100)  # a timer that was left would cancel this
    assert now() == 135
