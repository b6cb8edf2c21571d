"""When to trip, why, and for how long to open."""

import math
from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.policy.breaker_settings import DEFAULT_COUNT, BreakerSettings
from sidecar.policy.trip import Cause


def only(**settings: float | None) -> BreakerSettings:
    """Settings with no trigger but those that are named."""
    return BreakerSettings(**({"consecutive_failures": None} | settings))  # type: ignore[arg-type]  # one helper for all types of field


def test_the_defaults() -> None:
    assert BreakerSettings() == BreakerSettings(
        consecutive_failures=5,
        failures_in_window=None,
        failure_rate=None,
        slow_duration=None,
        slow_rate=None,
        window=30.0,
        min_requests=10,
        open_for=30.0,
        open_multiplier=1.5,
        open_max=300.0,
        open_jitter=0.1,
        count=frozenset({500, 502, 503, 504}),
        max_trials=1,
        successes=2,
        max_wait=30.0,
    )
    assert frozenset({500, 502, 503, 504}) == DEFAULT_COUNT


@pytest.mark.parametrize(
    ("settings", "seen", "cause"),
    [
        (only(consecutive_failures=5), (4, 4, 4, 4), None),
        (only(consecutive_failures=5), (5, 5, 5, 0), "consecutive_failures"),
        (only(consecutive_failures=1), (1, 0, 0, 0), "consecutive_failures"),
        (only(failures_in_window=3, min_requests=5), (3, 4, 3, 0), None),
        (only(failures_in_window=3, min_requests=5), (2, 5, 2, 0), None),
        (only(failures_in_window=3, min_requests=5), (0, 5, 3, 0), "failures_in_window"),
        (only(failures_in_window=3, min_requests=5), (0, 600, 3, 0), "failures_in_window"),
        (only(failure_rate=0.5, min_requests=10), (9, 9, 9, 0), None),
        (only(failure_rate=0.5, min_requests=10), (4, 10, 4, 0), None),
        (only(failure_rate=0.5, min_requests=10), (0, 10, 5, 0), "failure_rate"),
        (only(failure_rate=0.07, min_requests=10), (0, 100, 7, 0), "failure_rate"),
        (only(failure_rate=1.0, min_requests=0), (0, 0, 0, 0), None),
        (only(failure_rate=1.0, min_requests=1), (1, 1, 1, 0), "failure_rate"),
        (only(slow_duration=1, slow_rate=0.5, min_requests=4), (0, 3, 0, 3), None),
        (only(slow_duration=1, slow_rate=0.5, min_requests=4), (0, 4, 0, 1), None),
        (only(slow_duration=1, slow_rate=0.5, min_requests=4), (0, 4, 0, 2), "slow_call_rate"),
        (only(slow_duration=1, min_requests=1), (0, 4, 0, 4), None),
        (only(slow_rate=0.5, min_requests=1), (0, 4, 0, 4), None),
        (only(), (100, 100, 100, 100), None),
    ],
)
def test_a_trigger_trips_at_its_threshold_and_not_before(
    settings: BreakerSettings, seen: tuple[int, int, int, int], cause: Cause | None
) -> None:
    assert settings.cause(*seen) == cause


def test_any_of_the_triggers_that_are_set_may_trip() -> None:
    every = BreakerSettings(
        consecutive_failures=5,
        failures_in_window=8,
        failure_rate=0.5,
        slow_duration=1,
        slow_rate=0.5,
        min_requests=10,
    )

    assert every.cause(5, 5, 5, 0) == "consecutive_failures"
    assert every.cause(4, 100, 8, 50) == "failures_in_window"
    assert every.cause(4, 10, 5, 5) == "failure_rate"
    assert every.cause(4, 10, 4, 5) == "slow_call_rate"
    assert every.cause(4, 10, 4, 4) is None


def test_slow_begins_after_the_duration() -> None:
    assert only(slow_duration=2).slow_after == 2
    assert only().slow_after == math.inf


def test_slow_calls_trip_where_both_numbers_are_set() -> None:
    assert only(slow_duration=2, slow_rate=0.5).slow_trips
    assert not only(slow_duration=2).slow_trips
    assert not only(slow_rate=0.5).slow_trips


@pytest.mark.parametrize(
    ("settings", "volume"),
    [
        (only(min_requests=7), 0),
        (only(consecutive_failures=5, min_requests=7), 0),
        (only(slow_duration=1, min_requests=7), 0),
        (only(failures_in_window=3, min_requests=7), 7),
        (only(failure_rate=0.5, min_requests=7), 7),
        (only(slow_duration=1, slow_rate=0.5, min_requests=7), 7),
    ],
)
def test_the_volume_is_that_of_the_triggers_that_wait_for_it(settings: BreakerSettings, volume: int) -> None:
    assert settings.volume == volume


@pytest.mark.parametrize(
    ("reopened", "seconds"), [(0, 30), (1, 45), (2, 67.5), (5, 227.8125), (6, 300), (7, 300), (10_000, 300)]
)
def test_the_open_time_grows_with_each_reopening_up_to_its_cap(reopened: int, seconds: float) -> None:
    assert BreakerSettings().open_time(reopened, 0.5) == seconds


@pytest.mark.parametrize(("u", "seconds"), [(0.0, 90), (0.25, 95), (0.5, 100), (0.75, 105)])
def test_the_jitter_is_spread_evenly_to_both_sides(u: float, seconds: float) -> None:
    assert only(open_for=100, open_jitter=0.1).open_time(0, u) == pytest.approx(seconds)


def test_the_jitter_comes_on_top_of_the_cap_or_replicas_would_meet_there() -> None:
    assert only(open_for=100, open_max=100, open_jitter=0.1).open_time(3, 0.75) == pytest.approx(105)


def test_an_open_time_longer_than_the_cap_is_never_shortened() -> None:
    settings = only(open_for=600, open_max=300, open_jitter=0)

    assert [settings.open_time(reopened, 0.9) for reopened in (0, 1)] == [600, 600]


@given(st.integers(0, 1000), st.floats(0, 1, exclude_max=True))
def test_the_open_time_stays_within_its_bounds(reopened: int, u: float) -> None:
    assert 27 <= BreakerSettings().open_time(reopened, u) <= 330


def test_thresholds_are_told_in_words() -> None:
    settings = BreakerSettings(
        consecutive_failures=5,
        failures_in_window=3,
        failure_rate=0.125,
        slow_duration=2.5,
        slow_rate=0.8,
        window=30,
        min_requests=10,
        max_wait=12,
    )

    assert {cause: settings.threshold(cause) for cause in get_args(Cause)} == {
        "consecutive_failures": "5 failures in a row",
        "failures_in_window": "3 failures of at least 10 requests within 30 s",
        "failure_rate": "12.5 % failures of at least 10 requests within 30 s",
        "slow_call_rate": "80 % slower than 2.5 s of at least 10 requests within 30 s",
        "trial_timed_out": "1 trial undecided after 12 s",
        "trial_failed": "1 failed trial",
    } | dict.fromkeys(
        ("open_time_over", "probe_passed", "trial_succeeded", "forced", "reset", "force_expired"), ""
    )
