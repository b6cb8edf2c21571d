"""Routes with a fallback, with as few words as a test needs.

route = a_ladder(Upstream(fail(Disconnected())), Static(body=b"sorry"))
got = await route.get()
assert (got.status, got.body, source(got)) == (200, b"sorry", b"static")
"""

from collections.abc import Mapping
from typing import Unpack

from sidecar.counts import Histogram
from sidecar.pipeline.assemble import Parts
from sidecar.pipeline.stage import Call
from sidecar.pipeline.stages.fallback import FallbackStage
from sidecar.pipeline.stages.ladder import Other
from sidecar.policy.fallback import FallbackStep
from tests.support.exchanges import Got, Route, Settings, a_route

__all__ = ["a_ladder", "fallback_of", "marks", "source", "used"]

MARKS = (b"x-system-degraded", b"x-fallback-source", b"proxy-status", b"cache-control", b"x-request-id")


def a_ladder(
    upstream: Call,
    *steps: FallbackStep,
    ask: Mapping[str, Call] | None = None,
    parts: Parts | None = None,
    **settings: Unpack[Settings],
) -> Route:
    """Make a route that falls back on `steps`. `ask` are the other upstreams by name."""
    settings["fallback"] = steps
    settings["others"] = {name: Other(call, Histogram()) for name, call in (ask or {}).items()}
    return a_route(upstream, parts=parts, **settings)


def fallback_of(route: Route) -> FallbackStage:
    """Give the stage itself."""
    stage = route.pipeline.find(FallbackStage)
    assert stage is not None
    return stage


def used(route: Route) -> dict[tuple[str, str], int]:
    """What was served instead, by source and cause, without the zeros."""
    return {key: number for key, number in fallback_of(route).used.items() if number}


def source(got: Got) -> bytes | None:
    """What an answer says of where it is from; None: it is no fallback."""
    assert (got.header(b"x-system-degraded") == b"true") == (got.header(b"x-fallback-source") is not None)
    return got.header(b"x-fallback-source")


def marks(got: Got) -> dict[bytes, bytes]:
    """What an answer says of itself."""
    found = {name: got.header(name) for name in MARKS}
    return {name: value for name, value in found.items() if value is not None}
