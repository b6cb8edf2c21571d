"""A scripted upstream on a real socket: records exactly what it got and plays back exact bytes.

    upstream.play(ok(b"one"))                         the next request, when whole, is answered
    upstream.play(b"HTTP/1.1 200", b" OK\\r\\n", …)     in pieces that arrive one by one
    upstream.play(CONTINUE, body_read, ok())          a step may be an action; `early=True` begins at the head
    upstream.play(ok(), close)

Scripts are taken in the order in which requests arrive, whatever the connection. Without a script a request gets `ok()`.
What h11 refuses to read is in `malformed`, and every test ends with a look at it: nothing malformed ever goes upstream.
"""

import asyncio
import socket
import struct
from collections import deque
from collections.abc import Awaitable, Callable
from contextlib import suppress

import h11

from tests.wire.judge import Received, RequestReader

__all__ = [
    "Conn",
    "Hold",
    "Pause",
    "Upstream",
    "body_read",
    "close",
    "eventually",
    "fin",
    "gone",
    "ok",
    "reset",
    "settle",
    "until",
]


async def settle() -> None:
    """Let everything that is ready on this loop happen, so that what was just sent is read before more is sent."""
    for _ in range(3):
        await asyncio.sleep(0)


async def eventually(true: Callable[[], object], within: float = 5.0) -> None:
    """Wait until `true()`; fail when it does not become so."""
    try:
        async with asyncio.timeout(within):
            while not true():  # noqa: ASYNC110 -- what is waited for sets no event
                await asyncio.sleep(0.001)
    except TimeoutError:
        raise AssertionError("it did not come true in time") from None


def ok(body: bytes = b"ok", fields: bytes = b"") -> bytes:
    """Give a plain 200 with `body`; `fields` as they are written."""
    return b"HTTP/1.1 200 OK\r\nDate: Sat, 01 Jan 2000 00:00:00 GMT\r\n%bContent-Length: %d\r\n\r\n%b" % (
        fields,
        len(body),
        body,
    )


class Conn:
    """One connection that the sidecar opened. `raw` is all that came on it; `ended` how it ended: "fin" or "reset"."""

    def __init__(
        self, upstream: "Upstream", reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        self.upstream = upstream
        self.reader = reader
        self.writer = writer
        self.raw = bytearray()
        self.ended = ""
        self.request = RequestReader()

    async def receive(self) -> bytes:
        """Read what is there; b"" once the connection has ended."""
        if self.ended:
            return b""
        try:
            data = await self.reader.read(65536)
        except ConnectionError:
            self.ended = "reset"
            return b""
        if not data:
            self.ended = "fin"
        self.raw += data
        return data

    async def read_on(self, enough: Callable[[], object]) -> bool:
        """Feed what comes to the current request until `enough()`; False: the connection ended before."""
        while not enough():
            data = await self.receive()
            if not data:
                return False
            self.request.feed(data)
        return True

    async def send(self, data: bytes) -> None:
        """Send bytes, so that they are on their way before anything else is done."""
        self.writer.write(data)
        await self.writer.drain()
        await settle()


async def body_read(conn: Conn) -> None:
    """Wait until the request is whole."""
    await conn.read_on(lambda: conn.request.done)


async def close(conn: Conn) -> None:
    """Close the connection, after what was sent."""
    conn.writer.close()


async def fin(conn: Conn) -> None:
    """End our own direction only."""
    conn.writer.write_eof()
    await settle()


async def reset(conn: Conn) -> None:
    """Break the connection with a RST."""
    sock = conn.writer.get_extra_info("socket")
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    conn.writer.transport.abort()


async def gone(conn: Conn) -> None:
    """Wait until the sidecar has ended the connection. What it sends until then is kept in `raw`."""
    while await conn.receive():
        pass


def until(text: bytes) -> Callable[[Conn], Awaitable[None]]:
    """Wait until `text` has come on the connection."""

    async def step(conn: Conn) -> None:
        while text not in conn.raw and await conn.receive():
            pass

    return step


class Hold:
    """A step that waits until the test says `release()`."""

    def __init__(self) -> None:
        self._event = asyncio.Event()

    def release(self) -> None:
        """Let the script go on."""
        self._event.set()

    async def __call__(self, conn: Conn) -> None:
        await self._event.wait()


class Pause:
    """A step that takes time, for what is about time only."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds

    async def __call__(self, conn: Conn) -> None:
        await asyncio.sleep(self._seconds)


class Upstream:
    """The server. `requests` are the whole ones, in the order in which they were complete; `partial` what broke off."""

    def __init__(self) -> None:
        self.conns: list[Conn] = []
        self.heads: list[Received] = []
        self.requests: list[Received] = []
        self.malformed: list[tuple[bytes, str]] = []
        self.partial: list[bytes] = []
        self.default = ok()
        self._scripts: deque[tuple[bool, tuple[bytes | Callable[[Conn], Awaitable[None]], ...]]] = deque()
        self._server: asyncio.Server | None = None
        self._busy: set[asyncio.Task[object]] = set()
        self.port = 0

    @property
    def raw(self) -> bytes:
        """All that came, connection after connection."""
        return b"".join(bytes(conn.raw) for conn in self.conns)

    def play(self, *steps: bytes | Callable[[Conn], Awaitable[None]], early: bool = False) -> None:
        """Answer a request with `steps`: when it is whole or, `early`, when its head is."""
        self._scripts.append((early, steps))

    def forget(self) -> None:
        """Drop the scripts that no request has taken."""
        self._scripts.clear()

    async def start(self) -> None:
        """Listen on a free port."""
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]

    async def stop(self) -> None:
        """Close everything."""
        if self._server is not None:
            self._server.close()
        for task in tuple(self._busy):
            task.cancel()
        await asyncio.gather(*self._busy, return_exceptions=True)
        for conn in self.conns:
            # asyncio forgets its loop when a transport was closed with bytes still to send, and then abort() fails.
            with suppress(AttributeError):
                conn.writer.transport.abort()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._busy.add(task)
        conn = Conn(self, reader, writer)
        self.conns.append(conn)
        try:
            while await self._answer(conn):
                rest = conn.request.rest
                conn.request = RequestReader()
                conn.request.feed(rest)
            if conn.request.fed and not conn.request.done:
                self.partial.append(bytes(conn.raw))
        except h11.RemoteProtocolError as error:
            self.malformed.append((bytes(conn.raw), str(error)))
        except (ConnectionError, asyncio.CancelledError):
            pass
        finally:
            self._busy.discard(task)
            if not writer.is_closing():  # else what was sent is still on its way
                writer.transport.abort()

    async def _answer(self, conn: Conn) -> bool:
        """Take one request and play its script. True: the connection may have another one."""
        if not await conn.read_on(lambda: conn.request.head):
            return False
        head = conn.request.head
        assert head is not None
        self.heads.append(head)
        early, steps = self._scripts.popleft() if self._scripts else (False, (self.default,))
        if not early and not await conn.read_on(lambda: conn.request.done):
            return False
        counted = conn.request.done
        if counted:
            self.requests.append(head)
        for step in steps:
            if isinstance(step, bytes):
                await conn.send(step)
            else:
                await step(conn)
            if conn.request.done and not counted:
                counted = True
                self.requests.append(head)
        return not conn.writer.is_closing() and not conn.ended and conn.request.done
