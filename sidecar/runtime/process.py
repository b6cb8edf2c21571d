"""Start, ready, drain, stop. The one place that knows signals and the event loop's kind.

SIGTERM or SIGINT: no longer ready, listeners closed, idle connections closed, `Connection: close` on answers, requests
under way may finish for `drain_timeout`; then exit status 0. A second signal: exit at once, with 128 + its number.
SIGHUP is ignored with a line in the log, since the default (the end of the process) is what nobody means by it.
"""

import asyncio
import gc
import os
import resource
import secrets
import signal
import sys
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from aiohttp import web

from sidecar.config.load import Loaded
from sidecar.config.model import Config
from sidecar.config.policies import BreakerConfig
from sidecar.control.gate import gated
from sidecar.control.ops import ops_app
from sidecar.errors import Overloaded, StartFailed
from sidecar.pipeline.exchange import Exchange
from sidecar.policy.breaker import Event, State
from sidecar.runtime.engine import Engine, build
from sidecar.runtime.listeners import Listener, listen
from sidecar.runtime.live import live_of
from sidecar.runtime.tls import server_context
from sidecar.telemetry.events import breaker_line
from sidecar.telemetry.ids import traceparent
from sidecar.telemetry.live import Live
from sidecar.telemetry.logs import REQUEST, LogWriter, make_logger
from sidecar.telemetry.metrics import registry
from sidecar.telemetry.record import Record
from sidecar.version import VERSION
from sidecar.wire.client import MAX_REFUSED
from sidecar.wire.inbound import ForwardRules
from sidecar.wire.server import Limits, Server

__all__ = ["Sidecar", "run"]

_LAST_WORDS = 0.5  # seconds for the answers to requests that drain_timeout has cut
_YOUNG = 10_000  # new objects before the collector looks at them; Python's own 700 costs a twentieth of each request
_RESERVED_FILES = 64 + MAX_REFUSED  # for listeners, logs, probes and the interpreter; for refusals under way


class Sidecar:
    """One sidecar on the running loop. `start`, then `drain`; `addresses` tells where it listens."""

    def __init__(self, loaded: Loaded, log: Any, *, max_files: int | None = None) -> None:
        self._loaded = loaded
        self._max_files = max_files
        self._log = log
        self._shadows = _breakers_in_shadow(loaded.config)
        self._listeners: dict[str, Listener] = {}
        self._ops: web.AppRunner | None = None
        self.engine: Engine | None = None
        self.server: Server | None = None
        self.live: Live | None = None

    @property
    def addresses(self) -> dict[str, list[str]]:
        """Where each listener is bound, by its key."""
        return {key: listener.addresses for key, listener in self._listeners.items()}

    async def start(self, log_dropped: Callable[[], int] = lambda: 0) -> None:
        """Build everything, then bind.

        Raises:
            StartFailed: an address cannot be bound, a TLS file not used. Nothing stays open then.

        """
        loop = asyncio.get_running_loop()
        config = self._loaded.config
        engine = self.engine = build(self._loaded, loop, line=self._line, on_fault=self._fault)
        for breaker in engine.guards.breakers.values():
            breaker.on_event = self._breaker_changed
        limits = Limits(**config.limits.model_dump(exclude={"fields"}))
        if self._max_files is not None:
            limits.connections = self._affordable(limits.connections, self._max_files)
        most = limits.connections + MAX_REFUSED
        tls = server_context(config.listen.tls, most) if config.listen.tls is not None else None
        rules = ForwardRules(
            name=b"sidecar-" + secrets.token_hex(4).encode(),
            scheme=b"https" if tls is not None else b"http",
            trusted=config.trusted_proxies,
            unix=config.listen.traffic.is_unix,
            max_fields=config.limits.fields,
            max_target=config.limits.target,
            new_id=engine.new_id,
            new_traceparent=traceparent,
        )
        server = self.server = Server(loop, engine.dispatcher, rules, limits)
        live = self.live = live_of(engine, server, log_dropped)
        self._ops = web.AppRunner(ops_app(live, registry(live)), access_log=None)
        await self._ops.setup()
        assert self._ops.server is not None  # noqa: S101 -- `setup` made it
        try:
            self._listeners["ops"] = await listen(
                loop, gated(self._ops.server), config.listen.ops, "listen.ops"
            )
            handshake = config.limits.head_timeout if tls is not None else None
            self._listeners["traffic"] = await listen(
                loop, server, config.listen.traffic, "listen.traffic", tls=tls, handshake_timeout=handshake
            )
        except StartFailed:
            await self.stop()
            raise
        live.not_ready = None
        self._log.info("sidecar.ready", version=VERSION, source=self._loaded.source, **self.addresses)

    def _affordable(self, connections: int, max_files: int) -> int:
        """Give how many clients may be let in, when the upstreams' connections have had their share of the files.

        Better to refuse one with a reason than to find out in `accept`, which can only spin.
        """
        upstreams = sum(upstream.max_connections for upstream in self._loaded.config.upstreams.values())
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
        if self.server is not None:
            self.server.abort()
        if self.engine is not None:
            self.engine.abort()
        if self._ops is not None:
            ops, self._ops = self._ops, None
            await ops.cleanup()
        await asyncio.sleep(0)  # the aborted transports say so to their protocols in the next turn

    def _line(self, record: Record) -> None:
        fields = {
            key: value for key, value in record.as_dict().items() if key != "at" and value not in (None, "")
        }
        self._log.info(REQUEST, **fields)

    def _breaker_changed(self, event: Event) -> None:
        name, fields = breaker_line(event, shadow=event.breaker in self._shadows)
        (self._log.warning if event.after is State.OPEN else self._log.info)(name, **fields)

    def _fault(self, exchange: Exchange, fault: Exception) -> None:
        self._log.error(
            "request.fault",
            request_id=exchange.request.request_id.decode("latin-1"),
            route=exchange.route,
            exc_info=fault,
        )


def run(loaded: Loaded) -> int:
    """Run until a signal ends it; give the exit status.

    Raises:
        StartFailed: it could not start.

    """
    _open_standard_streams()
    max_files = _raise_file_limit()
    writer = LogWriter(sys.stdout)
    style: Any = "console" if loaded.config.profile == "development" else "json"
    log = make_logger(writer, style)
    try:
        with asyncio.Runner(loop_factory=_loop_factory()) as runner:
            return runner.run(_main(loaded, log, writer, max_files))
    finally:
        writer.close()


async def _main(loaded: Loaded, log: Any, writer: LogWriter, max_files: int) -> int:
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(lambda _, context: _log_loop_error(log, context))
    told = asyncio.Event()

    def on_signal(number: int) -> None:
        if told.is_set():
            os._exit(128 + number)
        told.set()

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, on_signal, number)
    loop.add_signal_handler(signal.SIGHUP, lambda: log.warning("sidecar.sighup_ignored"))
    sidecar = Sidecar(loaded, log, max_files=max_files)
    await sidecar.start(lambda: writer.dropped)
    # What exists now lives as long as the process: the collector need not look at it again and again. Nor need it look at
    # the young objects after every hundred requests: there are hardly any rings among them.
    gc.collect()
    gc.freeze()
    gc.set_threshold(_YOUNG)
    await told.wait()
    await sidecar.drain()
    log.info("sidecar.stopped")
    return 0


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


def _log_loop_error(log: Any, context: dict[str, Any]) -> None:
    fault = context.get("exception")
    if isinstance(fault, ConnectionError | TimeoutError):
        return  # a peer that went away in a handshake; its own connection has ended already
    log.error("sidecar.fault", message=context.get("message"), exc_info=fault)
