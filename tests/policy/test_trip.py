"""The words and pictures of a breaker: closed sets, and plain values that can be written as JSON."""

import json
from dataclasses import asdict
from typing import get_args

from sidecar.policy.trip import CAUSES, Attempt, BreakerView, Cause, Event, State, Trip

TRIP = Trip(1, 7.0, "failure_rate", "50 % failures", 5, 10, 50.0, "503", 30.0, (Attempt(1.5, "503", 0.2),))


def test_the_causes_are_the_closed_set_of_the_type() -> None:
    assert get_args(Cause) == CAUSES
    assert len(set(CAUSES)) == 12


def test_the_states_are_the_words_that_operators_know() -> None:
    assert [str(state) for state in State] == ["CLOSED", "OPEN", "HALF_OPEN"]


def test_an_event_says_what_changed_and_is_neither_forced_nor_a_trip_unless_told() -> None:
    event = Event("db", 3.0, State.OPEN, State.HALF_OPEN, "open_time_over")

    assert (event.forced, event.trip) == (None, None)


def test_a_picture_can_be_written_as_json() -> None:
    view = BreakerView(
        name="db",
        state=State.OPEN,
        forced=None,
        forced_for=None,
        failures=5,
        successes=5,
        failure_rate=50.0,
        run=0,
        retry_after=29.5,
        trials=0,
        generation=1,
        rejected=2,
        late=0,
        trips=1,
        open_seconds=0.5,
        first_trip=TRIP,
        last_trip=TRIP,
    )

    shown = json.loads(json.dumps(asdict(view)))

    assert (shown["state"], shown["failure_rate"]) == ("OPEN", 50.0)
    assert shown["last_trip"]["attempts"] == [[1.5, "503", 0.2]]
