"""What travels: a `Request`, a `Reply`, and a `Body` between two connections. No sockets, no policy.

Bytes stay bytes. A header section is a `Fields`: its `(name, value)` pairs in the order, the case and the repetition of
the wire (values without the optional white space around them, RFC 9110 §5.5), and the same as the bytes to write. It
never changes, so one object can serve every message that has the same section. What is added on the way stands in
`extra`; whoever must change more replaces the `Fields`.

A `Body` is a bounded stream with back-pressure, *pushed*: whoever receives bytes calls `feed`, and once a sink is
attached each piece goes straight through to it, in the same call, so a piece costs no task switch and an event stream
is flushed as it comes. A sink that cannot keep up calls `pause`, which stops the socket at the other end.

    fed by a connection:   feed(data)* → finish(trailers) | fail(error)
    drained by one owner:  pipe(sink, on_end), or `await read()` in a loop, or take_whole(), or discard()

A `Reply` owns what its request holds (slots, permits, a connection). Everything registered with `on_close` runs
exactly once, last registered first, when the body has ended or the reply is dropped: verdicts are settled at the head,
what is held is released with the body.
"""

import asyncio
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from http import HTTPStatus
from typing import Any

__all__ = [
    "HIGH_WATER",
    "IDEMPOTENT",
    "NO_FIELDS",
    "Allowance",
    "Body",
    "Fields",
    "Headers",
    "Reply",
    "Request",
    "phrase",
    "serialise",
]

Headers = list[tuple[bytes, bytes]]
Pairs = tuple[tuple[bytes, bytes], ...]
Sink = Callable[[bytes], None]

# How much of a body may wait in memory for a reader that is not attached yet. With a sink attached nothing waits here.
HIGH_WATER = 64 * 1024

# RFC 9110 §9.2.2; repeating one of these has the effect of sending it once.
IDEMPOTENT = frozenset({b"GET", b"HEAD", b"OPTIONS", b"TRACE", b"PUT", b"DELETE"})


def serialise(headers: Iterable[tuple[bytes, bytes]]) -> bytes:
    """Give field lines as they are written, each with its CRLF."""
    return b"".join([b"%b: %b\r\n" % field for field in headers])


# Where Python's table depends on its version or follows an older RFC: RFC 9110 §15.5.14, §15.5.17, §15.5.21.
_PHRASES = {413: "Content Too Large", 416: "Range Not Satisfiable", 422: "Unprocessable Content"}


def phrase(status: int) -> str:
    """Give the reason phrase of a status, "" where it has none."""
    try:
        return _PHRASES.get(status) or HTTPStatus(status).phrase
    except ValueError:
        return ""


class Fields:
    """One header section: `pairs` to read, `wire` to write. Never changed once made."""

    __slots__ = ("pairs", "wire")

    def __init__(self, headers: Iterable[tuple[bytes, bytes]]) -> None:
        self.pairs: Pairs = tuple(headers)
        self.wire = serialise(self.pairs)

    def __repr__(self) -> str:
        """Show the pairs."""
        return f"Fields({list(self.pairs)!r})"

    def values(self, name: bytes) -> list[bytes]:
        """Give every value of the field `name` (lower case), in order."""
        return [value for key, value in self.pairs if key.lower() == name]

    def first(self, name: bytes) -> bytes | None:
        """Give the first value of the field `name` (lower case), or None."""
        for key, value in self.pairs:
            if key.lower() == name:
                return value
        return None

    def without(self, *names: bytes) -> "Fields":
        """Give the section without the fields called any of `names` (lower case)."""
        return Fields(pair for pair in self.pairs if pair[0].lower() not in names)


NO_FIELDS = Fields(())


class Allowance:
    """How many bytes may be kept in all, of all bodies together. `left` is what nobody has taken."""

    __slots__ = ("left",)

    def __init__(self, size: int) -> None:
        self.left = size

    def take(self, size: int) -> bool:
        """Take so many bytes. False: there are not so many left, and nothing was taken."""
        if size > self.left:
            return False
        self.left -= size
        return True


class Body:
    """One body under way. `moved_at` is the time of the last sign of life, read from `clock`.

    `limit` bounds its size in bytes; past it the body fails with what `on_limit` gives.

    A body that may have to be sent again is told to `keep` what passes through it, up to so many bytes, and up to what an
    `Allowance` has left for all such bodies; `rewind` then puts it all back in front, for another drain. It goes through
    while it is kept, so a body larger than that is streamed like any other, and simply cannot be rewound.
    """

    __slots__ = (
        "_allowance",
        "_claimed",
        "_clock",
        "_keep",
        "_kept",
        "_kept_size",
        "_on_end",
        "_pieces",
        "_sink",
        "_waiter",
        "began_at",
        "bytes_fed",
        "error",
        "finished",
        "held",
        "hidden",
        "idle",
        "limit",
        "moved_at",
        "on_limit",
        "on_pause",
        "on_resume",
        "paused",
        "trailers",
        "waiting",
    )

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._pieces: deque[bytes] = deque()
        self._sink: Sink | None = None
        self._waiter: asyncio.Future[None] | None = None
        self._on_end: Callable[[BaseException | None], None] | None = None
        self.waiting = 0  # bytes held here
        self.bytes_fed = 0
        self.finished = False
        self.error: BaseException | None = None
        self.trailers: Headers = []
        self.hidden: tuple[
            bytes, ...
        ] = ()  # names (lower case) of trailers that whoever drains it shall not pass on
        self.paused = False
        self.held = False  # the drain itself asked for the pause and will say when to go on
        self.on_pause: Callable[[], None] | None = None
        self.on_resume: Callable[[], None] | None = None
        self.limit: int | None = None
        self.on_limit: Callable[[], BaseException] | None = None
        self.idle: float | None = None  # the longest stand-still that is allowed, in seconds
        self._kept: list[bytes] | None = None  # what has passed through, while it may be asked for again
        self._kept_size = 0
        self._keep = 0  # how many bytes may be kept
        self._allowance: Allowance | None = None
        self._claimed = 0  # of the allowance; what was rewound is still there, and so still counted
        self.began_at = self.moved_at = clock()

    def __repr__(self) -> str:
        """Tell the live state in one line."""
        state = f"failed: {self.error!r}" if self.error else "finished" if self.finished else "open"
        return f"<Body {state}, {self.bytes_fed} bytes fed, {self.waiting} waiting{', paused' * self.paused}>"

    # --- the side that feeds ---

    def feed(self, data: bytes) -> None:
        """Take a piece. It is dropped after the end or a failure, and when it is empty, which would look like the end."""
        if self.finished or self.error is not None or not data:
            return
        self.bytes_fed += len(data)
        self.moved_at = self._clock()
        if self.limit is not None and self.bytes_fed > self.limit and self.on_limit is not None:
            self.fail(self.on_limit())
            return
        if self._sink is not None:
            if self._kept is not None:
                self._remember(data)
            self._sink(data)
            return
        self._pieces.append(data)
        self.waiting += len(data)
        if self.waiting > HIGH_WATER:
            self.pause()
        self._wake()

    @property
    def shown_trailers(self) -> Headers:
        """The trailers that go on; complete once it has finished."""
        if not self.hidden or not self.trailers:
            return self.trailers
        return [pair for pair in self.trailers if pair[0].lower() not in self.hidden]

    def finish(self, trailers: Headers | None = None) -> None:
        """Say that the body is whole."""
        if self.finished or self.error is not None:
            return
        self.finished = True
        if trailers:
            self.trailers = trailers
        self.moved_at = self._clock()
        self._wake()
        self._settle()

    def fail(self, error: BaseException) -> None:
        """Say that the rest will never come. The first end counts: a finished body cannot fail any more."""
        if self.finished or self.error is not None:
            return
        self.error = error
        self._pieces.clear()
        self.waiting = 0
        self._wake()
        self._settle()

    # --- the side that drains ---

    def pipe(self, sink: Sink, on_end: Callable[[BaseException | None], None]) -> None:
        """Hand everything held, and from now on every piece as it comes, to `sink`.

        `on_end` is called once, with None when the last piece has gone through, else with what `fail` was given.
        """
        self._sink = sink
        self._on_end = on_end
        while self._pieces and self._sink is sink:
            piece = self._pieces.popleft()
            self.waiting -= len(piece)
            if self._kept is not None:
                self._remember(piece)
            sink(piece)
        if self.paused and self._sink is sink and not self.held:
            self.resume()
        self._settle()

    def detach(self) -> None:
        """Stop draining: what comes from now on waits here, and stops the sender when there is much of it."""
        self._sink = None
        self._on_end = None
        self.held = False

    def take_whole(self) -> bytes | None:
        """Give the body at once if it is all here and nobody has begun to drain it, else None."""
        if not self.finished or self._sink is not None or self.trailers or self.waiting != self.bytes_fed:
            return None
        whole = self._pieces[0] if len(self._pieces) == 1 else b"".join(self._pieces)
        self._pieces.clear()
        self.waiting = 0
        if self._kept is not None and whole:
            self._remember(whole)
        return whole

    def discard(self) -> None:
        """Drop what is held and what still comes."""
        self._pieces.clear()
        self.waiting = 0
        self._sink = _drop
        self._on_end = None
        self.held = False
        self.resume()

    def keep(self, most: int, allowance: Allowance | None = None) -> bool:
        """Begin, before anything was drained, to keep what goes to whoever drains, up to `most` bytes.

        False: somebody further out keeps it already, who is also the one to `forget` it.
        """
        if self._kept is not None:
            self._keep = max(self._keep, most)
            return False
        self._kept = []
        self._kept_size = 0
        self._keep = most
        self._allowance = allowance
        return True

    def rewind(self) -> bool:
        """Put back what was kept, for a drain that begins at the first byte. False: it is not all here any more.

        The drain before must have let go (`detach`), or have got everything.
        """
        kept = self._kept
        if kept is None or self.error is not None:
            return False
        self._sink = self._on_end = None
        self.held = False
        self._kept = []
        self._pieces.extendleft(reversed(kept))
        self.waiting += self._kept_size
        self._kept_size = 0
        return True

    def forget(self) -> None:
        """Keep nothing any more."""
        self._kept = None
        if self._allowance is not None:
            self._allowance.left += self._claimed
            self._allowance = None
        self._claimed = 0

    def _remember(self, data: bytes) -> None:
        kept = self._kept
        assert kept is not None  # noqa: S101 -- the callers have looked
        self._kept_size = size = self._kept_size + len(data)
        more = size - self._claimed
        if size > self._keep or (more > 0 and self._allowance is not None and not self._allowance.take(more)):
            self.forget()
            return
        self._claimed = max(self._claimed, size)
        kept.append(data)

    async def read(self) -> bytes:
        """Give the next piece, b"" at the end.

        Raises:
            BaseException: what `fail` was called with.

        """
        while not self._pieces:
            if self.error is not None:
                raise self.error
            if self.finished:
                return b""
            self._waiter = asyncio.get_running_loop().create_future()
            try:
                await self._waiter
            finally:
                self._waiter = None
        piece = self._pieces.popleft()
        self.waiting -= len(piece)
        if self._kept is not None:
            self._remember(piece)
        if self.paused and self.waiting <= HIGH_WATER // 2:
            self.resume()
        return piece

    def hold(self) -> None:
        """Say, as the drain, that no more can be taken for now."""
        self.held = True
        self.pause()

    def release(self) -> None:
        """Say, as the drain, that more can be taken."""
        self.held = False
        self.resume()

    def pause(self) -> None:
        """Ask the feeding side to stop reading. Asking twice is asking once."""
        if not self.paused:
            self.paused = True
            if self.on_pause is not None:
                self.on_pause()

    def resume(self) -> None:
        """Let the feeding side read on. It is a sign of life: the drain has moved."""
        self.moved_at = self._clock()
        if self.paused:
            self.paused = False
            if self.on_resume is not None:
                self.on_resume()

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    def _settle(self) -> None:
        on_end = self._on_end
        if on_end is None:
            return
        if self.error is not None or (self.finished and not self._pieces):
            self._on_end = None
            on_end(self.error)


def _drop(data: bytes) -> None:
    pass


class Request:
    """One request, ready to be forwarded: what must not travel on is already gone from `fields`.

    `target` goes upstream byte for byte; `path` is its part before `?`. `length` is the announced Content-Length, None
    where the body is chunked or there is none (`body` tells). `tail` is what the wire vouches for, as bytes to write
    after `fields`; `extra` is for the stages to add to. `informational` relays an interim (1xx) response; None where the
    client must not get any (HTTP/1.0).

    A plain class with defaults on it: what a request does not have costs it nothing to set.
    """

    body: Body | None = None
    length: int | None = None
    task: "asyncio.Task[Any] | None" = None  # that answers it; whoever bounds it by time cancels this
    client = ""
    host = b""
    keep_alive = True
    expects_continue = False
    upgrade: bytes | None = None
    max_forwards: int | None = None
    request_id = b""
    tail = b""
    extra: tuple[tuple[bytes, bytes], ...] = ()
    informational: "Callable[[int, bytes, Fields], None] | None" = None
    cut: BaseException | None = None  # why we ourselves cancelled the task; None: the client did, by leaving

    def __init__(self, method: bytes, target: bytes, fields: Fields, minor: int = 1) -> None:
        self.method = method
        self.target = target
        self.path = target.partition(b"?")[0] if 63 in target else target  # 63 is "?"; most targets have none
        self.fields = fields
        self.minor = minor

    def __repr__(self) -> str:
        """Tell what is asked for in one line."""
        return f"<Request {self.method.decode('latin-1')} {self.target.decode('latin-1')}>"


Closer = Callable[[BaseException | None], None]


class Reply:
    """One response on its way back.

    `body` is the whole payload as bytes, a `Body` that is still arriving, or None where there is none by definition
    (HEAD, 1xx, 204, 304). `length` is the Content-Length that stands in `fields`, None where none does. `idle` is the
    longest stand-still of the body that is allowed, `lifetime` the longest time it may take, in seconds. `tunnel` is the
    upstream's side after a 101. `extra` is for the stages to add fields to.
    """

    length: int | None = None
    trailers: Sequence[tuple[bytes, bytes]] = ()
    idle: float | None = None
    lifetime: float | None = None
    tunnel: object | None = None
    extra: tuple[tuple[bytes, bytes], ...] = ()
    reason = b""
    _closers: tuple[Closer, ...] = ()

    def __init__(self, status: int, fields: Fields, body: bytes | Body | None = None) -> None:
        self.status = status
        self.fields = fields
        self.body = body

    def __repr__(self) -> str:
        """Tell the live state in one line."""
        return f"<Reply {self.status} body={self.body!r:.60}>"

    def on_close(self, closer: Closer) -> None:
        """Register what happens when the reply is over. `closer` gets the error that broke it, or None."""
        self._closers += (closer,)

    def close(self, error: BaseException | None = None) -> None:
        """End the reply: run every closer once, the last registered first. Calling again does nothing.

        A closer that fails does not keep the others from running; the first failure is raised at the end.
        """
        failure: BaseException | None = None
        closers, self._closers = self._closers, ()
        for closer in closers[::-1]:
            try:
                closer(error)
            except Exception as fault:  # noqa: BLE001 -- the other closers still have slots to give back
                failure = failure or fault
        if failure is not None:
            raise failure
