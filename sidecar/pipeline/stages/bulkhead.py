"""The bulkhead around one attempt: a slot, or a place in the queue, or a refusal.

A slot is held from here until the body of the response has ended (or its tunnel, after an upgrade). A response whose
body came with its head, or that has none, gives it back at once: the upstream is done with it. Nothing is held during
the back-off between two attempts, since each attempt comes through here anew.

Whoever waits has one future, and one entry in the lane of `queue_timeout`. It leaves the queue at once when its task is
cancelled, be it because the client left or because the total deadline passed; a slot that came in the same moment goes
on to the next one. Time in the queue is no part of the attempt: it is in `Exchange.queued`.

What goes on behind an answer (`Exchange.behind`) takes a free slot or none: nobody waits for it, so it must not stand
before those who wait.

In shadow nobody waits and nobody is refused. `would_reject` counts those whom the bulkhead would have refused, at once or
after a wait; to have had to queue is not counted.

What an adaptive limit learns from: how long response heads took (from when the request was whole), and failures, which
are an upstream that gave no usable answer, one that says 503 or 504, and a total deadline that passed while the answer
was overdue. Other 5xx tell nothing of load, nor do clients that leave, nor refusals of our own.
"""

import asyncio
from collections.abc import Callable
from functools import partial

from sidecar.errors import BulkheadFull, QueueTimeout, UpstreamFailed
from sidecar.message import Reply
from sidecar.pipeline.exchange import Exchange
from sidecar.pipeline.stage import Stage
from sidecar.policy.bulkhead import Bulkhead
from sidecar.policy.waitlist import ADMITTED, TIMED_OUT, Ticket
from sidecar.timers import Lane

__all__ = ["BulkheadStage"]

_OVERLOADED = (503, 504)

Leave = Callable[[float, float], None]


class _Waiter(Ticket):
    """A ticket that wakes whoever waits for it."""

    __slots__ = ("woken",)

    def __init__(self, since: float, woken: "asyncio.Future[None]") -> None:
        super().__init__(since)
        self.woken = woken

    def settle(self, state: int) -> None:
        super().settle(state)
        if not self.woken.done():  # it is when its task has been cancelled in this very moment
            self.woken.set_result(None)


class BulkheadStage(Stage):
    """One route's way into a bulkhead, which other routes may share. `would_reject` counts in shadow."""

    __slots__ = ("_lane", "_loop", "bulkhead", "shadow", "would_reject")

    counters = ("would_reject",)

    def __init__(self, bulkhead: Bulkhead, loop: asyncio.AbstractEventLoop, *, shadow: bool = False) -> None:
        self.bulkhead = bulkhead
        self._loop = loop
        self.shadow = shadow
        self._lane: Lane[Ticket] = Lane(loop, bulkhead.settings.queue_timeout, bulkhead.expire)
        self.would_reject = 0

    def count_on(self, before: Stage) -> None:
        """Go on counting, if it is the same bulkhead."""
        if isinstance(before, BulkheadStage) and before.bulkhead.name == self.bulkhead.name:
            super().count_on(before)

    async def __call__(self, exchange: Exchange) -> Reply:
        """Run the rest of the pipeline in a slot.

        Raises:
            BulkheadFull: no slot and no place in the queue, or too little time left to wait for one.
            QueueTimeout: no slot within `queue_timeout`.

        """
        bulkhead = self.bulkhead
        leave = bulkhead.leave
        if not bulkhead.enter():
            if not self.shadow:
                await self._wait(exchange)
            elif not self._slip_in(exchange):
                leave = bulkhead.slip_out
        started = exchange.clock()
        try:
            reply = await self.next(exchange)
        except BaseException as error:
            self.broke(exchange, started, leave, error)
            raise
        self.answered(exchange, started, leave, reply)
        return reply

    def broke(self, exchange: Exchange, started: float, leave: Leave, error: BaseException) -> None:
        """Give back the slot of an attempt without an answer, and learn from that."""
        bulkhead = self.bulkhead
        now = exchange.clock()
        if isinstance(error, UpstreamFailed):
            bulkhead.failed(now)
        elif exchange.total_expired:
            bulkhead.gave_up(now - started, now)
        leave(started, now)

    def answered(self, exchange: Exchange, started: float, leave: Leave, reply: Reply) -> None:
        """Learn from the head of an answer, and give back its slot with the end of its body."""
        clock = exchange.clock
        now = clock()
        status = reply.status
        if status < 500:
            body = exchange.request.body
            seconds = now - started
            if body is not None:  # its upload is the client's time, not the upstream's
                seconds = min(seconds, self._loop.time() - body.moved_at)
            self.bulkhead.answered(seconds, now)
        elif status in _OVERLOADED:
            self.bulkhead.failed(now)
        content = reply.body
        if content.__class__ is bytes or (content is None and reply.tunnel is None):
            leave(started, now)
        else:
            reply.on_close(partial(_end, leave, started, clock))

    async def _wait(self, exchange: Exchange) -> None:
        bulkhead = self.bulkhead
        if exchange.behind:
            raise BulkheadFull(retry_after=bulkhead.drain())
        clock = exchange.clock
        loop = self._loop
        waiter = _Waiter(clock(), loop.create_future())
        if not bulkhead.join(waiter, exchange.time_left(loop.time())):
            raise BulkheadFull(retry_after=bulkhead.drain())
        self._lane.start(waiter)
        try:
            await waiter.woken
        except BaseException:
            bulkhead.abandon(waiter, clock())
            raise
        finally:
            self._lane.stop(waiter)
            waited = clock() - waiter.since
            exchange.queued += waited
            bulkhead.waits.observe(waited)
        if waiter.state == ADMITTED:
            return
        refusal = QueueTimeout if waiter.state == TIMED_OUT else BulkheadFull
        raise refusal(retry_after=bulkhead.drain())

    def _slip_in(self, exchange: Exchange) -> bool:
        if self.bulkhead.slip_in(exchange.time_left(self._loop.time())):
            return True
        self.would_reject += 1
        if "bulkhead" not in exchange.would:
            exchange.would += ("bulkhead",)
        return False

    def describe(self) -> str:
        """Name the stage and its settings."""
        settings = self.bulkhead.settings
        slots = "{}…{}".format(*settings.adaptive) if settings.adaptive else f"{settings.max_concurrent}"
        queue = f"{settings.max_queue} wait {settings.queue_timeout:g}s {settings.order}"
        shadow = ", shadow" if self.shadow else ""
        return f"bulkhead {self.bulkhead.name}: {slots} at once, {queue if settings.max_queue else 'none waits'}{shadow}"


def _end(
    leave: Leave,
    started: float,
    clock: Callable[[], float],
    error: BaseException | None,  # noqa: ARG001 -- what every closer gets; a slot comes free whatever the end was
) -> None:
    leave(started, clock())
