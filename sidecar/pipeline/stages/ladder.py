"""What each step of a fallback delivers. The settings, and which step is for what, are in `policy/fallback.py`.

A step gives a reply, or None where it has none for this request, or raises; whoever asks then goes on to the next.
What can be made when the route is built is made then: a configured answer costs a request two objects.
"""

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Protocol

from sidecar.counts import Histogram
from sidecar.dates import http_date
from sidecar.errors import Refused, RequestError
from sidecar.fate import Fate
from sidecar.message import Body, Fields, Headers, Reply, Request
from sidecar.pipeline.answers import proxy_status, retry_after
from sidecar.pipeline.exchange import Exchange
from sidecar.pipeline.stage import Call
from sidecar.pipeline.stages.attempt import AttemptStage
from sidecar.pipeline.stages.cached import reply_from
from sidecar.policy.cache import usable_copy
from sidecar.policy.fallback import FallbackStep, Mock, Redirect, Stale, Static, Upstream
from sidecar.policy.store import Entry, Store
from sidecar.policy.templates import Template, escape_for, uri_part

__all__ = ["Failure", "Ladder", "Other", "Step", "make_step"]

# The other upstream may be behind such a proxy too: these are said once, by us.
_MARKS = (b"x-system-degraded", b"x-fallback-source")


class Failure:
    """What went wrong: an error, or a reply whose status says so. `cause` is the word that steps are chosen by."""

    __slots__ = ("cause", "error", "reply")

    def __init__(self, cause: str, error: RequestError | None = None, reply: Reply | None = None) -> None:
        self.cause = cause
        self.error = error
        self.reply = reply

    @property
    def proxy_status(self) -> bytes:
        """What to say of it in `Proxy-Status` (RFC 9209)."""
        if self.error is not None:
            return proxy_status(self.error)
        status = self.reply.status if self.reply is not None else 0
        return f'sidecar; received-status={status}; details="{Fate.UPSTREAM_STATUS}"'.encode()

    @property
    def retry_after(self) -> bytes | None:
        """How long a client had been told to wait."""
        if self.reply is not None:
            return self.reply.fields.first(b"retry-after")
        seconds = None if self.error is None else retry_after(self.error)
        return None if seconds is None else b"%d" % seconds


@dataclass(frozen=True, slots=True)
class Other:
    """Another upstream that a step may ask, and the histogram of how long its attempts take."""

    call: Call
    seconds: Histogram


class Step(Protocol):
    """One step, ready to deliver."""

    @property
    def settings(self) -> FallbackStep:
        """Which step it is."""

    async def reply(self, exchange: Exchange, failure: Failure) -> Reply | None:
        """Give what this request gets instead of `failure`, or None."""


@dataclass(frozen=True, slots=True)
class Ladder:
    """What the steps of one route need. `others` has every upstream that one of them names."""

    route: str
    loop: asyncio.AbstractEventLoop
    clock: Callable[[], float]
    store: Store | None = None
    others: Mapping[str, Other] | None = None


def make_step(settings: FallbackStep, ladder: Ladder) -> Step:
    """Make the step that `settings` ask for.

    Raises:
        ValueError: it needs what `ladder` does not have.

    """
    match settings:
        case Stale():
            return _StaleStep(settings, ladder)
        case Static():
            return _StaticStep(settings)
        case Mock():
            return _MockStep(settings)
        case Upstream():
            return OtherStep(settings, ladder)
        case Redirect():
            return _RedirectStep(settings)


class _StaleStep:
    """The stored copy."""

    __slots__ = ("_now", "_route", "_store", "settings")

    def __init__(self, settings: Stale, ladder: Ladder) -> None:
        if ladder.store is None:
            raise ValueError("there is no store for the copies")
        self.settings = settings
        self._store = ladder.store
        self._route = ladder.route
        self._now = ladder.loop.time

    async def reply(self, exchange: Exchange, failure: Failure) -> Reply | None:
        request, settings, now = exchange.request, self.settings, self._now()
        copy = usable_copy(self._store, self._route, request, now, settings.max_age, settings.override_origin)
        if copy is None:
            return None
        self._store.touch(copy)
        status = ((b"Cache-Status", _cache_status(copy, failure, now)),)
        return reply_from(copy, request, now, status)


class _StaticStep:
    """A configured answer: the same for everybody."""

    __slots__ = ("_fields", "settings")

    def __init__(self, settings: Static) -> None:
        self.settings = settings
        self._fields = Fields(_head(settings, len(settings.body)))

    async def reply(self, exchange: Exchange, failure: Failure) -> Reply:
        settings = self.settings
        return _answer(exchange.request, failure, settings.status, self._fields, settings.body)


class _MockStep:
    """A made-up answer, with words of the request in it."""

    __slots__ = ("_escape", "_template", "settings")

    def __init__(self, settings: Mock) -> None:
        self.settings = settings
        self._template = Template(settings.body)
        self._escape = escape_for(settings.content_type)

    async def reply(self, exchange: Exchange, failure: Failure) -> Reply:
        request, settings = exchange.request, self.settings
        body = self._template.fill(_values(request), self._escape)
        return _answer(request, failure, settings.status, Fields(_head(settings, len(body))), body)


class _RedirectStep:
    """The way to somewhere else."""

    __slots__ = ("_template", "settings")

    def __init__(self, settings: Redirect) -> None:
        self.settings = settings
        self._template = Template(settings.location)

    async def reply(self, exchange: Exchange, failure: Failure) -> Reply | None:
        request = exchange.request
        if not request.path.startswith(b"/"):  # `*` belongs to no path elsewhere
            return None
        location = self._template.fill(_values(request), uri_part)
        head = [(b"Location", location), (b"Content-Length", b"0"), (b"Cache-Control", b"no-store")]
        return _answer(request, failure, self.settings.status, Fields(head), b"")


class OtherStep:
    """Another upstream, asked once, with a bound of its own on time and on how many ask it at once."""

    __slots__ = ("attempt", "busy", "settings")

    def __init__(self, settings: Upstream, ladder: Ladder) -> None:
        other = (ladder.others or {}).get(settings.name)
        if other is None:
            raise ValueError(f"there is no upstream {settings.name}")
        self.settings = settings
        self.attempt = AttemptStage(
            ladder.loop,
            ladder.clock,
            upstream=settings.name,
            timeout=settings.timeout,
            seconds=other.seconds,
        )
        self.attempt.next = other.call
        self.busy = 0

    async def reply(self, exchange: Exchange, failure: Failure) -> Reply | None:
        """Give its answer, if it has one below 500.

        Raises:
            RequestError: it has none.

        """
        if self.busy >= self.settings.max_concurrent or not _can_send(exchange.request, failure):
            return None
        first = exchange.upstream
        self.busy += 1
        try:
            reply = await self.attempt(exchange)
        except BaseException:
            self.busy -= 1
            exchange.upstream = first
            raise
        if reply.status >= 500:
            self.busy -= 1
            exchange.upstream = first
            reply.close()
            return None
        if isinstance(reply.body, Body) or reply.tunnel is not None:
            reply.on_close(self._free)
        else:
            self.busy -= 1
        wire = reply.fields.wire.lower()
        if any(mark in wire for mark in _MARKS):
            reply.fields = reply.fields.without(*_MARKS)
        return reply

    def _free(self, _: BaseException | None) -> None:
        self.busy -= 1


def _can_send(request: Request, failure: Failure) -> bool:
    """Tell whether the request can be sent (again) from its first byte, and put its body there."""
    body = request.body
    if body is None:
        return True
    if failure.reply is not None and isinstance(failure.reply.body, Body) and not body.finished:
        return False  # the connection that streams the answer still takes the request
    return body.rewind()


def _head(settings: Static | Mock, length: int) -> Headers:
    head: Headers = [
        *settings.fields,
        (b"Cache-Control", b"no-store"),
        (b"X-Content-Type-Options", b"nosniff"),
    ]
    if settings.status != 204:  # RFC 9110 §8.6
        head += [(b"Content-Type", settings.content_type), (b"Content-Length", b"%d" % length)]
    return head


def _answer(request: Request, failure: Failure, status: int, fields: Fields, body: bytes) -> Reply:
    """Make a reply of ours. One that is an error keeps the honest Retry-After; on a success it would say nothing."""
    reply = Reply(status, fields, None if request.method == b"HEAD" or status == 204 else body)
    if status != 204:
        reply.length = len(body)
    reply.extra = ((b"Date", http_date()),)
    if status >= 400 and (wait := failure.retry_after) is not None:
        reply.extra += ((b"Retry-After", wait),)
    return reply


def _values(request: Request) -> dict[bytes, bytes]:
    return {
        b"method": request.method,
        b"path": request.path,
        b"query": request.target[len(request.path) :],
        b"request_id": request.request_id,
    }


def _cache_status(copy: Entry, failure: Failure, now: float) -> bytes:
    """Say how a copy was used (RFC 9211 §2): a hit only if the request did not go forward, else why it did.

    A copy that is still fresh did not send it there: then this cache was told not to answer by itself.
    """
    ttl = int(copy.lifetime) - int(copy.age(now))
    if isinstance(failure.error, Refused):
        return b"sidecar; hit; ttl=%d" % ttl
    why = b"bypass" if copy.is_fresh(now) else b"stale"
    if failure.reply is None:
        return b"sidecar; fwd=%b; ttl=%d" % (why, ttl)
    return b"sidecar; fwd=%b; fwd-status=%d; ttl=%d" % (why, failure.reply.status, ttl)
