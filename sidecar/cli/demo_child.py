"""Run the demo's service in a child process that no death of its parent leaves behind.

The parent binds the address itself and hands the socket down, so a taken port is known before anything runs
and no request comes too early. The child ends when its stdin does, and the parent alone holds that pipe's
other end.
"""

import errno
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from sidecar.errors import StartFailed

__all__ = ["running_service"]

PATIENCE = 2.0  # seconds for the child to end by itself


@contextmanager
def running_service(host: str, port: int) -> Iterator[None]:
    """Keep the service on `host:port` for as long as the block lasts.

    Raises StartFailed when it cannot listen there.
    """
    with _listener(host, port) as listener:
        child = subprocess.Popen(  # noqa: S603  our own module, by our own interpreter
            [sys.executable, "-m", "sidecar.cli.demo_service", str(listener.fileno())],
            stdin=subprocess.PIPE,
            pass_fds=[listener.fileno()],
            start_new_session=True,  # Ctrl-C is for the sidecar alone: what it drains still finds its service
        )
    try:
        yield
    finally:
        _end(child)


def _listener(host: str, port: int) -> socket.socket:
    try:
        return socket.create_server((host, port))
    except OSError as exc:
        reason = "another program uses it" if exc.errno == errno.EADDRINUSE else exc.strerror
        raise StartFailed(f"cannot listen on {host}:{port} for the demo service: {reason}") from exc


def _end(child: subprocess.Popen[bytes]) -> None:
    if child.stdin is not None:
        child.stdin.close()
    try:
        child.wait(PATIENCE)
    except subprocess.TimeoutExpired:
        child.kill()
        child.wait()
