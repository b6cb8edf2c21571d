"""`sidecar healthcheck`, as a container runs it: the real program against small servers on real sockets."""

import os
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from time import monotonic

import pytest

ROOT = Path(__file__).parents[2]
READY = b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nready\n"
Outcome = tuple[int, str, str]
Serve = Callable[[socket.socket], None]


def healthcheck(*args: str, **env: str) -> Outcome:
    done = subprocess.run(
        [sys.executable, "-m", "sidecar", "healthcheck", *args],
        cwd=ROOT,
        env=os.environ | env,
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    return done.returncode, done.stdout, done.stderr


def answering(answer: bytes) -> Serve:
    def serve(connection: socket.socket) -> None:
        connection.recv(65536)
        connection.sendall(answer)

    return serve


def silent(connection: socket.socket) -> None:
    while connection.recv(65536):  # until the other side gives up
        pass


def dripping(connection: socket.socket) -> None:
    connection.settimeout(0.05)
    connection.sendall(b"HTTP/1.1 200 OK\r\nX-Slow: ")
    while True:
        try:
            if not connection.recv(65536):
                return
        except TimeoutError:
            connection.sendall(b".")


@contextmanager
def server(serve: Serve, listener: socket.socket | None = None) -> Iterator[int]:
    """Serve one connection. Gives the port."""
    with listener or socket.create_server(("127.0.0.1", 0)) as listening:
        listening.settimeout(20)

        def accept() -> None:
            try:
                connection, _ = listening.accept()
                with connection:
                    serve(connection)
            except OSError:
                pass  # the other side left first, or never came

        thread = threading.Thread(target=accept)
        thread.start()
        try:
            name = listening.getsockname()
            yield name[1] if isinstance(name, tuple) else 0
        finally:
            with socket.socket(
                listening.family, listening.type
            ) as waker:  # ends an accept that nobody came to
                waker.connect_ex(listening.getsockname())
            thread.join()


def test_ready_is_0() -> None:
    with server(answering(READY)) as port:
        url = f"http://127.0.0.1:{port}/health/ready"
        assert healthcheck("--url", url) == (0, f"ready: {url}\n", "")


@pytest.mark.parametrize(
    ("answer", "why"),
    [
        (
            b'HTTP/1.1 503 Service Unavailable\r\n\r\n{\n  "status": "draining"\n}\n',
            '503 { "status": "draining" }',
        ),
        (b"HTTP/1.1 503 Service Unavailable\r\n\r\n\x1b[31mred\x07", "503 [31mred"),
        (b"HTTP/1.1 500 Oops\r\nContent-Length: 0\r\n\r\n", "500"),
        (b"HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1:1/\r\n\r\n", "302"),
        (b"HTTP/1.1 204 No Content\r\n\r\n", "204"),
        (b"SSH-2.0-OpenSSH_9.2\r\n", "the answer is not HTTP"),
        (b"", "Remote end closed connection without response"),
    ],
)
def test_anything_but_200_is_1_and_says_why(answer: bytes, why: str) -> None:
    with server(answering(answer)) as port:
        url = f"http://127.0.0.1:{port}/health/ready"
        assert healthcheck("--url", url) == (1, "", f"not ready: {url}: {why}\n")


def test_nobody_there_is_1() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    url = f"http://127.0.0.1:{port}/health/ready"
    assert healthcheck("--url", url) == (1, "", f"not ready: {url}: Connection refused\n")


@pytest.mark.parametrize("serve", [silent, dripping])
def test_the_timeout_bounds_the_whole_check(serve: Serve) -> None:
    with server(serve) as port:
        began = monotonic()
        code, _, err = healthcheck("--url", f"http://127.0.0.1:{port}", "--timeout", "0.4")
        took = monotonic() - began

    assert (code, err) == (1, f"not ready: http://127.0.0.1:{port}/health/ready: no answer within 0.4 s\n")
    assert took < 10, "a server that drips a byte now and then must not hold it up"


def test_a_unix_socket_is_asked(tmp_path: Path) -> None:
    path = tmp_path / "ops.sock"
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    listener.bind(str(path))
    listener.listen()
    with server(answering(READY), listener):
        assert healthcheck("--url", f"unix://{path}") == (0, f"ready: unix://{path}\n", "")


def test_a_missing_unix_socket_is_1(tmp_path: Path) -> None:
    path = tmp_path / "ops.sock"
    assert healthcheck("--url", f"unix://{path}") == (
        1,
        "",
        f"not ready: unix://{path}: No such file or directory\n",
    )


def test_the_address_can_come_from_the_configuration(tmp_path: Path) -> None:
    file = tmp_path / "sidecar.yaml"
    with server(answering(READY)) as port:
        file.write_text(
            f"version: 1\nlisten: {{ops: 0.0.0.0:{port}}}\n"
            "upstreams: {app: {url: http://127.0.0.1:1}}\nroutes: [{name: all, upstream: app}]\n"
        )
        assert healthcheck("--config", str(file)) == (0, f"ready: http://127.0.0.1:{port}/health/ready\n", "")


def test_a_configuration_that_cannot_be_used_is_1(tmp_path: Path) -> None:
    code, out, err = healthcheck("--config", str(tmp_path / "missing.yaml"))

    assert (code, out) == (1, "")
    assert "missing.yaml" in err
    assert "Traceback" not in err


def test_proxies_in_the_environment_are_not_asked() -> None:
    with server(answering(READY)) as port:
        code, _, err = healthcheck(
            "--url", f"http://127.0.0.1:{port}", http_proxy="http://127.0.0.1:1", NO_PROXY=""
        )
    assert (code, err) == (0, "")


@pytest.mark.parametrize(
    "args",
    [
        ("--url", "https://127.0.0.1:9900"),
        ("--url", "nonsense"),
        ("--url", "http://127.0.0.1", "--config", "sidecar.yaml"),
        ("--timeout", "0"),
        ("--timeout", "soon"),
    ],
)
def test_a_wrong_command_line_is_2(args: tuple[str, ...]) -> None:
    code, out, err = healthcheck(*args)

    assert (code, out) == (2, "")
    assert "Traceback" not in err
