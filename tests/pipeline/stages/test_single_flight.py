"""Who waits for whom, and what becomes of those who wait."""

import asyncio

import pytest

from sidecar.errors import TotalTimeout
from sidecar.message import NO_FIELDS
from sidecar.pipeline.stages.single_flight import ALONE, LEAD, Flights, Landed
from sidecar.policy.store import Entry
from tests.support.virtual_time import in_virtual_time, now

ENTRY = Entry(("r", b"h", b"/"), 200, NO_FIELDS, b"x", stored_at=0.0)


def follow(flights: Flights, until: float | None = None) -> "asyncio.Task[Landed]":
    return asyncio.get_running_loop().create_task(flights.wait("key", until))


async def a_flight(
    followers: int, until: float | None = None
) -> "tuple[Flights, list[asyncio.Task[Landed]]]":
    flights = Flights(asyncio.get_running_loop())
    flights.lead("key")
    tasks = [follow(flights, until) for _ in range(followers)]
    await asyncio.sleep(0)
    assert (len(flights), flights.waiting("key"), "key" in flights) == (1, followers, True)
    return flights, tasks


@in_virtual_time
async def test_what_lands_is_for_all_who_wait() -> None:
    flights, tasks = await a_flight(3)

    flights.land("key", ENTRY)

    assert [await task for task in tasks] == [ENTRY] * 3
    assert (len(flights), "key" in flights, flights.waiting("key")) == (0, False, 0)


@in_virtual_time
async def test_nothing_to_share_sends_each_on_its_own_way() -> None:
    flights, tasks = await a_flight(2)

    flights.land("key", None)

    assert [await task for task in tasks] == [ALONE, ALONE]


@in_virtual_time
async def test_a_leader_that_leaves_makes_the_first_in_line_the_next() -> None:
    flights, tasks = await a_flight(3)

    flights.hand_over("key")

    assert await tasks[0] is LEAD
    assert (flights.waiting("key"), "key" in flights) == (2, True)
    flights.land("key", ENTRY)
    assert [await task for task in tasks[1:]] == [ENTRY, ENTRY]


@in_virtual_time
async def test_a_leader_that_nobody_follows_ends_its_flight_by_leaving() -> None:
    flights, _ = await a_flight(0)

    flights.hand_over("key")

    assert "key" not in flights


@in_virtual_time
async def test_landing_twice_does_nothing() -> None:
    flights, tasks = await a_flight(1)
    flights.land("key", ENTRY)

    flights.land("key", None)
    flights.land_alone("key", 0.0)
    flights.hand_over("key")

    assert (await tasks[0], flights.is_alone("key", 0.0)) == (ENTRY, False)


@in_virtual_time
async def test_each_waits_until_a_moment_of_its_own() -> None:
    flights, (early,) = await a_flight(1, until=5)
    late = follow(flights, until=8)

    with pytest.raises(TotalTimeout):
        await early
    assert (now(), flights.waiting("key")) == (5, 1)
    flights.land("key", ENTRY)

    assert await late is ENTRY


@in_virtual_time
async def test_what_lands_in_time_stops_the_timer() -> None:
    flights, (task,) = await a_flight(1, until=5)
    flights.land("key", ENTRY)
    await task

    await asyncio.sleep(10)

    assert task.result() is ENTRY


@in_virtual_time
async def test_who_leaves_is_not_made_the_leader() -> None:
    flights, (gone, other) = await a_flight(2)
    gone.cancel()

    flights.hand_over("key")

    assert await other is LEAD
    await asyncio.wait([gone])
    assert gone.cancelled()


@in_virtual_time
async def test_who_leaves_just_when_it_is_made_the_leader_passes_that_on() -> None:
    flights, (gone, other) = await a_flight(2)
    flights.hand_over("key")
    gone.cancel()

    assert await other is LEAD
    await asyncio.wait([gone])
    assert (gone.cancelled(), "key" in flights) == (True, True)


@in_virtual_time
async def test_who_leaves_just_when_it_lands_changes_nothing() -> None:
    flights, (gone, other) = await a_flight(2)
    flights.land("key", ENTRY)
    gone.cancel()

    assert await other is ENTRY
    await asyncio.wait([gone])
    assert gone.cancelled()


@in_virtual_time
async def test_who_is_late_just_when_it_lands_has_the_answer() -> None:
    flights, (task,) = await a_flight(1, until=5)
    asyncio.get_running_loop().call_at(5, flights.land, "key", ENTRY)

    with pytest.raises(TotalTimeout):
        await task  # its timer was set first


@in_virtual_time
async def test_who_is_late_is_not_made_the_leader() -> None:
    flights, (task, other) = await a_flight(2, until=None)
    late = follow(flights, until=5)
    await asyncio.sleep(5)
    flights.hand_over("key")
    flights.hand_over("key")

    assert [await task, await other] == [LEAD, LEAD]
    with pytest.raises(TotalTimeout):
        await late


@in_virtual_time
async def test_where_waiting_was_in_vain_nobody_waits_for_a_while() -> None:
    flights, (task,) = await a_flight(1)

    flights.land_alone("key", 100.0)

    assert await task is ALONE
    assert [flights.is_alone("key", at) for at in (100.0, 109.9, 110.0)] == [True, True, False]
    assert flights.is_alone("other", 100.0) is False


@in_virtual_time
async def test_what_is_remembered_of_waiting_in_vain_is_bounded() -> None:
    flights = Flights(asyncio.get_running_loop())
    for number in range(1025):
        flights.lead(number)
        flights.land_alone(number, 0.0)

    assert [flights.is_alone(number, 0.0) for number in (0, 1023, 1024)] == [False, False, True]
