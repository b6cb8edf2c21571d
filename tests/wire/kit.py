"""A real sidecar in this process, between a raw client and a scripted upstream: bytes in and bytes out.

    async with gateway(limits={"target": "64B"}) as gate:
        gate.upstream.play(ok(b"hello"))
        client = await gate.client()
        await client.send(b"GET / HTTP/1.1\\r\\nHost: a\\r\\n\\r\\n")
        response = await client.response()

When a gateway closes it checks what holds in every test: nothing malformed went upstream, and no fault was logged.
"""

import asyncio
import json
import socket
import struct
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

from sidecar.config.load import load_text
from sidecar.runtime.process import Sidecar
from sidecar.telemetry.record import Record
from sidecar.wire.pool import Pool
from tests.wire.judge import Reading, Response
from tests.wire.upstream import Upstream, eventually, settle

__all__ = ["PATIENCE", "Client", "Gateway", "gateway", "get"]

PATIENCE = 5.0  # seconds that anything may take before it counts as a hang


def get(target: bytes = b"/", fields: bytes = b"", *, version: bytes = b"HTTP/1.1") -> bytes:
    """Give a GET; `fields` as they are written."""
    return b"GET %b %b\r\nHost: a.example\r\n%b\r\n" % (target, version, fields)


class Log:
    """Takes what the sidecar logs, as (event, fields)."""

    def __init__(self) -> None:
        self.lines: list[tuple[str, dict[str, Any]]] = []

    def __getattr__(self, level: str) -> Callable[..., None]:
        return lambda event, **fields: self.lines.append((event, fields))


class Client:
    """One raw connection. `received` is every byte that came on it."""

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        self._loop = asyncio.get_running_loop()
        self._unread = b""
        self.received = bytearray()
        self.ended = ""

    async def send(self, *pieces: bytes) -> None:
        """Send the pieces so that they arrive one by one. A connection that is closed meanwhile is not an error."""
        try:
            for piece in pieces:
                await self._loop.sock_sendall(self.sock, piece)
                await settle()
        except ConnectionError:
            self.ended = "reset"

    async def receive(self) -> bytes:
        """Give what comes next, b"" at the end; `ended` tells a "reset" from a "fin"."""
        if self._unread:
            data, self._unread = self._unread, b""
            return data
        try:
            async with asyncio.timeout(PATIENCE):
                data = await self._loop.sock_recv(self.sock, 65536)
        except ConnectionError:
            self.ended = "reset"
            return b""
        if not data:
            self.ended = self.ended or "fin"
        self.received += data
        return data

    async def response(self, method: bytes = b"GET") -> Response:
        """Read one response to a request of `method`, with the interim ones before it."""
        reading = Reading(method)
        while not reading.done:
            data = await self.receive()
            assert data or self.ended != "reset", f"reset after {bytes(self.received)!r}"
            reading.feed(data)
            assert data or reading.done, f"ended after {bytes(self.received)!r}"
        self._unread = reading.rest
        assert reading.response is not None
        return reading.response

    async def until(self, text: bytes) -> bytes:
        """Read up to and with `text`."""
        data = b""
        while text not in data:
            piece = await self.receive()
            assert piece, f"ended after {bytes(self.received)!r}"
            data += piece
        end = data.index(text) + len(text)
        data, self._unread = data[:end], data[end:]
        return data

    async def rest(self) -> bytes:
        """Read to the end of the connection."""
        data = b""
        while piece := await self.receive():
            data += piece
        return data

    def fin(self) -> None:
        """End our own direction."""
        self.sock.shutdown(socket.SHUT_WR)

    def reset(self) -> None:
        """Break the connection with a RST."""
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.sock.close()

    def close(self) -> None:
        """Close the connection."""
        self.sock.close()


class Gateway:
    """A running sidecar and its upstream."""

    def __init__(self, sidecar: Sidecar, upstream: Upstream, log: Log) -> None:
        self.sidecar = sidecar
        self.upstream = upstream
        self.log = log
        self.clients: list[Client] = []
        address, _, port = sidecar.addresses["traffic"][0].rpartition(":")
        self.address = (address, int(port))

    async def client(self, *, receive_buffer: int = 0) -> Client:
        """Connect. `receive_buffer` bounds what the kernel takes for a client that does not read."""
        sock = socket.socket()
        sock.setblocking(False)
        if receive_buffer:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        await asyncio.get_running_loop().sock_connect(sock, self.address)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        client = Client(sock)
        self.clients.append(client)
        return client

    async def ask(self, data: bytes, method: bytes = b"GET") -> Response:
        """Send a request on a connection of its own and give the answer."""
        client = await self.client()
        await client.send(data)
        response = await client.response(method)
        client.close()
        return response

    @property
    def pool(self) -> Pool:
        """The connections to the upstream."""
        assert self.sidecar.engine is not None
        return self.sidecar.engine.pools["service"]

    @property
    def records(self) -> list[Record]:
        """What was decided, the oldest first."""
        assert self.sidecar.engine is not None
        return self.sidecar.engine.recorder.records()[::-1]

    async def fates(self, count: int) -> list[str]:
        """Wait for the end of `count` requests and give their fates, the oldest first."""
        await eventually(lambda: len(self.records) >= count)
        return [str(record.fate) for record in self.records]

    @property
    def connections(self) -> int:
        """How many client connections the sidecar has."""
        assert self.sidecar.server is not None
        return len(self.sidecar.server.connections)


@asynccontextmanager
async def gateway(
    *,
    upstream: dict[str, Any] | None = None,
    route: dict[str, Any] | None = None,
    **config: Any,
) -> AsyncIterator[Gateway]:
    """Run a sidecar with one upstream, "service", and one route, "all", with these settings on top.

    What the wire does is looked at here, so nothing is tried again behind its back, unless a test asks for it.
    """
    service = Upstream()
    await service.start()
    loop = asyncio.get_running_loop()
    faults: list[dict[str, Any]] = []
    loop.set_exception_handler(lambda _, context: faults.append(context))
    document = {
        "version": 1,
        "listen": {"traffic": "127.0.0.1:0", "ops": "127.0.0.1:0", "admin": "127.0.0.1:0"},
        "upstreams": {"service": {"url": f"http://127.0.0.1:{service.port}", **(upstream or {})}},
        "routes": [{"name": "all", "upstream": "service", "retry": "off", **(route or {})}],
        **config,
    }
    log = Log()
    sidecar = Sidecar(load_text(json.dumps(document), env={}), log)
    await sidecar.start()
    gate = Gateway(sidecar, service, log)
    try:
        yield gate
        assert service.malformed == []
    finally:
        for client in gate.clients:
            client.close()
        await sidecar.stop()
        await service.stop()
    assert faults == []
    assert [line for line in log.lines if "fault" in line[0]] == []
