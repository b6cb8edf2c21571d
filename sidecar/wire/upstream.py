"""One connection to an upstream: writes a request, gives its `Reply` at the response head, feeds its body after that.

States, and what moves between them:

    IDLE ──begin──▶ HEAD ──final head──▶ LENGTH | CHUNKED | UNTIL_CLOSE ──end of body──▶ IDLE or CLOSED
                        │ └─1xx: relayed, stays
                        └─101 that was asked for──▶ TUNNEL

A connection goes back to its pool only when the response is whole, the request was sent whole, both sides want to keep
it, and not one byte more than the response has come. Bytes that nobody asked for, in IDLE or after a body, mean that
its framing can no longer be trusted: it is closed (the attack is response splitting).
"""

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING, cast

from sidecar.errors import BadResponse, Disconnected
from sidecar.message import Body, Reply, Request, serialise
from sidecar.wire.framing import ChunkedReader, FramingError, chunk, last_chunk
from sidecar.wire.outbound import CHUNKED, ResponseHead, read_response_head

if TYPE_CHECKING:
    from sidecar.wire.tunnel import Tunnel

__all__ = ["MAX_HEAD", "MAX_INTERIM", "UpstreamConnection"]

MAX_HEAD = 64 * 1024  # Envoy's max_response_headers_kb is 60, nginx's default buffers hold 4 to 8 KiB
MAX_INTERIM = 32  # 1xx responses before the final one; RFC 9110 sets no limit, a hostile upstream would

WRITE_HIGH_WATER = 256 * 1024


# Where a connection is in its exchange. Plain numbers: on Python 3.11 reading a member of an Enum costs as much as
# a whole comparison, and these are read some fifteen times for each request.
_STATES = ("IDLE", "HEAD", "LENGTH", "CHUNKED", "UNTIL_CLOSE", "TUNNEL", "CLOSED")
_IDLE, _HEAD, _LENGTH, _CHUNKED, _UNTIL_CLOSE, _TUNNEL, _CLOSED = range(7)


class UpstreamConnection(asyncio.Protocol):
    """One connection. `on_idle` is told when it may be used again, `on_lost` when it is gone."""

    __slots__ = (
        "_body",
        "_buffer",
        "_clock",
        "_interim",
        "_keep_alive",
        "_left",
        "_loop",
        "_lost",
        "_on_idle",
        "_on_lost",
        "_reader",
        "_request",
        "_request_sent",
        "_state",
        "_waiter",
        "authority",
        "idle_since",
        "transport",
        "tunnel",
        "used",
    )

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        authority: bytes,
        on_idle: "Callable[[UpstreamConnection], None]",
        on_lost: "Callable[[UpstreamConnection], None]",
    ) -> None:
        self._loop = loop
        self._clock = loop.time
        self._on_idle = on_idle
        self._on_lost = on_lost
        self._state = _IDLE
        self._buffer = b""
        self._request: Request | None = None
        self._request_sent = True
        self._waiter: asyncio.Future[Reply] | None = None
        self._body: Body | None = None
        self._reader: ChunkedReader | None = None
        self._left = 0
        self._lost = False  # after that, plain asyncio's transports cannot even be aborted any more
        self._interim = 0
        self._keep_alive = False
        self.authority = authority
        self.idle_since = 0.0
        self.transport: asyncio.Transport = cast("asyncio.Transport", None)
        self.tunnel: Tunnel | None = None
        self.used = False

    def __repr__(self) -> str:
        """Tell the live state in one line."""
        return f"<UpstreamConnection {_STATES[self._state]} {self._request!r}>"

    @property
    def usable(self) -> bool:
        """Whether a request may be written: idle, and the other side has not hung up as far as we know."""
        return self._state == _IDLE and not self.transport.is_closing()

    # --- the request ---

    def begin(self, request: Request) -> "asyncio.Future[Reply]":
        """Send `request`; the future gets its reply at the head of the response, or the error.

        Whoever stops waiting for it calls `abandon`. After the head, `Reply.close` closes the connection if the body
        has not ended by then. The future raises:
        Disconnected, when the connection was closed before a whole head had come;
        BadResponse, when what came is not a response;
        ClientError and its kin, when the request's own body broke on its way in.
        """
        self.used = True
        self._request = request
        self._state = _HEAD
        self._interim = 0
        waiter: asyncio.Future[Reply] = self._loop.create_future()
        self._waiter = waiter
        tail = request.tail
        if request.extra:
            tail += serialise(request.extra)
        if not request.host:  # an HTTP/1.0 client need not name one; we speak 1.1 and must
            tail += b"Host: %b\r\n" % self.authority
        head = b"%b %b HTTP/1.1\r\n%b%b\r\n" % (request.method, request.target, request.fields.wire, tail)
        body = request.body
        if body is None:
            self._request_sent = True
            self.transport.write(head)
        else:
            self._send_with_body(request, body, head)
        return waiter

    def abandon(self, request: Request) -> None:
        """Give up waiting for the reply to `request`. If it is over, the connection may be somebody else's already."""
        if self._request is request:
            self.abort()

    def _send_with_body(self, request: Request, body: Body, head: bytes) -> None:
        if body.error is not None:
            raise body.error
        chunked = request.length is None
        if chunked:
            head = head[:-2] + b"Transfer-Encoding: chunked\r\n\r\n"
        whole = body.take_whole()
        if whole is not None:
            self._request_sent = True
            self.transport.write(head + (chunk(whole) + last_chunk(()) if chunked else whole))
            return
        self._request_sent = False
        self.transport.write(head)
        body.pipe(self._send_chunk if chunked else self._send_piece, self._request_ended)

    def _send_piece(self, data: bytes) -> None:
        self.transport.write(data)

    def _send_chunk(self, data: bytes) -> None:
        if data:  # an empty chunk would end the body
            self.transport.write(chunk(data))

    def _request_ended(self, error: BaseException | None) -> None:
        if error is not None:
            self._fail(error)
            return
        request = self._request
        if request is not None and request.length is None and request.body is not None:
            self.transport.write(last_chunk(request.body.trailers))
        self._request_sent = True

    # --- the response ---

    def data_received(self, data: bytes) -> None:
        """Take bytes from the upstream."""
        state = self._state
        if state == _HEAD:
            self._read_head(data)
        elif state == _LENGTH:
            self._read_length(data)
        elif state == _CHUNKED:
            self._read_chunked(data)
        elif state == _UNTIL_CLOSE and self._body is not None:
            self._body.feed(data)
        elif state == _TUNNEL:
            if self.tunnel is not None:
                self.tunnel.from_upstream(data)
            else:
                self._buffer += data
                self.transport.pause_reading()
        else:
            self.abort()  # nobody asked for these bytes

    def _read_head(self, data: bytes) -> None:
        if self._buffer:
            data = self._buffer + data
        while self._state == _HEAD:
            end = data.find(b"\r\n\r\n") + 4
            if end == 3:
                if len(data) > MAX_HEAD:
                    self._fail(BadResponse("its head is too large"))
                elif data.count(b"\n") != data.count(b"\r\n"):
                    self._fail(BadResponse("a line of its head does not end with CRLF"))
                else:
                    self._buffer = data
                return
            self._buffer = b""
            if end > MAX_HEAD:
                self._fail(BadResponse("its head is too large"))
                return
            try:
                data = self._take_head(data[:end], data[end:])
            except BadResponse as error:
                self._fail(error)
                return

    def _take_head(self, head: bytes, rest: bytes) -> bytes:
        """Act on one head; give what is left of `rest` when that was an interim one."""
        request, waiter = self._request, self._waiter
        read = read_response_head(head)
        if request is None or waiter is None or waiter.done():
            self.abort()
            return b""
        if read.status < 200:
            return self._take_interim(request, read, rest)
        reply = read.reply()
        self._keep_alive = read.keep_alive
        length = 0 if request.method == b"HEAD" else read.size
        if length > 0:
            if len(rest) >= length:
                reply.body = rest[:length]
                self._complete(extra=len(rest) > length)
            else:
                self._state = _LENGTH
                self._left = length
                self._open_body(reply)
                self._read_length(rest)
        elif length == 0:
            reply.body = None if request.method == b"HEAD" or read.bodiless else b""
            self._complete(extra=bool(rest))
        elif length == CHUNKED:
            self._state = _CHUNKED
            self._reader = ChunkedReader()
            self._take_chunked(reply, rest)
        else:
            self._state = _UNTIL_CLOSE
            body = self._open_body(reply)
            if rest:
                body.feed(rest)
        self._waiter = None
        waiter.set_result(reply)
        return b""

    def _take_interim(self, request: Request, read: ResponseHead, rest: bytes) -> bytes:
        self._interim += 1
        if self._interim > MAX_INTERIM:
            raise BadResponse("too many interim responses")
        if read.status != 101:
            if request.informational is not None:
                request.informational(read.status, read.reason, read.fields)
            return rest
        if request.upgrade is None or not self._request_sent:
            raise BadResponse("it switches protocols without having been asked to")
        self._state = _TUNNEL
        self._buffer = rest
        reply = read.reply()
        reply.extra = ((b"Connection", b"Upgrade"), (b"Upgrade", read.upgrade or request.upgrade))
        reply.tunnel = self
        reply.on_close(self._tunnel_closed)
        waiter, self._waiter = self._waiter, None
        if waiter is not None:
            waiter.set_result(reply)
        return b""

    def _open_body(self, reply: Reply) -> Body:
        body = self._body = Body(self._clock)
        body.on_pause = self._pause_reading
        body.on_resume = self._resume_reading
        reply.body = body
        reply.on_close(lambda _: self._reply_closed(body))
        return body

    def _pause_reading(self) -> None:
        if not self.transport.is_closing():
            self.transport.pause_reading()

    def _resume_reading(self) -> None:
        if not self.transport.is_closing() and self._state != _IDLE:
            self.transport.resume_reading()

    def _read_length(self, data: bytes) -> None:
        body = self._body
        if body is None or not data:
            return
        size = len(data)
        if size < self._left:
            self._left -= size
            body.feed(data)
            return
        extra = size > self._left
        body.feed(data[: self._left] if extra else data)
        self._left = 0
        self._end_body(extra=extra)

    def _take_chunked(self, reply: Reply, rest: bytes) -> None:
        """Begin a chunked body; one that is already whole needs no stream."""
        reader = self._reader
        assert reader is not None  # noqa: S101 -- set by the only caller
        try:
            pieces = reader.feed(rest)
        except FramingError as fault:
            raise BadResponse(str(fault)) from None
        if reader.done:
            reply.body = pieces[0] if len(pieces) == 1 else b"".join(pieces)
            reply.trailers = reader.trailers
            self._complete(extra=bool(reader.rest))
            return
        body = self._open_body(reply)
        for piece in pieces:
            body.feed(piece)

    def _read_chunked(self, data: bytes) -> None:
        reader, body = self._reader, self._body
        if reader is None or body is None:
            return
        try:
            pieces = reader.feed(data)
        except FramingError as fault:
            self._fail(BadResponse(str(fault)))
            return
        for piece in pieces:
            body.feed(piece)
        if reader.done:
            body.trailers = reader.trailers
            self._end_body(extra=bool(reader.rest))

    def _end_body(self, *, extra: bool) -> None:
        body, self._body = self._body, None
        if body is not None:
            # The connection may serve another exchange before this body is read.
            body.on_pause = body.on_resume = None
            if body.paused and not self.transport.is_closing():
                self.transport.resume_reading()
        self._complete(extra=extra)
        if body is not None:
            body.finish()

    def _complete(self, *, extra: bool) -> None:
        """End the exchange: give the connection back, or close it where keeping it would not be safe."""
        self._reader = None
        request, self._request = self._request, None
        body = request.body if request is not None else None
        if body is not None and self.transport.get_write_buffer_size():
            # The tail of it is still here: the upstream answered without having read it.
            self._request_sent = False
        if extra or not self._keep_alive or not self._request_sent:
            self._state = _CLOSED
            if body is not None and not self._request_sent:
                body.detach()
                self.transport.abort()  # it would wait for bytes to be read that nobody reads
            else:
                self.transport.close()
            return
        self._state = _IDLE
        self._on_idle(self)  # should it be closing already, `usable` says so to whoever takes it

    # --- the end ---

    def _reply_closed(self, body: Body) -> None:
        """End what is left of an exchange whose reply nobody wants any more, unless a later one has begun."""
        if self._body is body:
            self._body = None
            body.discard()
            self.abort()

    def _tunnel_closed(self, _: BaseException | None) -> None:
        self.abort()

    def _fail(self, error: BaseException) -> None:
        """End the exchange with `error`, whoever is waiting for it."""
        waiter, body = self._waiter, self._body
        self._body = None
        if waiter is not None and not waiter.done():
            waiter.set_exception(error)
        if body is not None:
            body.fail(error)
        self.abort()

    def abort(self) -> None:
        """Close now, dropping what was not sent yet."""
        request, self._request = self._request, None
        if request is not None and request.body is not None and not self._request_sent:
            request.body.detach()
        if self._state != _CLOSED:
            self._state = _CLOSED
        if not self._lost:
            self.transport.abort()

    # --- asyncio.Protocol ---

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport."""
        self.transport = cast("asyncio.Transport", transport)
        self.transport.set_write_buffer_limits(high=WRITE_HIGH_WATER)

    def eof_received(self) -> bool:
        """Take the upstream's FIN: the end of a body that lasts until close, else a hang-up."""
        if self._state == _UNTIL_CLOSE and self._body is not None:
            body, self._body = self._body, None
            self._state = _CLOSED
            body.finish()
            return False
        if self._state == _TUNNEL and self.tunnel is not None:
            return self.tunnel.upstream_ended()
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        """Tell whoever waits."""
        self._lost = True
        state, self._state = self._state, _CLOSED
        why = f"connection lost: {exc}" if exc else "connection closed"
        if state == _HEAD:
            self._fail(Disconnected(why, head_seen=bool(self._buffer or self._interim)))
        elif self._body is not None:
            self._fail(Disconnected(why, head_seen=True))
        elif self.tunnel is not None:
            self.tunnel.close()
        self._on_lost(self)

    def pause_writing(self) -> None:
        """Slow the client down, or the other side of a tunnel."""
        if self.tunnel is not None:
            self.tunnel.upstream_full(full=True)
        elif self._request is not None and self._request.body is not None:
            self._request.body.hold()

    def resume_writing(self) -> None:
        """Let the client, or the other side of a tunnel, go on."""
        if self.tunnel is not None:
            self.tunnel.upstream_full(full=False)
        elif self._request is not None and self._request.body is not None:
            self._request.body.release()

    def join(self, tunnel: "Tunnel") -> None:
        """Begin to tunnel; what came with the 101 goes first."""
        self.tunnel = tunnel
        if self._buffer:
            tunnel.from_upstream(self._buffer)
            self._buffer = b""
        if not self.transport.is_reading() and not self.transport.is_closing():
            self.transport.resume_reading()
