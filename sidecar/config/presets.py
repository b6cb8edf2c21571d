"""Numbers that have names: `preset: seed-db` is what stands here under that name.

They are the numbers of five reliability guides (`seed-…`), kept exactly: what a guide leaves unsaid has the
usual default, but the time that a breaker is open neither grows nor varies, and no other trigger opens it.

Keys beside `preset` go before it; it goes before what `defaults` says where a route names it, before the profile
and before the defaults.
"""

from collections.abc import Mapping

__all__ = ["PRESETS"]

Values = Mapping[str, object]


def _breaker(open_for: str, *, successes: int | None = None, **said: object) -> Values:
    """Return a breaker that has just these triggers and is open for just this time."""
    triggers = dict.fromkeys(
        ("consecutive_failures", "failures_in_window", "failure_rate", "slow_call"), "off"
    )
    half_open = {} if successes is None else {"half_open": {"max_concurrent": 1, "successes": successes}}
    exact = {"open_for": open_for, "open_multiplier": 1, "open_jitter": "0%"}
    return triggers | said | exact | half_open


_DOUBLING = {"retries": 3, "strategy": "exponential", "base": "1s", "multiplier": 2}
_DEV = _breaker("30s", consecutive_failures=10, successes=3)
_TEST = _breaker("1s", consecutive_failures=2, successes=3)
_PROD = _breaker("60s", consecutive_failures=5, successes=3)

PRESETS: Mapping[str, Mapping[str, Values]] = {
    "breaker": {
        "seed-dashboard": _breaker("30s", consecutive_failures=5, successes=1),
        "seed-db": _breaker("15s", failures_in_window=3, window="30s", min_requests=5),
        "seed-cache": _breaker("10s", failures_in_window=5, window="60s", min_requests=10),
        "seed-auth": _breaker("20s", consecutive_failures=3),
        "seed-external": _breaker("30s", consecutive_failures=5),
        "seed-mobile": _breaker("60s", consecutive_failures=5),
        "seed-mobile-external": _breaker("120s", consecutive_failures=3),
        "seed-dev": _DEV,
        "seed-test": _TEST,
        "seed-prod": _PROD,
        "seed-frontend": _breaker("60s", consecutive_failures=5, successes=2),
        "dev": _DEV,
        "test": _TEST,
        "prod": _PROD,
    },
    "retry": {
        "seed-dashboard": {**_DOUBLING, "max": "4s", "jitter": "none"},
        "seed-mobile": {**_DOUBLING, "max": "4s", "jitter": "full"},
        "seed-prod": {**_DOUBLING, "max": "300s", "jitter": "none"},
        "seed-frontend": {
            **_DOUBLING,
            "max": "30s",
            "jitter": "none",
            "retry_on": ["connect_error", "reset", "attempt_timeout", "5xx"],
        },
    },
    "bulkhead": {"seed-frontend": {"max_concurrent": 10, "max_queue": 100}},
    "rate_limit": {
        "seed-mobile": {"limit": "100/1m", "key": "client_ip"},
        "seed-frontend": {
            "limit": "100/60s",
            "algorithm": "sliding_window",
            "key": "client_ip",
            "fields": "both",
        },
    },
    "cache": {"seed-frontend": {"fresh_for": "1m", "stale_while_revalidate": "4m"}},
}
"""By stage and by name: what each says at which key, as one would write it."""
