"""What else a record tells: found out only for requests that failed or that get a line, so it costs others nothing.

The breaker's state before is what the first attempt found, the state after is what it is at the end: between the two lies
what this request, and those beside it, did to it. What is left of the deadline is measured at the head of the answer, or
at the end where there was none.
"""

import math
from collections.abc import Callable
from typing import NamedTuple

from sidecar.pipeline.exchange import Exchange
from sidecar.policy.breaker import Breaker, State
from sidecar.telemetry.ids import trace_context
from sidecar.telemetry.redaction import shown_query

__all__ = ["BreakerSeen", "Detail", "detail_of"]


class BreakerSeen(NamedTuple):
    """A route's breaker, before and after a request."""

    name: str
    before: str
    after: str


class Detail(NamedTuple):
    """More about one request. `waits` are (number of the attempt, seconds waited before it); times in seconds.

    `query` is there only if the configuration asks for it, and without what looks like a secret.
    """

    trace_id: str | None = None
    query: str | None = None
    waits: tuple[tuple[int, float], ...] = ()
    breaker: BreakerSeen | None = None
    deadline_left: float | None = None


def detail_of(
    exchange: Exchange, breaker: Breaker | None, now: Callable[[], float] | None, *, query: bool
) -> Detail:
    """Find it out, at the end of a request. `now` is the loop's time, on which deadlines are."""
    request = exchange.request
    context = trace_context(request)
    asked = request.target[len(request.path) + 1 :] if query else b""
    return Detail(
        trace_id=None if context is None else context.trace_id,
        query=shown_query(asked) if asked else None,
        waits=exchange.waits,
        breaker=None if breaker is None else _seen(exchange, breaker),
        deadline_left=None if now is None else _deadline_left(exchange, now()),
    )


def _seen(exchange: Exchange, breaker: Breaker) -> BreakerSeen:
    return BreakerSeen(breaker.name, exchange.breaker_was or State.CLOSED.value, breaker.state.value)


def _deadline_left(exchange: Exchange, now: float) -> float | None:
    since_head = exchange.finished_at - exchange.head_at if exchange.head_at else 0.0
    left = exchange.time_left(now - since_head)
    return None if left == math.inf else max(0.0, left)
