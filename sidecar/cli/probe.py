"""Ask a running sidecar one question over HTTP, with the standard library alone.

`http.client` follows no redirect and heeds no proxy variables, which is what is wanted here. It is imported
when a question is asked, because `sidecar --help` asks none.
"""

import socket
from dataclasses import dataclass
from urllib.parse import urlsplit

__all__ = ["READY", "Target", "ask"]

READY = "/health/ready"
_SHOWN = 200  # bytes of the answer: enough for a line in a container's health log

_LOOPBACK = {"0.0.0.0": "127.0.0.1", "::": "::1", "": "127.0.0.1"}


@dataclass(frozen=True, slots=True)
class Target:
    """Whom to ask, and for what. `socket_path` is a unix socket, and then host and port say nothing."""

    host: str
    port: int
    path: str = READY
    socket_path: str | None = None

    @classmethod
    def parse(cls, url: str) -> "Target":
        """Read `http://host[:port][/path]` or `unix:///socket`; the path is READY if it is not given.

        Raises ValueError with a text for the user.
        """
        if " " in url or not (url.isascii() and url.isprintable()):
            raise ValueError(f"{url!r} holds a character that no URL has")
        if url.startswith("unix:///"):
            return cls("localhost", 0, socket_path=url.removeprefix("unix://"))
        parts = urlsplit(url)
        if parts.scheme != "http" or not parts.hostname:
            raise ValueError(f"{url!r} is neither http://HOST:PORT/PATH nor unix:///SOCKET")
        path = parts.path if parts.path not in ("", "/") else READY
        return cls(parts.hostname, parts.port or 80, path + (f"?{parts.query}" if parts.query else ""))

    @classmethod
    def of_listener(cls, host: str, port: int, socket_path: str | None) -> "Target":
        """Name a listener as this machine reaches it: one on every address is asked over loopback."""
        return cls(_LOOPBACK.get(host, host), port, READY, socket_path)

    def __str__(self) -> str:
        if self.socket_path is not None:
            return f"unix://{self.socket_path}"
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"http://{host}:{self.port}{self.path}"


def ask(target: Target, timeout: float) -> tuple[int, str]:
    """Ask once. Returns the status, and the beginning of the answer as one printable line.

    `timeout` (seconds) bounds each step: connecting, and each wait for bytes. Raises OSError when there is no
    connection or no answer, ValueError when what answers does not speak HTTP.
    """
    from http.client import HTTPConnection, HTTPException

    connection = HTTPConnection(target.host, target.port, timeout=timeout)
    try:
        if target.socket_path is not None:
            connection.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            connection.sock.settimeout(timeout)
            connection.sock.connect(target.socket_path)
        connection.request("GET", target.path, headers={"Connection": "close"})
        response = connection.getresponse()
        answer = response.read(_SHOWN).decode("utf-8", "replace")
    except HTTPException as exc:
        if isinstance(exc, OSError):  # closed without an answer: http.client calls that both
            raise
        raise ValueError("the answer is not HTTP") from exc
    finally:
        connection.close()
    return response.status, " ".join("".join(c if c.isprintable() else " " for c in answer).split())
