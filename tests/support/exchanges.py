"""Requests, exchanges and pipelines with as few words as a test needs, and a client that behaves as the wire does.

    upstream = Upstream(answer(200, b"hello"))
    route = a_route(upstream, attempt=1.0)
    got = await route.get("/hello")
    assert (got.status, got.body) == (200, b"hello")
    assert route.fates == ["ok"]

Everything of our own is real: the stages, the answers, the exchange. Only the two ends are played, by `Upstream` and
by `Route.ask`.
"""

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypedDict, Unpack

from sidecar.counts import Histogram
from sidecar.errors import ClientGone, RequestError
from sidecar.message import Body, Fields, Headers, Reply, Request
from sidecar.pipeline.answers import Answers, Format, HeadersMode
from sidecar.pipeline.assemble import Parts, Pipeline, Policy, assemble
from sidecar.pipeline.exchange import Exchange
from sidecar.pipeline.stage import Call
from sidecar.pipeline.stages.attempt import AttemptStage
from sidecar.pipeline.stages.ladder import Other
from sidecar.pipeline.stages.rate_limit import RateFields
from sidecar.policy.breaker import Breaker
from sidecar.policy.budget import RetryBudget
from sidecar.policy.bulkhead import Bulkhead
from sidecar.policy.cache import CacheSettings
from sidecar.policy.fallback import FallbackStep
from sidecar.policy.fault import FaultSettings
from sidecar.policy.ratelimit import RateLimiter
from sidecar.policy.retry import RetrySettings
from sidecar.policy.store import Store
from sidecar.runtime.background import Background

__all__ = [
    "EPOCH",
    "Got",
    "Route",
    "Settings",
    "a_body",
    "a_request",
    "a_route",
    "an_exchange",
    "some_parts",
]

EPOCH = 1_800_000_000  # the time of day at which virtual time begins: 2027-01-15 08:00 UTC


class Settings(TypedDict, total=False):
    """What of a `Policy` a test may set."""

    attempt: float | None
    total: float | None
    idle: float | None
    body: float | None
    max_body: int | None
    rate_limit: RateLimiter
    rate_limit_key: str
    rate_limit_fields: RateFields
    fallback: tuple[FallbackStep, ...]
    others: Mapping[str, Other]
    cache: CacheSettings
    store: Store
    invalidates: tuple[str, ...]
    retry: RetrySettings
    budget: RetryBudget
    breaker: Breaker
    breaker_header: str
    bulkhead: Bulkhead
    fault: FaultSettings
    shadow: frozenset[str]


@dataclass(slots=True)
class Got:
    """An answer as its client saw it. `error` is what broke it after its head."""

    status: int
    headers: Headers
    body: bytes = b""
    at: float = 0.0
    ended_at: float = 0.0
    error: BaseException | None = None

    def header(self, name: bytes) -> bytes | None:
        """Give the value of the only field `name` (lower case), or None."""
        values = [value for key, value in self.headers if key.lower() == name]
        assert len(values) < 2, f"{name!r} stands there twice"
        return values[0] if values else None


def a_request(
    method: str = "GET",
    target: str = "/",
    headers: Headers | None = None,
    *,
    body: bytes | Body | None = None,
    request_id: str = "test-000001",
    **more: Any,
) -> Request:
    """Make a request. `more` sets its other attributes."""
    request = Request(method.encode(), target.encode(), Fields(headers or []))
    request.request_id = request_id.encode()
    if isinstance(body, bytes):
        request.body = a_body(body)
        request.length = len(body)
    elif body is not None:
        request.body = body
    for name, value in more.items():
        assert hasattr(request, name), name
        setattr(request, name, value)
    return request


def a_body(*pieces: bytes) -> Body:
    """Make a body that has come whole."""
    body = Body(lambda: 0.0)
    for piece in pieces:
        body.feed(piece)
    body.finish()
    return body


def an_exchange(
    request: Request | None = None, route: str = "a-route", sink: Callable[[Exchange], None] = lambda _: None
) -> Exchange:
    """Make an exchange on the running loop's clock."""
    return Exchange(request or a_request(), route, asyncio.get_running_loop().time, sink)


def some_parts(
    fmt: Format = "problem+json",
    on_fault: Callable[[Exchange, Exception], None] | None = None,
    headers: HeadersMode = "minimal",
) -> Parts:
    """Make what all routes share. Unless `on_fault` takes them, unforeseen exceptions fail the test."""
    loop = asyncio.get_running_loop()
    return Parts(
        loop,
        loop.time,
        Answers(fmt, headers),
        on_fault or _raise,
        spawn=Background(loop).spawn,
        chance=lambda: 0.5,
        wall=lambda: EPOCH + loop.time(),
    )


def _raise(exchange: Exchange, fault: Exception) -> None:
    raise fault


@dataclass(slots=True)
class Route:
    """A pipeline, what it was asked, and what came of it: `done` holds every exchange that is over."""

    pipeline: Pipeline
    done: list[Exchange] = field(default_factory=list)
    seconds: Histogram = field(default_factory=Histogram)

    @property
    def fates(self) -> list[str]:
        """How the exchanges ended, in the order of their ends."""
        return [str(exchange.fate) for exchange in self.done]

    @property
    def counts(self) -> dict[str, int]:
        """What came of the attempts, without the zeros."""
        attempts = self.pipeline.find(AttemptStage)
        assert attempts is not None
        return {str(result): number for result, number in attempts.counts.items() if number}

    async def get(self, target: str = "/") -> Got:
        """Ask with GET."""
        return await self.ask(a_request(target=target))

    async def ask(self, request: Request) -> Got:
        """Ask as the wire does: take the head, drain the body, close the reply with whatever ended it."""
        loop = asyncio.get_running_loop()
        request.task = asyncio.current_task()
        reply = await self.pipeline.call(Exchange(request, self.pipeline.route, loop.time, self.done.append))
        got = Got(reply.status, [*reply.fields.pairs, *reply.extra], at=loop.time())
        try:
            await _drain(reply, got)
        except asyncio.CancelledError:
            reply.close(ClientGone())
            raise
        except RequestError as error:
            got.error = error
            reply.close(error)
        else:
            reply.close()
        got.ended_at = loop.time()
        return got

    def start(self, request: Request | None = None) -> "asyncio.Task[Got]":
        """Ask in a task of its own, which is the client's: cancelling it is the client leaving."""
        return asyncio.get_running_loop().create_task(self.ask(request or a_request()))


async def _drain(reply: Reply, got: Got) -> None:
    if isinstance(reply.body, bytes):
        got.body = reply.body
    elif reply.body is not None:
        while piece := await reply.body.read():
            got.body += piece


def a_route(
    upstream: Call,
    *,
    name: str = "a-route",
    parts: Parts | None = None,
    **settings: Unpack[Settings],
) -> Route:
    """Make a route around `upstream`. What `settings` does not name is off."""
    seconds = Histogram()
    off: Settings = {"attempt": None, "total": None, "idle": None, "body": None, "max_body": None}
    policy = Policy(route=name, upstream="an-upstream", **(off | settings))
    return Route(assemble(policy, parts or some_parts(), seconds, upstream), seconds=seconds)
