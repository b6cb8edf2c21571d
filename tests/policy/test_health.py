"""How an upstream is, by its probes: `fall` and `rise`, and what their word is worth to an open breaker."""

from dataclasses import dataclass
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.policy.breaker import FAILURE, SUCCESS, Breaker, BreakerSettings, State
from sidecar.policy.health import Health, HealthSettings
from sidecar.policy.trip import Cause, Trip


def a_health(fall: int = 3, rise: int = 2) -> Health:
    return Health(HealthSettings(fall, rise))


def probe(health: Health, results: str, begin: float = 0.0) -> list[bool | None]:
    """Send a probe a second, `+` passes after 0.25 s and `-` fails, and give how the upstream is after each."""
    seen = []
    for number, result in enumerate(results):
        now = begin + number
        if result == "+":
            health.passed(now, 0.25)
        else:
            health.failed(now, "503")
        seen.append(health.healthy)
    return seen


def a_trip(at: float, cause: Cause = "consecutive_failures") -> Trip:
    return Trip(1, at, cause, "", 5, 5, 100.0, "503", 30.0, ())


def everything(health: Health) -> dict[str, Any]:
    """All that is to be seen of it."""
    names = ("healthy", "since", "checked_at", "latency", "why", "passes", "failures")
    return {name: getattr(health, name) for name in names}


def test_before_the_first_probe_nothing_is_known() -> None:
    health = a_health()

    assert everything(health) == {
        "healthy": None,
        "since": None,
        "checked_at": None,
        "latency": None,
        "why": None,
        "passes": 0,
        "failures": 0,
    }
    assert not health.vouches_since(a_trip(0))


@pytest.mark.parametrize(
    ("results", "healthy"),
    [
        ("+", [True]),
        ("-", [False]),
        ("+--", [True] * 3),
        ("+---", [True] * 3 + [False]),
        ("+--+--", [True] * 6),
        ("+---+", [True] * 3 + [False] * 2),
        ("+---++", [True] * 3 + [False] * 2 + [True]),
        ("+---+-+++", [True] * 3 + [False] * 4 + [True] * 2),
        ("-+", [False] * 2),
        ("-++--", [False, False, True, True, True]),
    ],
)
def test_the_first_probe_decides_and_then_so_many_in_a_row(results: str, healthy: list[bool]) -> None:
    assert probe(a_health(), results) == healthy


def test_one_of_each_is_enough_where_it_is_said_so() -> None:
    assert probe(a_health(1, 1), "+-+-") == [True, False, True, False]


def test_a_change_is_told_once_to_whoever_probes() -> None:
    health = a_health()

    told = [health.passed(0, 0.1), health.passed(1, 0.1)]
    told += [health.failed(now, "timeout") for now in (2, 3, 4, 5)]
    told += [health.passed(now, 0.1) for now in (6, 7, 8)]

    assert told == [True, False, False, False, True, False, False, True, False]


def test_what_is_shown_of_a_failing_upstream_is_its_last_failure_and_its_last_good_latency() -> None:
    health = a_health()
    health.passed(1, 0.25)
    for now, why in ((2, "timeout"), (3, "timeout"), (4, "connection_refused")):
        health.failed(now, why)
    health.passed(5, 0.5)

    assert everything(health) == {
        "healthy": False,
        "since": 4,
        "checked_at": 5,
        "latency": 0.5,
        "why": "connection_refused",
        "passes": 2,
        "failures": 3,
    }


def test_once_all_is_well_again_there_is_no_reason_left() -> None:
    blinked, recovered = a_health(), a_health()
    probe(blinked, "+-")
    assert (blinked.healthy, blinked.why) == (True, "503")

    probe(blinked, "+", 2)
    probe(recovered, "-++")

    assert (blinked.why, blinked.since) == (None, 0)
    assert (recovered.why, recovered.since) == (None, 2)


# --- what its word is worth to a breaker ---


@pytest.mark.parametrize(
    ("results", "tripped_at", "vouches"),
    [
        ("+", 0.0, False),
        ("++", -0.25, True),
        ("++", -0.2, False),
        ("+++", -0.2, True),
        ("+++", 1.0, False),
        ("++-+", -1.0, False),
        ("++-++", -1.0, True),
        ("-++", -1.0, True),
        ("---", -1.0, False),
    ],
)
def test_it_takes_so_many_good_probes_in_a_row_begun_after_the_trip(
    results: str, tripped_at: float, vouches: bool
) -> None:
    """A probe at 0 s began at -0.25 s."""
    health = a_health(rise=2)
    probe(health, results)

    assert health.vouches_since(a_trip(tripped_at)) is vouches


@pytest.mark.parametrize("cause", ["trial_failed", "trial_timed_out"])
@pytest.mark.parametrize(
    ("results", "vouches"),
    [("++++++++", False), ("++-++", True), ("++-+", False), ("-++", True), ("+++-", False)],
)
def test_probes_that_passed_while_trials_failed_must_have_noticed_something_to_be_believed_again(
    cause: Cause, results: str, vouches: bool
) -> None:
    health = a_health(rise=2)
    probe(health, results, begin=10)

    assert health.vouches_since(a_trip(9.5, cause)) is vouches


def test_a_failure_from_before_the_failed_trial_makes_no_later_word_good() -> None:
    health = a_health(rise=2)
    probe(health, "-++++")

    assert health.vouches_since(a_trip(0.5, "trial_failed")) is False
    assert health.vouches_since(a_trip(0.0, "trial_failed")) is True


def test_a_page_that_is_always_well_does_not_keep_the_open_time_from_growing() -> None:
    """Half an hour of an outage that the probes do not see: one trial is early, the others come ever later."""
    breaker = Breaker("db", BreakerSettings(open_jitter=0.0), lambda: 0.5)
    health = a_health(rise=2)
    for _ in range(5):
        breaker.settle(breaker.enter(0.0), FAILURE, 0.0, 0.1, "503")
    trials = []
    for now in range(1, 1800):
        if now % 10 == 0:
            health.passed(now, 0.1)
            trip = breaker.last_trip
            assert trip is not None
            if health.vouches_since(trip):
                breaker.hasten(now)
        if breaker.refusal(now) is None:
            trials.append(now)
            breaker.settle(breaker.enter(now), FAILURE, now, 0.1, "503")

    assert trials == [20, 65, 133, 235, 387, 615, 915, 1215, 1515]


def test_an_outage_that_the_probes_see_ends_when_they_see_its_end() -> None:
    """Down from 0 s to 100 s. Alone the breaker would have asked again at 142.5 s."""
    breaker = Breaker("db", BreakerSettings(open_jitter=0.0), lambda: 0.5)
    health = a_health(rise=2)
    for _ in range(5):
        breaker.settle(breaker.enter(0.0), FAILURE, 0.0, 0.1, "503")
    now = 0.0
    while breaker.state is not State.CLOSED:
        now += 1
        if now % 10 == 0:
            if now < 100:
                health.failed(now, "timeout")
            else:
                health.passed(now, 0.1)
            trip = breaker.last_trip
            assert trip is not None
            if health.vouches_since(trip):
                breaker.hasten(now)
        if (permit := breaker.enter(now)) >= 0:
            breaker.settle(permit, SUCCESS if now >= 100 else FAILURE, now, 0.1, "ok")

    assert now == 111
    assert [event.cause for event in breaker.events][-2:] == ["probe_passed", "trial_succeeded"]


def test_its_live_state_can_be_read_in_one_line() -> None:
    health = a_health()
    texts = [repr(health)]
    probe(health, "+")
    texts.append(repr(health))
    probe(health, "---", 1)
    texts.append(repr(health))

    assert texts == [
        "<Health not known, 0 passed, 0 failed>",
        "<Health well, 1 passed, 0 failed>",
        "<Health failing, 1 passed, 3 failed>",
    ]


# --- any history ---


@dataclass(frozen=True)
class Probe:
    """One probe: how long after the one before, and whether it was good."""

    after: float
    good: bool


PROBES = st.lists(st.builds(Probe, st.floats(0.5, 20), st.booleans()), max_size=60)


@given(PROBES, st.integers(1, 4), st.integers(1, 4), st.floats(0, 100))
def test_any_history_is_judged_as_one_reads_it(
    probes: list[Probe], fall: int, rise: int, tripped_at: float
) -> None:
    """It is failing from `fall` bad ones in a row to `rise` good ones in a row, and the counts are those of a list."""
    health = a_health(fall, rise)
    now, healthy, since = 0.0, None, None
    seen: list[bool] = []
    begun: list[float] = []
    for each in probes:
        now += each.after
        changed = health.passed(now, 0.25) if each.good else health.failed(now, "503")
        seen.append(each.good)
        begun = [*begun, now - 0.25] if each.good else []
        needed = 1 if healthy is None else rise if each.good else fall
        expected = each.good if healthy is None or seen[-needed:] == [each.good] * needed else healthy
        assert changed == (expected is not healthy)
        if changed:
            healthy, since = expected, now
        assert (health.healthy, health.since, health.checked_at) == (healthy, since, now)
        assert (health.passes, health.failures) == (seen.count(True), seen.count(False))
        assert (health.why is None) == (each.good and healthy is True)
        assert health.vouches_since(a_trip(tripped_at)) == (
            len(begun) >= rise and all(at >= tripped_at for at in begun[-rise:])
        )
