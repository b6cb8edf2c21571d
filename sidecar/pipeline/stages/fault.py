"""Fault injection, the innermost stage: to everything outside it, what it does looks like the upstream's own doing.

An attempt is hit or not, once each (`policy/fault.py`). Every answer to a request that was hit says so in
`X-Fault-Injected`, with what was done to its attempts: `delay`, `abort`, `reset`, `truncate`.

A truncated body breaks when there is more of it than `truncate` bytes; a shorter one passes whole. Its length is
announced as it was, and its client's connection is reset: it must not take what it got for the whole. As with a
connection that really breaks, what was under way to the client then may be lost, so it gets that many bytes at most.
Where the length is not known at the head, the field is there although nothing may come of it; `injected` and the record
(`Exchange.fault`) tell what did.
"""

import asyncio
from collections.abc import Awaitable, Callable

from sidecar.dates import http_date
from sidecar.errors import Disconnected
from sidecar.message import Body, Fields, Reply
from sidecar.pipeline.exchange import Exchange
from sidecar.pipeline.stage import Stage
from sidecar.policy.fault import KINDS, FaultSettings, is_hit

__all__ = ["FaultStage"]

_FIELD = b"X-Fault-Injected"
_TEXT = b"A fault was injected here on purpose.\n"
_NO_CONTENT = frozenset(
    {204, 304}
)  # RFC 9110 §6.4.1: these never have any; a 205 has, and none of it (§15.3.6)


class FaultStage(Stage):
    """Does to some attempts what a bad upstream would. `injected` counts by kind."""

    __slots__ = ("_chance", "_loop", "_settings", "injected")

    counters = ("injected",)

    def __init__(
        self, settings: FaultSettings, loop: asyncio.AbstractEventLoop, chance: Callable[[], float]
    ) -> None:
        self._settings = settings
        self._loop = loop
        self._chance = chance
        self.injected: dict[str, int] = dict.fromkeys(KINDS, 0)

    def __call__(self, exchange: Exchange) -> Awaitable[Reply]:
        """Draw, and go on or do harm."""
        if is_hit(self._settings, exchange.request, self._chance()):
            return self._harm(exchange)
        return self.next(exchange)

    async def _harm(self, exchange: Exchange) -> Reply:
        settings = self._settings
        if settings.delay is not None:
            self._mark(exchange, "delay")
            self._note(exchange, "delay")
            await asyncio.sleep(settings.delay)
        if settings.abort is not None:
            self._mark(exchange, "abort")
            self._note(exchange, "abort")
            return _aborted(settings.abort, exchange.request.method)
        if settings.reset:
            self._mark(exchange, "reset")
            self._note(exchange, "reset")
            raise Disconnected("injected", sent=True)
        reply = await self.next(exchange)
        if settings.truncate is not None and reply.body is not None and _may_exceed(reply, settings.truncate):
            self._mark(exchange, "truncate")
            clock = self._loop.time
            body = _streamed(reply.body, clock) if isinstance(reply.body, bytes) else reply.body
            reply.body = _Cut(body, settings.truncate, clock, lambda: self._note(exchange, "truncate")).outer
        return reply

    def _mark(self, exchange: Exchange, kind: str) -> None:
        """Have the answer say so: in one field, whatever the number of attempts."""
        kinds = [value for name, value in exchange.extra if name == _FIELD]
        others = [pair for pair in exchange.extra if pair[0] != _FIELD]
        if not any(kind.encode() in value.split(b", ") for value in kinds):
            kinds.append(kind.encode())
        exchange.extra = (*others, (_FIELD, b", ".join(kinds)))

    def _note(self, exchange: Exchange, kind: str) -> None:
        """Count what was done, and have the record say so: whoever reads it must not blame the upstream."""
        self.injected[kind] += 1
        noted = exchange.fault
        if noted is None:
            exchange.fault = kind
        elif kind not in noted.split(", "):
            exchange.fault = f"{noted}, {kind}"

    def describe(self) -> str:
        """Name the stage and what it does."""
        settings = self._settings
        what = [f"delay {settings.delay:g}s"] if settings.delay is not None else []
        if settings.abort is not None:
            what.append(f"abort {settings.abort}")
        elif settings.reset:
            what.append("reset")
        elif settings.truncate is not None:
            what.append(f"truncate to {settings.truncate} bytes")
        gate = ""
        if settings.header is not None:
            name, value = settings.header
            wanted = b"" if value is None else b": " + value
            gate = f" with {(name + wanted).decode('latin-1')}"
        return f"fault {', '.join(what)} for {settings.percent:g}%{gate}"


def _aborted(status: int, method: bytes) -> Reply:
    """Give the answer in the upstream's place. Nobody may keep it."""
    fields = [(b"Date", http_date()), (b"Cache-Control", b"no-store")]
    if status in _NO_CONTENT:
        return Reply(status, Fields(fields), None)
    text = b"" if status == 205 else _TEXT
    fields += [(b"Content-Type", b"text/plain"), (b"Content-Length", b"%d" % len(text))]
    reply = Reply(status, Fields(fields), None if method == b"HEAD" else text)
    reply.length = len(text)
    return reply


def _may_exceed(reply: Reply, most: int) -> bool:
    if isinstance(reply.body, bytes):
        return len(reply.body) > most
    return reply.length is None or reply.length > most


def _streamed(data: bytes, clock: Callable[[], float]) -> Body:
    """Give `data`, longer than what will be passed on of it, as a body: its end is never reached."""
    body = Body(clock)
    body.feed(data)
    return body


class _Cut:
    """Passes `most` bytes of a body on to `outer`, which then breaks; `on_cut` hears of it.

    Back-pressure goes through: whoever drains `outer` slowly slows down what feeds the body inside.
    """

    __slots__ = ("_inner", "_left", "_on_cut", "outer")

    def __init__(
        self, inner: Body, most: int, clock: Callable[[], float], on_cut: Callable[[], None]
    ) -> None:
        self._inner = inner
        self._left = most
        self._on_cut = on_cut
        self.outer = Body(clock)
        self.outer.on_pause = inner.hold
        self.outer.on_resume = inner.release
        inner.pipe(self._pass, self._end)

    def _pass(self, piece: bytes) -> None:
        outer = self.outer
        if len(piece) <= self._left:
            self._left -= len(piece)
            outer.feed(piece)
            return
        self._inner.detach()
        outer.feed(piece[: self._left])
        self._on_cut()
        outer.on_pause = None
        outer.on_resume = self._break
        if outer.waiting or outer.paused:
            outer.pause()  # what is held must get out first: a failure drops it
        else:
            self._break()

    def _break(self) -> None:
        """Fail, unless something is held still: then the drain, as it moves on, comes here again."""
        if self.outer.waiting:
            self.outer.pause()
        else:
            self.outer.fail(Disconnected("injected", head_seen=True))

    def _end(self, error: BaseException | None) -> None:
        if error is not None:
            self.outer.fail(error)
        else:
            self.outer.finish(self._inner.trailers)
