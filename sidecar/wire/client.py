"""One client connection: one task, requests in order.

    Intake.data_received ── a whole head ──▶ the task ── handler(request) ──▶ Responder ──▶ look for the next head

A client that leaves cancels the task, and with it the call to the upstream. After a client's FIN a request under way
goes on for `half_close_grace`: a farewell or a half-close, nobody can tell, unless the client is visibly reading.
When an answer is out before its request was whole, the rest is read and dropped for `LINGER`, so that closing does not
destroy the answer (RFC 9112 §9.6).
"""

import asyncio
from typing import TYPE_CHECKING, cast

from sidecar.errors import (
    ClientGone,
    ClientStalled,
    Overloaded,
    RequestBodyTimeout,
    RequestError,
    UpstreamIdle,
)
from sidecar.message import Body, Reply, Request
from sidecar.wire.idle import IdleGuard
from sidecar.wire.inbound import Peer
from sidecar.wire.intake import BUSY, CHUNKED, CLOSED, HEAD, LENGTH, LINGER, TUNNEL, Intake
from sidecar.wire.reset import reset
from sidecar.wire.respond import Responder

if TYPE_CHECKING:
    from sidecar.wire.server import Server

__all__ = ["MAX_REFUSED", "ClientConnection"]

MAX_REFUSED = 64  # connections over the limit that are told so at the same time
LINGER_SECONDS = 2.0  # nginx lingers up to 5 s between reads, Apache 2 s


class ClientConnection(Intake):
    """One client."""

    __slots__ = ("_current", "_eof", "_grace", "_lost")

    def __init__(self, server: "Server") -> None:
        super().__init__(server)
        self._grace: asyncio.TimerHandle | None = None
        self._eof = False
        self._lost = False  # after that, plain asyncio's transports cannot even be aborted any more
        self._current: Request | RequestError | None = None  # what is being answered

    # --- asyncio.Protocol ---

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Start the connection's one task."""
        server = self._server
        self._transport = cast("asyncio.Transport", transport)
        known = self.introduce()
        self._responder = Responder(server.loop, self._transport)
        server.accepted += 1
        if not known and not server.rules.unix:
            self._transport.abort()  # it has reset the connection already: uvloop asks the socket only now
            return
        if len(server.connections) >= server.limits.connections:
            self._refuse_connection()
            return
        server.connections.add(self)
        if server.draining:
            self._transport.close()
            return
        self._wait_at_most(server.limits.head_timeout)
        self._task = server.loop.create_task(self._serve())

    def introduce(self) -> bool:
        """Find out for whom this connection speaks. False: its peer has no address."""
        name = self._transport.get_extra_info("peername")
        known = isinstance(name, tuple)
        self._peer = Peer(name[0] if known else "", self._server.rules)
        return known

    def eof_received(self) -> bool:
        """Take the client's FIN: between requests the end; within one, perhaps only the end of what it has to say."""
        self._eof = True
        if self._state == TUNNEL:
            return self._responder.tunnel_ended()
        if self._state in (LENGTH, CHUNKED):
            self._fail_body(ClientGone("the client ended in the middle of its request body"))
            return False
        if self._state != BUSY and self._request is None:
            return False
        self._start_grace()
        return True

    def connection_lost(self, _: Exception | None) -> None:
        """End everything: nobody is left to answer."""
        self._lost = True
        server = self._server
        server.connections.discard(self)
        server.refused.discard(self)
        if server.draining and not server.connections:
            server.emptied.set()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._stop_grace()
        if self._watch is not None:
            self._watch.cancel()
            self._watch = None
        tunnelling, self._state = self._state == TUNNEL, CLOSED
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

    # --- the task ---

    async def _serve(self) -> None:
        """Answer one request after the other until the connection ends."""
        server = self._server
        create_future = server.loop.create_future
        try:
            while self._state != CLOSED:
                item = self._request
                if item is None:
                    self._waiter = create_future()
                    await self._waiter
                    self._waiter = None
                    item = self._request
                    if item is None:
                        return
                self._request = None
                self._current = item
                if not isinstance(item, Request):
                    self._answer_error(item)
                    return
                body = item.body
                if body is not None and not body.finished:
                    again = await self._answer_guarded(item, body)
                else:
                    reply = await server.handler(item)
                    if type(reply.body) is bytes:  # by far the most
                        again = self._deliver(item, reply)
                    else:
                        again = await self._deliver_long(item, reply)
                if not again:
                    return
                if self._responder.is_full:
                    await self._drained()
                self._next()
        except (asyncio.CancelledError, ClientGone):
            # The client left; what the request held was given back on the way here. If it is a cancellation of another
            # kind, the client must not wait for an answer that will not come.
            if not self._lost:
                self._transport.abort()
        except Exception as fault:  # noqa: BLE001 -- a fault in one connection must end there
            self._transport.abort()
            server.loop.call_exception_handler(
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

    def _deliver(self, request: Request, reply: Reply) -> bool:
        """Write a reply that is all here."""
        try:
            self._begin(request, reply)
        except BaseException as error:
            self._break(request, reply, error)
            if isinstance(error, RequestError):
                return False
            raise
        return self._delivered(reply)

    async def _deliver_long(self, request: Request, reply: Reply) -> bool:
        """Write a reply whose body is still to come, or that becomes a tunnel."""
        try:
            if reply.tunnel is not None:
                await self._tunnel(reply)
                return False
            if not self._begin(request, reply):
                await self._responder.stream(reply)
        except BaseException as error:
            self._break(request, reply, error)
            if isinstance(error, asyncio.CancelledError | RequestError):
                return False
            raise
        return self._delivered(reply)

    def _begin(self, request: Request, reply: Reply) -> bool:
        """Write the head, with a body that is all here. False: the body must be streamed.

        Raises:
            ClientGone: the connection is being closed.

        """
        body = request.body
        keep_alive = request.keep_alive and not self._server.draining and (body is None or body.finished)
        if self._eof and not self._buffer:
            keep_alive = False
        if self._transport.is_closing():
            raise ClientGone
        return self._responder.begin(request, reply, keep_alive=keep_alive)

    def _break(self, request: Request, reply: Reply, error: BaseException) -> None:
        """End an answer that cannot be finished: it must not look whole."""
        if not self._lost:
            reset(self._transport)
        cancelled = isinstance(error, asyncio.CancelledError)
        reply.close((request.cut or ClientGone()) if cancelled else error)

    def _delivered(self, reply: Reply) -> bool:
        reply.close()
        if self._responder.keep_alive:
            return True
        self._finish()
        return False

    async def _answer_guarded(self, request: Request, body: Body) -> bool:
        """Answer a request whose body is still coming in, and see that it does."""
        guard = IdleGuard(self._server.loop, body, lambda: self._body_stalled(body))
        try:
            return await self._deliver_long(request, await self._server.handler(request))
        finally:
            guard.stop()

    def _body_stalled(self, body: Body) -> None:
        self._fail_body(UpstreamIdle("it stopped reading the request") if body.held else RequestBodyTimeout())

    async def _tunnel(self, reply: Reply) -> None:
        self._state = TUNNEL
        self._stop_grace()
        early, self._buffer = self._buffer, b""
        error = await self._responder.tunnel(reply, early, ended=self._eof)
        reply.close(error)

    def _next(self) -> None:
        """Make ready for the next request, which may be in the buffer already."""
        self._state = HEAD
        if self._grace is not None:
            self._stop_grace()
        server = self._server
        self._due = server.loop.time() + server.limits.keepalive_timeout
        if self._timer is None or server.hurried:
            self._wait_at_most(server.limits.keepalive_timeout)
        if self._buffer:
            self._find_head()
        elif server.draining:
            self._finish()
        if not self._transport.is_reading():
            self._read_on()
        if self._eof:
            self._after_eof()

    def _after_eof(self) -> None:
        """See what a client that has sent its FIN can still be given: an answer to what it had asked for whole."""
        if self._state == BUSY:
            self._start_grace()
        elif self._state in (LENGTH, CHUNKED):
            self._request = None
            self._transport.close()
        elif self._state == HEAD:
            self._finish()

    def _finish(self) -> None:
        """Close after what was written has gone; while request bytes may still come, not before the client has read."""
        transport = self._transport
        if transport.is_closing():
            return
        if (self._state == BUSY and not self._buffer) or self._eof or not transport.can_write_eof():
            self._state = CLOSED
            transport.close()
            if transport.get_write_buffer_size():
                self._wait_at_most(self._server.limits.keepalive_timeout)
            return
        # Closing with unread bytes would send a reset, and a reset may destroy the answer before the client reads it
        # (RFC 9112 §9.6).
        if self._body is not None:
            self._body.on_pause = self._body.on_resume = None
            self._body = None
        self._state = LINGER
        try:
            transport.write_eof()
        except OSError:  # plain asyncio, when the client has sent a reset and the loop has not seen it yet
            transport.abort()
            return
        if not transport.is_reading():
            self._resume_reading()
        self._wait_at_most(LINGER_SECONDS)

    def drain(self) -> None:
        """Close if idle; else the answer under way will be the last one."""
        if self._state == HEAD and not self._buffer and self._request is None:
            self._transport.close()

    def cut(self, error: RequestError) -> None:
        """End what is under way because we have to: with `error` as its answer if none has begun."""
        if self._task is not None and self._state != HEAD and isinstance(self._current, Request):
            self._current.cut = error
            self._task.cancel()
        else:
            self.abort()

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
        """Say why, and close. Past a bound of their own just close: refused connections must not use up the files."""
        server = self._server
        server.refused_count += 1
        self._state = LINGER
        if len(server.refused) >= MAX_REFUSED:
            self._transport.abort()
            return
        server.refused.add(self)
        reply = self._server.handler.refuse(
            Overloaded("limits.connections is reached", retry_after=1.0), self._peer.address
        )
        self._responder.begin(None, reply, keep_alive=False)
        reply.close()
        self._finish()
