"""A lane is a timer per key, all of the same delay, at the price of one timer of the loop."""

import asyncio

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sidecar.timers import Lane
from tests.support.virtual_time import VirtualTimeLoop, in_virtual_time, now, run

TICK = 1 / 64  # of a second: sums of it are exact, and longer than any clock's resolution


def loop_timers() -> int:
    """How many timers the loop has now."""
    loop = asyncio.get_running_loop()
    assert isinstance(loop, VirtualTimeLoop)
    return loop.timers


@in_virtual_time
async def test_each_key_expires_its_delay_after_its_start() -> None:
    expired: list[tuple[str, float]] = []
    lane: Lane[str] = Lane(asyncio.get_running_loop(), 10, lambda key: expired.append((key, now())))

    lane.start("a")
    await asyncio.sleep(3)
    lane.start("b")
    await asyncio.sleep(100)

    assert expired == [("a", 10), ("b", 13)]
    assert len(lane) == 0


@in_virtual_time
async def test_a_stopped_key_never_expires() -> None:
    expired: list[str] = []
    lane: Lane[str] = Lane(asyncio.get_running_loop(), 10, expired.append)

    lane.start("a")
    lane.start("b")
    lane.stop("a")
    lane.stop("never started")
    assert ("a" in lane, "b" in lane, len(lane)) == (False, True, 1)
    await asyncio.sleep(100)
    lane.stop("b")

    assert expired == ["b"]


@in_virtual_time
async def test_a_key_started_again_begins_anew() -> None:
    expired: list[tuple[str, float]] = []
    lane: Lane[str] = Lane(asyncio.get_running_loop(), 10, lambda key: expired.append((key, now())))

    lane.start("a")
    await asyncio.sleep(6)
    lane.start("b")
    lane.start("a")
    await asyncio.sleep(100)

    assert expired == [("b", 16), ("a", 16)]


@in_virtual_time
async def test_a_cleared_lane_forgets_everything() -> None:
    lane: Lane[str] = Lane(asyncio.get_running_loop(), 10, pytest.fail)
    lane.start("a")

    lane.clear()

    assert (len(lane), loop_timers()) == (0, 0)
    await asyncio.sleep(100)


@in_virtual_time
async def test_a_thousand_keys_need_one_timer_of_the_loop() -> None:
    expired: list[int] = []
    lane: Lane[int] = Lane(asyncio.get_running_loop(), 10, expired.append)

    for key in range(1000):
        lane.start(key)
        await asyncio.sleep(TICK / 8)
        assert loop_timers() <= 1
    await asyncio.sleep(100)

    assert expired == list(range(1000))


@in_virtual_time
async def test_a_key_may_be_started_again_as_it_expires_and_still_needs_one_timer() -> None:
    expired: list[float] = []

    def again(key: str) -> None:
        expired.append(now())
        lane.start(key)

    lane: Lane[str] = Lane(asyncio.get_running_loop(), 10, again)
    lane.start("a")
    await asyncio.sleep(5)
    lane.start("b")
    await asyncio.sleep(0.5)
    for _ in range(6):
        await asyncio.sleep(10)
        assert loop_timers() <= 1
    lane.clear()

    assert expired == [10.0, 15.0, 20.0, 25.0, 30.0, 35.0, 40.0, 45.0, 50.0, 55.0, 60.0, 65.0]


def test_a_callback_that_fails_keeps_no_other_key_from_expiring() -> None:
    expired: list[str] = []

    def expire(key: str) -> None:
        if key == "bad":
            raise ValueError(key)
        expired.append(key)

    async def play() -> None:
        lane: Lane[str] = Lane(asyncio.get_running_loop(), 10, expire)
        for key in ("bad", "same time", "later"):
            if key == "later":
                await asyncio.sleep(1)
            lane.start(key)
        await asyncio.sleep(100)

    with pytest.raises(AssertionError, match="a callback failed"):
        run(play())

    assert expired == ["same time", "later"]


EVENTS = st.tuples(st.sampled_from(["start", "start", "stop", "wait"]), st.integers(0, 5), st.integers(0, 40))


@given(st.lists(EVENTS, max_size=60), st.integers(1, 30))
@settings(max_examples=150)
def test_a_lane_does_what_a_timer_for_each_key_would_do(
    events: list[tuple[str, int, int]], delay: int
) -> None:
    async def play() -> None:
        loop = asyncio.get_running_loop()
        expired: list[tuple[float, int]] = []
        expected: list[tuple[float, int]] = []
        naive: dict[int, asyncio.TimerHandle] = {}
        lane: Lane[int] = Lane(loop, delay * TICK, lambda key: expired.append((now(), key)))

        def expire(key: int) -> None:
            del naive[key]
            expected.append((now(), key))

        for what, key, ticks in events:
            if what == "wait":
                # Half a tick off, so that no event falls on the moment of an expiry, where either order is right.
                await asyncio.sleep(ticks * TICK + TICK / 2)
            else:
                if (handle := naive.pop(key, None)) is not None:
                    handle.cancel()
                if what == "start":
                    naive[key] = loop.call_later(delay * TICK, expire, key)
                    lane.start(key)
                else:
                    lane.stop(key)
            assert sorted(naive) == sorted(key for key in range(6) if key in lane)
        await asyncio.sleep(1000)

        assert sorted(expired) == sorted(expected)
        assert expired == sorted(expired, key=lambda entry: entry[0])
        assert loop_timers() == 0

    run(play())
