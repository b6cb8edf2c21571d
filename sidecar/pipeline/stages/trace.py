"""A span for each attempt that goes out to an upstream. The stage is in the chain only where traces are collected.

It stands right before the pool, so that a span is an exchange that really took place: an attempt that waits in a queue
or is refused has none, and the upstream that a fallback asks has its own. The upstream's `traceparent` names the span as
its parent; `tracestate` and all else go on unchanged. Afterwards the request is again as it came.

What a span is, and where it goes, is the tracer's matter: `begin` gives None for a request that is not to be traced,
which then costs nothing more here. Neither `begin` nor a span's methods may raise.
"""

import asyncio
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Protocol

from sidecar.errors import RequestError
from sidecar.fate import Fate
from sidecar.message import Body, Fields, Reply, Request
from sidecar.pipeline.exchange import Exchange
from sidecar.pipeline.stage import Stage

__all__ = ["Span", "TraceStage"]

_NAME = b"traceparent"


class Span(Protocol):
    """One attempt, seen from here."""

    @property
    def traceparent(self) -> bytes:
        """What the upstream is told."""

    def end(self, status: int | None, fate: str | None) -> None:
        """Take the end of its body, or of the attempt: the status, if there was one, and the word if it failed."""


class TraceStage(Stage):
    """Begins and ends the spans of attempts."""

    __slots__ = ("_begin",)

    def __init__(self, begin: Callable[[Exchange], Span | None]) -> None:
        self._begin = begin

    def __call__(self, exchange: Exchange) -> Awaitable[Reply]:
        """Go on, within a span if there is one."""
        span = self._begin(exchange)
        return self.next(exchange) if span is None else self._within(exchange, span)

    async def _within(self, exchange: Exchange, span: Span) -> Reply:
        request = exchange.request
        fields, extra = request.fields, request.extra
        _set(request, span.traceparent)
        try:
            reply = await self.next(exchange)
        except BaseException as error:
            span.end(None, _word(exchange, error))
            raise
        finally:
            request.fields, request.extra = fields, extra
        if isinstance(reply.body, Body) or reply.tunnel is not None:
            reply.on_close(partial(_closed, exchange, span, reply.status))
        else:
            _closed(exchange, span, reply.status, None)
        return reply

    def describe(self) -> str:
        """Name the stage."""
        return "trace"


def _set(request: Request, traceparent: bytes) -> None:
    """Put it in the place of the one that the request has: in its fields, or, of a trace begun here, beside them."""
    fields = request.fields
    others = tuple(pair for pair in request.extra if pair[0] != _NAME)
    if len(others) < len(request.extra) or fields.first(_NAME) is None:
        request.extra = (*others, (_NAME, traceparent))
    else:
        request.fields = Fields(
            (name, traceparent if name.lower() == _NAME else value) for name, value in fields.pairs
        )


def _closed(exchange: Exchange, span: Span, status: int, error: BaseException | None) -> None:
    if error is not None:
        span.end(status, _word(exchange, error))
    else:
        span.end(status, Fate.UPSTREAM_STATUS.value if status >= 500 else None)


def _word(exchange: Exchange, error: BaseException) -> str:
    """Give the fate of an attempt without an answer, or with half of one."""
    if isinstance(error, asyncio.CancelledError):
        if exchange.attempt_expired:
            return Fate.TIMEOUT_ATTEMPT.value
        if exchange.total_expired:
            return Fate.TIMEOUT_TOTAL.value
        cut = exchange.request.cut
        return cut.fate.value if isinstance(cut, RequestError) else Fate.CLIENT_GONE.value
    return error.fate.value if isinstance(error, RequestError) else Fate.INTERNAL.value
