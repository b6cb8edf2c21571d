"""The benchmark's own clients, against a small server in this process that does as it is told."""

import asyncio
import random
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import httptools
import pytest

from bench import clients, cores, restless
from bench.restless import LEAVES, Crowd

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
BROKEN = b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\n\r\n"


class Server(asyncio.Protocol):
    """Answers every whole request with `reply`. While open it is in `present`; `empty` tells of none."""

    def __init__(self, reply: bytes, present: set["Server"], empty: asyncio.Event) -> None:
        self.reply = reply
        self.present = present
        self.empty = empty
        self.parser = httptools.HttpRequestParser(self)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport
        self.present.add(self)
        self.empty.clear()

    def connection_lost(self, exc: Exception | None) -> None:
        self.present.discard(self)
        if not self.present:
            self.empty.set()

    def data_received(self, data: bytes) -> None:
        self.parser.feed_data(data)

    def on_message_complete(self) -> None:
        self.transport.write(self.reply)


async def serve_and_send(reply: bytes, crowd: Crowd, *, limit: float = 10.0) -> None:
    loop = asyncio.get_running_loop()
    present: set[Server] = set()
    empty = asyncio.Event()
    server = await loop.create_server(lambda: Server(reply, present, empty), "127.0.0.1", 0)
    async with server:
        try:
            await restless.let_in(crowd, server.sockets[0].getsockname()[1], connections=4, limit=limit)
        finally:
            await asyncio.wait_for(empty.wait(), 5)


async def test_every_request_is_either_answered_or_left() -> None:
    crowd = Crowd(remaining=400, leave=0.5, chance=random.Random(1))

    await serve_and_send(OK, crowd)

    assert crowd.remaining == 0
    assert crowd.tally.failed == 0
    assert crowd.tally.answered + crowd.tally.left.total() == 400
    assert set(crowd.tally.left) == set(LEAVES)


async def test_whoever_never_leaves_is_answered_each_time() -> None:
    crowd = Crowd(remaining=200, leave=0.0, chance=random.Random(1))

    await serve_and_send(OK, crowd)

    assert (crowd.tally.answered, crowd.tally.failed, crowd.tally.left.total()) == (200, 0, 0)


async def test_an_answer_that_is_not_200_has_failed() -> None:
    crowd = Crowd(remaining=50, leave=0.0, chance=random.Random(1))

    await serve_and_send(BROKEN, crowd)

    assert (crowd.tally.answered, crowd.tally.failed) == (0, 50)


async def test_a_server_that_is_silent_does_not_hold_the_clients_for_ever() -> None:
    crowd = Crowd(remaining=50, leave=0.0, chance=random.Random(1))

    with pytest.raises(TimeoutError):
        await serve_and_send(b"", crowd, limit=0.05)


@contextmanager
def listening(reply: bytes) -> Iterator[int]:
    """Answer each connection once, from a thread, and keep it open until the block ends."""
    kept = []
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve() -> None:
            while True:
                try:
                    client, _ = server.accept()
                except OSError:
                    return
                kept.append(client)
                if client.recv(4096):
                    client.sendall(reply)

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield server.getsockname()[1]
        finally:
            server.shutdown(socket.SHUT_RDWR)
            thread.join()
            for client in kept:
                client.close()


def test_held_connections_are_open_idle_and_from_many_addresses() -> None:
    with listening(OK) as port, clients.held(port, 10) as held:
        assert clients.closed_by_peer(held) == 0
        assert len({client.getsockname()[0] for client in held}) == 8
        assert {client.getpeername() for client in held} == {("127.0.0.1", port)}


def test_a_connection_that_the_server_closed_is_seen() -> None:
    with listening(OK) as port, clients.held(port, 3) as held:
        held[1].shutdown(socket.SHUT_RDWR)

        assert clients.closed_by_peer(held) == 1
        assert not clients.still_answer([held[1]])


def test_a_broken_answer_is_an_error() -> None:
    with (
        listening(b"HTTP/1.1 200 OK\r\n\r\n") as port,
        pytest.raises(EOFError, match="without Content-Length"),
        clients.held(port, 1),
    ):
        pass


def test_the_proxy_has_a_core_of_its_own_where_there_are_two(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.sched_getaffinity", lambda _: {0, 2, 5})

    assert cores.layout() == cores.Layout(proxy=frozenset({5}), rest=frozenset({0, 2}))
    assert not cores.layout().shared


def test_one_core_is_shared_and_said_to_be(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.sched_getaffinity", lambda _: {3})

    assert cores.layout() == cores.Layout(proxy=frozenset({3}), rest=frozenset({3}))
    assert cores.layout().shared
