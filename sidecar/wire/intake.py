"""A client's bytes become requests: where a head ends, what its body is, what is refused before anybody is asked.

`Intake` is the reading half of a client connection (`client.ClientConnection` is the whole). What arrives while a
request is being answered stays in the buffer, bounded by pausing the socket: pipelined requests are answered in order,
one at a time. A result, request or error, is put into `_request` and the connection's task is woken.

Every wait has a bound: `head_timeout` from the first byte of a head to its last, `keepalive_timeout` between requests.
One lazily set timer serves them all.
"""

import asyncio
import socket
from typing import TYPE_CHECKING, Any, cast

from sidecar.errors import (
    BodyTooLarge,
    ClientError,
    HeadTooLarge,
    RequestError,
    RequestHeadTimeout,
    TargetTooLong,
)
from sidecar.message import HIGH_WATER, Body, Fields, Headers, Request
from sidecar.wire.framing import ChunkedReader, FramingError
from sidecar.wire.inbound import Peer, read_request
from sidecar.wire.respond import Responder, interim

if TYPE_CHECKING:
    from sidecar.wire.server import Limits, Server

__all__ = ["BUSY", "CHUNKED", "CLOSED", "HEAD", "LENGTH", "LINGER", "TUNNEL", "Intake"]

LINGER_BYTES = 1024 * 1024
MAX_LEADING_CRLF = 8  # RFC 9112 §2.2: SHOULD ignore at least one empty line before a request line
WATCH = 1.0  # how often a client that is being held back is checked for a reset, in seconds

# What the next bytes of a connection are: a request head, or nothing for a while; a body with a Content-Length; a body
# in chunks; the next request's (BUSY: this one is whole and being answered); a tunnel's; to be dropped (LINGER: the
# answer is out before its request was whole). Plain numbers, for the reason given in `upstream`.
_STATES = ("HEAD", "LENGTH", "CHUNKED", "BUSY", "TUNNEL", "LINGER", "CLOSED")
HEAD, LENGTH, CHUNKED, BUSY, TUNNEL, LINGER, CLOSED = range(7)


class Intake(asyncio.Protocol):
    """The reading half of one client connection."""

    __slots__ = (
        "_body",
        "_buffer",
        "_due",
        "_empty_lines",
        "_left",
        "_lingered",
        "_lingered_on",
        "_partial",
        "_peer",
        "_reader",
        "_request",
        "_responder",
        "_searched",
        "_server",
        "_state",
        "_task",
        "_timer",
        "_transport",
        "_waiter",
        "_watch",
    )

    _peer: Peer  # these two: from `connection_made` on
    _responder: Responder

    def __init__(self, server: "Server") -> None:
        self._server = server
        self._state = HEAD
        self._buffer = b""
        self._partial = False  # a head has begun and is not whole
        self._searched = 0  # where to go on looking for the end of a head
        self._empty_lines = 0  # seen before the next request line
        self._due = 0.0
        self._timer: asyncio.TimerHandle | None = None
        self._left = 0
        self._reader: ChunkedReader | None = None
        self._request: Request | RequestError | None = None
        self._body: Body | None = None
        self._waiter: asyncio.Future[None] | None = None
        self._task: asyncio.Task[Any] | None = None
        self._watch: asyncio.TimerHandle | None = None
        self._lingered = 0
        self._lingered_on = False
        self._transport = cast("asyncio.Transport", None)

    def __repr__(self) -> str:
        """Tell the live state in one line."""
        return f"<{type(self).__name__} {_STATES[self._state]} {self._request!r}>"

    def data_received(self, data: bytes) -> None:
        """Take bytes from the client."""
        state = self._state
        if state == HEAD:
            self._buffer = self._buffer + data if self._buffer else data
            self._find_head()
        elif state == LENGTH:
            self._read_length(data)
        elif state == CHUNKED:
            self._read_chunked(data)
        elif state == BUSY:
            self._buffer += data
            if len(self._buffer) > HIGH_WATER:
                self._pause_reading()
        elif state == TUNNEL:
            self._responder.tunnel_data(data)
        elif state == LINGER:
            self._lingered += len(data)
            if self._lingered > LINGER_BYTES:
                self._transport.abort()

    def _find_head(self) -> None:
        """Look for a whole head in the buffer; hand over what it becomes, a request or an error."""
        data = self._buffer
        if data[:1] == b"\r":
            data = self._skip_empty_lines(data)
            if self._state != HEAD:
                return
        end = data.find(b"\r\n\r\n", self._searched) + 4
        server = self._server
        if end == 3 or end > server.limits.head:
            self._buffer = data
            self._wait_for_rest(data)
            return
        self._searched = 0
        try:
            request, chunked = read_request(data[:end], self._peer, server.rules)
        except ClientError as error:
            self._hand_over(_line_error(data[:end]) or error)
            return
        self._partial = False
        self._empty_lines = 0
        request.task = self._task
        if request.minor:
            request.informational = self._relay_interim
        if chunked or request.length:
            self._open_body(request, data[end:], chunked=chunked)
        else:
            self._state = BUSY
            self._buffer = data[end:]
        self._request = request
        waiter = self._waiter
        if waiter is not None and not waiter.done():
            waiter.set_result(None)

    def _skip_empty_lines(self, data: bytes) -> bytes:
        """RFC 9112 §2.2: SHOULD ignore at least one empty line before a request line. Not any number of them."""
        self._searched = 0
        while data[:2] == b"\r\n":
            data = data[2:]
            self._empty_lines += 1
            if self._empty_lines > MAX_LEADING_CRLF:
                self._hand_over(ClientError("Too many empty lines before the request line."))
                break
        if not data:
            self._partial = False
        return data

    def _wait_for_rest(self, data: bytes) -> None:
        """Wait for more of a head, for `head_timeout` from its first byte, unless it cannot become right any more."""
        error = self._partial_head_error(data, self._server.limits)
        # A head that comes byte by byte must not be searched from its beginning for each of them.
        self._searched = max(0, len(data) - 3)
        if error is not None:
            self._hand_over(error)
        elif data and not self._partial:
            self._partial = True
            self._wait_at_most(self._server.limits.head_timeout)

    def _partial_head_error(self, data: bytes, limits: "Limits") -> ClientError | None:
        """Tell what is wrong with a head that is not whole yet, where it cannot become right any more."""
        if len(data) > limits.target + 64:
            first_line = data.find(b"\r\n", 0, limits.target + 66)
            if first_line < 0 or first_line > limits.target + 64:
                return TargetTooLong()
        if len(data) > limits.head:
            return HeadTooLarge()
        # A bare LF is refused when it comes: its sender believes that the line has ended and waits for an answer.
        return _line_error(data) if data.find(b"\n", self._searched) >= 0 else None

    def _open_body(self, request: Request, rest: bytes, *, chunked: bool) -> None:
        body = self._body = request.body = Body(self._server.loop.time)
        body.on_pause = self._pause_reading
        body.on_resume = self._resume_reading
        body.on_limit = BodyTooLarge
        self._buffer = b""
        if chunked:
            self._state = CHUNKED
            self._reader = ChunkedReader()
            if rest:
                self._read_chunked(rest)
        else:
            self._state = LENGTH
            self._left = cast("int", request.length)
            if rest:
                self._read_length(rest)

    def _pause_reading(self) -> None:
        if not self._transport.is_closing():
            self._transport.pause_reading()
            if self._watch is None:
                self._watch = self._server.loop.call_later(WATCH, self._look_for_reset)

    def _resume_reading(self) -> None:
        if self._watch is not None:
            self._watch.cancel()
            self._watch = None
        if not self._transport.is_closing():
            self._transport.resume_reading()

    def _read_on(self) -> None:
        """Resume reading, unless there is enough here already: a backlog of pipelined requests, or of a body."""
        if self._state == BUSY and len(self._buffer) > HIGH_WATER // 2:
            self._pause_reading()
        elif self._body is None or not self._body.paused:
            self._resume_reading()

    def _look_for_reset(self) -> None:
        """Ask the socket whether its client has reset it: no loop watches a socket that is not being read."""
        self._watch = None
        bound = self._transport.get_extra_info("socket")
        if bound is None or self._transport.is_closing():
            return
        if bound.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR):
            self._transport.abort()
        elif not self._transport.is_reading():
            self._watch = self._server.loop.call_later(WATCH, self._look_for_reset)

    def _read_length(self, data: bytes) -> None:
        body = self._body
        if body is None:
            return
        size = len(data)
        if size < self._left:
            self._left -= size
            body.feed(data)
            return
        self._buffer = data[self._left :]
        data = data[: self._left] if self._buffer else data
        self._left = 0
        self._close_body(body, [data], [])

    def _read_chunked(self, data: bytes) -> None:
        reader, body = self._reader, self._body
        if reader is None or body is None:
            return
        try:
            pieces = reader.feed(data)
        except FramingError as fault:
            self._fail_body(ClientError(f"Invalid chunked body: {fault}."))
            return
        if reader.done:
            self._buffer = reader.rest
            self._close_body(body, pieces, reader.trailers)
            return
        for piece in pieces:
            body.feed(piece)

    def _close_body(self, body: Body, pieces: list[bytes], trailers: Headers) -> None:
        """Take the end of the request: from here on, bytes belong to the next one."""
        self._body = self._reader = None
        self._state = BUSY
        body.on_pause = body.on_resume = None
        for piece in pieces:
            body.feed(piece)
        body.finish(trailers)
        self._read_on()

    def _fail_body(self, error: RequestError) -> None:
        body, self._body = self._body, None
        self._reader = None
        if body is not None:
            body.on_pause = body.on_resume = None
            body.fail(error)
        self._state = LINGER

    def _hand_over(self, item: RequestError) -> None:
        """Give the task an error to answer; whatever else comes is dropped."""
        self._state = LINGER
        self._buffer = b""
        self._request = item
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    def _relay_interim(self, status: int, reason: bytes, fields: Fields) -> None:
        if not self._transport.is_closing() and not self._responder.started:
            self._transport.write(interim(status, reason, fields.wire))

    def _wait_at_most(self, seconds: float) -> None:
        """Set when the present wait ends. One timer serves all waits: it is set again only where it would be late."""
        loop = self._server.loop
        due = self._due = loop.time() + seconds
        if self._timer is not None:
            if self._timer.when() <= due:
                return
            self._timer.cancel()
        self._timer = loop.call_at(due, self._time_over)

    def _time_over(self) -> None:
        self._timer = None
        if self._state not in (HEAD, LINGER, CLOSED):
            return  # a request is under way; the wait after it will set a timer again
        # A loop may call a timer up to its clock's resolution early (uvloop counts whole milliseconds).
        if self._server.loop.time() + 0.001 < self._due:
            self._timer = self._server.loop.call_at(self._due, self._time_over)
        elif self._state == LINGER and self._transport.get_write_buffer_size() and not self._lingered_on:
            # The client is still reading, slowly. It gets the time that an idle connection would get, once.
            self._lingered_on = True
            self._wait_at_most(self._server.limits.keepalive_timeout)
        elif self._state != HEAD:
            self._transport.abort()
        elif self._partial:
            self._hand_over(RequestHeadTimeout())
        else:
            self._transport.close()


def _line_error(data: bytes) -> ClientError | None:
    if data.count(b"\n") != data.count(b"\r\n"):
        return ClientError("A line of the head does not end with CRLF.")
    return None
