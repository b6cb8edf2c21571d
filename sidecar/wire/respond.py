"""Writing one response to a client: its head in one piece with a small body, a stream for the rest, or a tunnel.

The framing is ours, whatever the upstream's was: a known length stays one; what is chunked or ends with the upstream's
connection is chunked for an HTTP/1.1 client, and ends with the connection for an HTTP/1.0 client (RFC 9112 §6.1).
A body that breaks after its head aborts the client's connection: it must never look complete.
"""

import asyncio

from sidecar.errors import ClientStalled, UpstreamIdle
from sidecar.message import Body, Reply, Request, phrase, serialise
from sidecar.wire.framing import chunk, last_chunk
from sidecar.wire.idle import IdleGuard
from sidecar.wire.tunnel import Tunnel
from sidecar.wire.upstream import UpstreamConnection

__all__ = ["Responder", "interim"]

_CLOSE = b"Connection: close\r\n"
_KEEP_ALIVE = b"Connection: keep-alive\r\n"
_CHUNKED = b"Transfer-Encoding: chunked\r\n"


_MAX_LINES = 256
_MAX_REASON = 64

_lines: dict[tuple[int, bytes], bytes] = {}


def _status_line(status: int, reason: bytes) -> bytes:
    line = _lines.get((status, reason))
    if line is None:
        line = b"HTTP/1.1 %d %b\r\n" % (status, reason or phrase(status).encode())
        if len(reason) <= _MAX_REASON:
            if len(_lines) >= _MAX_LINES:
                _lines.clear()
            _lines[status, reason] = line
    return line


def interim(status: int, reason: bytes, fields: bytes) -> bytes:
    """Give the bytes of a 1xx response; `fields` as they are written."""
    return b"%b%b\r\n" % (_status_line(status, reason), fields)


class Responder:
    """Writes the responses of one client connection, one at a time."""

    __slots__ = (
        "_body",
        "_chunked",
        "_drained",
        "_loop",
        "_moved_at",
        "_transport",
        "_tunnel",
        "is_full",
        "keep_alive",
        "started",
    )

    def __init__(self, loop: asyncio.AbstractEventLoop, transport: asyncio.Transport) -> None:
        self._loop = loop
        self._transport = transport
        self._body: Body | None = None
        self._tunnel: Tunnel | None = None
        self._chunked = False
        self._drained: asyncio.Future[None] | None = None
        self.is_full = False  # more is written than the client has read, by a good deal
        self._moved_at = 0.0
        self.keep_alive = True
        self.started = False  # the head of a final response is out: no interim one may follow

    def begin(self, request: Request | None, reply: Reply, *, keep_alive: bool) -> bool:
        """Write the head, and the body with it if it is all here. False: `stream` must follow.

        `request` is None where none could be parsed. `keep_alive` tells what the client may do; `self.keep_alive` what
        became of it, since a body without a length ends an HTTP/1.0 connection.
        """
        body = reply.body
        head = _status_line(reply.status, reply.reason) + reply.fields.wire
        for field in reply.extra:
            head += b"%b: %b\r\n" % field
        old = request is not None and request.minor == 0
        chunked = False
        if body is not None and reply.length is None:
            if old or request is None:
                keep_alive = False
            else:
                chunked = True
                head += _CHUNKED
        if not keep_alive:
            head += _CLOSE
        elif old:
            head += _KEEP_ALIVE
        self.keep_alive = keep_alive
        if isinstance(body, bytes):
            if chunked:
                body = chunk(body) + last_chunk(reply.trailers)
            elif request is not None and request.method == b"HEAD":
                body = b""
            self._transport.write(b"%b\r\n%b" % (head, body))
            return True
        self._transport.write(head + b"\r\n")
        if body is None:
            return True
        self.started = True
        self._chunked = chunked
        return False

    async def stream(self, reply: Reply) -> None:
        """Write the rest of the body as it comes.

        Raises:
            UpstreamIdle: it stood still on the upstream's side for longer than `reply.idle`, or took longer in all
                than `reply.lifetime`.
            ClientStalled: it stood still on the client's side.
            RequestError: whatever broke the body.

        """
        body = reply.body
        assert isinstance(body, Body)  # noqa: S101 -- `begin` said so
        ended: asyncio.Future[None] = self._loop.create_future()

        def end(error: BaseException | None) -> None:
            if not ended.done():
                if error is None:
                    ended.set_result(None)
                else:
                    ended.set_exception(error)

        self._body = body
        if self.is_full:
            body.hold()
        body.idle = reply.idle
        guard = IdleGuard(
            self._loop, body, lambda: body.fail(ClientStalled() if body.held else UpstreamIdle())
        )
        lifetime = reply.lifetime
        late = self._loop.call_later(lifetime, body.fail, UpstreamIdle("timeout.body")) if lifetime else None
        try:
            body.pipe(self._write_chunk if self._chunked else self._write, end)
            await ended
        finally:
            guard.stop()
            if late is not None:
                late.cancel()
            self._body = None
        if self._chunked:
            self._transport.write(last_chunk(body.shown_trailers))
        self.started = False

    def _write(self, data: bytes) -> None:
        self._moved_at = self._loop.time()
        self._transport.write(data)

    def _write_chunk(self, data: bytes) -> None:
        if data:  # an empty chunk would end the body
            self._moved_at = self._loop.time()
            self._transport.write(chunk(data))

    async def tunnel(self, reply: Reply, early: bytes, *, ended: bool) -> BaseException | None:
        """Write the 101, then join both connections until they end.

        `early` came from the client before the 101, and its FIN too if `ended`.

        Gives the error to close the reply with, None where the tunnel ended on its own.
        """
        upstream = reply.tunnel
        assert isinstance(upstream, UpstreamConnection)  # noqa: S101 -- the only kind there is
        self._transport.write(interim(reply.status, reply.reason, reply.fields.wire + serialise(reply.extra)))
        over: asyncio.Future[bool] = self._loop.create_future()

        def end(idle: bool) -> None:
            if not over.done():
                over.set_result(idle)

        tunnel = self._tunnel = Tunnel(self._loop, self._transport, upstream.transport, reply.idle, end)
        try:
            upstream.join(tunnel)
            if early:
                tunnel.from_client(early)
            if self.is_full:
                tunnel.client_full(full=True)
            elif not self._transport.is_reading() and not self._transport.is_closing():
                self._transport.resume_reading()
            if upstream.transport.is_closing() or self._transport.is_closing():
                tunnel.close()
            elif ended:
                tunnel.client_ended()
            idle = await over
        finally:
            tunnel.close()
        return UpstreamIdle("the tunnel stood still") if idle else None

    def tunnel_data(self, data: bytes) -> None:
        """Pass on what the client sends into the tunnel."""
        if self._tunnel is not None:
            self._tunnel.from_client(data)

    def tunnel_ended(self) -> bool:
        """Pass on the client's FIN; True keeps its connection for the other direction."""
        return self._tunnel is not None and self._tunnel.client_ended()

    async def drained(self) -> None:
        """Wait until the client has read most of what was written."""
        self._drained = self._loop.create_future()
        try:
            await self._drained
        finally:
            self._drained = None

    def full(self, *, full: bool) -> None:
        """Follow the client's write buffer."""
        self.is_full = full
        if not full and self._drained is not None and not self._drained.done():
            self._drained.set_result(None)
        if self._tunnel is not None:
            self._tunnel.client_full(full=full)
        elif self._body is not None:
            if full:
                self._body.hold()
            else:
                self._moved_at = self._loop.time()
                self._body.release()

    def moved_since(self, seconds: float) -> bool:
        """Tell whether the client has taken any of a body within the last `seconds`."""
        return self._body is not None and self._loop.time() - self._moved_at < seconds

    def lost(self) -> None:
        """Take note that the client's connection is gone."""
        if self._tunnel is not None:
            self._tunnel.close()
        if self._body is not None:
            self._body.discard()  # the task is cancelled but has not run yet; until then the body must go nowhere
