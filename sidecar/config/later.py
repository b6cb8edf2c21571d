"""Keys of the full grammar whose service this version does not have: refused by name, never silently ignored.

The one place that knows them. A version that brings one deletes its words here, and nothing else refuses it.
"""

from collections.abc import Mapping

from pydantic import BaseModel

from sidecar.config.model import Config, Listen, UpstreamConfig

__all__ = ["LATER", "belongs_to_a_later_version"]

LATER: Mapping[type[BaseModel], frozenset[str]] = {
    Config: frozenset({"headers", "health", "admin", "telemetry", "readiness"}),
    Listen: frozenset({"admin"}),
    UpstreamConfig: frozenset({"health"}),
}


def belongs_to_a_later_version(key: str, model: type[BaseModel]) -> bool:
    """Tell if the unknown `key` of `model` asks for something that this version does not have."""
    return key in LATER.get(model, ())
