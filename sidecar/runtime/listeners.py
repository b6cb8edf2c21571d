"""Binding: an address becomes a listening server, or a sentence that says why not."""

import asyncio
import errno
import os
import socket
import ssl
import stat
from collections.abc import Callable, Sequence
from contextlib import suppress

from sidecar.config.address import Address
from sidecar.errors import StartFailed

__all__ = ["Listener", "listen"]

BACKLOG = 4096  # the kernel caps it at net.core.somaxconn


class Listener:
    """A bound server; `addresses` are the real ones, also where port 0 was asked for."""

    def __init__(self, servers: Sequence[asyncio.Server], address: Address) -> None:
        self._servers = servers
        self._address = address

    @property
    def addresses(self) -> list[str]:
        """Where it listens."""
        if self._address.path is not None:
            return [str(self._address)]
        return [
            f"[{name[0]}]:{name[1]}" if ":" in name[0] else f"{name[0]}:{name[1]}"
            for name in (bound.getsockname() for bound in self._sockets)
        ]

    async def renewed(
        self,
        loop: asyncio.AbstractEventLoop,
        factory: Callable[[], asyncio.BaseProtocol],
        tls: ssl.SSLContext,
        handshake_timeout: float,
    ) -> "Listener":
        """Give another listener on the same socket, with another certificate; this one must be `retire`d.

        Whoever connects meanwhile waits in the kernel's queue, which both have in common: nobody is refused.
        """
        servers = [
            await loop.create_server(
                factory,
                sock=_double(bound),
                backlog=BACKLOG,
                ssl=tls,
                ssl_handshake_timeout=handshake_timeout,
            )
            for bound in self._sockets
        ]
        return Listener(servers, self._address)

    def doubles(self) -> list[socket.socket]:
        """Give its sockets once more, for somebody else to accept from; he closes them."""
        return [_double(bound) for bound in self._sockets]

    @property
    def _sockets(self) -> list[socket.socket]:
        return [bound for server in self._servers for bound in server.sockets]

    def retire(self) -> None:
        """Leave the socket to another listener."""
        for server in self._servers:
            server.close()

    def close(self) -> None:
        """Stop accepting; established connections go on."""
        self.retire()
        if self._address.path is not None:
            with suppress(FileNotFoundError):
                os.unlink(self._address.path)  # noqa: PTH108 -- one system call, not a path to work with


async def listen(
    loop: asyncio.AbstractEventLoop,
    factory: Callable[[], asyncio.BaseProtocol],
    address: Address,
    key: str,
    *,
    tls: ssl.SSLContext | None = None,
    handshake_timeout: float | None = None,
    accept: bool = True,
) -> Listener:
    """Bind `address` and accept connections for `factory`. `key` names it in the configuration.

    With `accept` False it is bound only: somebody else accepts, from its `doubles`.
    `handshake_timeout` (seconds) bounds a TLS handshake: until it is over, the protocol's own bounds do not hold.

    Raises:
        StartFailed: it cannot be bound.

    """
    try:
        if address.path is not None:
            _clear_stale_socket(address.path)
            server = await loop.create_unix_server(
                factory,
                address.path,
                backlog=BACKLOG,
                ssl=tls,
                ssl_handshake_timeout=handshake_timeout,
                start_serving=accept,
            )
        else:
            server = await loop.create_server(
                factory,
                address.host or None,
                address.port,
                backlog=BACKLOG,
                ssl=tls,
                ssl_handshake_timeout=handshake_timeout,
                start_serving=accept,
            )
        if not accept:
            _queue(server)
    except OSError as error:
        raise StartFailed(f"{key}: cannot listen on {address}: {_why(error)}") from error
    return Listener([server], address)


def _double(bound: socket.socket) -> socket.socket:
    """Give the same socket once more: uvloop's own cannot be duplicated as such, nor accepted from."""
    return socket.socket(fileno=os.dup(bound.fileno()))


def _queue(server: asyncio.Server) -> None:
    """Let clients connect to a server that accepts nobody; they wait in the kernel's queue.

    Raises:
        OSError: another process has begun to listen there.

    """
    try:
        for bound in server.sockets:
            with _double(bound) as double:
                double.listen(BACKLOG)
    except OSError:
        server.close()
        raise


def _clear_stale_socket(path: str) -> None:
    """Remove a socket file that nobody listens on. asyncio would remove it even from under a living server.

    Raises:
        OSError: somebody listens on it, or it is not a socket.

    """
    try:
        mode = os.stat(path).st_mode  # noqa: PTH116 -- one system call, not a path to work with
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(mode):
        raise OSError(errno.EEXIST, "there is a file that is not a socket")
    with socket.socket(socket.AF_UNIX) as probe:
        probe.settimeout(1)
        try:
            probe.connect(path)
        except ConnectionRefusedError:
            os.unlink(path)  # noqa: PTH108 -- one system call, not a path to work with
            return
    raise OSError(errno.EADDRINUSE, "another process listens there")


def _why(error: OSError) -> str:
    if error.errno == errno.EADDRINUSE:
        return "the address is in use by another process"
    if error.errno == errno.EACCES:
        return "permission denied; ports below 1024 need CAP_NET_BIND_SERVICE"
    if error.errno == errno.EADDRNOTAVAIL:
        return "this machine has no such address"
    if error.errno is None and "could not bind" in str(
        error
    ):  # Python 3.13 says it in its own words, without a number
        return "this machine has no such address"
    return error.strerror or str(error)
