"""What both algorithms promise: the wait they tell is the right one, and the table of keys is bounded."""

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from sidecar.policy.ratelimit import Algorithm, RateLimiter, RateLimitSettings

ALGORITHMS: list[Algorithm] = ["token_bucket", "sliding_window"]

some_settings = st.builds(
    RateLimitSettings,
    limit=st.integers(1, 8),
    per=st.floats(0.001, 100.0),
    algorithm=st.sampled_from(ALGORITHMS),
    burst=st.none() | st.integers(1, 12),
    max_keys=st.integers(1, 12),
)


@given(
    some_settings,
    st.floats(0, 1e8),
    st.lists(st.floats(0, 5.0), max_size=20),
    st.floats(0, 0.999),
)
def test_waiting_as_long_as_told_is_enough_when_alone_and_less_is_not(
    chosen: RateLimitSettings, start: float, gaps: list[float], part: float
) -> None:
    limiter = RateLimiter(chosen)
    now = start
    for gap in gaps:
        now += gap
        limiter.decide(b"a", now)
    waits = [limiter.decide(b"a", now) for _ in range(chosen.capacity + 1)]
    allowed, remaining, reset, wait = waits[-1]
    assert (allowed, remaining) == (False, 0)
    assert 0 < wait == reset <= chosen.per + 2e-6

    if now + wait * part < now + wait - 2e-6:  # else the clock cannot tell the two apart
        assert not limiter.decide(b"a", now + wait * part)[0]
    assert limiter.decide(b"a", now + wait)[0]


@given(some_settings, st.floats(0, 1e5))
def test_waiting_whole_seconds_as_the_answer_says_is_enough(chosen: RateLimitSettings, now: float) -> None:
    limiter = RateLimiter(chosen)
    for _ in range(chosen.capacity):
        assert limiter.decide(b"a", now)[0]

    assert limiter.decide(b"a", now + math.ceil(limiter.decide(b"a", now)[3]))[0]


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_a_wait_of_whole_seconds_is_told_as_such(algorithm: Algorithm) -> None:
    limiter = RateLimiter(RateLimitSettings(1, 30.0, algorithm))
    limiter.decide(b"a", 12345.678)

    assert limiter.decide(b"a", 12345.678) == (False, 0, 30.0, 30.0)


@pytest.mark.parametrize("algorithm", ALGORITHMS)
@pytest.mark.parametrize("max_keys", [1, 100])
def test_there_are_never_more_keys_than_allowed(algorithm: Algorithm, max_keys: int) -> None:
    limiter = RateLimiter(RateLimitSettings(5, 60.0, algorithm, max_keys=max_keys))
    for key in range(1000):
        assert limiter.decide(b"%d" % key, key / 1e6)[0]

    assert (limiter.keys, limiter.evicted) == (max_keys, 1000 - max_keys)


@pytest.mark.parametrize(
    ("chosen", "capacity"),
    [
        (RateLimitSettings(5, 1.0), 5),
        (RateLimitSettings(5, 1.0, burst=9), 9),
        (RateLimitSettings(5, 1.0, burst=2), 2),
        (RateLimitSettings(5, 1.0, "sliding_window"), 5),
        (RateLimitSettings(5, 1.0, "sliding_window", burst=9), 5),
    ],
)
def test_so_many_pass_at_once(chosen: RateLimitSettings, capacity: int) -> None:
    limiter = RateLimiter(chosen)

    assert chosen.capacity == capacity
    assert sum(limiter.decide(b"a", 0.0)[0] for _ in range(20)) == capacity


def test_defaults_are_a_bucket_of_the_limit_for_ten_thousand_keys() -> None:
    assert RateLimitSettings(100, 60.0) == RateLimitSettings(100, 60.0, "token_bucket", None, 10_000)


def test_its_text_tells_no_key() -> None:
    limiter = RateLimiter(RateLimitSettings(100, 60.0))
    limiter.decide(b"a secret", 0.0)

    assert repr(limiter) == "<RateLimiter token_bucket 100 per 60s, 1 keys>"


class Limits(RuleBasedStateMachine):
    """Many keys and a small table: whoever was not forgotten never gets more than his due."""

    @initialize(chosen=some_settings)
    def begin(self, chosen: RateLimitSettings) -> None:
        self.settings = chosen
        self.limiter = RateLimiter(chosen)
        self.now = 0.0
        self.passed: dict[int, list[float]] = {}

    @rule(seconds=st.floats(0, 50))
    def time_passes(self, seconds: float) -> None:
        self.now += seconds

    @rule(key=st.integers(0, 20), times=st.integers(1, 5))
    def asked(self, key: int, times: int) -> None:
        for _ in range(times):
            evicted = self.limiter.evicted
            allowed, remaining, reset, retry_after = self.limiter.decide(b"%d" % key, self.now)
            if self.limiter.evicted > evicted:
                self.passed = {}  # somebody was forgotten too early: what is known of whom is void
            assert 0 <= remaining < self.settings.capacity
            assert reset > 0
            assert (retry_after == 0) is allowed
            if allowed:
                self.passed.setdefault(key, []).append(self.now)

    @invariant()
    def the_table_is_bounded(self) -> None:
        assert self.limiter.keys <= self.settings.max_keys

    @invariant()
    def nobody_gets_more_than_the_limit(self) -> None:
        bucket = self.settings.algorithm == "token_bucket"
        most = self.settings.capacity + (self.settings.limit if bucket else 0)
        for times in self.passed.values():
            recent = [time for time in times if time > self.now - self.settings.per + 2e-6]
            assert len(recent) <= most


TestLimits = Limits.TestCase
TestLimits.settings = settings(max_examples=60, stateful_step_count=30, deadline=None)
