"""The total deadline bounds everything up to the head, and nothing after it."""

import asyncio

import pytest

from sidecar.errors import Disconnected, TotalTimeout
from sidecar.message import Reply
from sidecar.pipeline.exchange import Exchange
from tests.support.exchanges import a_route
from tests.support.upstream import Arrival, Step, Upstream, answer, fail, hang, stream
from tests.support.virtual_time import VirtualTimeLoop, in_virtual_time, now


@in_virtual_time
async def test_a_hang_ends_at_the_deadline_and_the_upstream_is_let_go() -> None:
    upstream = Upstream(hang())
    route = a_route(upstream, total=15)

    got = await route.get()

    assert (got.status, got.at, route.fates) == (504, 15, ["timeout_total"])
    assert upstream.arrivals == [Arrival(0, b"GET", b"/", "cancelled", 15)]
    assert isinstance(route.done[0].error, TotalTimeout)


@in_virtual_time
async def test_a_head_in_time_ends_the_deadline_however_long_the_body_takes() -> None:
    route = a_route(Upstream(stream([(3600, b"late")], after=14)), total=15)

    got = await route.get()

    assert (got.status, got.body, got.ended_at, route.fates) == (200, b"late", 3614, ["ok"])


@in_virtual_time
async def test_an_error_in_time_passes_and_leaves_no_timer_behind() -> None:
    route = a_route(Upstream(fail(Disconnected(), after=14)), total=15)

    got = await route.get()
    await asyncio.sleep(100)  # a timer that was left would cancel this

    assert (got.status, got.at, now()) == (502, 14, 114)


@in_virtual_time
async def test_each_request_has_a_deadline_of_its_own() -> None:
    upstream = Upstream(hang(), answer(after=14), hang())
    route = a_route(upstream, total=15)
    tasks = []
    for _ in range(3):
        tasks.append(route.start())
        await asyncio.sleep(5)

    got = await asyncio.gather(*tasks)

    assert [(one.status, one.at) for one in got] == [(504, 15), (200, 19), (504, 25)]


@in_virtual_time
async def test_a_thousand_requests_under_way_need_one_timer() -> None:
    route = a_route(Upstream(then=hang()), total=15)
    tasks = [route.start() for _ in range(1000)]
    await asyncio.sleep(1)
    loop = asyncio.get_running_loop()
    assert isinstance(loop, VirtualTimeLoop)

    assert loop.timers == 1
    assert {got.status for got in await asyncio.gather(*tasks)} == {504}


@in_virtual_time
async def test_a_cancellation_from_outside_is_not_taken_for_the_deadline() -> None:
    route = a_route(Upstream(hang()), total=15)
    task = route.start()
    await asyncio.sleep(14.9)

    task.cancel()
    await asyncio.wait([task])

    assert (task.cancelled(), route.fates) == (True, ["client_gone"])


@in_virtual_time
async def test_a_client_that_leaves_in_the_tick_of_the_deadline_has_left() -> None:
    route = a_route(Upstream(hang()), total=15)
    task = route.start()
    asyncio.get_running_loop().call_at(15, task.cancel)
    await asyncio.wait([task])

    assert (task.cancelled(), route.fates) == (True, ["client_gone"])


@in_virtual_time
async def test_after_a_timeout_the_task_is_as_if_it_had_never_been_cancelled() -> None:
    route = a_route(Upstream(hang(), answer(after=1)), total=15)

    await route.get()
    task = asyncio.current_task()
    assert task is not None
    assert task.cancelling() == 0

    assert (await route.get()).status == 200


@in_virtual_time
async def test_an_error_raised_while_being_cancelled_is_the_error() -> None:
    async def clumsy(exchange: Exchange) -> Reply:
        try:
            await asyncio.get_running_loop().create_future()
        except asyncio.CancelledError:
            raise Disconnected("while cleaning up") from None
        raise AssertionError

    route = a_route(clumsy, total=15)

    got = await route.get()
    task = asyncio.current_task()

    assert (got.status, route.fates) == (502, ["upstream_disconnected"])
    assert task is not None
    assert task.cancelling() == 0


@pytest.mark.parametrize("step", [answer(after=15), fail(Disconnected(), after=15)])
@in_virtual_time
async def test_a_reply_in_the_tick_of_the_deadline_is_given_back_or_given_out(step: Step) -> None:
    upstream = Upstream(step)
    route = a_route(upstream, total=15)

    got = await route.get()

    assert route.fates in (["ok"], ["upstream_disconnected"], ["timeout_total"])
    assert got.at == 15
    assert upstream.under_way == 0
