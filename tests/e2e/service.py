"""An upstream that does what a test tells it, on real sockets, and notes to the byte what came to it.

    with service() as upstream:
        upstream.play("key", reply(503), breaks(after=1000), reply(200, b"hello"))
        ...                                      # requests to /key, whatever stands after that
        assert [one.whole for one in upstream.seen("key")] == [True, False, True]

What a script does not say is answered with 200 and `hello`. It runs in a thread of the test's own process.
"""

import asyncio
import socket
import struct
import threading
from collections import defaultdict, deque
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from time import time  # noqa: TID251 -- to be compared with a Retry-After that is a date

__all__ = ["Seen", "Service", "breaks", "chunked", "garbage", "holds", "reply", "service"]


@dataclass
class Seen:
    """One request. `whole`: its body came whole. `left`: whoever sent it closed before it had its answer."""

    method: str
    target: str
    fields: dict[str, str]
    at: float
    body: bytearray = field(default_factory=bytearray)
    whole: bool = False
    left: bool = False


@dataclass
class Talk:
    """The connection on which a request came, and the request."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    seen: Seen
    gates: Mapping[str, asyncio.Event]

    async def take(self, most: int | None = None) -> None:
        """Take the body, or the first `most` bytes of it."""
        seen = self.seen
        if "chunked" in seen.fields.get("transfer-encoding", ""):
            while size := int(await self.reader.readline(), 16):
                seen.body += (await self.reader.readexactly(size + 2))[:-2]
            await self.reader.readline()
        else:
            length = int(seen.fields.get("content-length", "0"))
            for_now = length if most is None else min(most, length)
            while len(seen.body) < for_now:
                piece = await self.reader.read(for_now - len(seen.body))
                if not piece:
                    raise EOFError
                seen.body += piece
            if for_now < length:
                return
        seen.whole = True

    async def write(self, data: bytes) -> None:
        self.writer.write(data)
        await self.writer.drain()

    def reset(self) -> None:
        """End the connection as a process that dies does."""
        linger = struct.pack("ii", 1, 0)
        self.writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        self.writer.transport.abort()
        raise ConnectionResetError


Turn = Callable[[Talk], Awaitable[None]]


def reply(status: int = 200, body: bytes = b"hello", **fields: str) -> Turn:
    """Take the whole request and answer. `_` in the name of a field stands for `-`."""

    async def turn(talk: Talk) -> None:
        await talk.take()
        lines = "".join(f"{name.replace('_', '-')}: {value}\r\n" for name, value in fields.items())
        bodiless = talk.seen.method == "HEAD" or status == 304
        head = f"HTTP/1.1 {status} Whatever\r\n{lines}Content-Length: {len(body)}\r\n\r\n"
        await talk.write(head.encode() + (b"" if bodiless else body))

    return turn


def chunked(*pieces: bytes) -> Turn:
    """Answer with a body of unknown length, all in one write."""

    async def turn(talk: Talk) -> None:
        await talk.take()
        body = b"".join(b"%x\r\n%b\r\n" % (len(piece), piece) for piece in (*pieces, b""))
        await talk.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + body)

    return turn


def breaks(*, after: int = 0) -> Turn:
    """Take so many bytes of the body, and reset the connection."""

    async def turn(talk: Talk) -> None:
        await talk.take(after)
        talk.reset()

    return turn


def garbage() -> Turn:
    """Answer what is no HTTP, and close."""

    async def turn(talk: Talk) -> None:
        await talk.take()
        await talk.write(b"220 mail.example ESMTP\r\n\r\n")
        raise ConnectionAbortedError

    return turn


def holds(gate: str, then: Turn | None = None) -> Turn:
    """Wait until the gate is opened, and answer; or note that the other side has gone."""

    async def turn(talk: Talk) -> None:
        await talk.take()
        loop = asyncio.get_running_loop()
        opened = loop.create_task(talk.gates[gate].wait())
        gone = loop.create_task(talk.reader.read(1))
        try:
            await asyncio.wait({opened, gone}, return_when=asyncio.FIRST_COMPLETED)
            if gone.done():
                with suppress(OSError):
                    gone.result()
                raise EOFError
        finally:
            opened.cancel()
            gone.cancel()
            await asyncio.wait({gone})
        await (then or reply())(talk)

    return turn


class Service:
    """The upstream, as a test sees it from its own thread."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._scripts: dict[str, deque[Turn]] = defaultdict(deque)
        self._always: dict[str, Turn] = {}
        self._seen: dict[str, list[Seen]] = defaultdict(list)
        self._gates: dict[str, asyncio.Event] = defaultdict(asyncio.Event)
        self._talks: set[asyncio.Task[None]] = set()
        self.port = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def play(self, key: str, *turns: Turn, then: Turn | None = None) -> None:
        """Do this at the next requests for `key`, and `then` at all that follow."""
        self._scripts[key].extend(turns)
        if then is not None:
            self._always[key] = then

    def seen(self, key: str) -> list[Seen]:
        """Give the requests for `key`, in their order."""
        return list(self._seen[key])

    def open(self, gate: str) -> None:
        self._loop.call_soon_threadsafe(self._gates[gate].set)

    # --- in its own thread ---

    def run(self, ready: threading.Event) -> None:
        asyncio.set_event_loop(self._loop)
        self._loop.run_until_complete(self._serve(ready))
        self._loop.close()

    async def _serve(self, ready: threading.Event) -> None:
        self._stopped = asyncio.Event()
        server = await asyncio.start_server(self._meet, "127.0.0.1", 0, backlog=2048)
        self.port = server.sockets[0].getsockname()[1]
        ready.set()
        await self._stopped.wait()
        server.close()
        for talk in tuple(self._talks):
            talk.cancel()
        if self._talks:
            await asyncio.wait(self._talks)

    def stop(self) -> None:
        self._loop.call_soon_threadsafe(self._stopped.set)

    async def _meet(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._talks.add(task)
        try:
            while await self._answer(reader, writer):
                pass
        except (OSError, EOFError, asyncio.CancelledError):
            pass
        finally:
            self._talks.discard(task)
            writer.close()

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        start = await reader.readline()
        if not start:
            return False
        method, target, _ = start.decode("latin-1").split(" ")
        fields: dict[str, str] = {}
        while (line := await reader.readline()).strip():
            name, _, value = line.decode("latin-1").partition(":")
            fields[name.lower()] = value.strip()
        key = target.partition("?")[0].split("/")[1]
        seen = Seen(method, target, fields, time())
        self._seen[key].append(seen)
        script = self._scripts[key]
        turn = script.popleft() if script else self._always.get(key) or reply()
        try:
            await turn(Talk(reader, writer, seen, self._gates))
        except EOFError:
            seen.left = True
            raise
        return True


@contextmanager
def service() -> Iterator[Service]:
    """Run one until the block ends."""
    upstream = Service()
    ready = threading.Event()
    thread = threading.Thread(target=upstream.run, args=(ready,), daemon=True)
    thread.start()
    assert ready.wait(10)
    try:
        yield upstream
    finally:
        upstream.stop()
        thread.join(10)
