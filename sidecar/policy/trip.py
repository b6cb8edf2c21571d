"""What a breaker tells of itself: its states and causes, what it saw when it tripped, and what it looks like now.

Plain values that never change, ready to be logged or shown. Times are seconds of the clock that the breaker is given.
"""

from dataclasses import dataclass
from enum import StrEnum
from typing import Literal, NamedTuple

__all__ = ["CAUSES", "Attempt", "BreakerView", "Cause", "Event", "Forced", "State", "Trip"]


class State(StrEnum):
    """The words that stand in JSON, headers and metrics."""

    CLOSED = "CLOSED"
    OPEN = "OPEN"
    HALF_OPEN = "HALF_OPEN"


Forced = Literal["open", "closed"]

Cause = Literal[
    "consecutive_failures",
    "failures_in_window",
    "failure_rate",
    "slow_call_rate",
    "open_time_over",
    "probe_passed",
    "trial_succeeded",
    "trial_failed",
    "trial_timed_out",
    "forced",
    "reset",
    "force_expired",
]

# The closed set of why a breaker changes: a metric label.
CAUSES: tuple[Cause, ...] = (
    "consecutive_failures",
    "failures_in_window",
    "failure_rate",
    "slow_call_rate",
    "open_time_over",
    "probe_passed",
    "trial_succeeded",
    "trial_failed",
    "trial_timed_out",
    "forced",
    "reset",
    "force_expired",
)


class Attempt(NamedTuple):
    """One attempt before a trip: how long before (seconds), what came of it, and how long its head took.

    `seconds` is None where a body broke, which is told apart from its head.
    """

    age: float
    what: str
    seconds: float | None


@dataclass(frozen=True, slots=True)
class Trip:
    """Why a breaker is open: what it saw in the moment it opened.

    `failures` of `total` requests, `failure_rate` in percent. `threshold` says in words what was reached. `first_error`
    began the last run of failures, None if nothing had failed (slow calls). `attempts` are the last ones, oldest first.
    `open_for` is in seconds; `number` counts the trips of this breaker.
    """

    number: int
    at: float
    cause: Cause
    threshold: str
    failures: int
    total: int
    failure_rate: float
    first_error: str | None
    open_for: float
    attempts: tuple[Attempt, ...]


@dataclass(frozen=True, slots=True)
class Event:
    """A breaker changed, at the time `at` from which it is true. `trip` is there when it tripped."""

    breaker: str
    at: float
    before: State
    after: State
    cause: Cause
    forced: Forced | None = None
    trip: Trip | None = None


@dataclass(frozen=True, slots=True)
class BreakerView:
    """A breaker at one moment.

    `failures`, `successes` and `failure_rate` (percent) are of the window; while OPEN they are those of the moment in
    which it opened: the rate that is shown beside an open breaker is the one that opened it. `run` is how many failed
    in a row. `retry_after` is in seconds, None where a request would pass. `forced_for` is how long it stays forced,
    None without an end. `trials` are under way. `first_trip` began the outage that it is in, None where it is in none: a
    failed trial has a trip of its own, which is the `last_trip` then.
    """

    name: str
    state: State
    forced: Forced | None
    forced_for: float | None
    failures: int
    successes: int
    failure_rate: float
    run: int
    retry_after: float | None
    trials: int
    generation: int
    rejected: int
    late: int
    trips: int
    open_seconds: float
    first_trip: Trip | None
    last_trip: Trip | None
