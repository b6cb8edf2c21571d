"""The total deadline: a bound on everything until the response head, attempts, waiting and back-off included.

It ends at the head: `idle` guards the body, so no default ever kills a long download. Nor a long upload: while the
request's own body moves, the deadline moves with it. Expiry cancels the task; the cancellation travels inwards to
whatever is being waited for, gives back all that is held, and comes out here as `TotalTimeout`. A cancellation that is
not ours (the client left) passes through: the count of cancellation requests tells them apart, as in `asyncio.timeout`.
"""

import asyncio

from sidecar.errors import TotalTimeout
from sidecar.message import Reply
from sidecar.pipeline.exchange import Exchange
from sidecar.pipeline.stage import Stage
from sidecar.timers import Lane

__all__ = ["TotalDeadline"]


class TotalDeadline(Stage):
    """`timeout.total`, in seconds."""

    __slots__ = ("_lane", "_loop")

    def __init__(self, loop: asyncio.AbstractEventLoop, total: float) -> None:
        self._loop = loop
        self._lane: Lane[Exchange] = Lane(loop, total, self._expire)

    async def __call__(self, exchange: Exchange) -> Reply:
        """Run the rest of the pipeline, at most for `total` seconds.

        Raises:
            TotalTimeout: there was no response head by then.

        """
        task = exchange.task or exchange.current_task()
        already = task.cancelling()
        lane = self._lane
        exchange.total = lane.delay
        exchange.deadline = lane.start(exchange)
        try:
            reply = await self.next(exchange)
        except BaseException as error:
            self._stop(exchange)
            ours = exchange.total_expired and task.uncancel() <= already
            if ours and isinstance(error, asyncio.CancelledError):
                raise TotalTimeout from None
            raise
        self._stop(exchange)
        return reply

    def _stop(self, exchange: Exchange) -> None:
        self._lane.stop(exchange)
        if exchange.total_timer is not None:
            exchange.total_timer.cancel()

    def _expire(self, exchange: Exchange) -> None:
        left = exchange.upload_left(self._lane.delay, self._loop.time())
        if left > 0.001:
            exchange.total_timer = self._loop.call_later(left, self._expire, exchange)
            return
        exchange.total_expired = True
        if exchange.task is not None:
            exchange.task.cancel()

    def describe(self) -> str:
        """Name the stage and its bound."""
        return f"total deadline {self._lane.delay:g}s"
