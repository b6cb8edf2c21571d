"""A histogram counts what a list of all observations would say."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.counts import SECONDS, Histogram

SOME_SECONDS = st.one_of(st.floats(0, 100), st.sampled_from(SECONDS))


@given(st.lists(SOME_SECONDS, max_size=50), st.integers(1, 40), st.integers(1, 100))
def test_each_bucket_holds_what_is_at_most_its_bound(some: list[float], times: int, looks: int) -> None:
    observed = some * times
    histogram = Histogram()
    for number, seconds in enumerate(observed):
        histogram.observe(seconds)
        if number % looks == 0:
            assert sum(histogram.counts) == number + 1

    naive = [sum(seconds <= bound for seconds in observed) for bound in SECONDS]
    rows = histogram.cumulative()

    assert [number for _, number in rows] == [*naive, len(observed)]
    assert histogram.total == pytest.approx(sum(observed))


def test_bounds_are_written_as_prometheus_reads_them_back() -> None:
    rows = Histogram().cumulative()

    assert [float(bound) for bound, _ in rows] == [*SECONDS, math.inf]
    assert dict(rows)["1.0"] == 0
    assert rows[-1] == ("+Inf", 0)


def test_bounds_of_ones_own_are_kept_to() -> None:
    histogram = Histogram((1.0, 2.5))
    for seconds in (1.0, 1.1, 3.0):
        histogram.observe(seconds)

    assert histogram.cumulative() == [("1.0", 1), ("2.5", 2), ("+Inf", 3)]


def test_histograms_share_no_counts() -> None:
    one, two = Histogram(), Histogram()
    one.observe(1)

    assert two.cumulative()[-1] == ("+Inf", 0)
