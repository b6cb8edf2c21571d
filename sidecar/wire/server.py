"""What the client connections of one listener share: the handler, the rules, the bounds, and their end.

The handler gets a `Request` and returns a `Reply`; it knows nothing of sockets, and this package nothing of policy.
"""

import asyncio
from collections.abc import Awaitable
from typing import Protocol

from sidecar.errors import RequestError
from sidecar.message import Reply, Request
from sidecar.wire.client import ClientConnection
from sidecar.wire.inbound import ForwardRules

__all__ = ["Handler", "Limits", "Server"]


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
        self.refused: set[ClientConnection] = set()  # over the limit, and being told so
        self.refused_count = 0
        self.draining = False
        self.accepted = 0
        self.emptied = asyncio.Event()  # set once a drain has seen the last connection off
        self.reconfigure(handler, limits)

    def __repr__(self) -> str:
        """Tell the live state in one line."""
        return f"<Server {len(self.connections)} connections{', draining' * self.draining}>"

    def __call__(self) -> "ClientConnection":
        """Make the protocol of one accepted connection."""
        return ClientConnection(self)

    def reconfigure(self, handler: Handler, limits: Limits) -> None:
        """Answer what comes from now on by another handler, within other limits. Requests under way go on as they began.

        To be called too when `rules` have changed: whom a connection speaks for is found out anew.
        """
        self.handler = handler
        self.limits = limits
        # Whether a timer set for a head may be too late for the wait that follows it.
        self.hurried = limits.keepalive_timeout < limits.head_timeout
        for connection in self.connections:
            connection.introduce()

    def drain(self) -> None:
        """Close idle connections now and the others when their answer is out."""
        self.draining = True
        for connection in tuple(self.connections):
            connection.drain()
        if not self.connections:
            self.emptied.set()

    def cut(self, error: RequestError) -> None:
        """End every request that is still under way, with `error` as its answer where none has begun."""
        for connection in tuple(self.connections):
            connection.cut(error)

    def abort(self) -> None:
        """Close every connection now."""
        for connection in (*self.connections, *self.refused):
            connection.abort()
