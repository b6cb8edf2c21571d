"""The fallback ladder around cache, deadline and retry: it sees the final reason, and serves the first step that can.

Every answer from here says so: `X-System-Degraded: true`, `X-Fallback-Source`, and in `Proxy-Status` what went wrong,
with the word that would have been the request's fate. The record keeps the error. A reply that is replaced is closed at
once, so that its slot and its connection are free. Where no step delivers, what was there goes on unchanged; a step that
fails costs the client nothing but its time.

The total deadline lies inside and is over by now. Asking another upstream takes time of its own, bounded by the step.
"""

from collections.abc import Awaitable, Callable, Sequence

from sidecar.errors import RequestError
from sidecar.message import Allowance, Body, Reply
from sidecar.pipeline.exchange import Exchange
from sidecar.pipeline.stage import Stage
from sidecar.pipeline.stages.ladder import Failure, Ladder, OtherStep, make_step
from sidecar.policy.fallback import (
    CAUSES,
    SERVER_ERROR,
    FallbackStep,
    Mock,
    Redirect,
    Stale,
    Static,
    Upstream,
    cause_of,
)

__all__ = ["FallbackStage"]


class FallbackStage(Stage):
    """Serves what stands in for a failure. `used` counts by (source, cause); the steps are asked in their order.

    `body_buffer` is how many bytes of a request body are kept for an upstream that is asked instead; `kept` bounds them
    over all requests. `on_fault` is told of exceptions in a step that nobody foresaw.
    """

    __slots__ = ("_allowance", "_body_buffer", "_on_fault", "_resend", "steps", "used")

    counters = ("used",)

    def __init__(
        self,
        steps: Sequence[FallbackStep],
        ladder: Ladder,
        on_fault: Callable[[Exchange, Exception], None],
        *,
        body_buffer: int = 1 << 20,
        kept: Allowance | None = None,
    ) -> None:
        self.steps = tuple([make_step(step, ladder) for step in steps])
        self.used: dict[tuple[str, str], int] = {
            (step.source, cause): 0 for step in steps for cause in CAUSES if cause in step.when
        }
        self._on_fault = on_fault
        self._body_buffer = body_buffer
        self._allowance = kept
        self._resend: frozenset[bytes] = frozenset().union(
            *[step.methods for step in steps if isinstance(step, Upstream)]
        )

    def count_on(self, before: Stage) -> None:
        """Go on counting, also for the upstreams that are asked instead."""
        super().count_on(before)
        if isinstance(before, FallbackStage):
            theirs = {
                step.settings.name: step.attempt for step in before.steps if isinstance(step, OtherStep)
            }
            for step in self.steps:
                if isinstance(step, OtherStep) and step.settings.name in theirs:
                    step.attempt.count_on(theirs[step.settings.name])

    def __call__(self, exchange: Exchange) -> Awaitable[Reply]:
        """Give the reply of the rest of the pipeline, or what stands in for it.

        Raises:
            RequestError: there was no reply, and no step that delivers.

        """
        body = exchange.request.body
        if body is None or exchange.request.method not in self._resend:
            return self._answer(exchange)
        return self._keeping(exchange, body)

    async def _keeping(self, exchange: Exchange, body: Body) -> Reply:
        """Answer, and meanwhile keep the body for an upstream that may be asked instead."""
        ours = body.keep(self._body_buffer, self._allowance)
        try:
            return await self._answer(exchange)
        finally:
            if ours:
                body.forget()

    async def _answer(self, exchange: Exchange) -> Reply:
        # The steps are gone down after the `except`, not in it: a compiled coroutine must not wait while it handles one.
        reply: Reply | None = None
        try:
            reply = await self.next(exchange)
        except RequestError as error:
            cause = cause_of(error)
            if cause is None:
                raise
            failure = Failure(cause, error=error)
        else:
            if reply.status < 500:
                return reply
            failure = Failure(SERVER_ERROR, reply=reply)
        instead = await self._ask(exchange, failure) or reply
        if instead is None and failure.error is not None:
            raise failure.error
        assert instead is not None  # noqa: S101 -- a failure is an error or a reply
        return instead

    async def _ask(self, exchange: Exchange, failure: Failure) -> Reply | None:
        """Go down the steps. Whoever leaves meanwhile takes the failed reply along."""
        try:
            return await self._first(exchange, failure)
        except BaseException:
            if failure.reply is not None:
                failure.reply.close()
            raise

    async def _first(self, exchange: Exchange, failure: Failure) -> Reply | None:
        method = exchange.request.method
        for step in self.steps:
            if not step.settings.applies(failure.cause, method):
                continue
            try:
                reply = await step.reply(exchange, failure)
            except RequestError:
                continue
            except Exception as fault:  # noqa: BLE001 -- isolation: the steps after it may still deliver
                self._on_fault(exchange, fault)
                continue
            if reply is not None:
                return self._instead(exchange, failure, reply, step.settings)
        return None

    def _instead(self, exchange: Exchange, failure: Failure, reply: Reply, step: FallbackStep) -> Reply:
        source = step.source
        reply.extra += (
            (b"X-System-Degraded", b"true"),
            (b"X-Fallback-Source", source.encode()),
            (b"Proxy-Status", failure.proxy_status),
        )
        exchange.fate = step.fate
        if failure.error is not None:
            # Its traceback leads back to the exchange: both would live until the next garbage collection.
            exchange.error = failure.error.with_traceback(None)
        self.used[source, failure.cause] += 1
        if failure.reply is not None:
            self._drop(exchange, failure.reply)
        return reply

    def _drop(self, exchange: Exchange, failed: Reply) -> None:
        try:
            failed.close()
        except Exception as fault:  # noqa: BLE001 -- isolation: there is an answer, and the client gets it
            self._on_fault(exchange, fault)

    def describe(self) -> str:
        """Name the stage and its steps in their order."""
        return "fallback " + " → ".join(_describe(step.settings) for step in self.steps)


def _describe(step: FallbackStep) -> str:
    match step:
        case Stale():
            return f"stale up to {step.max_age:g}s"
        case Static() | Mock():
            return f"{step.source} {step.status}"
        case Upstream():
            return f"upstream {step.name} within {step.timeout:g}s"
        case Redirect():
            return f"redirect {step.status}"
