"""What answers requests, built whole from one configuration: pools, pipelines, router, recorder."""

import asyncio
import hashlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from random import random  # noqa: TID251 -- the one place that takes it: policies are given it
from time import perf_counter, time  # noqa: TID251 -- as above: the time of day, for Date, Age and Retry-After

from sidecar.config.load import Loaded
from sidecar.config.model import Config, RouteConfig, UpstreamConfig
from sidecar.config.pattern import parse_header, parse_host, parse_method, parse_path, parse_regex
from sidecar.config.router import RouteMatch, Router
from sidecar.counts import Histogram
from sidecar.message import Allowance
from sidecar.pipeline.answers import Answers
from sidecar.pipeline.assemble import Parts, Pipeline, Policy, assemble
from sidecar.pipeline.dispatch import NO_ROUTE, Dispatcher
from sidecar.pipeline.exchange import Exchange
from sidecar.pipeline.guards import Guards
from sidecar.pipeline.stage import Call, compose
from sidecar.pipeline.stages.ladder import Other
from sidecar.pipeline.stages.trace import TraceStage
from sidecar.policy.cache import prefix_of
from sidecar.runtime.background import Background
from sidecar.runtime.policies import guards, keeps_copies, policy
from sidecar.runtime.tls import client_context
from sidecar.telemetry.ids import request_ids
from sidecar.telemetry.otel import Tracer
from sidecar.telemetry.record import Record, Recorder, Silent
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
    kept: Allowance | None

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
    before: Engine | None = None,
    tracer: Tracer | None = None,
) -> Engine:
    """Build the engine of a configuration. Nothing is opened yet.

    With the one `before` it, it takes over what goes by the same names: breakers, bulkheads, quotas, budgets, copies,
    connections, counters. From the return of this function these follow the new settings; if it raises, nothing has
    changed. Requests under way end under the stages that they have begun with. With a `tracer` every attempt has a span.

    Raises:
        StartFailed: a TLS file does not hold what it should, or a fallback's file cannot be read any more.

    """
    config = loaded.config
    background = before.background if before is not None else Background(loop)
    parts = Parts(
        loop,
        perf_counter,
        Answers(config.errors.format, config.headers),
        on_fault,
        spawn=background.spawn,
        chance=random,
        wall=time,
        kept=before.kept if before is not None else Allowance(_KEPT),
    )
    pools = _pools(config, loop, before)
    seconds = {name: _histogram(name, before) for name in pools}
    made, changes = guards(config, random, loop.time(), before.guards if before is not None else None)
    others = {
        name: Other(_terminal(pool, name, config, tracer), seconds[name]) for name, pool in pools.items()
    }
    policies = [policy(route, config, made, others) for route in config.routes]
    # Nothing fails from here on, so what both engines share may change.
    for change in changes:
        change()
    pipelines = [_pipeline(each, parts, others) for each in policies]
    recorder = (Recorder if config.telemetry is not None else Silent)(
        [*(route.name for route in config.routes), NO_ROUTE],
        keep=config.records,
        access_log=config.access_log,
        line=line,
        before=before.recorder if before is not None else None,
        sample=config.log.sample,
        query=config.log.query,
        now=loop.time,
    )
    recorder.watch(pipelines)
    sink = recorder if tracer is None else tracer.sink(recorder)
    new_id = before.new_id if before is not None else request_ids()
    router = Router([_route_match(route) for route in config.routes])
    dispatcher = Dispatcher(router, pipelines, parts, sink, new_id)
    engine = Engine(
        loaded, router, dispatcher, recorder, pools, seconds, new_id, background, made, parts.kept
    )
    if before is not None:
        _take_over(engine, before)
    return engine


def _take_over(engine: Engine, before: Engine) -> None:
    """Go on counting; forget copies that the new configuration would not have made; let go of what is not used."""
    theirs = {pipeline.route: pipeline for pipeline in before.dispatcher.pipelines}
    for pipeline in engine.dispatcher.pipelines:
        if (old := theirs.get(pipeline.route)) is not None:
            pipeline.count_on(old)
    store = engine.guards.store
    if store is not None:
        for name in _with_other_copies(engine.loaded.config, before.loaded.config):
            store.forget(prefix_of(name), engine.background.loop.time())
    for name, pool in before.pools.items():
        kept = engine.pools.get(name)
        if kept is not pool:
            if kept is not None:
                kept.reconnected += pool.reconnected
            pool.retire()


def _with_other_copies(config: Config, before: Config) -> Iterator[str]:
    """Give the routes whose copies are of another origin now, or were kept by other rules."""
    routes = {route.name: route for route in config.routes}
    for old in before.routes:
        new = routes.get(old.name)
        if (
            new is None
            or new.cache != old.cache
            or keeps_copies(new) != keeps_copies(old)
            or config.upstreams[new.upstream].url != before.upstreams[old.upstream].url
        ):
            yield old.name


def _pools(config: Config, loop: asyncio.AbstractEventLoop, before: Engine | None) -> dict[str, Pool]:
    """Make the pools; those of upstreams that are the same as before are kept, with their connections.

    To be the same, the files for TLS must hold the same, too.
    """
    pools: dict[str, Pool] = {}
    for name, upstream in config.upstreams.items():
        old = before.pools.get(name) if before is not None else None
        same = before is not None and before.loaded.config.upstreams.get(name) == upstream
        keep = same and old is not None and old.label == _files(upstream)
        pools[name] = old if old is not None and keep else _pool(name, upstream, loop)
    return pools


def _files(upstream: UpstreamConfig) -> bytes:
    """Give a fingerprint of what the files for TLS hold; one that cannot be read holds nothing."""
    found = hashlib.sha256()
    tls = upstream.tls
    for name in (tls.ca, tls.certificate, tls.key) if tls is not None else ():
        if name is not None:
            with suppress(OSError):
                found.update(hashlib.sha256(Path(name).read_bytes()).digest())
    return found.digest()


def _histogram(name: str, before: Engine | None) -> Histogram:
    return before.seconds[name] if before is not None and name in before.seconds else Histogram()


def _pipeline(asked: Policy, parts: Parts, upstreams: Mapping[str, Other]) -> Pipeline:
    upstream = upstreams[asked.upstream]
    return assemble(asked, parts, upstream.seconds, upstream.call)


def _terminal(pool: Pool, name: str, config: Config, tracer: Tracer | None) -> Call:
    send = pool.send
    if tracer is None:
        return lambda exchange: send(exchange.request)
    begin = tracer.attempts_at(name, config.upstreams[name].url)
    return compose([TraceStage(begin)], lambda exchange: send(exchange.request))


def _pool(name: str, settings: UpstreamConfig, loop: asyncio.AbstractEventLoop) -> Pool:
    url, label = settings.url, _files(settings)
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
        label=label,
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
