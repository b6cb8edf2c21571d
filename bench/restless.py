"""Clients that leave: many kept-alive connections with pipelined requests, some of which are broken off.

A client takes turns. In most of them it sends a batch of requests at once and waits for all answers. In the
others it leaves at a random point: within the head, within the body, while it waits, or within the answer;
half of the time with a reset, half with an orderly end. Then a new connection takes its place. The load is a
function of the seed, up to timing. To be cheap, the turns run in protocol callbacks; a task exists only to
open connections.
"""

import asyncio
import random
import socket
import struct
from collections import Counter
from dataclasses import dataclass, field

import httptools

from bench.clients import new_socket

__all__ = ["LEAVES", "Crowd", "Tally", "let_in"]

LEAVES = ("head", "body", "waiting", "answer")
GRACE = 0.004  # seconds; a client that does not wait for bytes leaves within this time after its last one
LARGE = 1000 * 1024
BODY = 10 * 1024
BATCH = 8
RESET = struct.pack("ii", 1, 0)  # SO_LINGER on, zero seconds: close() sends RST
_FIELDS = b"Host: bench\r\nUser-Agent: bench\r\nAccept: */*\r\n"
SMALL_GET = b"GET /128 HTTP/1.1\r\n" + _FIELDS + b"\r\n"
MIDDLE_GET = b"GET /10240 HTTP/1.1\r\n" + _FIELDS + b"\r\n"
LARGE_GET = b"GET /1024000 HTTP/1.1\r\n" + _FIELDS + b"\r\n"
POST_HEAD = b"POST /post HTTP/1.1\r\n" + _FIELDS + b"Content-Length: %d\r\n\r\n"
SMALL_POST = POST_HEAD % 1024 + b"x" * 1024
LARGE_POST = POST_HEAD % BODY + b"x" * BODY
MIX = [SMALL_GET] * 16 + [MIDDLE_GET] * 3 + [SMALL_POST]


@dataclass(slots=True)
class Tally:
    """What the crowd saw. `failed` counts answers that were not 200, and those that never came."""

    answered: int = 0
    failed: int = 0
    left: Counter[str] = field(default_factory=Counter)


@dataclass(slots=True)
class Crowd:
    """What all clients share: `remaining` requests still to send, `leave` the share of turns broken off."""

    remaining: int
    leave: float
    chance: random.Random
    tally: Tally = field(default_factory=Tally)


async def let_in(crowd: Crowd, port: int, connections: int, limit: float) -> Tally:
    """Let so many clients work at a time, until no request remains.

    Raises TimeoutError when that takes longer than `limit` seconds: somebody was left waiting for ever.
    """
    async with asyncio.timeout(limit), asyncio.TaskGroup() as group:
        for number in range(connections):
            group.create_task(_keep_place(crowd, port, number))
    return crowd.tally


async def _keep_place(crowd: Crowd, port: int, number: int) -> None:
    """Fill one place: while there is work, a client that left is followed by a new one."""
    loop = asyncio.get_running_loop()
    while crowd.remaining > 0:
        client = new_socket(number)
        client.setblocking(False)
        try:
            await loop.sock_connect(client, ("127.0.0.1", port))
        except OSError:
            client.close()
            raise
        _, guest = await loop.create_connection(lambda: Guest(crowd), sock=client)
        try:
            await guest.gone
        finally:
            guest.leave()


class Guest(asyncio.Protocol):
    """One client connection. `gone` is done when it has ended, by whomever."""

    def __init__(self, crowd: Crowd) -> None:
        self.gone: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._crowd = crowd
        self._parser = httptools.HttpResponseParser(self)
        self._awaited = 0
        self._leaving = False
        self._leave_after = 0  # bytes of the answer still to be read before leaving; 0: a timer decides
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        self._turn()

    def data_received(self, data: bytes) -> None:
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError:
            self._crowd.tally.failed += 1
            self.leave()
            return
        if self._leaving:
            self._count_down(len(data))
        elif self._awaited == 0:
            self._turn()

    def on_message_complete(self) -> None:
        good = self._parser.get_status_code() == 200
        if not good:
            self._crowd.tally.failed += 1
        if self._leaving:
            self.leave()  # the answer was faster than the timer, or shorter than it should have been
            return
        self._awaited -= 1
        self._crowd.tally.answered += good

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - asyncio names it
        self._crowd.tally.failed += self._awaited
        self._awaited = 0
        self._transport = None
        if not self.gone.done():
            self.gone.set_result(None)

    def leave(self) -> None:
        """Close at once, in one of the two ways."""
        if self._transport is None:
            return
        if self._crowd.chance.getrandbits(1):
            client: socket.socket = self._transport.get_extra_info("socket")
            client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
        self._transport.abort()

    def _turn(self) -> None:
        crowd = self._crowd
        if crowd.remaining <= 0:
            self.leave()
        elif crowd.chance.random() < crowd.leave:
            crowd.remaining -= 1
            self._break_off(crowd.chance.choice(LEAVES))
        else:
            self._awaited = min(crowd.remaining, crowd.chance.randint(1, BATCH))
            crowd.remaining -= self._awaited
            self._send(b"".join(crowd.chance.choices(MIX, k=self._awaited)))

    def _break_off(self, where: str) -> None:
        """Send what comes before the point at which this client leaves, and see to it that it leaves."""
        chance = self._crowd.chance
        self._crowd.tally.left[where] += 1
        self._leaving = True
        if where == "answer":
            self._leave_after = chance.randint(1, LARGE)
            self._send(LARGE_GET)
            return
        asyncio.get_running_loop().call_later(chance.uniform(0, GRACE), self.leave)
        if where == "head":
            self._send(SMALL_GET[: chance.randrange(len(SMALL_GET) - 1)])
        elif where == "body":
            self._send(LARGE_POST[: -chance.randint(1, BODY)])
        else:
            self._send(MIDDLE_GET)

    def _count_down(self, received: int) -> None:
        if self._leave_after > 0:
            self._leave_after -= received
            if self._leave_after <= 0:
                self.leave()

    def _send(self, data: bytes) -> None:
        if self._transport is not None:
            self._transport.write(data)
