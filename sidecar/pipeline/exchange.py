"""One request on its way through its route: what the stages share, and what will be told of it afterwards."""

import asyncio
import math
from collections.abc import Callable
from typing import Any

from sidecar.errors import RequestError, UpstreamFailed
from sidecar.fate import Fate, WhyNotRetried
from sidecar.message import Reply, Request

__all__ = ["MIN_RATE", "Attempt", "Exchange"]

# Bytes a second, on average, below which a request body is no upload but an attack or a dead link. Apache's
# RequestReadTimeout draws the line at the same rate.
MIN_RATE = 500


Attempt = tuple[str, float]  # what came of an attempt, after how many seconds


class Exchange:
    """The state of one request. Stages hold none of their own: what belongs to a request is here.

    `clock` measures (in life finer than the loop's time, which steps in milliseconds on uvloop; in virtual time it is
    the loop's). `sink` gets the exchange once, when everything is over. `idle` and `lifetime` bound the response's body.
    `deadline` is on the loop's clock, None without `timeout.total`. `extra` are fields for whatever answer the client
    gets, be it the upstream's or ours. `would` names what policies in shadow would have done, `fault` what was injected.

    A plain class with defaults on it: what a request does not have costs it nothing to set.
    """

    upstream = ""
    head_at = 0.0
    finished_at = 0.0
    attempts: tuple[Attempt, ...] = ()
    fate: Fate | None = None
    why_not_retried: WhyNotRetried | None = None
    status = 0
    error: BaseException | None = None
    total_expired = False
    attempt_expired = False
    total_timer: asyncio.TimerHandle | None = None
    attempt_timer: asyncio.TimerHandle | None = None
    total: float | None = None
    deadline: float | None = None
    blocked: dict[str, int] | None = None  # where a retry is configured: why there was none, counted
    extra: tuple[tuple[bytes, bytes], ...] = ()
    would: tuple[str, ...] = ()
    fault: str | None = None
    behind = False  # it goes on behind an answer that its client has already: nobody waits for it
    queued = 0.0  # seconds spent in queues of bulkheads
    waits: tuple[
        tuple[int, float], ...
    ] = ()  # before which attempt (the first is 1) it waited, for how many seconds
    breaker_was: str | None = (
        None  # the state in which its first attempt found the breaker; None: CLOSED, or no breaker
    )
    idle: float | None = None
    lifetime: float | None = None

    def __init__(
        self, request: Request, route: str, clock: Callable[[], float], sink: "Callable[[Exchange], None]"
    ) -> None:
        self.request = request
        self.task = request.task
        self.route = route
        self.clock = clock
        self.sink = sink
        self.started_at = clock()

    def __repr__(self) -> str:
        """Tell the live state in one line."""
        return f"<Exchange {self.route} {self.request!r} {self.fate or 'under way'}>"

    def current_task(self) -> "asyncio.Task[Any]":
        """Give the task that answers this request.

        The wire says which; asking asyncio takes 3 µs on Python 3.11, a third of all that a request costs here.
        """
        task = self.task
        if task is None:
            task = self.task = asyncio.current_task()
            assert task is not None  # noqa: S101 -- a coroutine that awaits is in a task
        return task

    def upload_left(self, bound: float, now: float) -> float:
        """Give for how many seconds a bound on the response is put off by a request body that is or was coming in.

        The clock of a response runs from when its request was whole, as in Envoy: else no upload could take longer than
        `timeout.total`. A body that has stopped moving puts off nothing for longer than `bound`, and one that only
        trickles nothing at all: it would hold a connection to the upstream for as long as its client likes.
        """
        body = self.request.body
        if body is None or body.bytes_fed < MIN_RATE * (now - body.began_at):
            return 0.0
        return body.moved_at + bound - now

    def time_left(self, now: float) -> float:
        """Give for how many seconds from `now` (the loop's time) an answer can still be of use; infinity: no deadline."""
        if self.deadline is None or self.total is None:
            return math.inf
        left = self.deadline - now
        return left if self.request.body is None else max(left, self.upload_left(self.total, now))

    def answer(self, reply: Reply, fate: Fate) -> None:
        """Note the head that goes to the client, and with which word; the end comes with the body."""
        self.fate = fate
        self.status = reply.status
        if not self.head_at:
            self.head_at = self.clock()
        if self.idle is not None:
            reply.idle = self.idle
        if self.lifetime is not None:
            reply.lifetime = self.lifetime
        reply.on_close(self.finish)

    def finish(self, error: BaseException | None) -> None:
        """End: an error after the head changes the word, since the client did not get what the head promised."""
        if error is not None:
            self.error = error
            if self.blocked is not None and isinstance(error, UpstreamFailed):
                self.why_not_retried = why = WhyNotRetried.HEAD_SENT
                self.blocked[why] += 1
            self.fate = error.fate if isinstance(error, RequestError) else Fate.INTERNAL
        self.finished_at = self.clock()
        self.sink(self)
