"""How long to wait before a retry: exact figures from an injected random number."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.policy.backoff import Backoff, Jitter, Strategy

JUST_BELOW_ONE = 1 - 2**-53

STRATEGIES: tuple[Strategy, ...] = ("exponential", "linear", "fixed", "decorrelated")
JITTERS: tuple[Jitter, ...] = ("full", "equal", "none")


@pytest.mark.parametrize(
    ("backoff", "delays"),
    [
        (Backoff("exponential", 1, 2, 30, "none"), [1, 2, 4, 8, 16, 30, 30]),
        (Backoff("exponential", 0.5, 3, 100, "none"), [0.5, 1.5, 4.5, 13.5, 40.5, 100, 100]),
        (Backoff("exponential", 4, 1, 30, "none"), [4, 4, 4, 4, 4, 4, 4]),
        (Backoff("linear", 1.5, 2, 7, "none"), [1.5, 3, 4.5, 6, 7, 7, 7]),
        (Backoff("fixed", 1.5, 2, 30, "none"), [1.5] * 7),
        (Backoff("fixed", 40, 2, 30, "none"), [30] * 7),
    ],
)
def test_a_strategy_grows_as_it_is_called_and_stops_at_the_maximum(
    backoff: Backoff, delays: list[float]
) -> None:
    assert [backoff.delay(retry, 0.25) for retry in range(1, 8)] == delays


@pytest.mark.parametrize(
    ("jitter", "u", "delay"),
    [
        ("full", 0, 0),
        ("full", 0.25, 1),
        ("full", 0.75, 3),
        ("equal", 0, 2),
        ("equal", 0.25, 2.5),
        ("equal", 0.75, 3.5),
        ("none", 0, 4),
        ("none", 0.75, 4),
    ],
)
@pytest.mark.parametrize("strategy", ["exponential", "linear", "fixed"])
def test_jitter_spreads_the_wait_as_it_is_called(
    strategy: Strategy, jitter: Jitter, u: float, delay: float
) -> None:
    assert Backoff(strategy, 4, 2, 30, jitter).delay(1, u) == delay


@pytest.mark.parametrize(("jitter", "delay"), [("full", 1.5), ("equal", 2.25), ("none", 3)])
def test_the_maximum_holds_before_the_jitter(jitter: Jitter, delay: float) -> None:
    """Else all the callers that have reached it would wait exactly as long as each other."""
    assert Backoff("exponential", 1, 2, 3, jitter).delay(9, 0.5) == delay


@pytest.mark.parametrize(
    ("previous", "u", "delay"),
    [
        (0, 0, 2),
        (0, 0.5, 4),  # nothing came before: between base and 3 * base
        (0, 0.75, 5),
        (1, 0.5, 4),  # shorter than base counts as base
        (4, 0, 2),
        (4, 0.5, 7),  # between 2 and 12
        (6, 0.5, 10),
        (6, 0.75, 10),
    ],
)
def test_decorrelated_draws_between_base_and_three_times_the_wait_before(
    previous: float, u: float, delay: float
) -> None:
    assert Backoff("decorrelated", 2, 2, 10, "none").delay(3, u, previous) == delay


@pytest.mark.parametrize("jitter", JITTERS)
def test_decorrelated_is_its_own_jitter(jitter: Jitter) -> None:
    assert Backoff("decorrelated", 2, 2, 10, jitter).delay(1, 0.5) == 4


def test_decorrelated_begins_between_base_and_three_times_base() -> None:
    backoff = Backoff("decorrelated", 0.5, 2, 10)

    assert [backoff.delay(1, u) for u in (0, 0.5, 0.75)] == [0.5, 1, 1.25]


@pytest.mark.parametrize("retry", [2, 1025, 10_000])
def test_growing_past_what_a_number_holds_is_the_maximum(retry: int) -> None:
    assert Backoff("exponential", 1, 1e300, 30, "none").delay(retry, 0) == 30


def test_the_defaults_are_those_of_the_manual() -> None:
    assert Backoff() == Backoff("exponential", 0.1, 2.0, 2.0, "full")
    assert [Backoff().delay(retry, 0.5) for retry in (1, 2, 3)] == [0.05, 0.1, 0.2]


@given(
    strategy=st.sampled_from(STRATEGIES),
    jitter=st.sampled_from(JITTERS),
    base=st.floats(0, 1e6),
    multiplier=st.floats(1, 1e6),
    longest=st.floats(0, 1e6),
    retry=st.integers(1, 2000),
    u=st.floats(0, JUST_BELOW_ONE),
    previous=st.floats(0, 1e6),
)
def test_no_wait_is_negative_or_longer_than_the_maximum(
    *,
    strategy: Strategy,
    jitter: Jitter,
    base: float,
    multiplier: float,
    longest: float,
    retry: int,
    u: float,
    previous: float,
) -> None:
    assert 0 <= Backoff(strategy, base, multiplier, longest, jitter).delay(retry, u, previous) <= longest
