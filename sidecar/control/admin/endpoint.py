"""One row of the admin interface's table: how it is called, what it takes, and what it does.

The routes, the checks of queries and bodies, and the OpenAPI description are all made from these rows, so that none of
them can say something that another does not know.
"""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from aiohttp import web

from sidecar.config.load import Loaded
from sidecar.config.observing import AdminConfig
from sidecar.config.router import Router
from sidecar.control.actions import Actions
from sidecar.control.admin.streams import Streams
from sidecar.pipeline.assemble import Pipeline
from sidecar.telemetry.live import Live
from sidecar.telemetry.rates import Rates

__all__ = ["Call", "Changed", "Control", "Endpoint", "Explain", "Handler", "Method", "Param"]

Method = Literal["GET", "POST", "PUT", "DELETE"]
Schema = Mapping[str, Any]
Explain = Callable[
    [Loaded, Router, Sequence[Pipeline], str, str, Sequence[tuple[str, str]]], Mapping[str, Any]
]


@dataclass(frozen=True, slots=True)
class Control:
    """What the handlers work on. `streams` are those who listen to events, `admission` says who may in force now."""

    live: Live
    actions: Actions
    rates: Rates
    explain: Explain
    streams: Streams
    admission: Callable[[], AdminConfig]


@dataclass(frozen=True, slots=True)
class Call:
    """A request that has passed every check: names from its path, its query by name, and its JSON body."""

    request: web.Request
    names: Mapping[str, str]
    query: Mapping[str, Sequence[str]]
    body: Mapping[str, Any]

    def one(self, name: str) -> str | None:
        """Give the query parameter of this name; None: it was not given."""
        return self.query[name][0] if name in self.query else None


@dataclass(frozen=True, slots=True)
class Changed:
    """What a change did: to what, how that was before and is now, and the JSON to answer with."""

    target: str
    before: Any
    after: Any
    answer: Any


Handler = Callable[[Control, Call], Awaitable[Any]]


@dataclass(frozen=True, slots=True)
class Param:
    """One parameter of the query, or one key of the body."""

    name: str
    text: str
    schema: Schema
    required: bool = False
    repeated: bool = False


@dataclass(frozen=True, slots=True)
class Endpoint:
    """A method and a path. `action` is what the audit calls it; None: it changes nothing.

    `answer` is the JSON Schema of what it gives, by media type. `is_open`: a browser may ask without the token, since it
    tells nothing of this sidecar.
    """

    method: Method
    path: str
    handler: Handler
    summary: str
    action: str | None = None
    query: tuple[Param, ...] = ()
    body: tuple[Param, ...] = ()
    answer: Schema = field(default_factory=lambda: {"type": "object"})
    media: tuple[str, ...] = ("application/json",)
    is_open: bool = False
