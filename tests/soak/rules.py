"""The policies of the route that goes through the hour: all of them, with settings that differ from seed to seed."""

from dataclasses import dataclass
from random import Random

from sidecar.policy.breaker import BreakerSettings
from sidecar.policy.budget import BudgetSettings
from sidecar.policy.bulkhead import BulkheadSettings
from sidecar.policy.cache import CacheSettings
from sidecar.policy.fallback import FallbackStep, Stale, Static
from sidecar.policy.ratelimit import RateLimitSettings
from sidecar.policy.retry import RetrySettings

__all__ = ["Rules", "draw"]


@dataclass(frozen=True, slots=True)
class Rules:
    """What one seed sets. Times in seconds."""

    attempt: float
    total: float
    retry: RetrySettings
    budget: BudgetSettings
    breaker: BreakerSettings
    bulkhead: BulkheadSettings
    rate_limit: RateLimitSettings
    cache: CacheSettings
    fallback: tuple[FallbackStep, ...]

    @property
    def healed_after(self) -> float:
        """How long after the service is well the breaker may still refuse: one longest open time, and the trials."""
        return self.breaker.open_max * (1 + self.breaker.open_jitter) + 30


def draw(lots: Random) -> Rules:
    """Draw settings such as people write."""
    attempt = lots.choice((0.5, 1.0, 2.0))
    return Rules(
        attempt=attempt,
        total=attempt * lots.choice((1.5, 2.5, 4.0)),
        retry=RetrySettings(
            retries=lots.randrange(1, 5),
            strategy=lots.choice(("exponential", "linear", "fixed", "decorrelated")),
            base=lots.choice((0.01, 0.1)),
            max=lots.choice((0.5, 2.0)),
            jitter=lots.choice(("full", "equal", "none")),
            retry_after_max=lots.choice((1.0, 30.0)),
        ),
        budget=BudgetSettings(ratio=0.2, min_per_second=lots.choice((0.0, 0.1, 1.0)), window=10.0),
        breaker=_breaker(lots),
        bulkhead=_bulkhead(lots),
        rate_limit=RateLimitSettings(
            limit=lots.choice((3, 10)),
            per=lots.choice((1.0, 10.0)),
            algorithm=lots.choice(("token_bucket", "sliding_window")),
            max_keys=lots.choice((10, 10_000)),
        ),
        cache=CacheSettings(
            fresh_for=lots.choice((None, 2.0)),
            stale_while_revalidate=lots.choice((0.0, 10.0)),
            stale_if_error=lots.choice((0.0, 60.0)),
            coalesce=lots.random() < 0.8,
            keep_for=60.0,
        ),
        fallback=lots.choice(((), (Stale(max_age=60.0),), (Stale(max_age=60.0), Static(body=b"[]")))),
    )


def _breaker(lots: Random) -> BreakerSettings:
    trigger = lots.choice(
        (
            {"consecutive_failures": 5},
            {"consecutive_failures": None, "failures_in_window": 4},
            {"consecutive_failures": None, "failure_rate": 0.4},
            {"consecutive_failures": 8, "slow_duration": 0.4, "slow_rate": 0.7},
        )
    )
    return BreakerSettings(
        **trigger,
        window=lots.choice((5.0, 30.0)),
        min_requests=5,
        open_for=lots.choice((2.0, 10.0)),
        open_multiplier=lots.choice((1.0, 1.5, 2.0)),
        open_max=60.0,
        open_jitter=lots.choice((0.0, 0.1)),
        max_trials=lots.randrange(1, 4),
        successes=lots.randrange(1, 4),
        max_wait=lots.choice((5.0, 30.0)),
    )


def _bulkhead(lots: Random) -> BulkheadSettings:
    most = lots.choice((5, 10, 30))
    return BulkheadSettings(
        max_concurrent=most,
        max_queue=lots.choice((0, 5, 20)),
        queue_timeout=lots.choice((0.1, 0.3, 0.5)),
        order=lots.choice(("fifo", "lifo", "adaptive")),
        adaptive=lots.choice((None, None, (3, most))),
    )
