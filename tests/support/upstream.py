"""An upstream that plays a script, and remembers what came to it and how each exchange ended.

    upstream = Upstream(
        answer(200, b"hello", after=2),                     # two seconds later, a whole answer
        fail(Disconnected(), after=1),                      # an error instead
        hang(),                                             # nothing, for ever
        stream([(0, b"one"), (5, b"two")]),                 # a head, then pieces at 0 s and at 5 s, then the end
        stream([(1, b"one")], breaks=Disconnected()),       # a head and a piece, and then it breaks
        then=answer(200),                                   # whatever comes after the script
    )

A step may also be a timetable: what a service does depends on the hour, not on how often it was asked.

    timetable((0, answer(200)), (3600, fail(ConnectFailed())), (7200, answer(200)))

More requests than steps is a mistake in the test, and fails it. Times are seconds of the running loop's clock.
"""

import asyncio
from bisect import bisect_right
from collections import deque
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass, field
from typing import Literal

from sidecar.errors import Disconnected
from sidecar.message import Body, Fields, Headers, Reply
from sidecar.pipeline.exchange import Exchange

__all__ = ["Arrival", "Step", "Upstream", "answer", "fail", "hang", "stream", "timetable"]

Step = Callable[[Exchange, "Arrival"], Awaitable[Reply]]
Ended = Literal["under way", "answered", "failed", "cancelled"]


@dataclass(slots=True)
class Arrival:
    """One exchange as the upstream saw it.

    `ended` tells how the wait for its head ended, at `ended_at`. `closed` holds what its reply was closed with, each
    time that it was: exactly once is right. `dropped` tells that the reply was closed with its body not at its end.
    """

    at: float
    method: bytes
    target: bytes
    ended: Ended = "under way"
    ended_at: float | None = None
    closed: list[BaseException | None] = field(default_factory=list)
    dropped: bool = False


class Upstream:
    """Plays `script` step by step, one step for each exchange, and then `then` for ever."""

    def __init__(self, *script: Step, then: Step | None = None) -> None:
        self._script = deque(script)
        self._then = then
        self.arrivals: list[Arrival] = []

    def __repr__(self) -> str:
        return f"<Upstream: {len(self.arrivals)} arrivals, {len(self._script)} steps to play>"

    @property
    def under_way(self) -> int:
        """How many exchanges hold the upstream now: those without a head, and those with an open reply."""
        return sum(
            arrival.ended == "under way" or (arrival.ended == "answered" and not arrival.closed)
            for arrival in self.arrivals
        )

    async def __call__(self, exchange: Exchange) -> Reply:
        """Play the next step."""
        loop = asyncio.get_running_loop()
        arrival = Arrival(loop.time(), exchange.request.method, exchange.request.target)
        self.arrivals.append(arrival)
        step = self._script.popleft() if self._script else self._then
        assert step is not None, f"request {len(self.arrivals)} comes after the end of the script"
        try:
            reply = await step(exchange, arrival)
        except asyncio.CancelledError:
            arrival.ended, arrival.ended_at = "cancelled", loop.time()
            raise
        except BaseException:
            arrival.ended, arrival.ended_at = "failed", loop.time()
            raise
        arrival.ended, arrival.ended_at = "answered", loop.time()
        reply.on_close(arrival.closed.append)
        return reply


def answer(status: int = 200, body: bytes = b"", *, headers: Headers | None = None, after: float = 0) -> Step:
    """Answer whole, `after` seconds from now. A HEAD, and a status that has none, gets no body."""

    async def step(exchange: Exchange, arrival: Arrival) -> Reply:
        await _wait(after)
        bodiless = exchange.request.method == b"HEAD" or status in (204, 304)
        fields = [*(headers or []), (b"Content-Length", b"%d" % len(body))]
        reply = Reply(status, Fields(fields), None if bodiless else body)
        reply.length = len(body)
        return reply

    return step


def fail(error: BaseException, *, after: float = 0) -> Step:
    """Raise `error`, `after` seconds from now."""

    async def step(exchange: Exchange, arrival: Arrival) -> Reply:
        await _wait(after)
        raise error

    return step


def hang() -> Step:
    """Never answer."""

    async def step(exchange: Exchange, arrival: Arrival) -> Reply:
        await asyncio.get_running_loop().create_future()
        raise AssertionError("unreachable")

    return step


def stream(
    pieces: Iterable[tuple[float, bytes]],
    *,
    status: int = 200,
    headers: Headers | None = None,
    after: float = 0,
    breaks: BaseException | None = None,
) -> Step:
    """Answer with a head `after` seconds from now, and then with pieces, each at its time from the head.

    After the last piece the body ends, or breaks with `breaks`. While the drain has paused the body nothing comes;
    what is late then follows at once when it goes on.
    """
    pieces = list(pieces)

    async def step(exchange: Exchange, arrival: Arrival) -> Reply:
        await _wait(after)
        loop = asyncio.get_running_loop()
        feed = _Feed(loop, pieces, breaks, arrival)
        reply = Reply(status, Fields(headers or []), feed.body)
        reply.on_close(feed.close)
        feed.start()
        return reply

    return step


def timetable(*hours: tuple[float, Step]) -> Step:
    """Do what stands at the last of `hours` (from, step) that has begun. The first must begin at 0."""
    begins = [hour for hour, _ in hours]
    assert begins == sorted(begins)
    assert begins[0] == 0

    async def step(exchange: Exchange, arrival: Arrival) -> Reply:
        _, present = hours[bisect_right(begins, asyncio.get_running_loop().time()) - 1]
        return await present(exchange, arrival)

    return step


async def _wait(seconds: float) -> None:
    """Wait as one waits for a connection: on a future that a callback of the loop resolves."""
    if not seconds:
        return
    loop = asyncio.get_running_loop()
    come: asyncio.Future[None] = loop.create_future()
    timer = loop.call_later(seconds, _resolve, come)
    try:
        await come
    finally:
        timer.cancel()


def _resolve(come: "asyncio.Future[None]") -> None:
    if not come.done():
        come.set_result(None)


class _Feed:
    """Feeds one body by the clock, as a connection does: not while it is paused, and no more once it is closed."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        pieces: list[tuple[float, bytes]],
        breaks: BaseException | None,
        arrival: Arrival,
    ) -> None:
        self._loop = loop
        self._begun = loop.time()
        self._pieces = deque(pieces)
        self._breaks = breaks
        self._arrival = arrival
        self._timer: asyncio.TimerHandle | None = None
        self.body = Body(loop.time)
        self.body.on_resume = self.start

    def start(self) -> None:
        """Set the timer of the next piece, or end."""
        if self._timer is not None or self.body.finished or self.body.error is not None:
            return
        due = self._begun + self._pieces[0][0] if self._pieces else self._loop.time()
        self._timer = self._loop.call_at(due, self._next)

    def _next(self) -> None:
        self._timer = None
        if self.body.paused:
            return
        if self._pieces:
            self.body.feed(self._pieces.popleft()[1])
            if not self.body.paused:
                self.start()
        elif self._breaks is not None:
            self.body.fail(self._breaks)
        else:
            self.body.finish()

    def close(self, error: BaseException | None) -> None:
        """Stop feeding, as a connection that is aborted does."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if not self.body.finished and self.body.error is None:
            self._arrival.dropped = True
            self.body.discard()
            self.body.fail(Disconnected("closed", head_seen=True))
