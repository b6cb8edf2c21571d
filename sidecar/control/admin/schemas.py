"""What goes in and out of the admin interface, as JSON Schema: parameters, bodies and answers.

Of an answer it says what programs may rely on; there may be more in it.
"""

from collections.abc import Mapping
from typing import Any, Final

from sidecar.config.units import DURATION
from sidecar.control.actions import LOG_LEVELS
from sidecar.control.admin.endpoint import Param
from sidecar.control.admin.maintenance import USUAL_RETRY_AFTER
from sidecar.control.admin.requests import MOST, STATUS, USUAL
from sidecar.fate import Fate

__all__ = [
    "A_DURATION",
    "BREAKER",
    "FILTERS",
    "LEVEL",
    "LEVELED",
    "MAINTAINED",
    "ONE_BREAKER",
    "ONE_ROUTE",
    "QUESTION",
    "RESET",
    "RETRY_AFTER",
    "ROUTE",
    "ROWS",
    "SNAPSHOT",
    "TEXT",
    "THE_LEVEL",
    "TTL",
]

TEXT: Final[Mapping[str, Any]] = {"type": "string", "minLength": 1}
A_DURATION: Final[Mapping[str, Any]] = {"type": "string", "pattern": f"^{DURATION}$"}
LEVEL: Final[Mapping[str, Any]] = {"type": "string", "enum": list(LOG_LEVELS)}
ROWS: Final[Mapping[str, Any]] = {"type": "array", "items": {"type": "object"}}
BREAKER: Final[Mapping[str, Any]] = {
    "type": "object",
    "properties": {
        "name": {"type": "string"},
        "state": {"type": "string", "enum": ["CLOSED", "OPEN", "HALF_OPEN"]},
        "forced": {"enum": ["open", "closed", None]},
        "forced_for": {"type": ["number", "null"], "description": "Seconds."},
        "mode": {"type": "string", "enum": ["enforce", "shadow"]},
        "failures": {"type": "integer"},
        "successes": {"type": "integer"},
        "failureRate": {"type": "number", "description": "Percent."},
        "retry_after": {"type": ["number", "null"], "description": "Seconds."},
        "last_trip": {"type": ["object", "null"], "description": "Why it opened the last time."},
        "outage": {
            "type": ["object", "null"],
            "description": "The outage that it is in: since when, and why it opened first.",
        },
    },
    "required": ["name", "state", "failures", "successes", "failureRate", "retry_after", "last_trip"],
}
MAINTAINED: Final[Mapping[str, Any]] = {
    "type": "object",
    "properties": {
        "routes": {
            "type": "array",
            "items": {
                "type": "object",
                "properties": {
                    "route": {"type": "string"},
                    "since": {"type": "number"},
                    "retry_after": {"type": "number"},
                },
                "required": ["route", "since", "retry_after"],
            },
        }
    },
    "required": ["routes"],
}
LEVELED: Final[Mapping[str, Any]] = {
    "type": "object",
    "properties": {"level": LEVEL},
    "required": ["level"],
}
RESET: Final[Mapping[str, Any]] = {
    "type": "object",
    "properties": {
        "message": {"type": "string"},
        "reset": {"type": "array", "items": {"type": "string"}},
        "changed": {"type": "array", "items": {"type": "string"}},
    },
    "required": ["message", "reset", "changed"],
}

TTL = Param("ttl", "For how long, such as `30s`. Without: until `reset`.", A_DURATION)
ONE_BREAKER = Param("name", "The breaker. Without: all.", TEXT)
ROUTE = Param("route", "The route; null, or without: all.", {"type": ["string", "null"]})
FILTERS = (
    Param("fate", "How it ended.", {"type": "string", "enum": [str(each) for each in Fate]}),
    Param("route", "The route, or `_none`.", TEXT),
    Param("request_id", "Its id.", TEXT),
    Param(
        "status",
        "The status, such as `503`, or a class, such as `5xx`.",
        {"type": "string", "pattern": STATUS},
    ),
    Param("method", "The method.", TEXT),
    Param(
        "limit",
        f"How many at most; {USUAL} unless said.",
        {"type": "integer", "minimum": 1, "maximum": MOST},
    ),
)
QUESTION = (
    Param("url", "The URL, or its path.", TEXT, required=True),
    Param("method", "The method; GET unless said.", TEXT),
    Param("header", "A field, such as `Accept: text/html`; as often as there are.", TEXT, repeated=True),
)
ONE_ROUTE = Param("route", "The route. Without: all.", TEXT)
SNAPSHOT = Param("snapshot", "The whole state as well, every so often, such as `1s`.", A_DURATION)
RETRY_AFTER = Param(
    "retry_after",
    f"What callers are told to wait; `{USUAL_RETRY_AFTER}` unless said.",
    {"type": ["string", "null"], "pattern": f"^{DURATION}$"},
)
THE_LEVEL = Param("level", "The least that is written.", LEVEL, required=True)
