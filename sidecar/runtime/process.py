"""Start, ready, drain, stop. The one place that knows signals and the event loop's kind.

SIGTERM or SIGINT: no longer ready, listeners closed, idle connections closed, `Connection: close` on answers, requests
under way may finish for `drain_timeout`; then exit status 0. A second signal: exit at once, with 128 + its number.
SIGHUP: the configuration is read again (`steering`).
"""

import asyncio
import gc
import logging
import os
import resource
import secrets
import signal
import ssl
import sys
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

from aiohttp import web

from sidecar.config.load import Loaded
from sidecar.config.model import Config
from sidecar.config.policies import BreakerConfig
from sidecar.control.admin.app import SERVING, admin_app
from sidecar.control.explain import explain_json
from sidecar.control.gate import MOST, gated
from sidecar.control.ops import ops_app
from sidecar.control.porter import Porter
from sidecar.control.probes import Pulse
from sidecar.errors import Overloaded, StartFailed
from sidecar.native import COMPILED
from sidecar.pipeline.exchange import Exchange
from sidecar.policy.breaker import Event, State
from sidecar.runtime.engine import Engine, build
from sidecar.runtime.listeners import Listener, listen
from sidecar.runtime.live import live_of, put_in_force
from sidecar.runtime.observers import Observers
from sidecar.runtime.steering import Steering
from sidecar.runtime.tls import server_context
from sidecar.runtime.watch import watch
from sidecar.telemetry.events import breaker_line
from sidecar.telemetry.ids import traceparent
from sidecar.telemetry.live import Live
from sidecar.telemetry.logs import LogControl, LogWriter, make_logger, request_line, style_of
from sidecar.telemetry.metrics import registry
from sidecar.telemetry.otel import Tracer, make_tracer
from sidecar.telemetry.sentry import Reporter, make_reporter
from sidecar.telemetry.snapshot import breaker_json
from sidecar.version import VERSION
from sidecar.wire.client import MAX_REFUSED
from sidecar.wire.inbound import ForwardRules
from sidecar.wire.server import Limits, Server

__all__ = ["Sidecar", "run"]

_LAST_WORDS = 0.5  # seconds for the answers to requests that drain_timeout has cut
_APPS = 2.0  # seconds for what ops and admin are answering when it all ends
_YOUNG = 10_000  # new objects before the collector looks at them; Python's own 700 costs a twentieth of each request
# Logs, listeners and the interpreter; ops, which holds three times as many as a gate, and admin; refusals under way.
_RESERVED_FILES = 64 + 4 * MOST + MAX_REFUSED


class Sidecar:
    """One sidecar on the running loop. `start`, then `drain`; `addresses` tells where it listens.

    `load` reads the configuration again, None: there is no file that could be.
    """

    def __init__(
        self,
        loaded: Loaded,
        log: Any,
        *,
        max_files: int | None = None,
        load: Callable[[], Loaded] | None = None,
        level: LogControl | None = None,
        log_dropped: Callable[[], int] = lambda: 0,
        tracer: Tracer | None = None,
        reporter: Reporter | None = None,
    ) -> None:
        self._loaded = loaded
        self._load = load
        self._max_files = max_files
        self._log = log
        self._level = level or LogControl(loaded.config.log.level)
        self._line = request_line(log)
        self._log_dropped = log_dropped
        self._tracer = tracer
        self._reporter = reporter
        self._shadows = _breakers_in_shadow(loaded.config)
        self._listeners: dict[str, Listener] = {}
        self._tls: ssl.SSLContext | None = None
        self._observers: Observers | None = None
        self._apps: list[web.AppRunner] = []
        self._porter: Porter | None = None
        self._watching: asyncio.Task[None] | None = None
        self._stop_watching = asyncio.Event()
        self.engine: Engine | None = None
        self.server: Server | None = None
        self.live: Live | None = None
        self.steering: Steering | None = None

    @property
    def addresses(self) -> dict[str, list[str]]:
        """Where each listener is bound, by its key."""
        return {key: listener.addresses for key, listener in self._listeners.items()}

    async def start(self) -> None:
        """Build everything, then bind.

        Raises:
            StartFailed: an address cannot be bound, a TLS file not used. Nothing stays open then.

        """
        loop = asyncio.get_running_loop()
        loaded, config = self._loaded, self._loaded.config
        self._observers = Observers(loop, self._log)
        engine = self.engine = self._build(loaded)
        limits = self._limits(config)
        tls = self._tls = self._context(config, limits)
        rules = ForwardRules(
            name=b"sidecar-" + secrets.token_hex(4).encode(),
            scheme=b"https" if tls is not None else b"http",
            trusted=config.trusted_proxies,
            unix=config.listen.traffic.is_unix,
            max_fields=config.limits.fields,
            max_target=config.limits.target,
            new_id=engine.new_id,
            new_traceparent=self._tracer.new_traceparent if self._tracer is not None else traceparent,
        )
        server = self.server = Server(loop, engine.dispatcher, rules, limits)
        live = self.live = live_of(engine, server, self._log_dropped)
        live.tracer = self._tracer
        steering = self.steering = Steering(live, self._log, self._level, self._load, self._become)
        steering.keep_up(engine)
        try:
            self._observers.start(live, engine)
            await self._listen(live, steering, server)
        except StartFailed:
            await self.stop()
            raise
        live.not_ready = None
        where = self.addresses
        self._log.info("sidecar.ready", version=VERSION, compiled=COMPILED, source=loaded.source, **where)
        live.hub.publish("sidecar", {"state": "ready"})
        self._watch(config)

    async def _listen(self, live: Live, steering: Steering, server: Server) -> None:
        """Bind every address: those that show the sidecar first, so that one can see it begin.

        Raises:
            StartFailed: one cannot be bound.

        """
        loop = asyncio.get_running_loop()
        config = self._loaded.config
        assert self._observers is not None  # noqa: S101 -- `start` made it
        rates = self._observers.rates
        apps = {"ops": (ops_app(live, registry(live, rates)), config.listen.ops)}
        if config.listen.admin is not None:
            app = admin_app(live, steering, rates, explain_json, config.admin, self._log.info)
            apps["admin"] = (app, config.listen.admin)
        for key, (app, address) in apps.items():
            runner = web.AppRunner(app, **SERVING, shutdown_timeout=_APPS)
            await runner.setup()
            self._apps.append(runner)
            assert runner.server is not None  # noqa: S101 -- `setup` made it
            factory, by_thread = gated(runner.server), key == "ops"
            listener = await listen(loop, factory, address, f"listen.{key}", accept=not by_thread)
            self._listeners[key] = listener
            if by_thread:
                self._porter = Porter(loop, listener.doubles(), factory, Pulse(loop, live))
                self._porter.start()
        handshake = config.limits.head_timeout if self._tls is not None else None
        self._listeners["traffic"] = await listen(
            loop,
            server,
            config.listen.traffic,
            "listen.traffic",
            tls=self._tls,
            handshake_timeout=handshake,
        )

    # --- another configuration ---

    def reload_soon(self) -> None:
        """Reload, as SIGHUP asks; while the sidecar starts or stops there is nothing to reload."""
        if self.steering is None or self.engine is None:
            return
        self.engine.background.spawn(self._reload())

    async def _reload(self) -> None:
        assert self.steering is not None  # noqa: S101 -- `reload_soon` has looked
        await self.steering.reload("SIGHUP")

    async def _become(self, loaded: Loaded) -> None:
        """Put `loaded` in force.

        Raises:
            StartFailed: something that it needs cannot be used. Nothing has changed then.

        """
        live, server, steering = self.live, self.server, self.steering
        assert live is not None and server is not None and steering is not None  # noqa: S101, PT018 -- it runs
        assert self._observers is not None  # noqa: S101 -- it runs
        config = loaded.config
        limits = self._limits(config)
        old = self._listeners.get("traffic")
        if old is None:
            raise StartFailed("the sidecar is draining")
        tls, renewed = self._tls, old
        if config.listen.tls is not None:
            tls = self._context(config, limits)
            assert tls is not None  # noqa: S101 -- there is a certificate
            renewed = await old.renewed(asyncio.get_running_loop(), server, tls, config.limits.head_timeout)
        if live.not_ready is not None:  # it has begun to drain while we waited
            renewed.retire()
            raise StartFailed(f"the sidecar is {live.not_ready}")
        try:
            observers = self._observers.prepared(loaded)
            engine = self._build(loaded, self.engine)
        except StartFailed:
            if renewed is not old:
                renewed.retire()
            raise
        # From here on nothing waits and nothing fails: everybody sees the one configuration, then the other.
        self._loaded, self.engine, self._tls = loaded, engine, tls
        self._shadows = _breakers_in_shadow(config)
        server.rules.trusted = tuple(config.trusted_proxies)
        server.rules.max_fields = config.limits.fields
        server.rules.max_target = config.limits.target
        server.reconfigure(engine.dispatcher, limits)
        put_in_force(live, engine)
        steering.keep_up(engine)
        self._level.set(config.log.level)
        observers(live, engine)
        if renewed is not old:
            self._listeners["traffic"] = renewed
            old.retire()
        self._watch(config)

    def _build(self, loaded: Loaded, before: Engine | None = None) -> Engine:
        engine = build(
            loaded,
            asyncio.get_running_loop(),
            line=self._line,
            on_fault=self._fault,
            before=before,
            tracer=self._tracer,
        )
        for breaker in engine.guards.breakers.values():
            breaker.on_event = self._breaker_changed
        return engine

    def _limits(self, config: Config) -> Limits:
        limits = Limits(**config.limits.model_dump(exclude={"fields"}))
        if self._max_files is not None:
            limits.connections = self._affordable(config, limits.connections, self._max_files)
        return limits

    def _context(self, config: Config, limits: Limits) -> ssl.SSLContext | None:
        if config.listen.tls is None:
            return None
        return server_context(config.listen.tls, limits.connections + MAX_REFUSED, self._tls)

    def _watch(self, config: Config) -> None:
        """Begin or cease to look for changes of the file, as `reload.watch` says."""
        wanted = config.reload.watch and self._load is not None
        if wanted and self._watching is None:
            self._stop_watching.clear()
            self._watching = asyncio.get_running_loop().create_task(self._reload_on_change())
        elif not wanted and self._watching is not None:
            self._stop_watching.set()
            self._watching = None

    def _watches(self) -> None:
        self._log.info("config.watching", source=self._loaded.source)

    async def _reload_on_change(self) -> None:
        assert self.steering is not None  # noqa: S101 -- it runs
        try:
            reload = partial(self.steering.reload, "watch")
            await watch(Path(self._loaded.source), reload, self._stop_watching, self._watches)
        except Exception as fault:  # noqa: BLE001 -- without it the sidecar still reloads when it is told to
            self._log.error("config.watch_failed", source=self._loaded.source, exc_info=fault)

    def _affordable(self, config: Config, connections: int, max_files: int) -> int:
        """Give how many clients may be let in, when the upstreams' connections have had their share of the files.

        Better to refuse one with a reason than to find out in `accept`, which can only spin.
        """
        upstreams = sum(upstream.max_connections for upstream in config.upstreams.values())
        affordable = max(1, max_files - _RESERVED_FILES - min(upstreams, max_files // 2))
        if connections > affordable:
            self._log.warning(
                "sidecar.connections_capped", limit=affordable, configured=connections, open_files=max_files
            )
        return min(connections, affordable)

    async def drain(self) -> None:
        """Let the requests under way finish, for at most `drain_timeout`, then stop."""
        if self.live is not None:
            self.live.not_ready = "draining"
            self.live.hub.publish("sidecar", {"state": "draining"})
        server = self.server
        listener = self._listeners.get("traffic")
        if server is not None and listener is not None:
            timeout = self._loaded.config.drain_timeout
            self._log.info("sidecar.draining", connections=len(server.connections), timeout=timeout)
            listener.close()
            server.drain()
            try:
                async with asyncio.timeout(timeout):
                    await server.emptied.wait()
            except TimeoutError:
                self._log.warning("sidecar.drain_timeout", connections=len(server.connections))
                server.cut(Overloaded("cut by drain_timeout"))
                with suppress(TimeoutError):
                    async with asyncio.timeout(_LAST_WORDS):
                        await server.emptied.wait()
        await self.stop()

    async def stop(self) -> None:
        """Close everything now."""
        for listener in self._listeners.values():
            listener.close()
        self._listeners.clear()
        if self._porter is not None:
            self._porter.stop()
        if self.server is not None:
            self.server.abort()
        if self.engine is not None:
            self.engine.abort()
        self._stop_watching.set()
        if self._observers is not None:
            await self._observers.stop()
        apps, self._apps = self._apps, []
        for app in apps:
            await app.cleanup()
        await asyncio.sleep(0)  # the aborted transports say so to their protocols in the next turn

    def _breaker_changed(self, event: Event) -> None:
        """Tell of a change. It comes in the middle of somebody's request, so it must not raise."""
        try:
            name, fields = breaker_line(event, shadow=event.breaker in self._shadows)
            (self._log.warning if event.after is State.OPEN else self._log.info)(name, **fields)
            if self.live is not None and _is_of(event, self.live):
                told = breaker_json(self.live, event.breaker)
                kept = {key: told[key] for key in ("name", "forced", "mode", "last_trip", "retry_after")}
                change = {"from": str(event.before), "to": str(event.after), "cause": event.cause}
                self.live.hub.publish("breaker", {**kept, **change})
        except Exception as fault:  # noqa: BLE001 -- as above
            self._log.error("sidecar.fault", message="telling of a breaker failed", exc_info=fault)

    def _fault(self, exchange: Exchange, fault: Exception) -> None:
        self._log.error(
            "request.fault",
            request_id=exchange.request.request_id.decode("latin-1"),
            route=exchange.route,
            exc_info=fault,
        )
        if self._reporter is not None:
            request_id = exchange.request.request_id.decode("latin-1")
            self._reporter.report(fault, route=exchange.route, request_id=request_id)


def run(loaded: Loaded, load: Callable[[], Loaded] | None = None) -> int:
    """Run until a signal ends it; give the exit status. `load` reads the configuration again, for a reload.

    Raises:
        StartFailed: it could not start.

    """
    _open_standard_streams()
    _quiet_libraries()
    max_files = _raise_file_limit()
    writer = LogWriter(sys.stdout)
    config = loaded.config
    level = LogControl(config.log.level)
    log = make_logger(writer, style_of(config.log.format, config.profile), control=level)
    tracer: Tracer | None = None
    reporter: Reporter | None = None
    try:
        scheme = "https" if config.listen.tls is not None else "http"
        tracer = make_tracer(config.telemetry, scheme, log.warning)
        reporter = make_reporter(config.telemetry, config.profile)
        with asyncio.Runner(loop_factory=_loop_factory()) as runner:
            sidecar = Sidecar(
                loaded,
                log,
                max_files=max_files,
                load=load,
                level=level,
                log_dropped=lambda: writer.dropped,
                tracer=tracer,
                reporter=reporter,
            )
            return runner.run(_main(sidecar, log, reporter))
    finally:
        for each in (tracer, reporter):
            if each is not None:
                each.close()
        writer.close()


async def _main(sidecar: Sidecar, log: Any, reporter: Reporter | None) -> int:
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(lambda _, context: _log_loop_error(log, context, reporter))
    told = asyncio.Event()

    def on_signal(number: int) -> None:
        if told.is_set():
            os._exit(128 + number)
        told.set()

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, on_signal, number)
    loop.add_signal_handler(signal.SIGHUP, sidecar.reload_soon)
    await sidecar.start()
    # What exists now lives as long as the process: the collector need not look at it again and again. Nor need it look at
    # the young objects after every hundred requests: there are hardly any rings among them.
    gc.collect()
    gc.freeze()
    gc.set_threshold(_YOUNG)
    await told.wait()
    await sidecar.drain()
    log.info("sidecar.stopped")
    return 0


def _is_of(event: Event, live: Live) -> bool:
    """Tell whether a breaker that is in force changed, and not one that a reload has left to the requests under way."""
    breaker = live.guards.breakers.get(event.breaker)
    return breaker is not None and breaker.events[-1] is event


def _quiet_libraries() -> None:
    """Keep libraries from writing to stderr: they would wait for whoever reads it, in the middle of the traffic.

    What they have to say that matters comes as an exception, which we log, or as an answer. What asyncio says of a fault
    goes to the loop's exception handler, which is ours.
    """
    logging.lastResort = None
    for name in ("aiohttp", "asyncio"):
        library = logging.getLogger(name)
        library.addHandler(logging.NullHandler())
        library.propagate = False


def _breakers_in_shadow(config: Config) -> frozenset[str]:
    """Give the names that these go by; a route's own goes by the route's."""
    own = {route.name: route.breaker for route in config.routes if isinstance(route.breaker, BreakerConfig)}
    return frozenset(name for name, each in {**config.breakers, **own}.items() if each.mode == "shadow")


def _loop_factory() -> Callable[[], asyncio.AbstractEventLoop] | None:
    try:
        import uvloop  # noqa: PLC0415 -- optional: plain asyncio is slower and behaves the same
    except ImportError:
        return None
    factory: Callable[[], asyncio.AbstractEventLoop] = uvloop.new_event_loop
    return factory


def _open_standard_streams() -> None:
    """Make descriptors 0, 1 and 2 exist, as some supervisors start programs without.

    Else a client's socket becomes number 2, and whatever a library prints as an error goes to that client.
    """
    for number in (0, 1, 2):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # gives the lowest free number: this one
    sys.stdout = sys.stdout or open(os.devnull, "w", encoding="utf-8")  # noqa: PTH123, SIM115 -- as long as the process


def _raise_file_limit() -> int:
    """Use as many file descriptors as we may, and tell how many those are."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return hard if hard != resource.RLIM_INFINITY else sys.maxsize


def _log_loop_error(log: Any, context: dict[str, Any], reporter: Reporter | None) -> None:
    fault = context.get("exception")
    if isinstance(fault, ConnectionError | TimeoutError):
        return  # a peer that went away in a handshake; its own connection has ended already
    log.error("sidecar.fault", message=context.get("message"), exc_info=fault)
    if reporter is not None and fault is not None:
        reporter.report(fault)
