"""Ending a connection so that nobody can take it for a proper end.

`transport.abort()` alone closes the socket, and a socket with nothing unread closes with a FIN: to an HTTP/1.0 client
that waits for the end of the connection, half a body would look whole. With SO_LINGER at zero the kernel sends a reset
(socket(7)). Under TLS the missing close_notify says the same (RFC 8446 §6.1).
"""

import asyncio
import socket
import struct
from contextlib import suppress

__all__ = ["reset"]

_LINGER_ZERO = struct.pack("ii", 1, 0)


def reset(transport: asyncio.Transport) -> None:
    """Close now, with a reset; what was not sent yet is dropped."""
    bound = transport.get_extra_info("socket")
    if bound is not None and not transport.is_closing():
        with suppress(OSError):  # it is gone already
            bound.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _LINGER_ZERO)
    transport.abort()
