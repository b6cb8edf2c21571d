"""The client's side: one connection, one task, requests in order.

    data_received ── finds a head, has it parsed, opens its body ──▶ the connection's task
    the task      ── awaits the handler, writes its reply, looks for the next head ──▶ …

What arrives while a request is being answered stays in the buffer, bounded by pausing the socket: pipelined requests
are answered in order, one at a time. A client that leaves cancels the task, and with it the call to the upstream.

Every wait has a bound: `head_timeout` from the first byte of a head to its last, `keepalive_timeout` between requests,
the body's `idle`, `half_close_grace` after a FIN (a farewell or a half-close; nobody can tell), `LINGER` while the
client is given time to read an answer that came before its request was whole.

The handler gets a `Request` and returns a `Reply`; it knows nothing of sockets, and this module nothing of policy.
"""

import asyncio
import socket
from collections.abc import Awaitable
from typing import Any, Protocol, cast

from sidecar.errors import (
    BodyTooLarge,
    ClientError,
    ClientGone,
    ClientStalled,
    HeadTooLarge,
    Overloaded,
    RequestBodyTimeout,
    RequestError,
    RequestHeadTimeout,
    TargetTooLong,
    UpstreamIdle,
)
from sidecar.message import HIGH_WATER, Body, Fields, Headers, Reply, Request
from sidecar.wire.framing import ChunkedReader, FramingError
from sidecar.wire.idle import IdleGuard
from sidecar.wire.inbound import ForwardRules, Peer, read_request
from sidecar.wire.reset import reset
from sidecar.wire.respond import Responder, interim

__all__ = ["Handler", "Limits", "Server"]

LINGER = 2.0  # nginx lingers up to 5 s between reads, Apache 2 s
LINGER_BYTES = 1024 * 1024
WATCH = 1.0  # how often a client that is being held back is checked for a reset, in seconds
MAX_LEADING_CRLF = 8  # RFC 9112 §2.2: SHOULD ignore at least one empty line before a request line


class Handler(Protocol):
    """What answers. It never raises a `RequestError`: an error is a reply."""

    def __call__(self, request: Request) -> Awaitable[Reply]:
        """Answer a request."""

    def refuse(self, error: RequestError, client: str) -> Reply:
        """Answer what never became a request."""


class Limits:
    """The bounds of one listener. Times in seconds, sizes in bytes. Those on fields are `ForwardRules`'s."""

    __slots__ = (
        "connections",
        "half_close_grace",
        "head",
        "head_timeout",
        "keepalive_timeout",
        "target",
    )

    def __init__(
        self,
        *,
        connections: int = 10_000,
        head: int = 32 * 1024,
        target: int = 8 * 1024,
        head_timeout: float = 10.0,
        keepalive_timeout: float = 75.0,
        half_close_grace: float = 1.0,
    ) -> None:
        self.connections = connections
        self.head = head
        self.target = target
        self.head_timeout = head_timeout
        self.keepalive_timeout = keepalive_timeout
        self.half_close_grace = half_close_grace


class Server:
    """Everything that the connections of one listener share."""

    def __init__(
        self, loop: asyncio.AbstractEventLoop, handler: Handler, rules: ForwardRules, limits: Limits
    ) -> None:
        self.loop = loop
        self.handler = handler
        self.rules = rules
        self.limits = limits
        self.connections: set[ClientConnection] = set()
        self.draining = False
        self.accepted = 0
        # Whether a timer set for a head may be too late for the wait that follows it.
        self.hurried = limits.keepalive_timeout < limits.head_timeout
        self.emptied = asyncio.Event()  # set once a drain has seen the last connection off

    def __repr__(self) -> str:
        """Tell the live state in one line."""
        return f"<Server {len(self.connections)} connections{', draining' * self.draining}>"

    def __call__(self) -> "ClientConnection":
        """Make the protocol of one accepted connection."""
        return ClientConnection(self)

    def drain(self) -> None:
        """Close idle connections now and the others when their answer is out."""
        self.draining = True
        for connection in tuple(self.connections):
            connection.drain()
        if not self.connections:
            self.emptied.set()

    def abort(self) -> None:
        """Close every connection now."""
        for connection in tuple(self.connections):
            connection.abort()


# What the next bytes of a connection are: a request head, or nothing for a while; a body with a Content-Length; a body
# in chunks; the next request's (BUSY: this one is whole and being answered); a tunnel's; to be dropped (LINGER: the
# answer is out before its request was whole). Plain numbers, for the reason given in `upstream`.
_STATES = ("HEAD", "LENGTH", "CHUNKED", "BUSY", "TUNNEL", "LINGER", "CLOSED")
_HEAD, _LENGTH, _CHUNKED, _BUSY, _TUNNEL, _LINGER, _CLOSED = range(7)


class ClientConnection(asyncio.Protocol):
    """One client."""

    __slots__ = (
        "_body",
        "_buffer",
        "_due",
        "_empty_lines",
        "_eof",
        "_grace",
        "_left",
        "_lingered",
        "_partial",
        "_peer",
        "_reader",
        "_request",
        "_responder",
        "_server",
        "_state",
        "_task",
        "_timer",
        "_transport",
        "_waiter",
        "_watch",
    )

    def __init__(self, server: Server) -> None:
        self._server = server
        self._state = _HEAD
        self._buffer = b""
        self._partial = False  # a head has begun and is not whole
        self._empty_lines = 0  # seen before the next request line
        self._due = 0.0
        self._timer: asyncio.TimerHandle | None = None
        self._left = 0
        self._reader: ChunkedReader | None = None
        self._request: Request | RequestError | None = None
        self._body: Body | None = None
        self._waiter: asyncio.Future[None] | None = None
        self._task: asyncio.Task[Any] | None = None
        self._grace: asyncio.TimerHandle | None = None
        self._watch: asyncio.TimerHandle | None = None
        self._eof = False
        self._lingered = 0
        self._transport = cast("asyncio.Transport", None)
        self._peer = cast("Peer", None)
        self._responder = cast("Responder", None)

    def __repr__(self) -> str:
        """Tell the live state in one line."""
        return f"<ClientConnection {_STATES[self._state]} {self._request!r}>"

    # --- asyncio.Protocol ---

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Start the connection's one task."""
        server = self._server
        self._transport = cast("asyncio.Transport", transport)
        name = transport.get_extra_info("peername")
        self._peer = Peer(name[0] if isinstance(name, tuple) else "", server.rules)
        self._responder = Responder(server.loop, self._transport)
        server.accepted += 1
        if len(server.connections) >= server.limits.connections:
            self._refuse_connection()
            return
        server.connections.add(self)
        if server.draining:
            self._transport.close()
            return
        self._wait_at_most(server.limits.head_timeout)
        self._task = server.loop.create_task(self._serve())

    def data_received(self, data: bytes) -> None:
        """Take bytes from the client."""
        state = self._state
        if state == _HEAD:
            self._buffer = self._buffer + data if self._buffer else data
            self._find_head()
        elif state == _LENGTH:
            self._read_length(data)
        elif state == _CHUNKED:
            self._read_chunked(data)
        elif state == _BUSY:
            self._buffer += data
            if len(self._buffer) > HIGH_WATER:
                self._pause_reading()
        elif state == _TUNNEL:
            self._responder.tunnel_data(data)
        elif state == _LINGER:
            self._lingered += len(data)
            if self._lingered > LINGER_BYTES:
                self._transport.abort()

    def eof_received(self) -> bool:
        """Take the client's FIN: between requests the end; within one, perhaps only the end of what it has to say."""
        self._eof = True
        if self._state == _TUNNEL:
            return self._responder.tunnel_ended()
        if self._state in (_LENGTH, _CHUNKED):
            self._fail_body(ClientGone("the client ended in the middle of its request body"))
            return False
        if self._state != _BUSY and self._request is None:
            return False
        self._start_grace()
        return True

    def connection_lost(self, _: Exception | None) -> None:
        """End everything: nobody is left to answer."""
        server = self._server
        server.connections.discard(self)
        if server.draining and not server.connections:
            server.emptied.set()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._stop_grace()
        if self._watch is not None:
            self._watch.cancel()
            self._watch = None
        tunnelling, self._state = self._state == _TUNNEL, _CLOSED
        body, self._body = self._body, None
        if body is not None:
            body.on_pause = body.on_resume = None
            body.fail(ClientGone())
        self._responder.lost()
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)
        elif self._task is not None and not tunnelling:
            self._task.cancel()

    def pause_writing(self) -> None:
        """Slow down whoever feeds the response."""
        self._responder.full(full=True)

    def resume_writing(self) -> None:
        """Let whoever feeds the response go on."""
        self._responder.full(full=False)

    # --- reading ---

    def _find_head(self) -> None:
        """Look for a whole head in the buffer; hand over what it becomes, a request or an error."""
        data = self._buffer
        if data[:1] == b"\r":
            data = self._skip_empty_lines(data)
            if self._state != _HEAD:
                return
        end = data.find(b"\r\n\r\n") + 4
        server = self._server
        if end == 3 or end > server.limits.head:
            self._buffer = data
            self._wait_for_rest(data)
            return
        try:
            request, chunked = read_request(data[:end], self._peer, server.rules)
        except ClientError as error:
            self._hand_over(error)
            return
        self._partial = False
        self._empty_lines = 0
        request.task = self._task
        if request.minor:
            request.informational = self._relay_interim
        if chunked or request.length:
            self._open_body(request, data[end:], chunked=chunked)
        else:
            self._state = _BUSY
            self._buffer = data[end:]
        self._request = request
        waiter = self._waiter
        if waiter is not None and not waiter.done():
            waiter.set_result(None)

    def _skip_empty_lines(self, data: bytes) -> bytes:
        """RFC 9112 §2.2: SHOULD ignore at least one empty line before a request line. Not any number of them."""
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
        if error is not None:
            self._hand_over(error)
        elif data and not self._partial:
            self._partial = True
            self._wait_at_most(self._server.limits.head_timeout)

    def _partial_head_error(self, data: bytes, limits: Limits) -> ClientError | None:
        """Tell what is wrong with a head that is not whole yet, where it cannot become right any more."""
        first_line = data.find(b"\r\n")
        if (first_line if first_line >= 0 else len(data)) > limits.target + 64:
            return TargetTooLong()
        if len(data) > limits.head:
            return HeadTooLarge()
        # A bare LF is refused when it comes: its sender believes that the line has ended and waits for an answer.
        if data.count(b"\n") != data.count(b"\r\n"):
            return ClientError("A line of the head does not end with CRLF.")
        return None

    def _open_body(self, request: Request, rest: bytes, *, chunked: bool) -> None:
        body = self._body = request.body = Body(self._server.loop.time)
        body.on_pause = self._pause_reading
        body.on_resume = self._resume_reading
        body.on_limit = BodyTooLarge
        self._buffer = b""
        if chunked:
            self._state = _CHUNKED
            self._reader = ChunkedReader()
            if rest:
                self._read_chunked(rest)
        else:
            self._state = _LENGTH
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
        self._state = _BUSY
        body.on_pause = body.on_resume = None
        for piece in pieces:
            body.feed(piece)
        body.finish(trailers)
        self._resume_reading()

    def _fail_body(self, error: RequestError) -> None:
        body, self._body = self._body, None
        self._reader = None
        if body is not None:
            body.on_pause = body.on_resume = None
            body.fail(error)
        self._state = _LINGER

    def _hand_over(self, item: RequestError) -> None:
        """Give the task an error to answer; whatever else comes is dropped."""
        self._state = _LINGER
        self._buffer = b""
        self._request = item
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    def _relay_interim(self, status: int, reason: bytes, fields: Fields) -> None:
        if not self._transport.is_closing() and not self._responder.started:
            self._transport.write(interim(status, reason, fields.wire))

    # --- the task ---

    async def _serve(self) -> None:
        """Answer one request after the other until the connection ends."""
        create_future = self._server.loop.create_future
        try:
            while self._state != _CLOSED:
                item = self._request
                if item is None:
                    self._waiter = create_future()
                    await self._waiter
                    self._waiter = None
                    item = self._request
                    if item is None:
                        return
                self._request = None
                if not isinstance(item, Request):
                    self._answer_error(item)
                    return
                body = item.body
                if body is None or body.finished:
                    again = await self._answer(item)
                else:
                    again = await self._answer_guarded(item, body)
                if not again:
                    return
                if self._responder.is_full:
                    await self._drained()
                self._next()
        except (asyncio.CancelledError, ClientGone):
            pass  # the client left; what the request held was given back on the way here
        except Exception as fault:  # noqa: BLE001 -- a fault in one connection must end there
            self._transport.abort()
            self._server.loop.call_exception_handler(
                {"message": "fault in a client connection", "exception": fault}
            )
        finally:
            self._task = None

    async def _drained(self) -> None:
        """Wait until the client has read: one that only asks must not fill our memory with answers.

        Raises:
            ClientStalled: it has not within `keepalive_timeout`.

        """
        try:
            async with asyncio.timeout(self._server.limits.keepalive_timeout):
                await self._responder.drained()
        except TimeoutError:
            self._transport.abort()
            raise ClientStalled from None

    def _answer_error(self, error: RequestError) -> None:
        reply = self._server.handler.refuse(error, self._peer.address)
        self._responder.begin(None, reply, keep_alive=False)
        reply.close()
        self._finish()

    async def _answer(self, request: Request) -> bool:
        """Get the reply and write it. True: the connection may carry another request."""
        body = request.body
        reply = await self._server.handler(request)
        try:
            keep_alive = request.keep_alive and not self._server.draining and (body is None or body.finished)
            if self._eof and not self._buffer:
                keep_alive = False
            if reply.tunnel is not None:
                await self._tunnel(reply)
                return False
            if self._transport.is_closing():
                raise ClientGone  # noqa: TRY301 -- the one way out for whatever goes wrong here
            if not self._responder.begin(request, reply, keep_alive=keep_alive):
                await self._responder.stream(reply)
        except BaseException as error:
            reset(self._transport)
            reply.close(ClientGone() if isinstance(error, asyncio.CancelledError) else error)
            if isinstance(error, asyncio.CancelledError | RequestError):
                return False
            raise
        reply.close()
        if self._responder.keep_alive:
            return True
        self._finish()
        return False

    async def _answer_guarded(self, request: Request, body: Body) -> bool:
        """Answer a request whose body is still coming in, and see that it does."""
        guard = IdleGuard(self._server.loop, body, lambda: self._body_stalled(body))
        try:
            return await self._answer(request)
        finally:
            guard.stop()

    def _body_stalled(self, body: Body) -> None:
        self._fail_body(UpstreamIdle("it stopped reading the request") if body.held else RequestBodyTimeout())

    async def _tunnel(self, reply: Reply) -> None:
        self._state = _TUNNEL
        self._stop_grace()
        early, self._buffer = self._buffer, b""
        error = await self._responder.tunnel(reply, early, ended=self._eof)
        reply.close(error)

    def _next(self) -> None:
        """Make ready for the next request, which may be in the buffer already."""
        self._state = _HEAD
        if self._grace is not None:
            self._stop_grace()
        if not self._transport.is_reading():
            self._resume_reading()
        server = self._server
        self._due = server.loop.time() + server.limits.keepalive_timeout
        if self._timer is None or server.hurried:
            self._wait_at_most(server.limits.keepalive_timeout)
        if self._buffer:
            self._find_head()
        elif server.draining:
            self._finish()
        if self._eof:
            self._after_eof()

    def _after_eof(self) -> None:
        """See what a client that has sent its FIN can still be given: an answer to what it had asked for whole."""
        if self._state == _BUSY:
            self._start_grace()
        elif self._state in (_LENGTH, _CHUNKED):
            self._request = None
            self._transport.close()
        elif self._state == _HEAD:
            self._finish()

    def _finish(self) -> None:
        """Close after what was written has gone; while request bytes may still come, not before the client has read."""
        transport = self._transport
        if transport.is_closing():
            return
        if self._state == _BUSY or self._eof or not transport.can_write_eof():
            self._state = _CLOSED
            transport.close()
            return
        # Closing with unread bytes would send a reset, and a reset may destroy the answer before the client reads it
        # (RFC 9112 §9.6).
        if self._body is not None:
            self._body.on_pause = self._body.on_resume = None
            self._body = None
        self._state = _LINGER
        try:
            transport.write_eof()
        except (
            OSError
        ):  # plain asyncio, when the client has reset the connection and the loop has not seen it yet
            transport.abort()
            return
        if not transport.is_reading():
            self._resume_reading()
        self._wait_at_most(LINGER)

    # --- the bounds ---

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
        if self._state not in (_HEAD, _LINGER):
            return  # a request is under way; the wait after it will set a timer again
        # A loop may call a timer up to its clock's resolution early (uvloop counts whole milliseconds).
        if self._server.loop.time() + 0.001 < self._due:
            self._timer = self._server.loop.call_at(self._due, self._time_over)
        elif self._state == _LINGER:
            self._transport.abort()
        elif self._partial:
            self._hand_over(RequestHeadTimeout())
        else:
            self._transport.close()

    def drain(self) -> None:
        """Close if idle; else the answer under way will be the last one."""
        if self._state == _HEAD and not self._buffer and self._request is None:
            self._transport.close()

    def abort(self) -> None:
        """Close now. An answer under way must not look whole."""
        if self._transport is not None:
            reset(self._transport)

    def _start_grace(self) -> None:
        self._grace = self._server.loop.call_later(self._server.limits.half_close_grace, self._grace_over)

    def _grace_over(self) -> None:
        """Take the FIN for a farewell, unless the client is visibly still reading."""
        self._grace = None
        if self._responder.moved_since(self._server.limits.half_close_grace):
            self._start_grace()
        else:
            self._transport.abort()

    def _stop_grace(self) -> None:
        if self._grace is not None:
            self._grace.cancel()
            self._grace = None

    def _refuse_connection(self) -> None:
        self._state = _LINGER
        reply = self._server.handler.refuse(
            Overloaded("limits.connections is reached", retry_after=1.0), self._peer.address
        )
        self._responder.begin(None, reply, keep_alive=False)
        reply.close()
        self._finish()
