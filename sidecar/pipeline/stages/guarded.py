"""The inner stages in one frame: what nearly every attempt goes through, and where nothing is to be decided.

    gate → bulkhead → permit → attempt

A frame of a coroutine costs as much as all that a stage does while all is well. So where the breaker is CLOSED and a slot
is free, this stage does in their order what those four would do, by their own methods, and asks for the next one
directly; in every other case it steps aside, and the four stand one inside the other as everywhere. It has no rule and no
count of its own, and it is not in `Pipeline.stages`: to everybody else there are four stages.

`Front` is the gate once more, before the deadline and the retries: what it refuses there, the gate would refuse before
the first attempt, and nothing that lies between would change it; but each frame that an exception passes through costs
as much again. A breaker must be cheap above all when it is open.
"""

from collections.abc import Awaitable

from sidecar.message import Reply
from sidecar.pipeline.exchange import Exchange
from sidecar.pipeline.stage import Call, Stage
from sidecar.pipeline.stages.attempt import AttemptStage
from sidecar.pipeline.stages.breaker import BreakerGate, BreakerPermit
from sidecar.pipeline.stages.bulkhead import BulkheadStage

__all__ = ["Front", "Guarded"]


class Guarded(Stage):
    """One attempt under bulkhead and breaker. `apart` is the chain of the four, gate first."""

    __slots__ = ("_apart", "_attempt", "_bulkhead", "_permit", "_time")

    def __init__(
        self, bulkhead: BulkheadStage, permit: BreakerPermit, attempt: AttemptStage, apart: Call
    ) -> None:
        self._bulkhead = bulkhead
        self._permit = permit
        self._attempt = attempt
        self._apart = apart
        self._time = attempt.loop.time

    def __call__(self, exchange: Exchange) -> Awaitable[Reply]:
        """Run one attempt.

        Raises:
            RequestError: as the four.

        """
        if self._permit.breaker.passing and self._bulkhead.bulkhead.enter():
            return self._run(exchange)
        return self._apart(exchange)

    async def _run(self, exchange: Exchange) -> Reply:
        """Run one attempt in the slot that has been taken."""
        bulkhead = self._bulkhead.bulkhead
        breaker = self._permit.breaker
        leave = bulkhead.leave
        began = self._time()
        permit = breaker.enter(began)
        started = exchange.clock()
        attempt = self._attempt
        already = attempt.begin(exchange)
        try:
            reply = await self.next(exchange)
        except BaseException as error:
            late = attempt.broke(exchange, started, already, error)
            seen = error if late is None else late
            self._permit.broke(exchange, permit, began, seen)
            self._bulkhead.broke(exchange, started, leave, seen)
            if late is None:
                raise
            raise late from None
        attempt.answered(exchange, started, reply)
        self._permit.answered(permit, began, reply)
        self._bulkhead.answered(exchange, started, leave, reply)
        return reply


class Front(Stage):
    """The look of `gate`, before anything begins."""

    __slots__ = ("_gate",)

    def __init__(self, gate: BreakerGate) -> None:
        self._gate = gate

    def __call__(self, exchange: Exchange) -> Awaitable[Reply]:
        """Go on, or not.

        Raises:
            BreakerOpen: as the gate.

        """
        if not self._gate.breaker.passing:
            self._gate.look(exchange)
        return self.next(exchange)
