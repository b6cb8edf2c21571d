"""The scripted upstream plays what its script says, when it says so, and tells what it saw."""

import asyncio

import pytest

from sidecar.errors import ConnectFailed, Disconnected
from sidecar.message import HIGH_WATER, Body
from tests.support.exchanges import a_request, a_route, an_exchange
from tests.support.upstream import Arrival, Upstream, answer, fail, hang, stream, timetable
from tests.support.virtual_time import NothingCanWake, in_virtual_time, now, run


@in_virtual_time
async def test_steps_are_played_in_order_each_at_its_time() -> None:
    upstream = Upstream(
        answer(200, b"one", after=2), fail(Disconnected("two"), after=1), then=answer(503, b"more")
    )
    route = a_route(upstream)

    got = [await route.get("/1"), await route.get("/2"), await route.get("/3"), await route.get("/4")]

    assert [(one.status, one.at) for one in got] == [(200, 2), (502, 3), (503, 3), (503, 3)]
    assert got[0].body == b"one"
    assert upstream.arrivals == [
        Arrival(0, b"GET", b"/1", "answered", 2, [None]),
        Arrival(2, b"GET", b"/2", "failed", 3),
        Arrival(3, b"GET", b"/3", "answered", 3, [None]),
        Arrival(3, b"GET", b"/4", "answered", 3, [None]),
    ]
    assert upstream.under_way == 0


@in_virtual_time
async def test_a_head_request_gets_the_length_and_no_body() -> None:
    reply = await Upstream(answer(200, b"hello"))(an_exchange(a_request("HEAD")))

    assert (reply.body, reply.length) == (None, 5)


@in_virtual_time
async def test_pieces_of_a_stream_come_at_their_times_from_the_head() -> None:
    upstream = Upstream(stream([(0, b"a"), (5, b"b"), (7, b"c")], after=10))
    seen: list[tuple[float, bytes]] = []
    reply = await upstream(an_exchange())
    assert isinstance(reply.body, Body)
    assert now() == 10

    while piece := await reply.body.read():
        seen.append((now(), piece))
    assert upstream.under_way == 1
    reply.close()

    assert seen == [(10, b"a"), (15, b"b"), (17, b"c")]
    assert upstream.under_way == 0
    assert not upstream.arrivals[0].dropped


@in_virtual_time
async def test_a_stream_may_break_after_its_last_piece() -> None:
    route = a_route(Upstream(stream([(1, b"half")], breaks=Disconnected("gone", head_seen=True))))

    got = await route.get()

    assert (got.status, got.body, str(got.error), got.ended_at) == (200, b"half", "gone", 1)


@in_virtual_time
async def test_a_paused_stream_waits_and_then_catches_up() -> None:
    upstream = Upstream(stream([(1, b"x" * (HIGH_WATER + 1)), (2, b"y"), (3, b"z")]))
    reply = await upstream(an_exchange())
    body = reply.body
    assert isinstance(body, Body)
    await asyncio.sleep(100)
    assert body.bytes_fed == HIGH_WATER + 1

    pieces = [len(await body.read()), await body.read(), await body.read(), await body.read()]

    assert pieces == [HIGH_WATER + 1, b"y", b"z", b""]
    assert now() == 100
    reply.close()


@in_virtual_time
async def test_a_closed_reply_is_fed_no_more_and_says_that_it_was_dropped() -> None:
    upstream = Upstream(stream([(1, b"a"), (2, b"b")]))
    reply = await upstream(an_exchange())

    reply.close()
    await asyncio.sleep(10)

    assert isinstance(reply.body, Body)
    assert reply.body.bytes_fed == 0
    assert upstream.arrivals[0].dropped


@in_virtual_time
async def test_a_timetable_goes_by_the_clock() -> None:
    upstream = Upstream(
        then=timetable((0, answer(200)), (3600, fail(ConnectFailed())), (7200.0, answer(204)))
    )
    route = a_route(upstream)
    statuses = []
    for _ in range(5):
        statuses.append((await route.get()).status)
        await asyncio.sleep(1800)

    assert statuses == [200, 200, 502, 502, 204]


@in_virtual_time
async def test_a_cancelled_exchange_is_remembered_as_such() -> None:
    upstream = Upstream(hang())
    task = a_route(upstream).start()
    await asyncio.sleep(3)
    assert upstream.under_way == 1

    task.cancel()
    await asyncio.wait([task])

    assert upstream.arrivals == [Arrival(0, b"GET", b"/", "cancelled", 3)]
    assert upstream.under_way == 0


def test_more_requests_than_steps_fail_the_test() -> None:
    async def twice() -> None:
        route = a_route(Upstream(answer()))
        await route.get()
        await route.get()

    with pytest.raises(AssertionError, match="request 2 comes after the end of the script"):
        run(twice())


def test_a_hanging_upstream_alone_is_found_out() -> None:
    async def asked() -> None:
        await a_route(Upstream(hang())).get()

    with pytest.raises(NothingCanWake):
        run(asked())
