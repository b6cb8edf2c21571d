"""A window counts what a list of all observations would say, to within one bucket."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.policy.window import Window


def counts(window: Window, now: float) -> tuple[int, int, int]:
    """Total, failures, slow ones."""
    return window.total(now), window.failures(now), window.slow(now)


def test_a_new_window_is_empty() -> None:
    assert counts(Window(30), 1000) == (0, 0, 0)


def test_each_kind_is_counted_for_itself() -> None:
    window = Window(30)

    held = [window.add(1), window.add(1, True), window.add(2, False, True), window.add(2, True, True)]

    assert held == [1, 2, 3, 4]
    assert counts(window, 2) == (4, 2, 2)


@pytest.mark.parametrize("at", [-2.9, -0.1, 0.0, 0.1, 2.9, 3.0, 1000.7])
def test_an_observation_is_never_dropped_within_the_window(at: float) -> None:
    window = Window(30, buckets=10)
    window.add(at, True, True)

    assert counts(window, at + 30) == (1, 1, 1)


@pytest.mark.parametrize("at", [-2.9, -0.1, 0.0, 0.1, 2.9, 3.0, 1000.7])
def test_an_observation_is_dropped_at_most_one_bucket_after_the_window(at: float) -> None:
    window = Window(30, buckets=10)
    window.add(at, True, True)

    assert counts(window, at + 33) == (0, 0, 0)


def test_the_default_is_ten_buckets() -> None:
    window = Window(10)
    window.add(0.5)

    assert (window.total(10.999), window.total(11)) == (1, 0)


def test_each_count_can_be_the_first_to_be_asked_for_after_a_silence() -> None:
    for ask in (Window.total, Window.failures, Window.slow):
        window = Window(1)
        window.add(0, True, True)
        assert ask(window, 2) == 0


def test_a_bucket_ends_where_the_next_one_begins() -> None:
    window = Window(30, buckets=10)
    window.add(0)
    window.add(3)

    assert (window.total(32.9), window.total(33), window.total(36)) == (2, 1, 0)
    for ask in (Window.total, Window.failures, Window.slow):
        window = Window(10)
        window.add(0.5, True, True)
        assert (ask(window, 10.5), ask(window, 11)) == (1, 0)


def test_what_is_dropped_leaves_the_rest_as_it_was() -> None:
    window = Window(10)
    window.add(0.5)
    window.add(0.6, True)
    window.add(5.5, True)
    window.add(5.6, False, True)

    assert counts(window, 10) == (4, 2, 1)
    assert counts(window, 11) == (2, 1, 1)
    assert window.add(12) == 3
    assert counts(window, 16) == (1, 0, 0)


def test_a_cleared_window_is_as_good_as_new() -> None:
    window = Window(10)
    for at in (0.5, 1.5, 2.5):
        window.add(at, True, True)

    window.clear()

    assert counts(window, 2.6) == (0, 0, 0)
    assert window.add(2.7, True) == 1
    assert counts(window, 12) == (1, 1, 0)
    assert counts(window, 13) == (0, 0, 0)


STEPS = st.lists(st.tuples(st.floats(0, 40), st.booleans(), st.booleans()), max_size=60)


@given(STEPS, st.sampled_from([0.5, 1.0, 7.0, 30.0]), st.sampled_from([1, 3, 10, 60]))
def test_any_history_is_counted_as_a_list_would(
    steps: list[tuple[float, bool, bool]], seconds: float, buckets: int
) -> None:
    window = Window(seconds, buckets)
    seen: list[tuple[float, bool, bool]] = []
    now = 0.0
    for step, failure, slow in steps:
        now += step
        seen.append((now, failure, slow))
        held = window.add(now, failure, slow)
        tiny = 1e-9
        for index, got in enumerate(counts(window, now)):
            kind = [one for one in seen if index == 0 or one[index]]
            least = sum(now - one[0] <= seconds - tiny for one in kind)
            most = sum(now - one[0] <= seconds + seconds / buckets + tiny for one in kind)
            assert least <= got <= most
        assert held == window.total(now)


def test_memory_does_not_grow_with_the_load() -> None:
    window = Window(10, buckets=10)

    for number in range(10_000):
        window.add(number / 100, number % 2 == 0)

    assert len(window._past) <= 11


def test_looking_costs_no_memory() -> None:
    window = Window(10, buckets=10)

    for now in range(10):
        assert counts(window, now) == (0, 0, 0)

    assert len(window._past) == 0
