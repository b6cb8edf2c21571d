"""Who waits for whom, and what becomes of those who wait."""

import asyncio

from sidecar.message import NO_FIELDS
from sidecar.pipeline.stages.single_flight import ALONE, LEAD, Flights, Landed
from sidecar.policy.store import Entry
from tests.support.virtual_time import in_virtual_time, now

ENTRY = Entry(b"r h /", 200, NO_FIELDS, b"x", 0.0)


def follow(flights: Flights, until: float = 1000.0) -> "asyncio.Task[Landed]":
    return asyncio.get_running_loop().create_task(flights.wait(b"key", until))


async def a_flight(followers: int, until: float = 1000.0) -> "tuple[Flights, list[asyncio.Task[Landed]]]":
    flights = Flights(asyncio.get_running_loop())
    assert (flights.lead(b"key"), flights.lead(b"key")) == (True, False)
    tasks = [follow(flights, until) for _ in range(followers)]
    await asyncio.sleep(0)
    assert (len(flights), flights.waiting(b"key"), b"key" in flights) == (1, followers, True)
    return flights, tasks


@in_virtual_time
async def test_what_lands_is_for_all_who_wait() -> None:
    flights, tasks = await a_flight(3)

    flights.land(b"key", ENTRY)

    assert [await task for task in tasks] == [ENTRY] * 3
    assert (len(flights), b"key" in flights, flights.waiting(b"key")) == (0, False, 0)


@in_virtual_time
async def test_nothing_to_share_sends_each_on_its_own_way() -> None:
    flights, tasks = await a_flight(2)

    flights.land(b"key", None)

    assert [await task for task in tasks] == [ALONE, ALONE]


@in_virtual_time
async def test_a_leader_that_leaves_makes_the_first_in_line_the_next() -> None:
    flights, tasks = await a_flight(3)

    flights.hand_over(b"key")

    assert await tasks[0] is LEAD
    assert (flights.waiting(b"key"), b"key" in flights) == (2, True)
    flights.land(b"key", ENTRY)
    assert [await task for task in tasks[1:]] == [ENTRY, ENTRY]


@in_virtual_time
async def test_a_leader_that_nobody_follows_ends_its_flight_by_leaving() -> None:
    flights, _ = await a_flight(0)

    flights.hand_over(b"key")

    assert b"key" not in flights


@in_virtual_time
async def test_landing_twice_does_nothing() -> None:
    flights, tasks = await a_flight(1)
    flights.land(b"key", ENTRY)

    flights.land(b"key", None)
    flights.land_alone(b"key", 0.0)
    flights.hand_over(b"key")

    assert (await tasks[0], flights.is_alone(b"key", 0.0)) == (ENTRY, False)


@in_virtual_time
async def test_each_waits_until_a_moment_of_its_own() -> None:
    flights, (early,) = await a_flight(1, until=5)
    late = follow(flights, until=8)

    assert await early is ALONE
    assert (now(), flights.waiting(b"key"), b"key" in flights) == (5, 1, True)
    flights.land(b"key", ENTRY)

    assert await late is ENTRY


@in_virtual_time
async def test_what_lands_in_time_stops_the_timer() -> None:
    flights, (task,) = await a_flight(1, until=5)
    flights.land(b"key", ENTRY)
    await task

    await asyncio.sleep(10)

    assert task.result() is ENTRY


@in_virtual_time
async def test_who_leaves_is_not_made_the_leader() -> None:
    flights, (gone, other) = await a_flight(2)
    gone.cancel()

    flights.hand_over(b"key")

    assert await other is LEAD
    await asyncio.wait([gone])
    assert gone.cancelled()


@in_virtual_time
async def test_who_leaves_just_when_it_is_made_the_leader_passes_that_on() -> None:
    flights, (gone, other) = await a_flight(2)
    flights.hand_over(b"key")
    gone.cancel()

    assert await other is LEAD
    await asyncio.wait([gone])
    assert (gone.cancelled(), b"key" in flights) == (True, True)


@in_virtual_time
async def test_who_leaves_just_when_it_lands_changes_nothing() -> None:
    flights, (gone, other) = await a_flight(2)
    flights.land(b"key", ENTRY)
    gone.cancel()

    assert await other is ENTRY
    await asyncio.wait([gone])
    assert gone.cancelled()


@in_virtual_time
async def test_who_is_late_just_when_it_lands_asks_on_its_own() -> None:
    flights, (task,) = await a_flight(1, until=5)
    asyncio.get_running_loop().call_at(5, flights.land, b"key", ENTRY)

    assert await task is ALONE  # its timer was set first


@in_virtual_time
async def test_who_is_late_is_not_made_the_leader() -> None:
    flights, (task, other) = await a_flight(2)
    late = follow(flights, until=5)
    await asyncio.sleep(5)
    for _ in range(3):
        flights.hand_over(b"key")

    assert [await task, await other, await late] == [LEAD, LEAD, ALONE]
    assert b"key" not in flights


@in_virtual_time
async def test_where_waiting_was_in_vain_nobody_waits_for_a_while() -> None:
    flights, (task,) = await a_flight(1)

    flights.land_alone(b"key", 100.0)

    assert await task is ALONE
    assert [flights.is_alone(b"key", at) for at in (100.0, 109.9, 110.0)] == [True, True, False]
    assert flights.is_alone(b"other", 100.0) is False


@in_virtual_time
async def test_what_is_remembered_of_waiting_in_vain_is_bounded() -> None:
    flights = Flights(asyncio.get_running_loop())

    def in_vain(key: bytes, at: float) -> bool:
        flights.lead(key)
        flights.land_alone(key, at)
        return flights.is_alone(key, at)

    assert [in_vain(b"x" * 512, 0.0), in_vain(b"x" * 513, 0.0)] == [True, False]
    assert all(in_vain(b"%d" % number, 5.0) for number in range(1023))
    assert [in_vain(b"one more", at) for at in (9.9, 10.0)] == [False, True]
    assert [flights.is_alone(key, 10.0) for key in (b"x" * 512, b"0")] == [False, True]
    assert in_vain(b"0", 14.0)
    assert [flights.is_alone(key, 16.0) for key in (b"0", b"1")] == [True, False]
