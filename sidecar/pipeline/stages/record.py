"""The outermost stage: whatever happens inside, the client gets an answer and the request exactly one fate.

Here errors become replies, an unforeseen exception becomes this one request's 500 (and nobody else's), every answer
gets its `X-Request-ID` and what the stages have to say on it (`Exchange.extra`), and the exchange is told its end,
through the reply's closers, when the body is over.
"""

import asyncio
from collections.abc import Callable

from sidecar.errors import ClientGone, Internal, RequestError
from sidecar.fate import Fate
from sidecar.message import Reply
from sidecar.pipeline.answers import Answers
from sidecar.pipeline.exchange import Exchange
from sidecar.pipeline.stage import Stage

__all__ = ["RecordStage"]


_OK = Fate.OK  # read for each request: a global is quicker than a member of an Enum


class RecordStage(Stage):
    """Settles what a request came to. `on_fault` is told of exceptions that nobody foresaw."""

    __slots__ = ("_answers", "_on_fault")

    def __init__(self, answers: Answers, on_fault: Callable[[Exchange, Exception], None]) -> None:
        self._answers = answers
        self._on_fault = on_fault

    async def __call__(self, exchange: Exchange) -> Reply:
        """Give the reply of the pipeline, or the one that explains why there is none."""
        try:
            reply = await self.next(exchange)
        except RequestError as error:
            # Its traceback holds the frames that hold the exchange, which holds it: a ring that only the collector opens.
            return self._explain(exchange, error.with_traceback(None))
        except asyncio.CancelledError:
            cut = exchange.request.cut
            if isinstance(cut, RequestError) and exchange.current_task().uncancel() == 0:
                return self._explain(
                    exchange, cut
                )  # it was we who cancelled, and the client is there to be told
            gone = ClientGone()
            exchange.status = gone.status
            exchange.finish(gone)
            raise
        except Exception as fault:  # noqa: BLE001 -- isolation: a fault is this request's alone
            self._on_fault(exchange, fault)
            return self._explain(exchange, Internal(type(fault).__name__))
        reply.extra += ((b"X-Request-ID", exchange.request.request_id), *exchange.extra)
        fate = exchange.fate
        if fate is None:
            fate = _OK if reply.status < 500 else Fate.UPSTREAM_STATUS
        exchange.answer(reply, fate)
        return reply

    def _explain(self, exchange: Exchange, error: RequestError) -> Reply:
        exchange.error = error
        reply = self._answers.for_error(error, exchange.request, exchange.route)
        reply.extra += exchange.extra
        exchange.answer(reply, error.fate)
        return reply

    def describe(self) -> str:
        """Name the stage."""
        return "record"
