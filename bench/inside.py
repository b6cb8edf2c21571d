"""What a request costs inside the sidecar, the kernel left out: `python -m bench.inside`.

Real connections, pool, pipeline and recorder over transports that are only Python: what is written to one is answered at
once. No socket, so no noise of a scheduler: the least of many rounds is good to a few percent even on a busy machine, and
a change to the way of a request can be judged in seconds. The rest of a request's cost is four system calls and the loop;
for a hit and for a refusal it is two.

    plain        the timeouts, and nothing else
    policies     every policy on; no target comes twice, so the cache keeps each answer and never has one
    hit          the same, and always the same target: the cache has a fresh copy
    refusal      the same, and the breaker is open
    rate_limit, cache, retry, breaker, bulkhead: the timeouts and this one alone

`python -m bench.inside hit refusal` measures these two alone.
"""

import asyncio
import itertools
import random
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any, cast

import uvloop

from sidecar.config.pattern import parse_path
from sidecar.config.router import RouteMatch, Router
from sidecar.counts import Histogram
from sidecar.pipeline.answers import Answers
from sidecar.pipeline.assemble import Parts, Policy, assemble
from sidecar.pipeline.dispatch import Dispatcher
from sidecar.pipeline.exchange import Exchange
from sidecar.policy.breaker import Breaker, BreakerSettings
from sidecar.policy.budget import BudgetSettings, RetryBudget
from sidecar.policy.bulkhead import Bulkhead, BulkheadSettings
from sidecar.policy.cache import CacheSettings
from sidecar.policy.ratelimit import RateLimiter, RateLimitSettings
from sidecar.policy.retry import RetrySettings
from sidecar.policy.store import Store
from sidecar.runtime.background import Background
from sidecar.telemetry.ids import request_ids, traceparent
from sidecar.telemetry.record import Recorder
from sidecar.wire.inbound import ForwardRules
from sidecar.wire.pool import Factory, Pool
from sidecar.wire.server import Limits, Server
from sidecar.wire.upstream import UpstreamConnection

__all__ = ["CASES", "main"]

REQUEST = (
    b"GET /orders/12?x=%d HTTP/1.1\r\nHost: 127.0.0.1:8080\r\nUser-Agent: bench\r\nAccept: */*\r\n"
    b"Accept-Encoding: gzip, deflate\r\n\r\n"
)
RESPONSE = (
    b"HTTP/1.1 200 OK\r\nServer: memory\r\nDate: Sun, 22 Nov 2026 12:00:00 GMT\r\nContent-Type: text/plain\r\n"
    b"Content-Length: 128\r\nConnection: keep-alive\r\n\r\n" + b"x" * 128
)
CLIENTS, REQUESTS, ROUNDS = 32, 4000, 40
ALONE = ("rate_limit", "cache", "retry", "breaker", "bulkhead")
CASES = ("plain", "policies", "hit", "refusal", *ALONE)


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


def _policy(case: str, loop: asyncio.AbstractEventLoop) -> Policy:
    """Give the policy of a case: production's defaults, and what `bench/templates/sidecar-policies.yaml.tmpl` says."""
    breaker = Breaker("all", BreakerSettings(failure_rate=0.5), random.random)  # noqa: TID251 - as `runtime` gives it
    if case == "refusal":
        breaker.force_open(loop.time(), None)
    parts: dict[str, dict[str, Any]] = {
        "rate_limit": {"rate_limit": RateLimiter(RateLimitSettings(limit=1_000_000, per=1.0))},
        "cache": {
            "cache": CacheSettings(fresh_for=600.0),
            "store": Store(64 << 20, 10_000),
            "invalidates": ("all",),
        },
        "retry": {"retry": RetrySettings(), "budget": RetryBudget(BudgetSettings(), loop.time())},
        "breaker": {"breaker": breaker},
        "bulkhead": {"bulkhead": Bulkhead("all", BulkheadSettings(max_concurrent=1000, max_queue=1000))},
    }
    names = () if case == "plain" else (case,) if case in parts else ALONE
    return Policy("all", "app", **{key: value for name in names for key, value in parts[name].items()})


def _server(loop: asyncio.AbstractEventLoop, case: str) -> Server:
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
    pipeline = assemble(_policy(case, loop), parts, Histogram(), lambda exchange: pool.send(exchange.request))
    recorder = Recorder(["all", "_none"], keep=1000, access_log="off", line=print)
    ids = request_ids()
    dispatcher = Dispatcher(Router([RouteMatch(parse_path("/**"))]), [pipeline], parts, recorder, ids)
    return Server(
        loop, dispatcher, ForwardRules(name=b"us", new_id=ids, new_traceparent=traceparent), Limits()
    )


async def _round(server: Server, requests: Iterator[bytes]) -> float:
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
                loop.call_soon(made.data_received, next(requests))
            elif not done.done():
                done.set_result(None)

        made.connection_made(cast("asyncio.Transport", _Memory(answered)))
        return made

    clients = [client() for _ in range(CLIENTS)]
    began = time.process_time()
    for connection in clients:
        connection.data_received(next(requests))
    await done
    took = time.process_time() - began
    for connection in clients:
        connection.connection_lost(None)
    return took / REQUESTS


def _requests(case: str) -> Iterator[bytes]:
    """Give the heads, one after the other, without end."""
    return itertools.repeat(REQUEST % 0) if case == "hit" else (REQUEST % n for n in itertools.count())


async def _measure(case: str) -> None:
    server = _server(asyncio.get_running_loop(), case)
    requests = _requests(case)
    figures = sorted([await _round(server, requests) for _ in range(ROUNDS)])
    best, middle = figures[0] * 1e6, figures[ROUNDS // 2] * 1e6
    print(f"{case:10} {best:6.2f} µs a request at best, {middle:6.2f} µs in the median")


def main(cases: Sequence[str]) -> None:
    """Measure these cases, or all, and print."""
    if unknown := [case for case in cases if case not in CASES]:
        sys.exit(f"no such case: {', '.join(unknown)}; there are {', '.join(CASES)}")
    for case in cases or CASES:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(_measure(case))


if __name__ == "__main__":
    main(sys.argv[1:])
