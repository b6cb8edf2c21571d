"""What goes wrong in one request, or on one route, is nobody else's trouble."""

import asyncio

from sidecar.errors import Disconnected
from sidecar.pipeline.exchange import Exchange
from tests.support.exchanges import Settings, a_route, some_parts
from tests.support.upstream import Upstream, answer, fail, hang, stream, timetable
from tests.support.virtual_time import in_virtual_time, now

BOUNDS: Settings = {"attempt": 10.0, "total": 15.0, "idle": 60.0}


@in_virtual_time
async def test_a_route_that_hangs_does_not_slow_another() -> None:
    stuck, well = a_route(Upstream(then=hang()), **BOUNDS), a_route(Upstream(then=answer(after=1)), **BOUNDS)
    hanging = [stuck.start() for _ in range(100)]
    await asyncio.sleep(0)

    got = [await well.get() for _ in range(5)]

    assert [(one.status, one.at) for one in got] == [(200, at) for at in (1, 2, 3, 4, 5)]
    assert {(one.status, one.at) for one in await asyncio.gather(*hanging)} == {(504, 10)}
    assert (set(stuck.fates), set(well.fates)) == ({"timeout_attempt"}, {"ok"})
    assert (stuck.counts, well.counts) == ({"timeout_attempt": 100}, {"ok": 5})


@in_virtual_time
async def test_a_fault_in_one_request_is_no_other_requests() -> None:
    faults: list[Exception] = []

    def note(exchange: Exchange, fault: Exception) -> None:
        faults.append(fault)

    upstream = Upstream(answer(after=2), fail(MemoryError(), after=1), stream([(5, b"x")], after=1))
    route = a_route(upstream, parts=some_parts(on_fault=note), **BOUNDS)

    got = await asyncio.gather(*[route.start() for _ in range(3)])

    assert [(one.status, one.ended_at) for one in got] == [(200, 2), (500, 1), (200, 6)]
    assert [type(fault) for fault in faults] == [MemoryError]


@in_virtual_time
async def test_an_outage_of_two_hours_ends_with_the_outage() -> None:
    upstream = Upstream(
        then=timetable(
            (0, answer(after=0.5)), (3600, fail(Disconnected())), (7200, hang()), (10_800, answer())
        )
    )
    route = a_route(upstream, **BOUNDS)
    seen: dict[int, set[int]] = {}
    while now() < 4 * 3600:
        hour = int(now() // 3600)
        seen.setdefault(hour, set()).add((await route.get()).status)
        await asyncio.sleep(60)

    assert seen == {0: {200}, 1: {502}, 2: {504}, 3: {200}}
    assert upstream.under_way == 0
