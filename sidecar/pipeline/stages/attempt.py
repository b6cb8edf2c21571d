"""One attempt at the upstream: bounded by `timeout.attempt` (to the response head), measured, and counted by its result.

The bound is on the upstream's answer, so it runs from when the request was whole: see `Exchange.upload_left`.

The results are a closed set, the `result` label of `sidecar_upstream_attempts_total`: `ok` (any status below 500),
`status_5xx`, the fate of an `UpstreamFailed`, and `cancelled` (the client left, or the total deadline passed).
"""

import asyncio
from collections.abc import Callable

from sidecar.counts import Histogram
from sidecar.errors import AttemptTimeout, RequestError, UpstreamFailed
from sidecar.fate import Fate
from sidecar.message import Reply
from sidecar.pipeline.exchange import Exchange
from sidecar.pipeline.stage import Stage
from sidecar.timers import Lane

__all__ = ["RESULTS", "AttemptStage"]

RESULTS = (
    "ok",
    "status_5xx",
    Fate.TIMEOUT_ATTEMPT,
    Fate.TIMEOUT_IDLE,
    Fate.UPSTREAM_CONNECT,
    Fate.UPSTREAM_DISCONNECTED,
    Fate.UPSTREAM_BAD_RESPONSE,
    Fate.REJECTED_OVERLOAD,
    "request_broke",
    "cancelled",
)


_ANSWERED = frozenset({"ok", "status_5xx"})


class AttemptStage(Stage):
    """Runs one attempt. `counts` is by result; `seconds` is shared by all the routes of an upstream."""

    __slots__ = ("_clock", "_lane", "counts", "loop", "seconds", "upstream")

    counters = ("counts",)

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        clock: Callable[[], float],
        *,
        upstream: str,
        timeout: float | None,
        seconds: Histogram,
    ) -> None:
        self.loop = loop
        self._clock = clock
        self._lane: Lane[Exchange] | None = None if timeout is None else Lane(loop, timeout, self._expire)
        self.upstream = upstream
        self.counts: dict[str, int] = dict.fromkeys(RESULTS, 0)
        self.seconds = seconds

    def count_on(self, before: Stage) -> None:
        """Go on counting, if it is the same upstream."""
        if isinstance(before, AttemptStage) and before.upstream == self.upstream:
            super().count_on(before)

    async def __call__(self, exchange: Exchange) -> Reply:
        """Ask the upstream once.

        Raises:
            AttemptTimeout: no response head within `timeout.attempt`.
            UpstreamFailed: as the wire found.

        """
        started = self._clock()
        already = self.begin(exchange)
        try:
            reply = await self.next(exchange)
        except BaseException as error:
            late = self.broke(exchange, started, already, error)
            if late is None:
                raise
            raise late from None
        self.answered(exchange, started, reply)
        return reply

    def begin(self, exchange: Exchange) -> int:
        """Start the timer. Gives how often the task was being cancelled already, for `broke`."""
        lane = self._lane
        if lane is None:
            return 0
        task = exchange.task or exchange.current_task()
        exchange.attempt_expired = False
        lane.start(exchange)
        return task.cancelling()

    def answered(self, exchange: Exchange, started: float, reply: Reply) -> None:
        """Take note of the head of an answer."""
        if self._lane is not None:
            self._stop(self._lane, exchange)
        self._note(exchange, started, "ok" if reply.status < 500 else "status_5xx")

    def broke(
        self, exchange: Exchange, started: float, already: int, error: BaseException
    ) -> AttemptTimeout | None:
        """Take note of an attempt without an answer. Gives what to raise instead of `error`, if it was our timer."""
        if self._lane is not None:
            self._stop(self._lane, exchange)
            if (
                exchange.attempt_expired
                and exchange.current_task().uncancel() <= already
                and isinstance(error, asyncio.CancelledError)
            ):
                timeout = AttemptTimeout()
                self._note(exchange, started, timeout.fate)
                return timeout
        self._note(exchange, started, _result(error))
        return None

    def _note(self, exchange: Exchange, started: float, result: str) -> None:
        now = self._clock()
        seconds = now - started
        if result in _ANSWERED:
            exchange.head_at = now
        self.counts[result] += 1
        self.seconds.observe(seconds)
        exchange.upstream = self.upstream
        exchange.attempts += ((result, seconds),)

    def _stop(self, lane: Lane[Exchange], exchange: Exchange) -> None:
        lane.stop(exchange)
        if exchange.attempt_timer is not None:
            exchange.attempt_timer.cancel()
            exchange.attempt_timer = None

    def _expire(self, exchange: Exchange) -> None:
        bound = self._lane.delay if self._lane is not None else 0.0
        left = exchange.upload_left(bound, self.loop.time())
        if left > 0.001:
            exchange.attempt_timer = self.loop.call_later(left, self._expire, exchange)
            return
        exchange.attempt_expired = True
        if exchange.task is not None:
            exchange.task.cancel()

    def describe(self) -> str:
        """Name the stage and its bound."""
        return "attempt" if self._lane is None else f"attempt timeout {self._lane.delay:g}s"


def _result(error: BaseException) -> str:
    if isinstance(error, UpstreamFailed):
        return error.fate
    if isinstance(error, RequestError):
        return error.fate if error.fate == Fate.REJECTED_OVERLOAD else "request_broke"
    return "cancelled"
