"""All the connections to one upstream: the most recently used first, a bound on their number, and no hidden retry.

Last in, first out keeps the fewest connections warm and lets the rest run into `idle_timeout`. When all `max_connections`
are taken a request waits, first come first served, at most `connect_timeout`; then it is refused as `Overloaded`.

The one thing done twice: a kept-alive connection may have been closed by the upstream just before it was used. If it
ends before the first byte of a response, and repeating is safe (an idempotent method whose body, if any, has not begun
to leave), the request is sent once more, on a *new* connection; it counts as `reconnected`. Never for a POST.
"""

import asyncio
import errno
import socket
import ssl
from collections import deque
from collections.abc import Callable
from typing import Protocol

from sidecar.errors import ConnectFailed, Disconnected, Overloaded
from sidecar.message import IDEMPOTENT, Reply, Request
from sidecar.wire.upstream import UpstreamConnection

__all__ = ["Connector", "Pool", "connector"]

Factory = Callable[[], UpstreamConnection]


class Connector(Protocol):
    """Opens one transport to the upstream."""

    async def __call__(self, factory: Factory) -> UpstreamConnection:
        """Connect, or raise OSError."""


def connector(
    loop: asyncio.AbstractEventLoop,
    *,
    host: str = "",
    port: int = 0,
    path: str | None = None,
    tls: ssl.SSLContext | None = None,
    server_name: str | None = None,
) -> Connector:
    """Give what opens connections to `host:port`, or to the unix socket at `path`, under `tls` if given."""

    async def connect(factory: Factory) -> UpstreamConnection:
        name = (server_name or host) if tls is not None else None
        if path is not None:
            _, connection = await loop.create_unix_connection(factory, path, ssl=tls, server_hostname=name)
        else:
            _, connection = await loop.create_connection(factory, host, port, ssl=tls, server_hostname=name)
        return connection

    return connect


class Pool:
    """The connections to one upstream. Counters are plain integers that the metrics read.

    `label` is for whoever made it, to know what it was made of.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        connect: Connector,
        *,
        authority: bytes,
        connect_timeout: float,
        max_connections: int,
        idle_timeout: float,
        label: bytes = b"",
    ) -> None:
        self.label = label
        self._loop = loop
        self._connect = connect
        self._authority = authority
        self._connect_timeout = connect_timeout
        self._max = max_connections
        self._idle: list[UpstreamConnection] = []
        self._idle_timeout = idle_timeout
        self._idle_timer: asyncio.TimerHandle | None = None
        self._all: set[UpstreamConnection] = set()
        self._waiting: deque[asyncio.Future[UpstreamConnection | None]] = deque()
        self._opening = 0
        self._closed = False
        self._retired = False
        self.opened = 0
        self.reconnected = 0

    def __repr__(self) -> str:
        """Tell the live state in one line; tests rely on it."""
        counts = len(self._all), len(self._idle), self._opening, len(self._waiting)
        return "<Pool {} open, {} idle, {} opening, {} waiting>".format(*counts)

    @property
    def open(self) -> int:
        """How many connections are established."""
        return len(self._all)

    @property
    def idle(self) -> int:
        """How many of them wait for a request."""
        return len(self._idle)

    async def send(self, request: Request) -> Reply:
        """Send `request` on a connection of this pool; the reply is there at the response head.

        Raises:
            ConnectFailed: no connection.
            Overloaded: all connections stayed taken.
            UpstreamFailed: as `UpstreamConnection.exchange`.

        """
        idle = self._idle
        connection = idle.pop() if idle else None
        if connection is None or not connection.usable:
            connection = self._take_idle() or await self._open_or_wait()
        fresh = not connection.used
        try:
            return await connection.begin(request)
        except Disconnected as error:
            if fresh or error.head_seen or not _repeatable(request):
                raise
        except BaseException:
            connection.abandon(request)
            raise
        self.reconnected += 1
        connection = await self._open_new()
        try:
            return await connection.begin(request)
        except BaseException:
            connection.abandon(request)
            raise

    def retire(self) -> None:
        """Keep no idle connection any more. Whoever still comes, or waits, is served."""
        self._retired = True
        if self._idle_timer is not None:
            self._idle_timer.cancel()
            self._idle_timer = None
        for connection in self._idle:
            connection.transport.close()
        self._idle.clear()

    def close(self) -> None:
        """Close the idle connections now, and each busy one when its exchange is over. Nobody is waited for."""
        self._closed = True
        self.retire()
        for waiter in self._waiting:
            if not waiter.done():
                waiter.set_exception(Overloaded("the pool is closed"))
        self._waiting.clear()

    def abort(self) -> None:
        """Close every connection now, busy or not."""
        self.close()
        for connection in tuple(self._all):
            connection.abort()

    # --- taking ---

    def _take_idle(self) -> UpstreamConnection | None:
        while self._idle:
            connection = self._idle.pop()
            if connection.usable:
                return connection
        return None

    async def _open_or_wait(self) -> UpstreamConnection:
        while len(self._all) + self._opening >= self._max:
            waited = await self._wait()
            if waited is not None and waited.usable:
                return waited
        return await self._open()

    async def _open_new(self) -> UpstreamConnection:
        """Open a connection, not one that has been idle: it may be as dead as the one it replaces."""
        while len(self._all) + self._opening >= self._max:
            waited = await self._wait()
            if waited is not None:
                waited.abort()  # makes room
                await asyncio.sleep(0)
        return await self._open()

    async def _wait(self) -> UpstreamConnection | None:
        """Wait for a connection to become idle, or (None) for room to open one."""
        waiter: asyncio.Future[UpstreamConnection | None] = self._loop.create_future()
        self._waiting.append(waiter)
        try:
            async with asyncio.timeout(self._connect_timeout):
                return await waiter
        except TimeoutError:
            self._pass_on(waiter)
            raise Overloaded(f"all {self._max} connections stayed taken", retry_after=1.0) from None
        except asyncio.CancelledError:
            self._pass_on(waiter)
            raise

    def _pass_on(self, waiter: "asyncio.Future[UpstreamConnection | None]") -> None:
        """Leave the queue; what was handed over at the same moment goes to the next one."""
        if waiter in self._waiting:
            self._waiting.remove(waiter)
        elif waiter.done() and not waiter.cancelled() and waiter.exception() is None:
            connection = waiter.result()
            if connection is not None and connection.usable:
                self._give_back(connection)
            else:
                self._hand_over(None)

    async def _open(self) -> UpstreamConnection:
        self._opening += 1
        opened = False
        try:
            async with asyncio.timeout(self._connect_timeout):
                connection = await self._connect(self._new)
            opened = True
        except TimeoutError:
            reason = "connection_timeout"
            raise ConnectFailed(f"not within {self._connect_timeout:g}s", token=reason) from None
        except OSError as error:
            raise _connect_failed(error) from error
        finally:
            self._opening -= 1
            if not opened:
                self._hand_over(None)
        self._all.add(connection)
        self.opened += 1
        if connection.transport.is_closing():
            # Lost before we counted it: `connection_lost` will come, or has been. Either way it is not for use.
            self._lost(connection)
            reason = "connection_terminated"
            raise ConnectFailed("closed as soon as it was open", token=reason)
        return connection

    def _new(self) -> UpstreamConnection:
        return UpstreamConnection(self._loop, self._authority, self._give_back, self._lost)

    # --- giving back ---

    def _give_back(self, connection: UpstreamConnection) -> None:
        if self._closed:
            connection.transport.close()
        elif self._hand_over(connection):
            return
        elif self._retired:
            connection.transport.close()
        else:
            connection.idle_since = self._loop.time()
            self._idle.append(connection)
            if self._idle_timer is None:
                self._idle_timer = self._loop.call_later(self._idle_timeout, self._expire)

    def _hand_over(self, connection: UpstreamConnection | None) -> bool:
        """Give a connection, or the room for one, to the first in the queue."""
        while self._waiting:
            waiter = self._waiting.popleft()
            if not waiter.done():
                waiter.set_result(connection)
                return True
        return False

    def _lost(self, connection: UpstreamConnection) -> None:
        if connection in self._idle:
            self._idle.remove(connection)
        if connection in self._all:
            self._all.discard(connection)
            self._hand_over(None)

    def _expire(self) -> None:
        """Close what has been idle too long. A stack is in the order of time: the longest idle one is at its bottom."""
        self._idle_timer = None
        now = self._loop.time() + 0.001
        while self._idle:
            due = self._idle[0].idle_since + self._idle_timeout
            if due > now:
                self._idle_timer = self._loop.call_at(due, self._expire)
                return
            self._idle.pop(0).transport.close()


def _repeatable(request: Request) -> bool:
    if request.method not in IDEMPOTENT:
        return False
    body = request.body
    return body is None or body.bytes_fed == body.waiting


def _connect_failed(error: OSError) -> ConnectFailed:
    """Name what happened in RFC 9209's words (§2.3)."""
    if isinstance(error, socket.gaierror):
        token = "dns_error"  # noqa: S105 -- an error type, not a secret
    elif isinstance(error, ssl.SSLCertVerificationError):
        token = "tls_certificate_error"  # noqa: S105 -- as above
    elif isinstance(error, ssl.SSLError):
        token = "tls_protocol_error"  # noqa: S105 -- as above
    elif error.errno in (errno.ENETUNREACH, errno.EHOSTUNREACH):
        token = "destination_ip_unroutable"  # noqa: S105 -- as above
    elif isinstance(error, ConnectionRefusedError | FileNotFoundError):
        token = "connection_refused"  # noqa: S105 -- as above
    else:
        token = "connection_terminated"  # noqa: S105 -- as above
    return ConnectFailed(str(error), token=token)
