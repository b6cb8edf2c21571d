"""How late the event loop is."""

import asyncio

from sidecar.telemetry.lag import LagMeter
from tests.support.virtual_time import VirtualTimeLoop, in_virtual_time, now


class Clock:
    """The loop's time, and what something that blocked the loop took besides."""

    def __init__(self) -> None:
        self.blocked = 0.0

    def __call__(self) -> float:
        return now() + self.blocked


def a_meter(clock: Clock) -> LagMeter:
    return LagMeter(asyncio.get_running_loop(), every=0.25, clock=clock)


@in_virtual_time
async def test_a_loop_that_is_never_late_has_no_lag() -> None:
    meter = a_meter(Clock())
    meter.start()
    await asyncio.sleep(1.1)
    meter.stop()

    assert (meter.last, meter.worst, sum(meter.seconds.counts)) == (0.0, 0.0, 4)


@in_virtual_time
async def test_what_blocks_the_loop_is_seen_as_soon_as_it_is_over() -> None:
    clock = Clock()
    meter = a_meter(clock)
    meter.start()
    await asyncio.sleep(0.6)
    clock.blocked += 0.08  # a callback that takes 80 ms, until the timer of 0.75 is due
    await asyncio.sleep(0.16)
    seen = (round(meter.last, 9), round(meter.worst, 9))
    await asyncio.sleep(0.3)
    meter.stop()

    assert seen == (0.08, 0.08)
    assert (meter.last, round(meter.worst, 9)) == (0.0, 0.08)
    assert round(meter.seconds.total, 9) == 0.08


@in_virtual_time
async def test_the_worst_is_that_of_the_last_minute() -> None:
    clock = Clock()
    meter = a_meter(clock)
    meter.start()
    await asyncio.sleep(0.1)
    clock.blocked += 0.5
    await asyncio.sleep(59.0)
    seen = [round(meter.worst, 9)]
    await asyncio.sleep(2.0)
    seen.append(meter.worst)
    clock.blocked += 0.5
    await asyncio.sleep(1.0)
    seen.append(round(meter.worst, 9))
    meter.stop()
    await asyncio.sleep(60.0)

    assert [*seen, meter.worst] == [0.5, 0.0, 0.5, 0.0]


@in_virtual_time
async def test_a_timer_that_comes_early_is_no_lag() -> None:
    """uvloop's clock goes in whole milliseconds."""
    clock = Clock()
    meter = a_meter(clock)
    meter.start()
    clock.blocked -= 0.0005
    await asyncio.sleep(0.3)
    meter.stop()

    assert (meter.last, meter.seconds.total) == (0.0, 0.0)


@in_virtual_time
async def test_a_meter_that_was_stopped_leaves_no_timer() -> None:
    loop = asyncio.get_running_loop()
    assert isinstance(loop, VirtualTimeLoop)
    meter = a_meter(Clock())
    meter.start()
    meter.start()
    running = loop.timers
    meter.stop()
    meter.stop()

    assert (running, loop.timers) == (1, 0)


@in_virtual_time
async def test_a_meter_goes_on_after_it_was_stopped() -> None:
    meter = a_meter(Clock())
    meter.start()
    meter.stop()
    await asyncio.sleep(1.0)
    meter.start()
    await asyncio.sleep(0.3)
    meter.stop()

    assert (meter.worst, sum(meter.seconds.counts)) == (0.0, 1)
