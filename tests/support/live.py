"""What is in force, for tests of whoever shows it: from a YAML text, everything real but the sockets.

    live = live_from(YAML)                  # in an async test, or with `loop=`
    live.guards.breakers["db"].force_open(live.now(), None)

`engine_from` gives the engine too: `engine.dispatcher(request)` answers, through real pools.
"""

import asyncio
import dataclasses
from typing import Any

from sidecar.config.load import load_text
from sidecar.runtime.engine import Engine, build
from sidecar.runtime.live import live_of
from sidecar.telemetry.ids import traceparent
from sidecar.telemetry.live import Live
from sidecar.wire.inbound import ForwardRules
from sidecar.wire.server import Limits, Server

__all__ = ["MINIMAL", "engine_from", "live_from", "some_live"]

MINIMAL = """
version: 1
upstreams: {service: {url: "http://127.0.0.1:9"}}
routes: [{name: all, match: {path: /**}, upstream: service}]
"""


def engine_from(text: str = MINIMAL, loop: asyncio.AbstractEventLoop | None = None) -> Engine:
    """Build the engine of a configuration; nothing is opened."""
    return build(
        load_text(text, env={}),
        loop or asyncio.get_running_loop(),
        line=lambda _: None,
        on_fault=lambda _, __: None,
    )


def live_from(text: str = MINIMAL, loop: asyncio.AbstractEventLoop | None = None) -> Live:
    """Give the view of a sidecar with this configuration, ready."""
    loop = loop or asyncio.get_running_loop()
    engine = engine_from(text, loop)
    rules = ForwardRules(name=b"test", new_id=engine.new_id, new_traceparent=traceparent)
    live = live_of(engine, Server(loop, engine.dispatcher, rules, Limits()), lambda: 0)
    live.not_ready = None
    return live


def some_live(loop: asyncio.AbstractEventLoop | None = None, **others: Any) -> Live:
    """Give the view of the least sidecar that there is, with some of its parts replaced. No loop needs to run."""
    made = loop or asyncio.new_event_loop()
    try:
        live = live_from(MINIMAL, made)
        return dataclasses.replace(live, **{"now": lambda: 0.0, **others})
    finally:
        if loop is None:
            made.close()
