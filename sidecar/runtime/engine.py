"""What answers requests, built whole from one configuration: pools, pipelines, router, recorder."""

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from random import random  # noqa: TID251 -- the one place that takes it: policies are given it
from time import perf_counter, time  # noqa: TID251 -- as above: the time of day, for Date, Age and Retry-After

from sidecar.config.load import Loaded
from sidecar.config.model import Config, RouteConfig, UpstreamConfig
from sidecar.config.pattern import parse_header, parse_host, parse_method, parse_path, parse_regex
from sidecar.config.router import RouteMatch, Router
from sidecar.counts import Histogram
from sidecar.message import Allowance
from sidecar.pipeline.answers import Answers
from sidecar.pipeline.assemble import Parts, Pipeline, assemble
from sidecar.pipeline.dispatch import NO_ROUTE, Dispatcher
from sidecar.pipeline.exchange import Exchange
from sidecar.pipeline.guards import Guards
from sidecar.pipeline.stage import Call
from sidecar.pipeline.stages.ladder import Other
from sidecar.runtime.background import Background
from sidecar.runtime.policies import guards, policy
from sidecar.runtime.tls import client_context
from sidecar.telemetry.ids import request_ids
from sidecar.telemetry.record import Record, Recorder
from sidecar.wire.pool import Pool, connector

__all__ = ["Engine", "build"]

_KEPT = 64 << 20  # bytes of request bodies that are kept for another attempt, of all requests together


@dataclass(frozen=True, slots=True)
class Engine:
    """Everything between the listeners and the upstreams."""

    loaded: Loaded
    router: Router
    dispatcher: Dispatcher
    recorder: Recorder
    pools: dict[str, Pool]
    seconds: dict[str, Histogram]
    new_id: Callable[[], bytes]
    background: Background
    guards: Guards

    def close(self) -> None:
        """Close what is idle now, and the rest as it becomes so."""
        for pool in self.pools.values():
            pool.close()

    def abort(self) -> None:
        """Close everything now."""
        self.background.cancel()
        for pool in self.pools.values():
            pool.abort()


def build(
    loaded: Loaded,
    loop: asyncio.AbstractEventLoop,
    *,
    line: Callable[[Record], None],
    on_fault: Callable[[Exchange, Exception], None],
) -> Engine:
    """Build the engine of a configuration. Nothing is opened yet.

    Raises:
        StartFailed: a TLS file does not hold what it should, or a fallback's file cannot be read any more.

    """
    config = loaded.config
    background = Background(loop)
    parts = Parts(
        loop,
        perf_counter,
        Answers(config.errors.format),
        on_fault,
        spawn=background.spawn,
        chance=random,
        wall=time,
        kept=Allowance(_KEPT),
    )
    pools = {name: _pool(name, upstream, loop) for name, upstream in config.upstreams.items()}
    seconds = {name: Histogram() for name in pools}
    names = [route.name for route in config.routes]
    recorder = Recorder([*names, NO_ROUTE], keep=config.records, access_log=config.access_log, line=line)
    made = guards(config, random, loop.time())
    others = {name: Other(_terminal(pool), seconds[name]) for name, pool in pools.items()}
    pipelines = [_pipeline(route, config, parts, made, others) for route in config.routes]
    new_id = request_ids()
    router = Router([_route_match(route) for route in config.routes])
    dispatcher = Dispatcher(router, pipelines, parts, recorder, new_id)
    return Engine(loaded, router, dispatcher, recorder, pools, seconds, new_id, background, made)


def _pipeline(
    route: RouteConfig, config: Config, parts: Parts, made: Guards, upstreams: Mapping[str, Other]
) -> Pipeline:
    upstream = upstreams[route.upstream]
    return assemble(policy(route, config, made, upstreams), parts, upstream.seconds, upstream.call)


def _terminal(pool: Pool) -> Call:
    send = pool.send
    return lambda exchange: send(exchange.request)


def _pool(name: str, settings: UpstreamConfig, loop: asyncio.AbstractEventLoop) -> Pool:
    url = settings.url
    tls = client_context(settings.tls, name) if url.scheme == "https" else None
    connect = connector(
        loop,
        host=url.host,
        port=url.port,
        path=url.path,
        tls=tls,
        server_name=settings.tls.server_name if settings.tls is not None else None,
    )
    return Pool(
        loop,
        connect,
        authority=b"localhost" if url.path is not None else str(url).partition("://")[2].encode(),
        connect_timeout=settings.connect_timeout,
        max_connections=settings.max_connections,
        idle_timeout=settings.idle_timeout,
    )


def _route_match(route: RouteConfig) -> RouteMatch:
    match = route.match
    return RouteMatch(
        path=parse_regex(match.path_regex)
        if match.path_regex is not None
        else parse_path(match.path or "/**"),
        hosts=tuple(parse_host(host) for host in match.host),
        methods=frozenset(parse_method(method) for method in match.methods),
        headers=tuple(parse_header(name, value) for name, value in match.headers.items()),
    )
