"""A wait in seconds always reaches the tick that it is for."""

from hypothesis import given
from hypothesis import strategies as st

from sidecar.policy.ticks import TICKS, seconds_until


def test_a_wait_is_told_in_whole_microseconds() -> None:
    assert TICKS == 1e6
    assert seconds_until(12_375_678_000, 12_345.678) == 30.0
    assert seconds_until(1_000_001, 1.0) == 0.000001


def test_a_time_between_two_ticks_waits_for_one_more_if_it_must() -> None:
    assert seconds_until(2, 0.0000005) == 0.000002  # 0.5 is rounded to 0, and 2.5 to 2
    assert seconds_until(3, 0.0000015) == 0.000002  # 1.5 is rounded to 2, and 2.5 to 2


@given(st.floats(0, 1e9), st.integers(0, 10**11))
def test_after_the_wait_the_tick_is_reached_and_two_before_it_was_not(now: float, ticks: int) -> None:
    due = round(now * TICKS) + ticks

    wait = seconds_until(due, now)

    assert round((now + wait) * TICKS) >= due
    assert ticks < 2 or round((now + wait - 2 / TICKS) * TICKS) < due
