"""Two connections joined after a 101: bytes go through as they come, each way at the pace of the slower end.

One side's FIN is passed on as a FIN and the other direction goes on; where half-closing is impossible (TLS), or when
both sides have ended, or one is lost, or nothing has moved either way for `idle` seconds, both are closed.
"""

import asyncio
from collections.abc import Callable

__all__ = ["Tunnel"]


class _Side:
    """One end: its transport, and whether it has sent its FIN."""

    __slots__ = ("ended", "transport")

    def __init__(self, transport: asyncio.Transport) -> None:
        self.transport = transport
        self.ended = False


class Tunnel:
    """The pair. `on_end` is called once when it is over; its argument is True when `idle` ended it."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        client: asyncio.Transport,
        upstream: asyncio.Transport,
        idle: float | None,
        on_end: Callable[[bool], None],
    ) -> None:
        self._loop = loop
        self._client = _Side(client)
        self._upstream = _Side(upstream)
        self._idle = idle
        self._on_end: Callable[[bool], None] | None = on_end
        self._moved_at = loop.time()
        self._timer = loop.call_later(idle, self._check_idle) if idle else None

    def from_client(self, data: bytes) -> None:
        """Pass on what the client sent."""
        self._moved_at = self._loop.time()
        if not self._upstream.transport.is_closing():
            self._upstream.transport.write(data)

    def from_upstream(self, data: bytes) -> None:
        """Pass on what the upstream sent."""
        self._moved_at = self._loop.time()
        if not self._client.transport.is_closing():
            self._client.transport.write(data)

    def client_full(self, *, full: bool) -> None:
        """Follow the client's write buffer with the upstream's reading."""
        _set_reading(self._upstream.transport, reading=not full)
        self._moved_at = self._loop.time()

    def upstream_full(self, *, full: bool) -> None:
        """Follow the upstream's write buffer with the client's reading."""
        _set_reading(self._client.transport, reading=not full)
        self._moved_at = self._loop.time()

    def client_ended(self) -> bool:
        """Pass on the client's FIN. True: keep its connection for the other direction."""
        return self._ended(self._client, self._upstream)

    def upstream_ended(self) -> bool:
        """Pass on the upstream's FIN. True: keep its connection for the other direction."""
        return self._ended(self._upstream, self._client)

    def close(self, *, idle: bool = False) -> None:
        """Close both ends; what was accepted is still flushed, except after an idle end."""
        on_end, self._on_end = self._on_end, None
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        for side in (self._client, self._upstream):
            _set_reading(side.transport, reading=True)  # else a lost peer would never be noticed
            if idle:
                side.transport.abort()
            else:
                side.transport.close()
        if on_end is not None:
            on_end(idle)

    def _ended(self, this: _Side, other: _Side) -> bool:
        if this.ended:  # uvloop tells of a FIN once more when reading is resumed
            return True
        this.ended = True
        if other.ended or not other.transport.can_write_eof() or other.transport.is_closing():
            self.close()
            return False
        try:
            other.transport.write_eof()
        except (
            OSError
        ):  # plain asyncio, when that side has reset the connection and the loop has not seen it yet
            self.close()
            return False
        return True

    def _check_idle(self) -> None:
        assert self._idle is not None  # noqa: S101 -- the timer is only set with one
        due = self._moved_at + self._idle
        if self._loop.time() + 0.001 >= due:
            self._timer = None
            self.close(idle=True)
        else:
            self._timer = self._loop.call_at(due, self._check_idle)


def _set_reading(transport: asyncio.Transport, *, reading: bool) -> None:
    if transport.is_closing() or transport.is_reading() == reading:
        return
    if reading:
        transport.resume_reading()
    else:
        transport.pause_reading()
