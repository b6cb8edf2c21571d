"""What a breaker remembers of its upstream, and how it tells it."""

import pytest

from sidecar.policy.breaker_settings import BreakerSettings
from sidecar.policy.evidence import Evidence, percent
from sidecar.policy.trip import Attempt, Trip

SETTINGS = BreakerSettings(consecutive_failures=3, slow_duration=2, slow_rate=1.0, min_requests=4, window=60)


def test_successes_and_failures_are_counted_and_only_failures_lengthen_the_run() -> None:
    seen = Evidence(SETTINGS)

    seen.failure(1, 0.1, "503")
    held = seen.success(2, 0.1, "ok")
    seen.failure(3, None, "upstream_disconnected")

    assert (held, seen.run, seen.counts(3)) == (2, 2, (2, 3))


def test_what_takes_longer_than_slow_after_is_slow_whatever_came_of_it() -> None:
    seen = Evidence(SETTINGS)

    seen.success(1, 2, "ok")
    seen.success(1, 2.1, "ok")
    seen.failure(1, 2, "503")
    seen.failure(1, 10, "timeout_attempt")
    seen.failure(1, None, "upstream_disconnected")

    assert seen.window.slow(1) == 2


def test_the_cause_is_that_of_the_settings() -> None:
    seen = Evidence(SETTINGS)
    causes = []
    for _ in range(4):
        seen.success(1, 3, "ok")
        causes.append(seen.cause(1))
    for _ in range(3):
        seen.failure(100, 0.1, "503")
        causes.append(seen.cause(100))

    assert causes == [None, None, None, "slow_call_rate", None, None, "consecutive_failures"]


def test_the_cause_is_judged_on_failures_too() -> None:
    seen = Evidence(BreakerSettings(consecutive_failures=None, failures_in_window=2, min_requests=3))
    seen.failure(1, 0.1, "503")
    seen.failure(1, 0.1, "503")
    early = seen.cause(1)
    seen.success(1, 0.1, "ok")

    assert (early, seen.cause(1)) == (None, "failures_in_window")


def test_a_trip_tells_what_was_seen_until_then() -> None:
    seen = Evidence(SETTINGS)
    seen.success(1, 0.5, "ok")
    seen.failure(4, 0.25, "503")
    seen.failure(6, 10.0, "timeout_attempt")

    assert seen.trip(7, 6, "consecutive_failures", 30.0) == Trip(
        number=7,
        at=6,
        cause="consecutive_failures",
        threshold="3 failures in a row",
        failures=2,
        total=3,
        failure_rate=66.7,
        first_error="503",
        open_for=30.0,
        attempts=(Attempt(5, "ok", 0.5), Attempt(2, "503", 0.25), Attempt(0, "timeout_attempt", 10.0)),
    )


def test_the_first_error_is_that_of_the_present_run() -> None:
    seen = Evidence(SETTINGS)
    seen.failure(1, 0.1, "502")
    seen.run = 0
    none = seen.trip(1, 1, "slow_call_rate", 30).first_error
    seen.failure(2, 0.1, "503")
    seen.failure(3, 0.1, "504")

    assert (none, seen.trip(2, 3, "trial_failed", 30).first_error) == (None, "503")


def test_the_last_ten_attempts_are_remembered_across_generations() -> None:
    seen = Evidence(SETTINGS)
    for number in range(6):
        seen.failure(number, 0.1, f"a{number}")
        seen.success(number, 0.1, f"b{number}")

    seen.begin()

    assert (seen.run, seen.counts(6)) == (0, (0, 0))
    whats = [attempt.what for attempt in seen.trip(1, 6, "trial_failed", 30).attempts]
    assert whats == ["a1", "b1", "a2", "b2", "a3", "b3", "a4", "b4", "a5", "b5"]


def test_the_window_is_as_long_as_the_settings_say() -> None:
    seen = Evidence(SETTINGS)
    seen.failure(0, 0.1, "503")

    assert (seen.counts(60), seen.counts(61)) == ((1, 1), (0, 0))


@pytest.mark.parametrize(
    ("failures", "total", "shown"), [(0, 0, 0.0), (0, 5, 0.0), (1, 3, 33.3), (2, 3, 66.7), (5, 5, 100.0)]
)
def test_a_share_is_told_in_percent(failures: int, total: int, shown: float) -> None:
    assert percent(failures, total) == shown
