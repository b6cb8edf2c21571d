"""Keys of the full grammar whose stage this version does not have: refused by name, never silently ignored.

The one place that knows them. A version that brings a stage deletes its words here, and nothing else refuses
it.
"""

from collections.abc import Mapping

from pydantic import BaseModel

from sidecar.config.model import Config, Defaults, Listen, RouteConfig, UpstreamConfig

__all__ = ["GUESSES", "LATER", "belongs_to_a_later_version"]

_STAGES = frozenset({"retry", "breaker", "bulkhead", "rate_limit", "cache", "fallback", "fault", "mode"})

LATER: Mapping[type[BaseModel], frozenset[str]] = {
    Config: frozenset({"breakers", "bulkheads", "headers", "health", "admin", "telemetry", "readiness"}),
    Listen: frozenset({"admin"}),
    UpstreamConfig: frozenset({"health"}),
    Defaults: _STAGES,
    RouteConfig: _STAGES,
}

GUESSES: Mapping[str, frozenset[str]] = {
    "retry": frozenset({"retry", "retries", "retrying"}),
    "breaker": frozenset({"breaker", "breakers", "circuitbreaker", "circuitbreakers", "circuitbreaking"}),
    "bulkhead": frozenset({"bulkhead", "bulkheads"}),
    "rate_limit": frozenset({"ratelimit", "ratelimits", "ratelimiting", "ratelimiter"}),
    "cache": frozenset({"cache", "caches", "caching"}),
    "fallback": frozenset({"fallback", "fallbacks"}),
    "fault": frozenset({"fault", "faults"}),
}
"""What people call a stage who have not read its key yet, at whatever level: without case, `-` and `_`."""

_GUESSED = frozenset().union(*GUESSES.values())


def belongs_to_a_later_version(key: str, model: type[BaseModel]) -> bool:
    """Tell if the unknown `key` of `model` asks for a stage that this version does not have."""
    return key in LATER.get(model, ()) or key.lower().replace("-", "").replace("_", "") in _GUESSED
