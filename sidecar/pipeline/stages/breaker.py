"""The circuit breaker at its two places: a gate before the queue, and a permit after it.

    retry ⟨ gate → bulkhead → permit ⟨ attempt timeout → upstream ⟩⟩

The gate refuses at once what would be refused anyway, so that nobody queues for an upstream that is given time to
recover. The permit is taken when the attempt really begins: a trial must not wait in a queue.

What an attempt says about the upstream, settled when its head or its error is there:

| the attempt ended with | verdict |
|---|---|
| a status of `count` (500, 502, 503, 504) | FAILURE |
| 429, unless `count` has it | IGNORED: the caller asks too much, the upstream is well |
| any other status, a switch of protocols too | SUCCESS |
| `UpstreamFailed`: connect, attempt timeout, disconnect, bad response | FAILURE |
| `Refused`: bulkhead, overload | IGNORED: we did not ask |
| `ClientError`, and any fault of our own | IGNORED |
| cancelled: the client left | IGNORED |
| cancelled by the total deadline | see below |
| any timeout while the client's own body was still coming in | IGNORED: else slow uploads could open a breaker |

**Cancelled.** A client that leaves says nothing about the upstream, with one exception: if it had waited for longer than
`timeout.attempt`. That case is `AttemptTimeout` already, since the attempt's own timer comes first. Where attempts have
no timer of their own (`timed` is False: it is off, or `total` would always come first) only the total deadline can tell
a hanging upstream. Its expiry is a FAILURE, `timeout_total`, if the attempt had at least half of that time to itself: an
attempt that began late, after queues and other attempts, cannot be blamed. Where they have one, an attempt that the
total deadline cuts short was still within its time, and is IGNORED.

**Uploads.** A request whose body is still coming in is no trial: it is refused while the breaker is HALF_OPEN.

**Bodies.** After a SUCCESS a body that comes whole ends the run of consecutive failures; one that the upstream breaks is
one more FAILURE; a client that leaves or stalls in the middle of it is neither. After another verdict the body says
nothing: an error page that comes whole is no sign of health.

In shadow nothing is refused. Requests that would have been go on without a permit, and leave no trace in the breaker.
"""

import asyncio
from collections.abc import Awaitable
from functools import partial

from sidecar.errors import AttemptTimeout, BreakerOpen, RequestError, UpstreamFailed, UpstreamIdle
from sidecar.fate import Fate
from sidecar.message import Body, Reply
from sidecar.pipeline.exchange import Exchange
from sidecar.pipeline.stage import Stage
from sidecar.policy.breaker import FAILURE, IGNORED, SUCCESS, TRIAL_RETRY_AFTER, Breaker, State

__all__ = ["BreakerGate", "BreakerPermit"]

_WORD = "breaker"  # in `Exchange.would`
_TOTAL = Fate.TIMEOUT_TOTAL.value


class _Shadowed(Stage):
    """What both places share: refusing, or only saying that one would have. `would_reject` counts requests."""

    __slots__ = ("_loop", "breaker", "shadow", "would_reject")

    counters = ("would_reject",)

    def __init__(self, breaker: Breaker, loop: asyncio.AbstractEventLoop, *, shadow: bool = False) -> None:
        self.breaker = breaker
        self._loop = loop
        self.shadow = shadow
        self.would_reject = 0

    def count_on(self, before: Stage) -> None:
        """Go on counting, if it is the same breaker."""
        if isinstance(before, _Shadowed) and before.breaker.name == self.breaker.name:
            super().count_on(before)

    def _refuse(self, exchange: Exchange, retry_after: float | None) -> None:
        if not self.shadow:
            self.breaker.rejected += 1
            raise BreakerOpen(f"breaker {self.breaker.name}", retry_after=retry_after)
        if _WORD not in exchange.would:
            exchange.would += (_WORD,)
            self.would_reject += 1

    def describe(self) -> str:
        """Name the stage and its breaker."""
        place = "gate" if isinstance(self, BreakerGate) else "permit"
        return f"breaker {place} {self.breaker.name}{' (shadow)' * self.shadow}"


class BreakerGate(_Shadowed):
    """Refuses what the breaker would refuse, before it waits for anything."""

    __slots__ = ()

    def __call__(self, exchange: Exchange) -> Awaitable[Reply]:
        """Go on, or not.

        Raises:
            BreakerOpen: with the time until it may be worth to ask again.

        """
        if not self.breaker.passing:
            self.look(exchange)
        return self.next(exchange)

    def look(self, exchange: Exchange) -> None:
        """Refuse what would be refused.

        Raises:
            BreakerOpen: with the time until it may be worth to ask again.

        """
        wait = _wait(self.breaker, exchange, self._loop.time())
        if wait is not None:
            self._refuse(exchange, wait)


class BreakerPermit(_Shadowed):
    """Takes a permit for one attempt, and settles it. `timed` tells whether attempts have a timeout of their own."""

    __slots__ = ("_count", "_timed")

    def __init__(
        self, breaker: Breaker, loop: asyncio.AbstractEventLoop, *, timed: bool = True, shadow: bool = False
    ) -> None:
        super().__init__(breaker, loop, shadow=shadow)
        self._count = breaker.settings.count
        self._timed = timed

    async def __call__(self, exchange: Exchange) -> Reply:
        """Run one attempt under a permit.

        Raises:
            BreakerOpen: there is none to be had.

        """
        breaker = self.breaker
        began = self._loop.time()
        wait = None if breaker.passing else _wait(breaker, exchange, began)
        if wait is not None:
            self._refuse(exchange, wait)
            return await self.next(exchange)
        permit = breaker.enter(began)
        try:
            reply = await self.next(exchange)
        except BaseException as error:
            self.broke(exchange, permit, began, error)
            raise
        self.answered(permit, began, reply)
        return reply

    def broke(self, exchange: Exchange, permit: int, began: float, error: BaseException) -> None:
        """Settle the permit of an attempt without an answer."""
        now = self._loop.time()
        verdict, what = self._verdict(exchange, error, now - began)
        self.breaker.settle(permit, verdict, now, now - began, what)

    def answered(self, permit: int, began: float, reply: Reply) -> None:
        """Settle the permit of an attempt by the head of its answer."""
        breaker = self.breaker
        now = self._loop.time()
        status = reply.status
        if status in self._count:
            breaker.settle(permit, FAILURE, now, now - began, str(status))
        elif status == 429:
            breaker.settle(permit, IGNORED, now, now - began, "429")
        else:
            breaker.settle(permit, SUCCESS, now, now - began, "ok" if status < 400 else str(status))
            body = reply.body
            if isinstance(body, Body):
                reply.on_close(partial(self._closed, permit, body))
            else:
                breaker.body_ended(permit)

    def _verdict(self, exchange: Exchange, error: BaseException, seconds: float) -> tuple[int, str]:
        if isinstance(error, UpstreamFailed):
            if isinstance(error, AttemptTimeout) and _is_uploading(exchange):
                return IGNORED, error.fate.value
            return FAILURE, error.fate.value
        if isinstance(error, RequestError):
            return IGNORED, error.fate.value
        if isinstance(error, asyncio.CancelledError):
            total = exchange.total
            hung = exchange.total_expired and not self._timed and total is not None and seconds >= total / 2
            return (FAILURE if hung and not _is_uploading(exchange) else IGNORED), _TOTAL
        return IGNORED, Fate.INTERNAL.value

    def _closed(self, permit: int, body: Body, error: BaseException | None) -> None:
        if body.finished:
            self.breaker.body_ended(permit)
        elif isinstance(error, UpstreamFailed) and not (isinstance(error, UpstreamIdle) and body.held):
            self.breaker.body_broke(permit, self._loop.time(), error.fate.value)


def _wait(breaker: Breaker, exchange: Exchange, now: float) -> float | None:
    """Give for how many seconds a request is refused, None if it is not.

    Beside those that the breaker refuses these are the uploads that are still coming in while trials decide: a client
    that sends slowly would hold the place of a trial, and its upload would end as one that nobody decided.
    """
    if exchange.breaker_was is None and not exchange.attempts:
        exchange.breaker_was = breaker.state.value
    wait = breaker.refusal(now)
    body = exchange.request.body
    if wait is None and body is not None and not body.finished and breaker.state is State.HALF_OPEN:
        return TRIAL_RETRY_AFTER
    return wait


def _is_uploading(exchange: Exchange) -> bool:
    """Tell whether the request's body was still awaited from the client, and not held up by the upstream."""
    body = exchange.request.body
    return body is not None and not body.finished and not body.paused
