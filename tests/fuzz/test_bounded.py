"""A peer that never stops, in every state: it is refused, paused or cut off long before it fills the memory."""

import tracemalloc
from collections.abc import Iterator
from itertools import count, repeat

import pytest

from sidecar.errors import RequestError
from sidecar.message import NO_FIELDS, Body, Fields, Reply, Request
from sidecar.pipeline.answers import Answers
from sidecar.wire.inbound import read_request
from sidecar.wire.server import Limits, Server
from sidecar.wire.upstream import UpstreamConnection
from tests.fuzz.fake import FakeTransport, loop, turn
from tests.fuzz.targets import PEERS, RULES

PIECE = 16 * 1024
ENDLESS = 32 << 20
BOUND = 2 << 20

POST = b"POST / HTTP/1.1\r\nHost: a\r\n"
CHUNKED = POST + b"Transfer-Encoding: chunked\r\n\r\n"
OK = b"HTTP/1.1 200 OK\r\n"
CODED = OK + b"Transfer-Encoding: chunked\r\n\r\n"


def numbered(form: bytes) -> Iterator[bytes]:
    """Endless pieces of about PIECE bytes, in each of which `form` stands with other numbers."""
    lines = PIECE // (len(form) + 4)
    for start in count(step=lines):
        yield b"".join([form % n for n in range(start, start + lines)])


CLIENTS = {
    "empty lines": (b"", repeat(b"\r\n" * 8000)),
    "a request line": (b"GET /", repeat(b"x" * PIECE)),
    "a method": (b"", repeat(b"X" * PIECE)),
    "a field": (POST + b"X: ", repeat(b"x" * PIECE)),
    "fields": (POST, numbered(b"X-%d: y\r\n")),
    "requests": (b"", repeat((b"GET / HTTP/1.1\r\nHost: a\r\n\r\n") * 500)),
    "a body": (POST + b"Content-Length: 99999999999\r\n\r\n", repeat(b"x" * PIECE)),
    "chunks": (CHUNKED, repeat(b"1\r\nx\r\n" * 2700)),
    "one chunk": (CHUNKED + b"ffffffffffff\r\n", repeat(b"x" * PIECE)),
    "zeros of a size": (CHUNKED, repeat(b"0" * PIECE)),
    "an extension": (CHUNKED + b"5;", repeat(b"x" * PIECE)),
    "extensions": (CHUNKED, repeat(b"1;" + b"x" * 4000 + b"\r\nx\r\n")),
    "a trailer": (CHUNKED + b"0\r\nX: ", repeat(b"x" * PIECE)),
    "trailers": (CHUNKED + b"0\r\n", numbered(b"X-%d: y\r\n")),
    "after an error": (b"nonsense\r\n\r\n", repeat(b"x" * PIECE)),
}

UPSTREAMS = {
    "a status line": (b"HTTP/1.1 200 ", repeat(b"x" * PIECE)),
    "a field": (OK + b"X: ", repeat(b"x" * PIECE)),
    "fields": (OK, numbered(b"X-%d: y\r\n")),
    "interim answers": (b"", repeat(b"HTTP/1.1 103 Early Hints\r\n\r\n" * 500)),
    "a body": (OK + b"Content-Length: 99999999999\r\n\r\n", repeat(b"x" * PIECE)),
    "a body until close": (OK + b"\r\n", repeat(b"x" * PIECE)),
    "chunks": (CODED, repeat(b"1\r\nx\r\n" * 2700)),
    "zeros of a size": (CODED, repeat(b"0" * PIECE)),
    "an extension": (CODED + b"5;", repeat(b"x" * PIECE)),
    "extensions": (CODED, repeat(b"1;" + b"x" * 4000 + b"\r\nx\r\n")),
    "a trailer": (CODED + b"0\r\nX: ", repeat(b"x" * PIECE)),
    "trailers": (CODED + b"0\r\n", numbered(b"X-%d: y\r\n")),
    "answers": (b"", repeat((OK + b"Content-Length: 0\r\n\r\n") * 400)),
}


class Hanging:
    """A handler that never answers, and reads no body."""

    async def __call__(self, request: Request) -> Reply:
        await loop().create_future()
        return Reply(200, Fields(()))

    def refuse(self, error: RequestError, client: str) -> Reply:
        return Answers().for_error(error, Request(b"", b"", NO_FIELDS))


@pytest.mark.parametrize("kind", list(CLIENTS))
def test_a_client_that_never_stops(kind: str) -> None:
    start, more = CLIENTS[kind]
    server = Server(loop(), Hanging(), RULES, Limits())
    connection = server()
    transport = FakeTransport(connection.connection_lost)
    connection.connection_made(transport)
    turn()

    fed, peak = _pour(connection.data_received, transport, start, more)

    transport.close()
    turn()
    assert fed < ENDLESS
    assert peak < BOUND


@pytest.mark.parametrize("kind", list(UPSTREAMS))
def test_an_upstream_that_never_stops(kind: str) -> None:
    start, more = UPSTREAMS[kind]
    request, _ = read_request(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n", PEERS[0], RULES)
    connection = UpstreamConnection(loop(), b"a", lambda _: None, lambda _: None)
    transport = FakeTransport(connection.connection_lost)
    connection.connection_made(transport)
    waiter = connection.begin(request)

    fed, peak = _pour(connection.data_received, transport, start, more)

    transport.close()
    turn()
    assert waiter.done()
    assert waiter.exception() is None or isinstance(waiter.exception(), RequestError)
    assert fed < ENDLESS
    assert peak < BOUND


def _pour(receive: object, transport: FakeTransport, start: bytes, more: Iterator[bytes]) -> tuple[int, int]:
    """Feed for as long as the other side reads; give how much it took, and the most memory it held on the way."""
    assert callable(receive)
    fed = 0
    tracemalloc.start()
    try:
        receive(start)
        while transport.is_reading() and fed < ENDLESS:
            piece = next(more)
            receive(piece)
            fed += len(piece)
            turn(1)
        return fed, tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def test_a_body_that_nobody_reads_holds_back_its_sender() -> None:
    body = Body(loop().time)
    paused: list[bool] = []
    body.on_pause = lambda: paused.append(True)
    while not paused:
        body.feed(b"x" * 1000)

    assert body.waiting < 128 * 1024
