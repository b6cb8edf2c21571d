"""The breaker: what opens it, what closes it, and what must not move it."""

from dataclasses import replace
from typing import Any

import pytest

from sidecar.policy.breaker import (
    FAILURE,
    FORCED_RETRY_AFTER,
    IGNORED,
    REFUSED,
    SUCCESS,
    TRIAL_RETRY_AFTER,
    Breaker,
    BreakerSettings,
    BreakerView,
    Event,
    State,
    Trip,
)
from sidecar.policy.trip import Attempt

CLOSED, OPEN, HALF_OPEN = State.CLOSED, State.OPEN, State.HALF_OPEN

STEADY = BreakerSettings(open_jitter=0.0)


def a_breaker(settings: BreakerSettings = STEADY, u: float = 0.5, **changes: Any) -> Breaker:
    """A breaker without jitter; `changes` are to its settings."""
    return Breaker("db", replace(settings, **changes), lambda: u)


def of_window(**changes: Any) -> Breaker:
    """A breaker without the trigger of consecutive failures."""
    return a_breaker(consecutive_failures=None, **changes)


def attempt(breaker: Breaker, now: float, verdict: int = SUCCESS, seconds: float = 0.1) -> bool:
    """Make one whole attempt; False if it was refused."""
    permit = breaker.enter(now)
    if permit == REFUSED:
        return False
    breaker.settle(permit, verdict, now, seconds, "ok" if verdict == SUCCESS else "503")
    if verdict == SUCCESS:
        breaker.body_ended(permit)
    return True


def fail(breaker: Breaker, now: float, times: int = 1) -> None:
    """Fail so many times."""
    for _ in range(times):
        assert attempt(breaker, now, FAILURE)


def tripped(at: float = 0.0, **changes: Any) -> Breaker:
    """A breaker that tripped at a time, and opens for 30 s unless `changes` say otherwise."""
    breaker = a_breaker(**changes)
    fail(breaker, at, 5)
    assert breaker.state is OPEN
    return breaker


def closed_again(at: float = 100.0) -> Breaker:
    """A breaker that has tripped at 0 and recovered at a time."""
    breaker = tripped()
    assert attempt(breaker, at)
    assert attempt(breaker, at)
    assert breaker.state is CLOSED
    return breaker


def state(breaker: Breaker, now: float) -> State:
    """The state at a time."""
    return breaker.view(now).state


# --- what trips ---


def test_a_new_breaker_is_closed_and_passes() -> None:
    breaker = a_breaker()

    assert breaker.view(3) == BreakerView(
        name="db",
        state=CLOSED,
        forced=None,
        forced_for=None,
        failures=0,
        successes=0,
        failure_rate=0.0,
        run=0,
        retry_after=None,
        trials=0,
        generation=0,
        rejected=0,
        late=0,
        trips=0,
        open_seconds=0.0,
        first_trip=None,
        last_trip=None,
    )
    assert (breaker.refusal(3), breaker.enter(3)) == (None, 0)
    assert breaker.enter(4) == 0


def test_so_many_failures_in_a_row_trip() -> None:
    breaker = a_breaker()
    fail(breaker, 1, 4)
    before = breaker.state
    fail(breaker, 2)

    assert (before, breaker.state) == (CLOSED, OPEN)
    assert breaker.refusal(2) == 30
    assert breaker.enter(2) == REFUSED


def test_a_success_between_failures_begins_the_run_anew() -> None:
    breaker = a_breaker()
    fail(breaker, 1, 4)
    attempt(breaker, 1)
    fail(breaker, 1, 4)

    assert (breaker.state, breaker.view(1).run) == (CLOSED, 4)


def test_a_good_head_alone_does_not_end_the_run() -> None:
    breaker = a_breaker()
    fail(breaker, 1, 4)
    breaker.settle(breaker.enter(1), SUCCESS, 1, 0.1, "ok")
    fail(breaker, 1)

    assert breaker.state is OPEN


def test_an_upstream_that_breaks_every_body_trips() -> None:
    breaker = a_breaker()
    for number in range(5):
        assert breaker.state is CLOSED
        permit = breaker.enter(number)
        breaker.settle(permit, SUCCESS, number, 0.1, "ok")
        breaker.body_broke(permit, number, "upstream_disconnected")

    assert breaker.state is OPEN
    assert breaker.last_trip is not None
    assert (breaker.last_trip.cause, breaker.last_trip.first_error) == (
        "consecutive_failures",
        "upstream_disconnected",
    )
    assert (breaker.last_trip.failures, breaker.last_trip.total) == (5, 10)


def test_a_broken_body_is_one_more_failure_of_the_window() -> None:
    breaker = a_breaker()
    permit = breaker.enter(1)
    breaker.settle(permit, SUCCESS, 1, 0.1, "ok")
    breaker.body_broke(permit, 2, "timeout_idle")

    view = breaker.view(2)
    assert (view.failures, view.successes, view.failure_rate, view.run) == (1, 1, 50.0, 1)


def test_failures_in_the_window_trip_once_there_is_the_volume() -> None:
    breaker = of_window(failures_in_window=3, min_requests=5, window=30)
    for verdict in (FAILURE, SUCCESS, FAILURE):
        attempt(breaker, 1, verdict)
    fail(breaker, 2)
    assert breaker.state is CLOSED

    fail(breaker, 3)

    assert breaker.state is OPEN
    assert breaker.last_trip is not None
    assert breaker.last_trip.cause == "failures_in_window"


def test_a_success_that_completes_the_volume_trips_too() -> None:
    breaker = of_window(failures_in_window=3, min_requests=5)
    fail(breaker, 1, 3)
    attempt(breaker, 1)
    before = breaker.state
    attempt(breaker, 1)

    assert (before, breaker.state) == (CLOSED, OPEN)


def test_failures_older_than_the_window_do_not_trip() -> None:
    breaker = of_window(failures_in_window=3, min_requests=1, window=30)
    fail(breaker, 0, 2)
    fail(breaker, 31)

    assert breaker.state is CLOSED


def test_a_failure_within_the_window_is_never_forgotten() -> None:
    breaker = of_window(failures_in_window=3, min_requests=1, window=30)
    fail(breaker, 0.4)
    fail(breaker, 20)
    fail(breaker, 30.4)

    assert breaker.state is OPEN


def test_a_share_of_failures_trips() -> None:
    breaker = of_window(failure_rate=0.5, min_requests=10)
    for _ in range(6):
        attempt(breaker, 1)
    fail(breaker, 1, 5)
    before = breaker.state
    fail(breaker, 1)

    assert (before, breaker.state) == (CLOSED, OPEN)
    assert breaker.last_trip is not None
    assert (breaker.last_trip.cause, breaker.last_trip.failure_rate) == ("failure_rate", 50.0)


def test_one_failure_of_one_request_does_not_trip_the_rate() -> None:
    breaker = of_window(failure_rate=0.5, min_requests=10)
    fail(breaker, 1, 9)

    assert breaker.state is CLOSED


def test_a_share_of_slow_calls_trips_though_all_succeed() -> None:
    breaker = of_window(slow_duration=2.0, slow_rate=0.5, min_requests=4)
    for seconds in (2.0, 2.0, 2.1):
        attempt(breaker, 1, SUCCESS, seconds)
    before = breaker.state
    attempt(breaker, 1, SUCCESS, 2.1)

    assert (before, breaker.state) == (CLOSED, OPEN)
    assert breaker.last_trip is not None
    assert (breaker.last_trip.cause, breaker.last_trip.first_error) == ("slow_call_rate", None)


def test_a_slow_call_past_the_volume_is_judged_at_once() -> None:
    breaker = of_window(slow_duration=2.0, slow_rate=0.5, min_requests=2)
    for seconds in (1, 1, 1, 3, 3, 3):
        assert breaker.state is CLOSED
        attempt(breaker, 1, SUCCESS, seconds)

    assert breaker.state is OPEN


@pytest.mark.parametrize(("seconds", "then"), [(2.0, CLOSED), (2.1, OPEN)])
def test_past_the_volume_only_a_slow_success_is_judged(seconds: float, then: State) -> None:
    """Good ones that leave the window raise the share of failures; that is found out by the next bad or slow one."""
    breaker = of_window(failure_rate=0.5, slow_duration=2.0, min_requests=5, window=30.0)
    for _ in range(10):
        attempt(breaker, 0)
    fail(breaker, 25, 5)

    attempt(breaker, 31, SUCCESS, seconds)

    assert breaker.state is then


def test_an_ignored_attempt_leaves_no_trace() -> None:
    breaker = a_breaker()
    fail(breaker, 1, 4)
    for _ in range(100):
        attempt(breaker, 1, IGNORED)

    view = breaker.view(1)
    assert (view.failures, view.successes, view.run, view.late) == (4, 0, 4, 0)
    fail(breaker, 1)
    assert breaker.last_trip is not None
    assert [one.what for one in breaker.last_trip.attempts] == ["503"] * 5


def test_the_window_is_counted_whatever_the_trigger() -> None:
    breaker = a_breaker()
    fail(breaker, 1, 2)
    for _ in range(4):
        attempt(breaker, 2)

    view = breaker.view(2)
    assert (view.failures, view.successes, view.failure_rate) == (2, 4, 33.3)
    later = breaker.view(40)
    assert (later.failures, later.successes) == (0, 0)


# --- open ---


def test_a_trip_remembers_why() -> None:
    breaker = a_breaker()
    attempt(breaker, 1, SUCCESS, 0.25)
    for number in range(5):
        breaker.settle(breaker.enter(2), FAILURE, 2 + number, 10.0, ["timeout_attempt", "503"][number > 0])

    assert breaker.last_trip == Trip(
        number=1,
        at=6,
        cause="consecutive_failures",
        threshold="5 failures in a row",
        failures=5,
        total=6,
        failure_rate=83.3,
        first_error="timeout_attempt",
        open_for=30.0,
        attempts=(
            Attempt(5, "ok", 0.25),
            Attempt(4, "timeout_attempt", 10.0),
            Attempt(3, "503", 10.0),
            Attempt(2, "503", 10.0),
            Attempt(1, "503", 10.0),
            Attempt(0, "503", 10.0),
        ),
    )


def test_the_rate_shown_while_open_is_that_of_the_trip() -> None:
    breaker = of_window(failure_rate=0.5, min_requests=10, open_for=100.0)
    for _ in range(4):
        attempt(breaker, 1)
    fail(breaker, 1, 6)

    view = breaker.view(90)

    assert (view.state, view.failures, view.successes, view.failure_rate) == (OPEN, 6, 4, 60.0)


def test_what_is_shown_has_the_last_trip() -> None:
    breaker = tripped()
    assert breaker.view(1).last_trip is breaker.last_trip is not None

    attempt(breaker, 30)
    attempt(breaker, 30)
    assert breaker.view(31).last_trip is breaker.last_trip is not None


def test_why_an_outage_began_outlives_the_trials_that_fail_in_it() -> None:
    breaker = tripped()
    began = breaker.last_trip
    for at in (30, 130):
        fail(breaker, at)

    view = breaker.view(130)
    assert view.first_trip is began is not None
    assert view.last_trip is not None
    assert (began.cause, began.threshold) == ("consecutive_failures", "5 failures in a row")
    assert (view.last_trip.cause, view.last_trip.number - began.number) == ("trial_failed", 2)


@pytest.mark.parametrize("ended", ["trials", "reset", "forced closed"])
def test_an_outage_is_over_when_it_is_closed(ended: str) -> None:
    breaker = tripped()
    began = breaker.last_trip
    if ended == "trials":
        attempt(breaker, 30)
        attempt(breaker, 30)
    elif ended == "reset":
        breaker.reset(30)
    else:
        breaker.force_closed(30, 10)

    view = breaker.view(31)
    assert (view.state, view.first_trip, view.last_trip) == (CLOSED, None, began)
    assert [event.trip for event in breaker.events if event.trip is not None] == [began]


def test_the_next_outage_has_a_beginning_of_its_own() -> None:
    breaker = closed_again()
    fail(breaker, 101, 5)

    assert breaker.view(102).first_trip is breaker.last_trip is not None
    assert breaker.last_trip.at == 101


def test_to_be_forced_open_in_an_outage_does_not_hide_why_it_began() -> None:
    breaker = tripped()
    began = breaker.last_trip
    breaker.force_open(10, 5)

    assert [breaker.view(now).first_trip for now in (11, 16)] == [began, began]


def test_where_an_operator_opened_it_the_outage_begins_with_the_first_trial_that_fails() -> None:
    breaker = a_breaker()
    breaker.force_open(0, 10)
    before = breaker.view(11).first_trip
    fail(breaker, 12)

    assert before is None
    assert breaker.view(12).first_trip is breaker.last_trip is not None
    assert breaker.last_trip.cause == "trial_failed"


def test_retry_after_is_the_time_that_is_left() -> None:
    breaker = tripped(at=10)

    assert [breaker.refusal(now) for now in (10, 25.5, 39.5, 40)] == [30, 14.5, 0.5, None]


def test_whoever_waits_as_long_as_told_is_let_in() -> None:
    breaker = tripped(at=10)
    wait = breaker.refusal(17)

    assert wait == 23
    assert breaker.enter(17 + wait) != REFUSED


def test_looking_changes_nothing_but_what_time_brings() -> None:
    seen, unseen = tripped(), tripped()
    for now in range(200):
        seen.refusal(now)
        seen.view(now)

    assert seen.view(200) == unseen.view(200)
    assert list(seen.events) == list(unseen.events)


def test_replicas_do_not_all_probe_at_once() -> None:
    waits = []
    for u in (0.0, 0.3, 0.9):
        breaker = a_breaker(BreakerSettings(open_for=100), u)
        fail(breaker, 0, 5)
        waits.append(breaker.refusal(0))

    assert waits == pytest.approx([90, 96, 108])


# --- half open ---


def test_when_the_open_time_is_over_trials_begin() -> None:
    breaker = tripped()

    assert (state(breaker, 29.9), state(breaker, 30)) == (OPEN, HALF_OPEN)


@pytest.mark.parametrize("trials", [1, 3])
def test_a_thousand_requests_at_the_moment_of_half_open_make_no_more_than_the_allowed_trials(
    trials: int,
) -> None:
    breaker = tripped(max_trials=trials)

    permits = [breaker.enter(30) for _ in range(1000)]

    assert sum(permit != REFUSED for permit in permits) == trials
    assert breaker.view(30).trials == trials
    assert breaker.refusal(30) == TRIAL_RETRY_AFTER == 1.0


def test_a_place_is_free_again_when_its_trial_is_decided() -> None:
    breaker = tripped(max_trials=2, successes=3)
    first, second = breaker.enter(30), breaker.enter(30)
    assert breaker.enter(30) == REFUSED
    breaker.settle(second, SUCCESS, 31, 1, "ok")

    assert first != second
    assert breaker.refusal(31) is None
    assert breaker.enter(31) not in (REFUSED, first, second)
    assert breaker.enter(31) == REFUSED


def test_so_many_good_trials_close() -> None:
    breaker = tripped(successes=3)
    states = []
    for now in (30, 31, 32):
        assert attempt(breaker, now)
        states.append(breaker.state)

    assert states == [HALF_OPEN, HALF_OPEN, CLOSED]


def test_the_head_decides_a_trial() -> None:
    breaker = tripped(successes=1)
    breaker.settle(breaker.enter(30), SUCCESS, 30, 0.1, "ok")

    assert breaker.state is CLOSED


def test_one_failed_trial_reopens_at_once() -> None:
    breaker = tripped(max_trials=3, successes=3)
    permits = [breaker.enter(30) for _ in range(3)]
    breaker.settle(permits[0], SUCCESS, 31, 1, "ok")
    breaker.settle(permits[1], FAILURE, 32, 2, "503")

    assert (breaker.state, breaker.refusal(32)) == (OPEN, 45)
    assert breaker.last_trip is not None
    assert (breaker.last_trip.number, breaker.last_trip.cause, breaker.last_trip.threshold) == (
        2,
        "trial_failed",
        "1 failed trial",
    )
    assert (breaker.last_trip.failures, breaker.last_trip.total, breaker.last_trip.failure_rate) == (1, 2, 50)
    assert breaker.last_trip.first_error == "503"


def test_a_body_that_breaks_while_trials_go_on_reopens() -> None:
    breaker = tripped()
    permit = breaker.enter(30)
    breaker.settle(permit, SUCCESS, 30, 0.1, "ok")
    breaker.body_broke(permit, 31, "upstream_disconnected")

    assert breaker.state is OPEN
    assert breaker.last_trip is not None
    assert breaker.last_trip.cause == "trial_failed"
    assert breaker.last_trip.attempts[-1] == Attempt(0, "upstream_disconnected", None)


def test_a_body_that_breaks_after_another_trial_timed_out_is_late() -> None:
    breaker = tripped(max_trials=2, max_wait=20.0)
    first = breaker.enter(30)
    breaker.enter(30)
    breaker.settle(first, SUCCESS, 31, 1, "ok")
    breaker.body_broke(first, 51, "upstream_disconnected")

    assert (breaker.late, breaker.trips, breaker.refusal(51)) == (1, 2, 44)


def test_a_slow_trial_fails_where_slow_calls_can_trip() -> None:
    in_time, breaker = (tripped(slow_duration=2.0, slow_rate=0.5) for _ in range(2))
    in_time.settle(in_time.enter(30), SUCCESS, 32, 2.0, "ok")
    breaker.settle(breaker.enter(30), SUCCESS, 32, 2.1, "ok")

    assert (in_time.state, breaker.state) == (HALF_OPEN, OPEN)
    assert breaker.last_trip is not None
    assert (breaker.last_trip.cause, breaker.last_trip.attempts[-1]) == (
        "trial_failed",
        Attempt(0, "slow_call", 2.1),
    )


def test_a_slow_trial_is_a_good_one_where_they_cannot() -> None:
    breaker = tripped(slow_duration=2.0)
    attempt(breaker, 30, SUCCESS, 5)

    assert breaker.state is HALF_OPEN


def test_a_trial_that_is_cancelled_a_thousand_times_never_leaves_it_stuck() -> None:
    breaker = tripped()
    for number in range(1000):
        permit = breaker.enter(30 + number)
        assert permit != REFUSED
        breaker.settle(permit, IGNORED, 30.5 + number, 0.5, "cancelled")
        assert breaker.state is HALF_OPEN
    assert breaker.view(1030).trials == 0

    attempt(breaker, 1030)
    attempt(breaker, 1030)

    assert breaker.state is CLOSED


def test_an_undecided_trial_has_failed_after_max_wait() -> None:
    breaker = tripped(max_wait=20.0)
    permit = breaker.enter(35)

    assert (state(breaker, 54.9), state(breaker, 55)) == (HALF_OPEN, OPEN)
    assert breaker.refusal(55) == 45
    assert breaker.last_trip is not None
    assert breaker.last_trip.cause == "trial_timed_out"
    assert breaker.last_trip.threshold == "1 trial undecided after 20 s"
    assert breaker.last_trip.attempts[-1] == Attempt(0, "trial_timed_out", 20.0)
    assert permit != REFUSED


def test_the_late_result_of_a_trial_that_timed_out_changes_nothing() -> None:
    breaker = tripped(max_wait=20.0, successes=1)
    permit = breaker.enter(30)
    breaker.settle(permit, SUCCESS, 51, 21, "ok")

    assert (breaker.state, breaker.late, breaker.refusal(51)) == (OPEN, 1, 44)


def test_the_oldest_trial_is_the_one_that_times_out() -> None:
    breaker = tripped(max_trials=2, successes=3, max_wait=20.0)
    first = breaker.enter(30)
    breaker.enter(40)
    breaker.settle(first, SUCCESS, 45, 15, "ok")

    assert (state(breaker, 59.9), state(breaker, 60)) == (HALF_OPEN, OPEN)


def test_a_long_silence_is_caught_up_with_at_the_times_at_which_things_were_due() -> None:
    breaker = tripped(max_wait=20.0)
    breaker.enter(30)

    view = breaker.view(1000)

    assert (view.state, view.open_seconds) == (HALF_OPEN, 30 + 45)
    assert [(event.at, event.after, event.cause) for event in breaker.events] == [
        (0, OPEN, "consecutive_failures"),
        (30, HALF_OPEN, "open_time_over"),
        (50, OPEN, "trial_timed_out"),
        (95, HALF_OPEN, "open_time_over"),
    ]


def test_a_permit_settled_again_counts_once() -> None:
    breaker = tripped()
    permit = breaker.enter(30)
    for _ in range(3):
        breaker.settle(permit, SUCCESS, 30, 0.1, "ok")

    assert (breaker.state, breaker.late) == (HALF_OPEN, 2)


def test_what_is_shown_while_half_open_are_the_trials() -> None:
    breaker = tripped()
    attempt(breaker, 30)

    view = breaker.view(31)
    assert (view.failures, view.successes, view.failure_rate, view.run) == (0, 1, 0.0, 0)


def test_a_good_trial_is_among_the_attempts_before_the_next_trip() -> None:
    breaker = tripped()
    breaker.settle(breaker.enter(30), SUCCESS, 32, 0.25, "ok")
    breaker.settle(breaker.enter(33), FAILURE, 34, 0.5, "502")

    assert breaker.last_trip is not None
    assert breaker.last_trip.attempts[-2:] == (Attempt(2, "ok", 0.25), Attempt(0, "502", 0.5))


# --- the open time grows ---


def test_the_open_time_grows_with_each_failed_trial_up_to_the_cap() -> None:
    breaker = tripped(open_max=100.0)
    now, waits = 0.0, []
    for _ in range(5):
        wait = breaker.refusal(now)
        assert wait is not None
        waits.append(wait)
        now += wait
        fail(breaker, now)

    assert waits == [30, 45, 67.5, 100, 100]


@pytest.mark.parametrize(("quiet", "opens_for"), [(299.0, 45), (300.0, 30)])
def test_the_open_time_is_the_first_one_again_after_a_quiet_spell(quiet: float, opens_for: float) -> None:
    breaker = tripped()
    fail(breaker, 30)
    attempt(breaker, 75)
    attempt(breaker, 75)
    assert breaker.state is CLOSED

    fail(breaker, 75 + quiet, 5)

    assert breaker.refusal(75 + quiet) == opens_for


def test_a_new_breaker_begins_with_the_first_open_time() -> None:
    assert tripped(at=1).refusal(1) == 30


# --- generations ---


def test_a_late_success_from_before_the_trip_changes_nothing() -> None:
    breaker = a_breaker()
    slow = breaker.enter(0)
    fail(breaker, 1, 5)
    before = breaker.view(2)

    breaker.settle(slow, SUCCESS, 2, 2, "ok")
    breaker.body_ended(slow)

    assert breaker.view(2) == replace(before, late=1)


@pytest.mark.parametrize("verdict", [SUCCESS, FAILURE, IGNORED])
def test_a_late_result_decides_no_trial(verdict: int) -> None:
    breaker = a_breaker(successes=1)
    slow = breaker.enter(0)
    fail(breaker, 1, 5)
    trial = breaker.enter(31)
    before = breaker.view(32)

    breaker.settle(slow, verdict, 32, 32, "late")
    breaker.body_broke(slow, 32, "late")

    assert breaker.view(32) == replace(before, late=2)
    breaker.settle(trial, SUCCESS, 33, 1, "ok")
    assert breaker.state is CLOSED


@pytest.mark.parametrize("verdict", [SUCCESS, FAILURE, IGNORED])
def test_a_late_result_from_before_an_outage_means_nothing_after_it(verdict: int) -> None:
    breaker = a_breaker(successes=1)
    slow = breaker.enter(0)
    fail(breaker, 0, 5)
    attempt(breaker, 30)
    fail(breaker, 31, 4)
    before = breaker.view(32)

    breaker.settle(slow, verdict, 32, 32, "late")
    breaker.body_broke(slow, 32, "late")
    breaker.body_ended(slow)

    assert breaker.view(32) == replace(before, late=2)


def test_failures_from_before_an_outage_are_not_counted_after_it() -> None:
    breaker = a_breaker(failures_in_window=6, min_requests=1, open_for=5.0)
    fail(breaker, 0, 5)
    attempt(breaker, 5)
    attempt(breaker, 5)
    fail(breaker, 6, 4)

    assert breaker.state is CLOSED
    assert breaker.view(6).failures == 4


def test_each_change_begins_a_new_generation() -> None:
    breaker = closed_again()
    generations = [breaker.generation]
    breaker.force_open(101, None)
    generations.append(breaker.generation)
    breaker.reset(102)
    generations.append(breaker.generation)

    assert generations == [3, 4, 5]


def test_the_same_permit_serves_a_whole_generation_and_never_another() -> None:
    breaker = a_breaker(successes=1)
    first = {breaker.enter(0), breaker.enter(1)}
    fail(breaker, 1, 5)
    trial = breaker.enter(31)
    breaker.settle(trial, SUCCESS, 31, 0.1, "ok")
    last = {breaker.enter(32), breaker.enter(33)}

    assert (len(first), len(last)) == (1, 1)
    assert max(first) < trial < min(last)


# --- forced ---


def test_forced_open_refuses_everything_until_its_time_is_over() -> None:
    breaker = a_breaker()
    breaker.force_open(10, 20)

    assert (breaker.refusal(10), breaker.refusal(29), breaker.enter(29)) == (20, 1, REFUSED)
    view = breaker.view(15)
    assert (view.state, view.forced, view.forced_for, view.retry_after) == (OPEN, "open", 15, 15)
    assert (state(breaker, 30), breaker.forced) == (HALF_OPEN, None)
    assert breaker.view(30).forced_for is None


def test_forced_open_without_a_time_lasts_until_reset() -> None:
    breaker = a_breaker()
    breaker.force_open(10, None)

    view = breaker.view(1e9)
    assert (view.state, view.forced_for, view.retry_after) == (OPEN, None, FORCED_RETRY_AFTER)
    assert FORCED_RETRY_AFTER == 30
    breaker.reset(1e9)
    assert breaker.view(1e9).state is CLOSED
    assert breaker.enter(1e9) != REFUSED


def test_forced_closed_lets_all_pass_and_nothing_trips() -> None:
    breaker = a_breaker(failure_rate=0.1, failures_in_window=1, min_requests=1)
    breaker.force_closed(0, 60)
    fail(breaker, 1, 100)
    attempt(breaker, 2, SUCCESS, 1000)
    attempt(breaker, 2, IGNORED)
    permit = breaker.enter(3)
    breaker.settle(permit, SUCCESS, 3, 0.1, "ok")
    breaker.body_broke(permit, 3, "timeout_idle")

    view = breaker.view(20)
    assert (view.state, view.forced, view.forced_for, view.retry_after) == (CLOSED, "closed", 40, None)
    assert (view.failures, view.successes, view.trips) == (101, 2, 0)


def test_what_failed_while_forced_closed_does_not_trip_afterwards() -> None:
    breaker = a_breaker(failures_in_window=10, min_requests=1)
    breaker.force_closed(0, 60)
    fail(breaker, 59, 100)

    view = breaker.view(60)
    fail(breaker, 60, 4)

    assert (view.state, view.forced, view.forced_for, view.failures, view.run) == (CLOSED, None, None, 0, 0)
    assert breaker.state is CLOSED
    fail(breaker, 60)
    assert breaker.state is OPEN


def test_what_came_while_forced_closed_is_remembered_among_the_last_attempts() -> None:
    breaker = a_breaker(consecutive_failures=1)
    breaker.force_closed(0, 10)
    breaker.settle(breaker.enter(1), SUCCESS, 2, 0.25, "ok")
    breaker.settle(breaker.enter(3), FAILURE, 4, 0.5, "502")

    fail(breaker, 10)

    assert breaker.last_trip is not None
    assert breaker.last_trip.attempts == (
        Attempt(8, "ok", 0.25),
        Attempt(6, "502", 0.5),
        Attempt(0, "503", 0.1),
    )


def test_the_open_time_is_the_first_one_after_a_force_on_a_new_breaker() -> None:
    breaker = a_breaker()
    breaker.force_closed(0, 10)

    fail(breaker, 11, 5)

    assert breaker.refusal(11) == 30


def test_forced_closed_without_a_time_lasts_until_reset() -> None:
    breaker = tripped()
    breaker.force_closed(1, None)
    fail(breaker, 1e6, 10)
    breaker.reset(1e6)
    fail(breaker, 1e6, 5)

    assert (breaker.state, breaker.forced) == (OPEN, None)


def test_results_from_before_a_force_are_late() -> None:
    breaker = a_breaker()
    permit = breaker.enter(0)
    breaker.force_closed(1, None)
    breaker.settle(permit, FAILURE, 2, 2, "503")

    assert (breaker.late, breaker.view(2).failures) == (1, 0)


def test_a_force_can_be_renewed_and_turned_round() -> None:
    breaker = a_breaker()
    breaker.force_open(0, 10)
    breaker.force_open(5, 10)
    assert breaker.refusal(12) == 3
    breaker.force_closed(13, 10)

    assert breaker.refusal(14) is None
    assert breaker.view(23).forced is None


def test_forcing_a_tripped_breaker_open_keeps_what_it_shows() -> None:
    breaker = tripped()
    breaker.force_open(1, None)

    view = breaker.view(500)
    assert (view.failures, view.failure_rate, view.trips) == (5, 100.0, 1)


def test_a_breaker_forced_open_in_good_health_shows_its_health() -> None:
    breaker = tripped()
    attempt(breaker, 30)
    attempt(breaker, 30)
    attempt(breaker, 31)
    breaker.force_open(32, None)

    view = breaker.view(500)
    assert (view.failures, view.successes, view.failure_rate) == (0, 1, 0.0)


def test_a_reset_begins_from_the_beginning() -> None:
    breaker = tripped()
    fail(breaker, 30)
    breaker.reset(31)

    view = breaker.view(31)
    assert (view.state, view.failures, view.successes, view.run) == (CLOSED, 0, 0, 0)
    fail(breaker, 31, 5)
    assert breaker.refusal(31) == 30
    assert breaker.last_trip is not None
    assert (breaker.last_trip.number, len(breaker.last_trip.attempts)) == (3, 5)


def test_what_was_due_before_a_reset_or_a_force_has_happened() -> None:
    for act in (Breaker.reset, lambda breaker, now: breaker.force_closed(now, None)):
        breaker = tripped()
        act(breaker, 35)

        assert [(event.at, event.after) for event in breaker.events] == [
            (0, OPEN),
            (30, HALF_OPEN),
            (35, CLOSED),
        ]
        assert breaker.open_seconds(40) == 30


def test_a_reset_of_a_closed_breaker_clears_its_counts() -> None:
    breaker = a_breaker()
    fail(breaker, 0, 4)
    breaker.reset(1)
    fail(breaker, 1, 4)

    assert (breaker.state, breaker.view(1).failures) == (CLOSED, 4)


# --- a probe ---


def test_a_passing_probe_ends_the_open_time_and_trials_decide() -> None:
    breaker = tripped()

    assert breaker.hasten(5) is True

    assert (breaker.state, breaker.refusal(5), breaker.open_seconds(9)) == (HALF_OPEN, None, 5)
    assert breaker.transitions == {
        (CLOSED, OPEN, "consecutive_failures"): 1,
        (OPEN, HALF_OPEN, "probe_passed"): 1,
    }
    assert attempt(breaker, 6)
    assert attempt(breaker, 7)
    assert (breaker.state, breaker.recoveries.total) == (CLOSED, 7)


def test_a_trial_that_fails_after_a_probe_opens_for_longer_as_any_other() -> None:
    breaker = tripped()
    breaker.hasten(5)
    fail(breaker, 6)

    assert (breaker.state, breaker.refusal(6)) == (OPEN, 45)


def test_however_many_probes_pass_only_requests_close() -> None:
    breaker = tripped()

    assert [breaker.hasten(now) for now in range(1, 20)] == [True] + [False] * 18

    assert (breaker.state, breaker.generation) == (HALF_OPEN, 2)


def test_a_probe_that_passes_when_the_time_was_over_anyway_changes_nothing() -> None:
    breaker = tripped()

    assert breaker.hasten(30) is False

    assert (breaker.state, breaker.events[-1].cause, breaker.events[-1].at) == (
        HALF_OPEN,
        "open_time_over",
        30,
    )


def test_a_probe_moves_no_closed_breaker_and_none_that_an_operator_has_forced() -> None:
    closed, opened, ended = a_breaker(), a_breaker(), a_breaker()
    opened.force_open(0, None)
    ended.force_open(0, 10)

    assert [one.hasten(5) for one in (closed, opened, ended)] == [False] * 3

    assert [(one.state, one.forced) for one in (closed, opened, ended)] == [
        (CLOSED, None),
        (OPEN, "open"),
        (OPEN, "open"),
    ]


# --- what it tells ---


def test_every_change_is_told_with_its_cause() -> None:
    told: list[Event] = []
    breaker = a_breaker()
    breaker.on_event = told.append
    fail(breaker, 1, 5)
    fail(breaker, 31)
    attempt(breaker, 76)
    attempt(breaker, 77)
    breaker.force_open(80, 5)
    breaker.force_closed(90, 5)
    breaker.view(95)
    breaker.reset(96)

    assert [(one.at, one.before, one.after, one.cause, one.forced) for one in told] == [
        (1, CLOSED, OPEN, "consecutive_failures", None),
        (31, OPEN, HALF_OPEN, "open_time_over", None),
        (31, HALF_OPEN, OPEN, "trial_failed", None),
        (76, OPEN, HALF_OPEN, "open_time_over", None),
        (77, HALF_OPEN, CLOSED, "trial_succeeded", None),
        (80, CLOSED, OPEN, "forced", "open"),
        (85, OPEN, HALF_OPEN, "force_expired", None),
        (90, HALF_OPEN, CLOSED, "forced", "closed"),
        (95, CLOSED, CLOSED, "force_expired", None),
        (96, CLOSED, CLOSED, "reset", None),
    ]
    assert list(breaker.events) == told
    assert {one.breaker for one in told} == {"db"}
    assert [one.trip.number if one.trip else None for one in told] == [1, None, 2] + [None] * 7
    assert told[2].trip is breaker.last_trip


def test_changes_of_state_are_counted_by_their_cause() -> None:
    breaker = closed_again()
    fail(breaker, 101, 5)
    breaker.reset(102)
    breaker.reset(103)

    assert breaker.transitions == {
        (CLOSED, OPEN, "consecutive_failures"): 2,
        (OPEN, HALF_OPEN, "open_time_over"): 1,
        (HALF_OPEN, CLOSED, "trial_succeeded"): 1,
        (OPEN, CLOSED, "reset"): 1,
    }


def test_the_ring_of_events_is_bounded() -> None:
    breaker = a_breaker()
    for now in range(1000):
        breaker.reset(now)

    assert [event.at for event in breaker.events] == list(range(936, 1000))


def test_whoever_is_told_may_look_at_the_breaker() -> None:
    breaker = a_breaker()
    seen: list[BreakerView] = []
    breaker.on_event = lambda event: seen.append(breaker.view(event.at))
    fail(breaker, 1, 5)

    assert [(view.state, view.retry_after, view.failures) for view in seen] == [(OPEN, 30, 5)]


def test_the_time_spent_open_is_added_up() -> None:
    breaker = tripped(at=10)

    assert [breaker.open_seconds(now) for now in (10, 25, 40, 60)] == [0, 15, 30, 30]
    fail(breaker, 60)
    assert breaker.open_seconds(70) == 40
    breaker.force_open(75, None)
    assert breaker.open_seconds(100) == 70
    assert breaker.view(100).open_seconds == 70


def test_a_recovery_is_measured_from_the_first_trip_to_the_close() -> None:
    breaker = tripped(at=10)
    fail(breaker, 40)
    attempt(breaker, 85)
    attempt(breaker, 90)
    fail(breaker, 95, 5)
    attempt(breaker, 185)
    attempt(breaker, 185)

    assert (breaker.recoveries.total, sum(breaker.recoveries.counts)) == (80 + 90, 2)
    assert breaker.recoveries.bounds == (1, 2.5, 5, 10, 30, 60, 120, 300, 600, 1800, 3600)


@pytest.mark.parametrize("how", ["force", "reset"])
def test_what_an_operator_ended_is_no_recovery(how: str) -> None:
    breaker = tripped()
    if how == "force":
        breaker.force_open(5, 10)
        attempt(breaker, 20)
        attempt(breaker, 20)
    else:
        breaker.reset(20)
    assert breaker.state is CLOSED
    fail(breaker, 50, 5)
    attempt(breaker, 95)
    attempt(breaker, 95)

    assert (breaker.recoveries.total, sum(breaker.recoveries.counts)) == (45, 1)


def test_its_live_state_can_be_read_in_one_line() -> None:
    breaker = tripped()
    plain = repr(breaker)
    breaker.force_open(1, None)

    assert (plain, repr(breaker)) == (
        "<Breaker db OPEN, generation 1>",
        "<Breaker db OPEN (forced open), generation 2>",
    )


# --- other settings ---


def test_other_settings_leave_a_breaker_open_and_its_history_as_it_was() -> None:
    breaker = tripped(open_for=30.0)

    breaker.adjust(replace(STEADY, consecutive_failures=2, open_for=60.0), 10.0)

    view = breaker.view(10.0)
    assert (view.state, view.retry_after, view.trips) == (OPEN, 20.0, 1)
    assert breaker.last_trip is not None
    assert [event.after for event in breaker.events] == [OPEN]


def test_a_shorter_open_time_takes_effect_at_once() -> None:
    breaker = tripped(open_for=30.0)

    breaker.adjust(replace(STEADY, open_for=5.0), 10.0)

    assert breaker.refusal(10.0) == 5.0
    assert breaker.view(15.0).state is HALF_OPEN


def test_what_an_operator_forced_stays_forced_under_other_settings() -> None:
    breaker = a_breaker()
    breaker.force_open(0.0, 100.0)

    breaker.adjust(replace(STEADY, open_for=5.0), 10.0)

    assert breaker.refusal(10.0) == 90.0


def test_other_settings_decide_from_then_on_with_new_counts() -> None:
    breaker = a_breaker()
    fail(breaker, 0.0, 4)

    breaker.adjust(replace(STEADY, consecutive_failures=2), 1.0)
    assert breaker.state is CLOSED
    fail(breaker, 1.0)
    assert breaker.state is CLOSED
    fail(breaker, 1.0)

    assert breaker.state is OPEN
    assert breaker.last_trip is not None
    assert (breaker.last_trip.failures, len(breaker.last_trip.attempts)) == (2, 6)


def test_what_was_under_way_counts_under_the_other_settings() -> None:
    breaker = a_breaker()
    permit = breaker.enter(0.0)

    breaker.adjust(replace(STEADY, consecutive_failures=1), 1.0)
    breaker.settle(permit, FAILURE, 2.0, 0.1, "503")

    assert (breaker.state, breaker.late) == (OPEN, 0)


def test_a_volume_that_is_another_now_is_the_one_that_counts() -> None:
    breaker = of_window(failure_rate=0.5, min_requests=100)

    breaker.adjust(replace(breaker.settings, min_requests=2), 0.0)
    attempt(breaker, 0.0, FAILURE)
    attempt(breaker, 0.0)

    assert breaker.state is OPEN
