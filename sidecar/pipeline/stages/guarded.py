"""The inner stages in one frame: what nearly every attempt goes through, and where nothing is to be decided.

    gate → bulkhead → permit → attempt

A frame of a coroutine costs as much as all that a stage does while all is well. So where the breaker is CLOSED and a slot
is free, this stage does in their order what those four would do, by their own methods, and asks for the next one
directly; in every other case it steps aside, and the four stand one inside the other as everywhere. It has no rule and no
count of its own, and it is not in `Pipeline.stages`: to everybody else there are four stages.
"""

from sidecar.message import Reply
from sidecar.pipeline.exchange import Exchange
from sidecar.pipeline.stage import Call, Stage
from sidecar.pipeline.stages.attempt import AttemptStage
from sidecar.pipeline.stages.breaker import BreakerPermit
from sidecar.pipeline.stages.bulkhead import BulkheadStage

__all__ = ["Guarded"]


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

    async def __call__(self, exchange: Exchange) -> Reply:
        """Run one attempt.

        Raises:
            RequestError: as the four.

        """
        bulkhead = self._bulkhead.bulkhead
        breaker = self._permit.breaker
        if not breaker.passing or not bulkhead.enter():
            return await self._apart(exchange)
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
