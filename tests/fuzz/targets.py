"""What must hold whatever the bytes are. Each target takes bytes and returns, or fails with what does not hold.

Only our own errors may escape; what is accepted, h11 accepts with the same meaning; how the bytes are split makes no
difference. The first byte of the input steers (the split, the kind of peer), the rest is what the wire brings.
h11 is more lenient than we are in places (bare LF, obs-fold, equal Content-Lengths …), so what it accepts we may refuse.
It is stricter in three, and there nothing is compared:
- an empty line before a request line, which RFC 9112 §2.2 wants us to skip;
- a Content-Length of more than 20 digits, which is as good as any when they are zeros;
- a trailer field that would frame the message were it not a trailer: h11 reads it as if it did, we drop it.
"""

import asyncio
import re
from collections.abc import Callable
from ipaddress import ip_network

from sidecar.errors import BadResponse, ClientError, RequestError
from sidecar.message import NO_FIELDS, Body, Fields, Reply, Request
from sidecar.pipeline.answers import Answers
from sidecar.wire.framing import ChunkedReader, FramingError
from sidecar.wire.inbound import ForwardRules, Peer, read_request
from sidecar.wire.outbound import read_response_head
from sidecar.wire.server import Limits, Server
from sidecar.wire.upstream import UpstreamConnection
from tests.fuzz.fake import FakeTransport, faults, loop, pieces, turn
from tests.wire.judge import Pairs, Reading, Received, RequestReader

__all__ = ["TARGETS"]

RULES = ForwardRules(
    name=b"me",
    trusted=[ip_network("10.0.0.0/8")],
    new_id=lambda: b"id",
    new_traceparent=lambda: b"00-" + b"1" * 32 + b"-" + b"2" * 16 + b"-00",
)
PEERS = (Peer("192.0.2.1", RULES), Peer("10.0.0.1", RULES))
_LONG_LENGTH = re.compile(rb"\r\ncontent-length:[ \t]*0[0-9]{20,}", re.IGNORECASE)
_FRAMING_TRAILER = re.compile(
    rb"\r\n0*(?:;[^\r]*)?\r\n(?:[^\r]+\r\n)*?(?:content-length|transfer-encoding):", re.IGNORECASE
)
HOP = {b"keep-alive", b"proxy-connection", b"te", b"transfer-encoding"}
REWRITTEN = {
    b"host", b"via", b"max-forwards", b"traceparent", b"forwarded", b"connection", b"upgrade", b"x-request-id",
    b"x-forwarded-for", b"x-forwarded-proto", b"x-forwarded-host",
}  # fmt: skip


def _first_head(data: bytes) -> bytes:
    """Cut at the first empty line, as both connections do before they have a head parsed."""
    head, blank, _ = data.partition(b"\r\n\r\n")
    return head + (blank or b"\r\n\r\n")


def _h11_is_stricter(data: bytes) -> bool:
    return bool(_LONG_LENGTH.search(data) or _FRAMING_TRAILER.search(b"\r\n" + data))


def _h11_request(data: bytes) -> RequestReader:
    reader = RequestReader()
    reader.feed(data)
    return reader


def request_head(data: bytes) -> None:
    """`read_request`, and what it makes of a head on its way upstream."""
    steer, head = data[:1], _first_head(data[1:])
    try:
        request, chunked = read_request(head, PEERS[bool(steer) and steer[0] & 1], RULES)
    except ClientError:
        return
    if _h11_is_stricter(head):
        return
    meant = _h11_request(head).head
    assert meant is not None, "h11 sees no whole head"
    assert (request.method, request.minor) == (meant.method, meant.minor)
    if meant.target[:1] == b"/":
        assert request.target == meant.target
    codings = meant.values(b"transfer-encoding")
    lengths = meant.values(b"content-length")
    assert (chunked, request.length) == (bool(codings), int(lengths[0]) if lengths else None)
    assert len(codings) + len(lengths) <= 1
    _check_forwarded(request, meant, chunked=chunked)


def _check_forwarded(request: Request, meant: Received, *, chunked: bool) -> None:
    transport = FakeTransport(lambda _: None)
    connection = UpstreamConnection(loop(), b"up.example", lambda _: None, lambda _: None)
    connection.connection_made(transport)
    if chunked or request.length:
        request.body = Body(loop().time)
    connection.begin(request).cancel()
    sent = bytes(transport.written)
    assert sent.endswith(b"\r\n\r\n")
    assert sent.count(b"\r\n\r\n") == 1
    head = _h11_request(sent).head
    assert head is not None
    assert (head.method, head.target, head.minor) == (request.method, request.target, 1)
    assert len(head.values(b"host")) == 1
    assert len(head.values(b"via")) >= 1
    assert head.values(b"transfer-encoding") == ([b"chunked"] if chunked else [])
    assert [int(value) for value in head.values(b"content-length")] == (
        [] if request.length is None else [request.length]
    )
    names = {name.lower() for name, _ in head.headers}
    assert not (HOP - {b"transfer-encoding"}) & names
    assert (b"connection" in names) == (b"upgrade" in names) == (request.upgrade is not None)
    _check_subsequence(
        [pair for pair in head.headers if pair[0].lower() not in REWRITTEN | HOP],
        [pair for pair in meant.headers if pair[0].lower() not in REWRITTEN | HOP],
    )


def _check_subsequence(part: Pairs, whole: Pairs) -> None:
    """Nothing is made up: what goes on is some of what came, in its order."""
    rest = iter(whole)
    assert all(pair in rest for pair in part), f"{part} is not in {whole}"


def response_head(data: bytes) -> None:
    """`read_response_head`."""
    head = _first_head(data[1:])
    try:
        read = read_response_head(head)
    except BadResponse:
        return
    if _h11_is_stricter(head):
        return
    reading = Reading(b"GET")
    reading.feed(head)
    if read.status < 200:
        if read.status != 101:
            assert not reading.done
        return
    response = reading.response
    assert response is not None, "h11 sees no whole head"
    assert (response.status, response.reason.strip()) == (read.status, read.reason.strip())
    assert read.chunked == bool(response.values(b"transfer-encoding"))
    lengths = response.values(b"content-length")
    assert read.length == (int(lengths[0]) if lengths and read.status != 204 else None)
    names = [name.lower() for name, _ in read.fields.pairs]
    assert not {*HOP, *([] if read.status == 426 else [b"connection", b"upgrade"])} & set(names)
    _check_subsequence(
        [pair for pair in read.fields.pairs if pair[0].lower() not in REWRITTEN],
        [pair for pair in response.headers if pair[0].lower() not in REWRITTEN],
    )


Decoded = tuple[bytes, bytes, Pairs] | None


def _decode(data: bytes, how: int) -> tuple[Decoded, bool]:
    """Give (payload, rest, trailers) of a whole chunked body, None where there is none; True: it was refused."""
    reader = ChunkedReader()
    payload: list[bytes] = []
    fed = 0
    for piece in pieces(data, how):
        fed += len(piece)
        try:
            payload += reader.feed(piece)
        except FramingError:
            return None, True
        if reader.done:
            return (b"".join(payload), reader.rest + data[fed:], reader.trailers), False
    return None, False


def chunked_body(data: bytes) -> None:
    """`ChunkedReader`: independent of splits, and of one mind with h11."""
    stream = data[1:]
    whole, refused = _decode(stream, 0)
    for how in (1, 2, 3, 7):
        assert _decode(stream, how) == (whole, refused), f"differs when split in {how}"
    if whole is None or _h11_is_stricter(stream):
        return
    reader = RequestReader()
    reader.feed(b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n" + stream)
    assert reader.done
    assert reader.head is not None
    assert (reader.head.body, reader.rest) == whole[:2]
    _check_subsequence(whole[2], reader.head.trailers)


class _Echo:
    """A handler that reads each request whole and answers with its body."""

    def __init__(self) -> None:
        self.whole: list[tuple[bytes, bytes, bytes]] = []
        self.begun = 0
        self._answers = Answers()

    async def __call__(self, request: Request) -> Reply:
        self.begun += 1
        payload = b""
        try:
            if request.body is not None:
                while piece := await request.body.read():
                    payload += piece
        except RequestError as error:
            return self._answers.for_error(error, request)
        self.whole.append((request.method, request.target, payload))
        reply = Reply(200, Fields([(b"Content-Length", b"%d" % len(payload))]), payload)
        reply.length = len(payload)
        return reply

    def refuse(self, error: RequestError, client: str) -> Reply:
        return self._answers.for_error(error, Request(b"", b"", NO_FIELDS))


def client_connection(data: bytes) -> None:
    """A whole client connection: requests in order, each as h11 reads it, an answer to each, and an end."""
    how, stream = (data[0] % 8 if data else 0), data[1:]
    faults.clear()
    handler = _Echo()
    server = Server(loop(), handler, RULES, Limits())
    connection = server()
    transport = FakeTransport(connection.connection_lost)
    connection.connection_made(transport)
    turn()
    for piece in pieces(stream, how):
        if transport.closed:
            break
        connection.data_received(piece)
        turn()
    if not transport.closed and not connection.eof_received():
        transport.close()
    turn()
    transport.close()
    turn()
    assert faults == []
    assert not server.connections
    if not _h11_is_stricter(stream):
        _same_as_h11(stream, handler.whole)
    _check_answers(bytes(transport.written), [method for method, _, _ in handler.whole])


def _same_as_h11(stream: bytes, whole: list[tuple[bytes, bytes, bytes]]) -> None:
    for method, target, payload in whole:
        while stream[:2] == b"\r\n":
            stream = stream[2:]
        reader = _h11_request(stream)
        assert reader.done, f"h11 sees no whole {method!r} in {stream!r}"
        assert reader.head is not None
        assert (reader.head.method, reader.head.body) == (method, payload)
        assert reader.head.target == target or reader.head.target[:4].lower() == b"http"
        stream = reader.rest


def _check_answers(written: bytes, methods: list[bytes]) -> None:
    """An answer for each request, in order, and at most one refusal, the last."""
    for method in methods:
        reading = Reading(method)
        reading.feed(written)
        assert reading.done
        assert reading.response is not None
        assert reading.response.status == 200
        written = reading.rest
    if written:
        reading = Reading(b"GET")
        reading.feed(written)
        assert reading.done
        assert reading.response is not None
        assert reading.response.status >= 400
        assert reading.response.values(b"connection") == [b"close"]
        assert reading.rest == b""


KINDS = (
    (b"GET", b""),
    (b"HEAD", b""),
    (b"POST", b"Content-Length: 2\r\n"),
    (b"GET", b"Connection: Upgrade\r\nUpgrade: x\r\n"),
)


def upstream_connection(data: bytes) -> None:
    """A whole upstream connection: one answer as h11 reads it, or one error of ours; and it is told to be lost once."""
    steer, stream = (data[0] if data else 0), data[1:]
    method, fields = KINDS[steer >> 3 & 3]
    request, _ = read_request(b"%b / HTTP/1.1\r\nHost: a\r\n%b\r\n" % (method, fields), PEERS[0], RULES)
    if request.length:
        request.body = Body(loop().time)
        request.body.feed(b"hi")
        request.body.finish()
    interim: list[int] = []
    request.informational = lambda status, _reason, _fields: interim.append(status)
    lost: list[UpstreamConnection] = []
    idle: list[UpstreamConnection] = []
    faults.clear()
    connection = UpstreamConnection(loop(), b"a", idle.append, lost.append)
    transport = FakeTransport(connection.connection_lost)
    connection.connection_made(transport)
    waiter = connection.begin(request)
    payload: list[bytes] = []
    ends: list[BaseException | None] = []
    reply: Reply | None = None
    for piece in pieces(stream, steer & 7):
        if transport.closed:
            break
        connection.data_received(piece)
        reply = _taken(waiter, reply, payload, ends)
    if not transport.closed and not connection.eof_received():
        transport.close()
    turn(1)
    transport.close()
    turn(1)
    reply = _taken(waiter, reply, payload, ends)
    assert (faults, lost) == ([], [connection])
    assert len(idle) <= 1
    assert waiter.done()
    if reply is None:
        assert isinstance(waiter.exception(), RequestError)
        return
    assert len(ends) == 1
    if ends[0] is not None:
        assert isinstance(ends[0], RequestError)
    elif reply.tunnel is None:
        _same_answer(stream, method, reply, b"".join(payload), interim)


def _taken(
    waiter: "asyncio.Future[Reply]",
    reply: Reply | None,
    payload: list[bytes],
    ends: list[BaseException | None],
) -> Reply | None:
    """Begin to drain the reply as soon as it is there."""
    if reply is not None or not waiter.done() or waiter.exception() is not None:
        return reply
    taken = waiter.result()
    if isinstance(taken.body, Body):
        taken.body.pipe(payload.append, ends.append)
    else:
        payload.append(taken.body or b"")
        ends.append(None)
    return taken


def _same_answer(stream: bytes, method: bytes, reply: Reply, payload: bytes, interim: list[int]) -> None:
    if _h11_is_stricter(stream):
        return
    reading = Reading(method)
    reading.feed(stream)
    if not reading.done:
        reading.feed(b"")
    response = reading.response
    assert reading.done
    assert response is not None
    assert (response.status, response.body) == (reply.status, payload)
    assert [status for status, _ in response.interim] == interim


TARGETS: dict[str, Callable[[bytes], None]] = {
    "request_head": request_head,
    "response_head": response_head,
    "chunked_body": chunked_body,
    "client_connection": client_connection,
    "upstream_connection": upstream_connection,
}
