"""A bound on the connections of the ops listener, which anybody on the network may reach.

aiohttp gives a request head as long as it likes. So not the newcomer is refused when there are too many connections, but
the oldest is closed: a probe or a scrape always gets in, and is over long before its turn to go comes.
"""

import asyncio
from collections.abc import Callable
from typing import cast

__all__ = ["MOST", "gated"]

MOST = 128


def gated(factory: Callable[[], asyncio.BaseProtocol], most: int = MOST) -> Callable[[], asyncio.Protocol]:
    """Wrap a factory of protocols so that at most `most` of them are connected."""
    connected: dict[_Gate, asyncio.Transport] = {}
    return lambda: _Gate(cast("asyncio.Protocol", factory()), connected, most)


class _Gate(asyncio.Protocol):
    """Passes everything on to the protocol inside."""

    def __init__(
        self, inside: asyncio.Protocol, connected: "dict[_Gate, asyncio.Transport]", most: int
    ) -> None:
        self._inside = inside
        self._connected = connected
        self._most = most

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        if len(self._connected) >= self._most:
            oldest = next(iter(self._connected))
            self._connected.pop(oldest).abort()
        self._connected[self] = cast("asyncio.Transport", transport)
        self._inside.connection_made(transport)

    def connection_lost(self, exc: Exception | None) -> None:
        self._connected.pop(self, None)
        self._inside.connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        self._inside.data_received(data)

    def eof_received(self) -> bool | None:
        return self._inside.eof_received()

    def pause_writing(self) -> None:
        self._inside.pause_writing()

    def resume_writing(self) -> None:
        self._inside.resume_writing()
