"""Token buckets: a burst at once, then one for one."""

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.policy.token_bucket import TokenBuckets


def _passed(buckets: TokenBuckets, times: int, now: float, key: bytes = b"a") -> int:
    return sum(buckets.decide(key, now)[0] for _ in range(times))


def test_a_bucket_tells_what_is_left_and_when_there_is_more() -> None:
    buckets = TokenBuckets(3, 60.0, 3, 10)

    assert [buckets.decide(b"a", now) for now in (0.0, 0.0, 5.0, 5.0, 19.0, 20.0, 60.0)] == [
        (True, 2, 20.0, 0.0),
        (True, 1, 20.0, 0.0),
        (True, 0, 15.0, 0.0),
        (False, 0, 15.0, 15.0),
        (False, 0, 1.0, 1.0),
        (True, 0, 20.0, 0.0),
        (True, 1, 20.0, 0.0),
    ]


def test_the_whole_burst_is_there_though_a_token_takes_no_whole_number_of_anything() -> None:
    buckets = TokenBuckets(7, 1.0, 700, 10)

    assert _passed(buckets, 701, 3.3) == 700
    assert buckets.decide(b"a", 3.3) == (False, 0, 0.142858, 0.142858)


def test_a_burst_may_be_smaller_than_the_limit() -> None:
    buckets = TokenBuckets(100, 1.0, 2, 10)

    assert _passed(buckets, 5, 0.0) == 2
    assert _passed(buckets, 5, 0.009999) == 0
    assert _passed(buckets, 5, 0.01) == 1


def test_a_bucket_does_not_fill_above_its_burst() -> None:
    buckets = TokenBuckets(10, 1.0, 5, 10)
    _passed(buckets, 5, 0.0)

    assert buckets.decide(b"a", 1e6) == (True, 4, 0.1, 0.0)
    assert _passed(buckets, 10, 1e6) == 4


def test_what_is_refused_costs_nothing() -> None:
    buckets = TokenBuckets(1, 1.0, 1, 10)

    assert _passed(buckets, 1000, 0.0) == 1
    assert _passed(buckets, 1000, 0.999999) == 0
    assert _passed(buckets, 1000, 1.0) == 1


def test_each_key_has_its_bucket() -> None:
    buckets = TokenBuckets(2, 1.0, 2, 10)

    assert [_passed(buckets, 5, 0.0, key) for key in (b"a", b"b", b"a")] == [2, 2, 0]
    assert (buckets.keys, buckets.evicted) == (2, 0)


def test_a_period_below_a_microsecond_is_one() -> None:
    buckets = TokenBuckets(1, 1e-9, 1, 10)

    assert buckets.decide(b"a", 0.0) == (True, 0, 0.000001, 0.0)
    assert buckets.decide(b"a", 0.0) == (False, 0, 0.000001, 0.000001)
    assert buckets.decide(b"a", 0.000001)[0]


def test_keys_whose_bucket_is_full_again_are_forgotten() -> None:
    buckets = TokenBuckets(10, 1.0, 10, 100)
    for key in range(50):
        buckets.decide(b"%d" % key, 0.0)

    for key in range(50):
        buckets.decide(b"new %d" % key, 0.1)

    assert (buckets.keys, buckets.evicted) == (50, 0)


def test_an_exhausted_bucket_is_not_refilled_by_a_flood_of_other_keys() -> None:
    buckets = TokenBuckets(5, 60.0, 5, 20)
    assert _passed(buckets, 9, 0.0, b"mine") == 5

    for key in range(1000):
        buckets.decide(b"%d" % key, 1.0)

    assert buckets.decide(b"mine", 1.0) == (False, 0, 11.0, 11.0)
    assert (buckets.keys, buckets.evicted) == (20, 1000 - 19)


def test_using_a_key_in_vain_keeps_it_too() -> None:
    buckets = TokenBuckets(1, 60.0, 1, 9)
    for key in range(9):
        buckets.decide(b"%d" % key, 0.0)
    assert not buckets.decide(b"0", 0.0)[0]

    buckets.decide(b"new", 0.0)

    assert not buckets.decide(b"0", 0.0)[0]
    assert buckets.decide(b"1", 0.0)[0]
    assert (buckets.keys, buckets.evicted) == (9, 2)


@given(
    limit=st.integers(1, 20),
    per=st.integers(1, 10_000_000),
    capacity=st.integers(1, 30),
    steps=st.lists(st.integers(0, 3_000_000), min_size=1, max_size=60),
)
def test_a_bucket_is_what_the_textbook_says(limit: int, per: int, capacity: int, steps: list[int]) -> None:
    """The model holds tokens as fractions and fills the bucket at each step."""
    buckets = TokenBuckets(limit, per / 1e6, capacity, 10)
    tokens, now = Fraction(capacity), 0
    for step in steps:
        now += step
        tokens = min(Fraction(capacity), tokens + Fraction(step * limit, per))
        allowed, remaining, reset, retry_after = buckets.decide(b"a", now / 1e6)

        assert allowed == (tokens >= 1)
        tokens -= allowed
        assert remaining == int(tokens)
        wait = Fraction(per, limit) * (int(tokens) + 1 - tokens)
        assert reset == -(-wait // 1) / 1e6
        assert retry_after == (0.0 if allowed else reset)


@pytest.mark.parametrize("start", [0.0, 1e6 + 0.123457, 1e9 + 1 / 3])
def test_long_uptimes_lose_no_precision(start: float) -> None:
    buckets = TokenBuckets(10, 1.0, 1, 10)
    assert buckets.decide(b"a", start) == (True, 0, 0.1, 0.0)

    assert not buckets.decide(b"a", start + 0.099998)[0]
    assert buckets.decide(b"a", start + 0.1)[0]
