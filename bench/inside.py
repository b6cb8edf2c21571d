"""What a request costs inside the sidecar, the kernel left out: `python -m bench.inside`.

Real connections, pool, pipeline and recorder over transports that are only Python: what is written to one is answered at
once. No socket, so no noise of a scheduler: the least of many rounds is good to a few percent even on a busy machine, and
a change to the way of a request can be judged in seconds. The rest of a request's cost is four system calls and the loop.
"""

import asyncio
import random
import time
from collections.abc import Callable
from typing import Any, cast

import uvloop

from sidecar.config.pattern import parse_path
from sidecar.config.router import RouteMatch, Router
from sidecar.counts import Histogram
from sidecar.pipeline.answers import Answers
from sidecar.pipeline.assemble import Parts, Policy, assemble
from sidecar.pipeline.dispatch import Dispatcher
from sidecar.pipeline.exchange import Exchange
from sidecar.runtime.background import Background
from sidecar.telemetry.ids import request_ids, traceparent
from sidecar.telemetry.record import Recorder
from sidecar.wire.inbound import ForwardRules
from sidecar.wire.pool import Factory, Pool
from sidecar.wire.server import Limits, Server
from sidecar.wire.upstream import UpstreamConnection

__all__ = ["main"]

REQUEST = (
    b"GET /orders/12?x=1 HTTP/1.1\r\nHost: 127.0.0.1:8080\r\nUser-Agent: bench\r\nAccept: */*\r\n"
    b"Accept-Encoding: gzip, deflate\r\nCookie: a=b\r\n\r\n"
)
RESPONSE = (
    b"HTTP/1.1 200 OK\r\nServer: memory\r\nDate: Sun, 22 Nov 2026 12:00:00 GMT\r\nContent-Type: text/plain\r\n"
    b"Content-Length: 128\r\nConnection: keep-alive\r\n\r\n" + b"x" * 128
)
CLIENTS, REQUESTS, ROUNDS = 32, 4000, 40


class _Memory:
    """A transport whose other end is a function."""

    def __init__(self, written: Callable[[bytes], object]) -> None:
        self.write = written

    def get_extra_info(self, name: str) -> object:
        return ("127.0.0.1", 1) if name == "peername" else None

    def set_write_buffer_limits(self, **_: int) -> None:
        pass

    def is_closing(self) -> bool:
        return False

    def is_reading(self) -> bool:
        return True

    def get_write_buffer_size(self) -> int:
        return 0

    def close(self) -> None:
        pass

    abort = close


def _server(loop: asyncio.AbstractEventLoop) -> Server:
    async def connect(factory: Factory) -> UpstreamConnection:
        made = factory()
        answer = _Memory(lambda _: loop.call_soon(made.data_received, RESPONSE))
        made.connection_made(cast("asyncio.Transport", answer))
        return made

    def fault(_: Exchange, error: Exception) -> None:
        raise error

    pool = Pool(loop, connect, authority=b"a", connect_timeout=2, max_connections=100, idle_timeout=60)
    parts = Parts(
        loop,
        time.perf_counter,
        Answers("auto"),
        fault,
        spawn=Background(loop).spawn,
        chance=random.random,  # noqa: TID251 - as `runtime` gives it
        wall=time.time,  # noqa: TID251 - as above
    )
    pipeline = assemble(
        Policy("all", "app"), parts, Histogram(), lambda exchange: pool.send(exchange.request)
    )
    recorder = Recorder(["all", "_none"], keep=1000, access_log="errors", line=print)
    ids = request_ids()
    dispatcher = Dispatcher(Router([RouteMatch(parse_path("/**"))]), [pipeline], parts, recorder, ids)
    return Server(
        loop, dispatcher, ForwardRules(name=b"us", new_id=ids, new_traceparent=traceparent), Limits()
    )


async def _round(server: Server) -> float:
    """Give the CPU seconds of one request."""
    loop = server.loop
    done: asyncio.Future[None] = loop.create_future()
    left = REQUESTS

    def client() -> Any:
        made = server()

        def answered(_: bytes) -> None:
            nonlocal left
            left -= 1
            if left > 0:
                loop.call_soon(made.data_received, REQUEST)
            elif not done.done():
                done.set_result(None)

        made.connection_made(cast("asyncio.Transport", _Memory(answered)))
        return made

    clients = [client() for _ in range(CLIENTS)]
    began = time.process_time()
    for connection in clients:
        connection.data_received(REQUEST)
    await done
    took = time.process_time() - began
    for connection in clients:
        connection.connection_lost(None)
    return took / REQUESTS


async def _main() -> None:
    server = _server(asyncio.get_running_loop())
    figures = sorted([await _round(server) for _ in range(ROUNDS)])
    print(f"{figures[0] * 1e6:.2f} µs a request at best, {figures[ROUNDS // 2] * 1e6:.2f} µs in the median")


def main() -> None:
    """Measure and print."""
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(_main())


if __name__ == "__main__":
    main()
