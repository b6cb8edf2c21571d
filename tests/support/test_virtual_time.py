"""The clock that the other tests rely on: exact, ordered, and unable to hang."""

import asyncio
import time

import pytest

from tests.support.virtual_time import NothingCanWake, VirtualTimeLoop, in_virtual_time, now, run


def test_a_day_passes_in_no_time() -> None:
    async def a_day() -> float:
        for _ in range(24):
            await asyncio.sleep(3600)
        return now()

    began = time.perf_counter()

    assert run(a_day()) == 86_400
    assert time.perf_counter() - began < 5


@in_virtual_time
async def test_time_stands_still_while_there_is_something_to_do() -> None:
    for _ in range(1000):
        await asyncio.sleep(0)

    assert now() == 0


@in_virtual_time
async def test_timers_fire_in_their_order_at_exactly_their_time() -> None:
    fired: list[tuple[str, float]] = []

    def note(name: str) -> None:
        fired.append((name, now()))

    loop = asyncio.get_running_loop()
    for name, delay in [("c", 7200.1), ("a", 0.1), ("b", 0.3)]:
        loop.call_later(delay, note, name)

    await asyncio.sleep(10_000)

    assert fired == [("a", 0.1), ("b", 0.3), ("c", 7200.1)]


@in_virtual_time
async def test_timeouts_of_every_kind_obey_the_clock() -> None:
    async with asyncio.timeout(100):
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(asyncio.Event().wait(), 5)
        assert now() == 5
        with pytest.raises(TimeoutError):
            async with asyncio.timeout_at(7):
                await asyncio.sleep(50)
        assert now() == 7


@in_virtual_time
async def test_a_cancelled_timer_does_not_move_the_clock() -> None:
    loop = asyncio.get_running_loop()
    loop.call_later(10, lambda: None).cancel()

    await asyncio.sleep(20)

    assert now() == 20


@in_virtual_time
async def test_the_number_of_timers_can_be_asked_for() -> None:
    loop = asyncio.get_running_loop()
    assert isinstance(loop, VirtualTimeLoop)
    kept = loop.call_later(10, lambda: None)
    loop.call_later(10, lambda: None).cancel()

    assert loop.timers == 1
    kept.cancel()
    assert loop.timers == 0


def test_waiting_for_what_cannot_come_fails_instead_of_hanging() -> None:
    async def for_ever() -> None:
        await asyncio.sleep(3)
        await asyncio.Event().wait()

    with pytest.raises(NothingCanWake, match="at 3 s"):
        run(for_ever())


def test_a_task_that_outlives_its_test_is_a_failure() -> None:
    async def forgetful() -> None:
        kept.append(asyncio.get_running_loop().create_task(asyncio.sleep(1), name="forgotten"))

    kept: list[asyncio.Task[None]] = []

    with pytest.raises(AssertionError, match="forgotten"):
        run(forgetful())


def test_a_callback_that_raises_is_a_failure() -> None:
    async def careless() -> None:
        asyncio.get_running_loop().call_soon(lambda: 1 / 0)
        await asyncio.sleep(1)

    with pytest.raises(AssertionError, match="a callback failed") as caught:
        run(careless())

    assert isinstance(caught.value.__cause__, ZeroDivisionError)


def test_what_the_test_raises_comes_out_as_it_is() -> None:
    async def failing() -> None:
        await asyncio.sleep(1)
        raise KeyError("mine")

    with pytest.raises(KeyError, match="mine"):
        run(failing())


def test_two_runs_know_nothing_of_each_other() -> None:
    async def one() -> float:
        await asyncio.sleep(5)
        return now()

    assert [run(one()), run(one())] == [5, 5]
