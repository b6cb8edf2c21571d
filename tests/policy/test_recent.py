"""What was usual of late."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.policy.recent import KEPT, Recent


def test_a_few_durations_tell_nothing() -> None:
    recent = Recent()
    for _ in range(7):
        recent.add(5.0)

    assert recent.median() == 0.0

    recent.add(5.0)

    assert recent.median() == 5.0


@pytest.mark.parametrize(
    ("durations", "median"),
    [
        ([9, 1, 8, 2, 7, 3, 6, 4, 5], 5),
        ([8, 1, 7, 2, 6, 3, 5, 4], 5),
        ([0.1] * 9 + [3600.0] * 8, 0.1),
    ],
)
def test_the_one_in_the_middle_is_usual(durations: list[float], median: float) -> None:
    recent = Recent()
    for seconds in durations:
        recent.add(seconds)

    assert recent.median() == median


@pytest.mark.parametrize(("then", "median"), [(31, 9.0), (32, 9.0), (33, 1.0), (64, 1.0)])
def test_what_is_longer_ago_is_forgotten(then: int, median: float) -> None:
    recent = Recent()
    for seconds in [9.0] * 100 + [1.0] * then:
        recent.add(seconds)

    assert recent.median() == median


@given(st.lists(st.floats(0, 1e6), min_size=8, max_size=200))
def test_only_the_last_64_count(durations: list[float]) -> None:
    recent = Recent()
    for seconds in durations:
        recent.add(seconds)

    last = sorted(durations[-64:])
    assert KEPT == 64
    assert recent.median() == last[len(last) // 2]
