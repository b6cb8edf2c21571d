"""The line of a breaker's change says why, in words that a person can act on."""

from sidecar.policy.breaker import FAILURE, Breaker, BreakerSettings, Event
from sidecar.telemetry.events import breaker_line


def events_of(settings: BreakerSettings) -> tuple[Breaker, list[Event]]:
    told: list[Event] = []
    breaker = Breaker("db", settings, lambda: 0.5)
    breaker.on_event = told.append
    return breaker, told


def test_a_trip_says_what_was_reached_and_what_came_before() -> None:
    breaker, told = events_of(BreakerSettings(consecutive_failures=2, open_jitter=0.0))
    for what, seconds in (("503", 0.25), ("timeout_attempt", 1.0)):
        breaker.settle(breaker.enter(0.0), FAILURE, 5.0, seconds, what)

    (opened,) = told
    name, fields = breaker_line(opened)

    assert name == "breaker.opened"
    assert fields == {
        "breaker": "db",
        "was": "CLOSED",
        "cause": "consecutive_failures",
        "threshold": opened.trip.threshold if opened.trip is not None else None,
        "failures": 2,
        "of": 2,
        "first_error": "503",
        "open_for": 30.0,
        "last_attempts": "503 250 ms, timeout_attempt 1000 ms",
    }


def test_the_line_of_a_breaker_in_shadow_does_not_look_like_that_of_one_that_refuses() -> None:
    breaker, told = events_of(BreakerSettings(open_jitter=0.0))
    breaker.force_open(0.0, 10.0)

    assert breaker_line(told[0], shadow=True) == (
        "breaker.opened",
        {"breaker": "db", "was": "CLOSED", "cause": "forced", "mode": "shadow", "forced": "open"},
    )


def test_what_follows_is_told_too() -> None:
    breaker, told = events_of(BreakerSettings(open_jitter=0.0))
    breaker.force_open(0.0, 10.0)
    breaker.view(11.0)
    breaker.reset(12.0)

    assert [breaker_line(event) for event in told] == [
        ("breaker.opened", {"breaker": "db", "was": "CLOSED", "cause": "forced", "forced": "open"}),
        ("breaker.half_open", {"breaker": "db", "was": "OPEN", "cause": "force_expired"}),
        ("breaker.closed", {"breaker": "db", "was": "HALF_OPEN", "cause": "reset"}),
    ]
