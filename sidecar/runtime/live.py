"""From an engine to what the rest of the program sees of it."""

import asyncio
from collections.abc import Callable
from time import time  # noqa: TID251 -- when a configuration was loaded is a matter of the calendar

from sidecar.runtime.engine import Engine
from sidecar.telemetry.hub import Hub
from sidecar.telemetry.live import Live, UpstreamView
from sidecar.wire.server import Server

__all__ = ["live_of", "put_in_force"]


def live_of(engine: Engine, server: Server, log_dropped: Callable[[], int]) -> Live:
    """Give the view of a program that is about to start with `engine`."""
    loop = server.loop
    now = time()
    return Live(
        loaded=engine.loaded,
        recorder=engine.recorder,
        router=engine.router,
        pipelines=engine.dispatcher.pipelines,
        guards=engine.guards,
        upstreams=_views(engine),
        now=loop.time,
        wall=time,
        connections=lambda: len(server.connections),
        accepted=lambda: server.accepted,
        refused=lambda: server.refused_count,
        tasks=lambda: len(asyncio.all_tasks(loop)),
        log_dropped=log_dropped,
        hub=Hub(time),
        started_at=now,
        loaded_at=now,
    )


def put_in_force(live: Live, engine: Engine) -> None:
    """Let everybody see `engine` from now on, in place of the one before."""
    live.loaded = engine.loaded
    live.recorder = engine.recorder
    live.router = engine.router
    live.pipelines = engine.dispatcher.pipelines
    live.guards = engine.guards
    live.upstreams = _views(engine)
    live.loaded_at = time()


def _views(engine: Engine) -> dict[str, UpstreamView]:
    return {name: _view(engine, name) for name in engine.pools}


def _view(engine: Engine, name: str) -> UpstreamView:
    pool, settings = engine.pools[name], engine.loaded.config.upstreams[name]
    return UpstreamView(
        url=str(settings.url),
        max_connections=settings.max_connections,
        open=lambda: pool.open,
        idle=lambda: pool.idle,
        reconnected=lambda: pool.reconnected,
        seconds=engine.seconds[name],
    )
