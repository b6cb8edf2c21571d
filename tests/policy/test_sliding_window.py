"""The sliding window: exact, wherever it is laid."""

import tracemalloc

from hypothesis import given
from hypothesis import strategies as st

from sidecar.policy.sliding_window import SlidingWindows


def _passed(windows: SlidingWindows, times: int, now: float, key: bytes = b"a") -> int:
    return sum(windows.decide(key, now)[0] for _ in range(times))


def test_a_window_tells_what_is_left_and_when_there_is_more() -> None:
    windows = SlidingWindows(2, 60.0, 10)

    assert [windows.decide(b"a", now) for now in (0.0, 10.0, 10.0, 59.999999, 60.0, 60.0, 70.0, 500.0)] == [
        (True, 1, 60.0, 0.0),
        (True, 0, 50.0, 0.0),
        (False, 0, 50.0, 50.0),
        (False, 0, 0.000001, 0.000001),
        (True, 0, 10.0, 0.0),
        (False, 0, 10.0, 10.0),
        (True, 0, 50.0, 0.0),
        (True, 1, 60.0, 0.0),
    ]


def test_it_does_not_matter_where_the_clock_began() -> None:
    windows = SlidingWindows(1, 1.0, 10)

    assert [windows.decide(b"a", now) for now in (-5.0, -4.25, -0.5)] == [
        (True, 0, 1.0, 0.0),
        (False, 0, 0.25, 0.25),
        (True, 0, 1.0, 0.0),
    ]


def test_no_burst_around_the_border_of_two_windows() -> None:
    windows = SlidingWindows(100, 60.0, 10)

    assert _passed(windows, 200, 59.0) == 100
    assert _passed(windows, 200, 61.0) == 0
    assert _passed(windows, 200, 119.0) == 100


def test_a_long_window_slides_request_by_request() -> None:
    windows = SlidingWindows(40, 40.0, 10)
    for second in range(40):
        assert windows.decide(b"a", float(second)) == (True, 39 - second, 40.0 - second, 0.0)

    for second in range(40, 200):
        assert windows.decide(b"a", float(second)) == (True, 0, 1.0, 0.0)
        assert windows.decide(b"a", second + 0.5) == (False, 0, 0.5, 0.5)
    assert windows.decide(b"a", 209.5) == (True, 9, 0.5, 0.0)


def test_what_is_refused_costs_nothing() -> None:
    windows = SlidingWindows(1, 1.0, 10)

    assert _passed(windows, 1000, 0.0) == 1
    assert _passed(windows, 1000, 0.999999) == 0
    assert _passed(windows, 1000, 1.0) == 1


def test_each_key_has_its_window() -> None:
    windows = SlidingWindows(2, 1.0, 10)

    assert [_passed(windows, 5, 0.0, key) for key in (b"a", b"b", b"a")] == [2, 2, 0]
    assert (windows.keys, windows.evicted) == (2, 0)


def test_a_period_below_a_microsecond_is_one() -> None:
    windows = SlidingWindows(1, 1e-9, 10)

    assert windows.decide(b"a", 0.0) == (True, 0, 0.000001, 0.0)
    assert windows.decide(b"a", 0.0) == (False, 0, 0.000001, 0.000001)
    assert windows.decide(b"a", 0.000001)[0]


def test_keys_whose_window_is_empty_again_are_forgotten() -> None:
    windows = SlidingWindows(10, 1.0, 100)
    for key in range(50):
        windows.decide(b"%d" % key, 0.0)

    for key in range(50):
        windows.decide(b"new %d" % key, 1.0)

    assert (windows.keys, windows.evicted) == (50, 0)


def test_a_full_window_is_not_emptied_by_a_flood_of_other_keys() -> None:
    windows = SlidingWindows(5, 60.0, 20)
    assert _passed(windows, 9, 0.0, b"mine") == 5

    for key in range(1000):
        windows.decide(b"%d" % key, 1.0)

    assert windows.decide(b"mine", 1.0) == (False, 0, 59.0, 59.0)
    assert (windows.keys, windows.evicted) == (20, 1000 - 19)


def test_using_a_key_in_vain_keeps_it_too() -> None:
    windows = SlidingWindows(1, 60.0, 9)
    for key in range(9):
        windows.decide(b"%d" % key, 0.0)
    assert not windows.decide(b"0", 0.0)[0]

    windows.decide(b"new", 0.0)

    assert not windows.decide(b"0", 0.0)[0]
    assert windows.decide(b"1", 0.0)[0]
    assert (windows.keys, windows.evicted) == (9, 2)


def test_the_debt_of_a_key_is_what_its_window_holds_now() -> None:
    windows = SlidingWindows(5, 10.0, 2)
    _passed(windows, 4, 0.0, b"was busy")
    _passed(windows, 1, 9.0, b"was busy")
    _passed(windows, 2, 9.0, b"is busy")

    windows.decide(b"new", 10.0)

    assert _passed(windows, 9, 10.0, b"is busy") == 3
    assert windows.evicted == 1


@given(
    limit=st.integers(1, 12),
    per=st.integers(1, 5_000_000),
    steps=st.lists(st.integers(0, 1_000_000), min_size=1, max_size=80),
)
def test_a_window_is_what_counting_by_hand_says(limit: int, per: int, steps: list[int]) -> None:
    windows = SlidingWindows(limit, per / 1e6, 10)
    admitted: list[int] = []
    now = 0
    for step in steps:
        now += step
        allowed, remaining, reset, retry_after = windows.decide(b"a", now / 1e6)

        inside = [time for time in admitted if time > now - per]
        assert allowed == (len(inside) < limit)
        if allowed:
            admitted.append(now)
            inside.append(now)
        assert remaining == limit - len(inside)
        assert reset == (inside[0] + per - now) / 1e6
        assert retry_after == (0.0 if allowed else reset)


@given(
    limit=st.integers(1, 5),
    gaps=st.lists(st.floats(0, 0.7), min_size=1, max_size=100),
    start=st.floats(0, 1e6),
)
def test_no_window_of_a_second_ever_has_more_than_the_limit(
    limit: int, gaps: list[float], start: float
) -> None:
    windows = SlidingWindows(limit, 1.0, 10)
    admitted: list[float] = []
    now = start
    for gap in gaps:
        now += gap
        if windows.decide(b"a", now)[0]:
            admitted.append(now)

    for first, beyond in zip(admitted, admitted[limit:], strict=False):
        assert beyond - first > 1.0 - 2e-6  # both are rounded to the microsecond


def test_memory_is_bounded_by_the_limit_however_many_come() -> None:
    windows = SlidingWindows(10_000, 1.0, 10)
    tracemalloc.start()
    try:
        for index in range(25_000):
            windows.decide(b"a", index / 10_000)
        grown, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()

    assert grown < 10_000 * 10 + 1000
