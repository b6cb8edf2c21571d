"""Bounds on the connections of the ops and admin listeners, which aiohttp does not set.

In number: not the newcomer is refused when there are too many connections, but one of those that are there is closed.
A probe or a scrape always gets in, and is over long before its turn to go comes. First go those that have not sent a
whole head, then those whose last request was not let in, last those whose was (`let_in` tells); in each, those that wait
for no answer before those that do, and the older before the newer. So silent strangers push out one another, and not the
stream of an operator.

In time: a connection that has not sent a whole request head `HEAD_TIMEOUT` seconds after it was made is closed, however
slowly it drips. What is looked for is the empty line at the end of the head (RFC 9112 §2.1; empty lines before it do not
count, §2.2): whether the head is any good is aiohttp's to judge. For the heads after the first there is aiohttp's
keep-alive time, which runs from the end of an answer to the next whole head.
"""

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import cast

from sidecar.timers import Lane

__all__ = ["HEAD_TIMEOUT", "MOST", "being_answered", "gated", "let_in"]

MOST = 128
HEAD_TIMEOUT = 10.0  # seconds


def gated(
    factory: Callable[[], asyncio.BaseProtocol], most: int = MOST, head_timeout: float = HEAD_TIMEOUT
) -> Callable[[], asyncio.Protocol]:
    """Wrap a factory of protocols so that at most `most` are connected, and send a head within `head_timeout` seconds.

    The running loop is the one that they are connected on.
    """
    guard = _Guard(most, head_timeout)
    return lambda: _Gate(cast("asyncio.Protocol", factory()), guard)


@contextmanager
def being_answered(transport: asyncio.BaseTransport | None) -> Iterator[None]:
    """Let the connection count as busy for as long as the block lasts. One without a gate needs none."""
    gate = _gate_of(transport)
    if gate is None:
        yield
        return
    gate.answering += 1
    try:
        yield
    finally:
        gate.answering -= 1


def let_in(transport: asyncio.BaseTransport | None, *, let: bool) -> None:
    """Note whether whoever asks here was let in. What counts is his last request."""
    gate = _gate_of(transport)
    if gate is not None:
        gate.let = let


class _Guard:
    """What the connections of one listener have in common: their number, and the timers of those without a head."""

    def __init__(self, most: int, head_timeout: float) -> None:
        self._most = most
        self._connected: dict[_Gate, asyncio.Transport] = {}
        self._heads: Lane[_Gate] = Lane(asyncio.get_running_loop(), head_timeout, self.cut)

    def let_in(self, gate: "_Gate", transport: asyncio.Transport) -> None:
        if len(self._connected) >= self._most:
            self.cut(min(self._connected, key=_worth))  # the first of equals is the oldest
        self._connected[gate] = transport
        self._heads.start(gate)

    def head_came(self, gate: "_Gate") -> None:
        self._heads.stop(gate)

    def cut(self, gate: "_Gate") -> None:
        self._heads.stop(gate)
        self._connected.pop(gate).abort()

    def has_left(self, gate: "_Gate") -> None:
        self._heads.stop(gate)
        self._connected.pop(gate, None)


class _Gate(asyncio.Protocol):
    """Passes everything on to the protocol inside."""

    def __init__(self, inside: asyncio.Protocol, guard: _Guard) -> None:
        self._inside = inside
        self._guard = guard
        self.whole = False  # the first head
        self.answering = 0
        self.let = False
        self._tail = b""  # the end of what came of it; b"": nothing but empty lines

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._guard.let_in(self, cast("asyncio.Transport", transport))
        self._inside.connection_made(transport)

    def connection_lost(self, exc: Exception | None) -> None:
        self._guard.has_left(self)
        self._inside.connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        if not self.whole:
            self._look_for_end(data)
        self._inside.data_received(data)

    def _look_for_end(self, data: bytes) -> None:
        seen = self._tail + data if self._tail else data.lstrip(b"\r\n")
        if b"\n\r\n" in seen or b"\n\n" in seen:
            self.whole = True
            self._guard.head_came(self)
        else:
            self._tail = seen[-2:]

    def eof_received(self) -> bool | None:
        return self._inside.eof_received()

    def pause_writing(self) -> None:
        self._inside.pause_writing()

    def resume_writing(self) -> None:
        self._inside.resume_writing()


def _gate_of(transport: asyncio.BaseTransport | None) -> _Gate | None:
    protocol = transport.get_protocol() if transport is not None else None
    return protocol if isinstance(protocol, _Gate) else None


def _worth(gate: _Gate) -> tuple[bool, bool, bool]:
    return gate.whole, gate.let, gate.answering > 0
