"""What people call a stage who have not read its key yet, and where they look for it: from there to its real key."""

from collections.abc import Mapping

from pydantic import BaseModel

from sidecar.config.model import Config, Defaults, RouteConfig

__all__ = ["GUESSES", "guessed"]

GUESSES: Mapping[str, frozenset[str]] = {
    "timeout": frozenset({"timeout", "timeouts"}),
    "retry": frozenset({"retry", "retries", "retrying", "retrypolicy"}),
    "breaker": frozenset(
        {"breaker", "breakers", "circuitbreaker", "circuitbreakers", "circuitbreaking", "outlierdetection"}
    ),
    "bulkhead": frozenset({"bulkhead", "bulkheads", "concurrency", "concurrencylimit"}),
    "rate_limit": frozenset({"ratelimit", "ratelimits", "ratelimiting", "ratelimiter"}),
    "cache": frozenset({"cache", "caches", "caching"}),
    "fallback": frozenset({"fallback", "fallbacks"}),
    "fault": frozenset({"fault", "faults", "faultinjection", "chaos"}),
}
"""By key: what it is called as well, without case, `-` and `_`."""

_SHARED = {"breaker": "breakers", "bulkhead": "bulkheads"}
_MODE = (
    "`mode` stands in `breaker`, `bulkhead` or `rate_limit`; `off` in the place of a stage switches it off"
)


def guessed(key: str, model: type[BaseModel]) -> str | None:
    """Return what to do about the unknown `key` of `model` where it means a stage, else None."""
    loose = key.lower().replace("-", "").replace("_", "")
    meant = next((stage for stage, words in GUESSES.items() if loose in words), None)
    if model in {RouteConfig, Defaults}:
        return _MODE if key == "mode" else f"did you mean `{meant}`?" if meant else None
    if meant is None:
        return None
    if model is Config and meant in _SHARED:
        return f"did you mean `{_SHARED[meant]}`, where those are that routes share by name?"
    return f"`{meant}` stands in a route, or in `defaults` for all of them"
