"""Keys of the full grammar whose stage this version does not have: refused by name, never silently ignored.

The one place that knows them. A version that brings a stage deletes its words here, and nothing else refuses
it.
"""

from collections.abc import Mapping

from pydantic import BaseModel

from sidecar.config.model import Config, Defaults, Listen, RouteConfig, UpstreamConfig

__all__ = ["LATER"]

_STAGES = frozenset({"retry", "breaker", "bulkhead", "rate_limit", "cache", "fallback", "fault", "mode"})

LATER: Mapping[type[BaseModel], frozenset[str]] = {
    Config: frozenset({"breakers", "bulkheads", "headers", "health", "admin", "telemetry", "readiness"}),
    Listen: frozenset({"admin"}),
    UpstreamConfig: frozenset({"health"}),
    Defaults: _STAGES,
    RouteConfig: _STAGES,
}
