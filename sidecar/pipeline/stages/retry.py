"""Tries again what failed, where that is safe, affordable and of use (`policy/retry.py` says when).

Outside it is the total deadline, which bounds all of it; inside are the breaker, the bulkhead and the attempt, so an
open breaker ends the retrying, and no slot is held while we wait.

What the client gets when there is no more to try is the last answer that the upstream itself gave, as it came. Only
where it gave none is it the last error; a refusal of our own (no slot, an open breaker) or a budget that is spent never
takes the place of either. The failed answer that a retry replaces is put aside (`kept.py`). Each failure that was not
tried again, though it was of a kind that is, has its reason: `Exchange.why_not_retried`, and a count in `blocked`.

A body that may have to be sent again is kept as it passes through; one that is larger than `body_buffer` is streamed
like any other. It is rewound before the wait: whatever the client is still sending waits behind what was kept.

The upstream is told the number of the retry (`X-Retry-Attempt`), the client the number of attempts where there was more
than one (`X-Upstream-Attempts`). `total` may end the last attempt: then the answer is its time-out, not what was kept.
"""

import asyncio
from collections.abc import Callable

from sidecar.errors import BreakerOpen, Refused, UpstreamFailed
from sidecar.fate import Fate, WhyNotRetried
from sidecar.message import NO_FIELDS, Allowance, Body, Reply, Request
from sidecar.pipeline.exchange import Exchange
from sidecar.pipeline.kept import Kept
from sidecar.pipeline.stage import Stage
from sidecar.policy.budget import RetryBudget
from sidecar.policy.retry import RetryPolicy, RetrySettings, time_to_keep
from sidecar.policy.retry_after import parse

__all__ = ["RetryStage"]

_ATTEMPT = b"X-Retry-Attempt"
_ATTEMPTS = b"X-Upstream-Attempts"

_GONE = Reply(0, NO_FIELDS)  # in the place of what must not be held any longer


class RetryStage(Stage):
    """Retries, within a budget (None: without one).

    `retried` counts the retries by what made them necessary: a condition, or the status as text. `blocked` counts those
    that were not made, by the reason. `chance` gives random numbers in [0, 1), `wall` the seconds since 1970. `kept`
    bounds what is kept of all request bodies together.
    """

    __slots__ = (
        "_budget",
        "_chance",
        "_kept",
        "_now",
        "_settings",
        "_statuses",
        "_wall",
        "blocked",
        "policy",
        "retried",
    )

    counters = ("retried", "blocked")

    def __init__(
        self,
        settings: RetrySettings,
        budget: RetryBudget | None,
        loop: asyncio.AbstractEventLoop,
        chance: Callable[[], float],
        wall: Callable[[], float],
        *,
        kept: Allowance | None = None,
    ) -> None:
        self._settings = settings
        self.policy = RetryPolicy(settings)
        # After an interim one, a 101 above all, something has begun that cannot be begun again.
        self._statuses = frozenset(status for status in settings.statuses if status >= 200)
        self._budget = budget
        self._now = loop.time
        self._chance = chance
        self._wall = wall
        self._kept = kept
        words = [*sorted(settings.conditions), *map(str, sorted(self._statuses))]
        self.retried: dict[str, int] = dict.fromkeys(words, 0)
        self.blocked: dict[str, int] = dict.fromkeys(WhyNotRetried, 0)

    async def __call__(self, exchange: Exchange) -> Reply:
        """Give the first good reply, or what the last attempt that told something came to.

        Raises:
            RequestError: as the stages inside found.

        """
        exchange.blocked = self.blocked
        began = self._now()
        kept = None if exchange.request.body is None else self._keep(exchange.request)
        failed: Reply | UpstreamFailed | None = None
        try:
            try:
                failed = await self.next(exchange)
            except UpstreamFailed as error:
                failed = error
            # Not before: what was refused on its way has never reached the upstream, and pays for nothing there.
            if self._budget is not None:
                self._budget.deposit(self._now())
            if isinstance(failed, Reply) and failed.status not in self._statuses:
                return failed
            return await self._again(exchange, failed, began)
        finally:
            if kept is not None:
                kept.forget()
            del failed  # an error's traceback leads here: both would live until the next garbage collection

    def _keep(self, request: Request) -> Body | None:
        """Have the body kept if it may have to be sent again. Gives it if it is for us to say when that is over."""
        body = request.body
        if (
            body is None
            or not self.policy.repeatable(request)
            or not body.keep(self._settings.body_buffer, self._kept)
        ):
            return None
        return body

    async def _again(self, exchange: Exchange, failed: Reply | UpstreamFailed, began: float) -> Reply:
        """Go on after a first attempt that `failed`, and began at `began`, for as long as there is reason to."""
        made: list[str] = []  # for each retry, why it was made
        best: Reply | None = None  # the last answer of the upstream that could be put aside whole
        error = failed if isinstance(failed, UpstreamFailed) else None  # the last
        wait = 0.0
        try:
            while True:
                word = self._word(failed)
                planned = None if word is None else self._plan(exchange, failed, len(made) + 1, wait, began)
                if word is None or planned is None:
                    break
                wait = planned
                exchange.waits += ((len(exchange.attempts) + 1, wait),)
                best = await self._wait(exchange, failed, wait) or best
                _mark(exchange.request, len(made) + 1)
                made.append(word)
                exchange.head_at = 0.0  # that head did not go to the client, or not then
                began = self._now()
                try:
                    failed = await self.next(exchange)
                except UpstreamFailed as failure:
                    failed = error = failure
                except Refused as refusal:
                    made.pop()
                    opened = isinstance(refusal, BreakerOpen)
                    self._block(exchange, WhyNotRetried.BREAKER_OPEN if opened else WhyNotRetried.OVERLOAD)
                    if best is None:
                        raise (error or refusal) from None
                    return _counted_here(best)
            if isinstance(failed, UpstreamFailed):
                if best is None:
                    raise failed
                return _counted_here(best)
            if not made:
                return failed
            if failed.status < 500:
                exchange.fate = Fate.OK_AFTER_RETRY
            return _counted_here(failed)
        finally:
            self._leave(exchange, made)
            failed, error = _GONE, None  # as above

    def _word(self, failed: Reply | UpstreamFailed) -> str | None:
        """Give the word for a failure that is worth a retry; None: it is none."""
        if isinstance(failed, UpstreamFailed):
            return self.policy.condition(failed)
        return str(failed.status) if failed.status in self._statuses else None

    def _plan(
        self, exchange: Exchange, failed: Reply | UpstreamFailed, retry: int, previous: float, began: float
    ) -> float | None:
        """Give the seconds to wait before the retry; None: there will be none, and the reason has been noted."""
        request = exchange.request
        body = request.body
        if body is not None and body.error is not None:
            return None  # it is the request that broke
        answer = failed if isinstance(failed, Reply) else None
        why = self.policy.objection(
            request,
            retry,
            sent=failed.sent if isinstance(failed, UpstreamFailed) else True,
            gone=0 if body is None else body.bytes_fed - body.waiting,
            fields=NO_FIELDS if answer is None else answer.fields,
        )
        if why is None:
            now = self._now()
            room = exchange.time_left(now) - time_to_keep(now - began, exchange.total)
            asked = None if answer is None else answer.fields.first(b"retry-after")
            retry_after = None if asked is None else parse(asked, self._wall())
            wait = self.policy.wait(retry, previous, self._chance, retry_after=retry_after, room=room)
            if wait is None:
                why = WhyNotRetried.DEADLINE
            elif self._budget is None or self._budget.withdraw(now):
                return wait
            else:
                why = WhyNotRetried.BUDGET
        self._block(exchange, why)
        return None

    async def _wait(self, exchange: Exchange, failed: Reply | UpstreamFailed, seconds: float) -> Reply | None:
        """Wait, with the request's body rewound. Gives what failed again if it is an answer that came whole by then."""
        body = exchange.request.body
        kept = Kept(failed) if isinstance(failed, Reply) else None
        try:
            if body is not None:
                body.rewind()
            await asyncio.sleep(seconds)
        finally:
            if kept is not None:
                kept.end()
        return None if kept is None else kept.answer()

    def _block(self, exchange: Exchange, why: WhyNotRetried) -> None:
        exchange.why_not_retried = why
        self.blocked[why] += 1

    def _leave(self, exchange: Exchange, made: list[str]) -> None:
        if made:
            _unmark(exchange.request)
            exchange.extra += ((_ATTEMPTS, b"%d" % (len(made) + 1)),)
        for word in made:
            self.retried[word] += 1

    def describe(self) -> str:
        """Name the stage and its settings."""
        settings = self._settings
        text = f"retry {settings.retries}, {settings.strategy} {settings.base:g}s to {settings.max:g}s"
        text += f", jitter {settings.jitter}, on {' '.join(self.retried)}"
        if self._budget is None:
            return text
        budget = self._budget.settings
        return f"{text}, budget {budget.ratio:.4g} of requests + {budget.min_per_second:g}/s in {budget.window:g}s"


def _counted_here(reply: Reply) -> Reply:
    """Take out the upstream's own count of its attempts, for the client gets ours."""
    if reply.fields.first(_ATTEMPTS.lower()) is not None:
        reply.fields = reply.fields.without(_ATTEMPTS.lower())
    return reply


def _mark(request: Request, retry: int) -> None:
    """Tell the upstream which retry this is; of several numbers it could not know which one counts."""
    _unmark(request)
    if request.fields.first(_ATTEMPT.lower()) is not None:
        request.fields = request.fields.without(_ATTEMPT.lower())
    request.extra += ((_ATTEMPT, b"%d" % retry),)


def _unmark(request: Request) -> None:
    request.extra = tuple(field for field in request.extra if field[0] != _ATTEMPT)
