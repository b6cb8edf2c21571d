"""Plain TCP clients from many local addresses.

All of 127.0.0.0/8 is this machine, so a load that opens and drops many connections spreads over source
addresses instead of running out of the ports of one.
"""

import resource
import select
import socket
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

__all__ = ["SPARE_FILES", "closed_by_peer", "file_limit", "held", "new_socket", "still_answer"]

SOURCES = 8  # addresses 127.0.0.2 and up
SPARE_FILES = 200  # kept free of what a process may open: listeners, logs, upstream connections
REQUEST = b"GET /128 HTTP/1.1\r\nHost: bench\r\n\r\n"
TIMEOUT = 10.0  # seconds for any one step of a client
# The port is chosen when the destination is known, so that only the pair has to be unique (Linux ≥ 4.2).
IP_BIND_ADDRESS_NO_PORT = getattr(socket, "IP_BIND_ADDRESS_NO_PORT", 24)


def file_limit() -> int:
    """Raise this process's bound on open files as far as it may, and return it. Children inherit it."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return hard


def new_socket(number: int) -> socket.socket:
    """Make the unconnected socket of the client with this number, bound to its source address."""
    client = socket.socket()
    client.setsockopt(socket.IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, 1)
    client.bind((f"127.0.0.{2 + number % SOURCES}", 0))
    return client


@contextmanager
def held(port: int, count: int) -> Iterator[list[socket.socket]]:
    """Open so many connections, use each once, and keep them open and idle for as long as the block lasts."""
    clients: list[socket.socket] = []
    try:
        for number in range(count):
            client = new_socket(number)
            clients.append(client)
            client.settimeout(TIMEOUT)
            client.connect(("127.0.0.1", port))
            _use(client)
        yield clients
    finally:
        for client in clients:
            client.close()


def still_answer(clients: Sequence[socket.socket]) -> bool:
    """Use each again. False where one has been closed, which says that the others may have been as well."""
    try:
        for client in clients:
            _use(client)
    except (OSError, EOFError):
        return False
    return True


def closed_by_peer(clients: Sequence[socket.socket]) -> int:
    """Count the clients that have something to read: on an idle connection that is its end."""
    poll = select.poll()
    for client in clients:
        poll.register(client, select.POLLIN)
    return len(poll.poll(0))


def _use(client: socket.socket) -> None:
    """Send the request and read its answer whole: head, and as many bytes as Content-Length says."""
    client.sendall(REQUEST)
    answer = b""
    while (end := answer.find(b"\r\n\r\n")) < 0:
        answer += _more(client)
    wanted = end + 4 + _content_length(answer[:end])
    while len(answer) < wanted:
        answer += _more(client)


def _more(client: socket.socket) -> bytes:
    data = client.recv(4096)
    if not data:
        raise EOFError("closed in the middle of an answer")
    return data


def _content_length(head: bytes) -> int:
    for line in head.split(b"\r\n"):
        name, _, value = line.partition(b":")
        if name.lower() == b"content-length":
            return int(value)
    raise EOFError("an answer without Content-Length")
