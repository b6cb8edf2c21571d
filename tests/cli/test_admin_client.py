"""Asking the admin listener: what comes back is its JSON, or one line that says why not."""

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import click
import pytest

from sidecar.cli.admin_client import TOKEN_VARIABLE, Admin, AdminFailed, admin_of

OK = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b"


@contextmanager
def listener(answer: bytes) -> Iterator[tuple[str, list[bytes]]]:
    """Answer every connection with these bytes. Gives the URL, and the heads that came."""
    heads: list[bytes] = []
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve() -> None:
            while True:
                try:
                    client, _ = server.accept()
                except OSError:
                    return
                with client:
                    heads.append(client.recv(65536))
                    if heads[-1]:
                        client.sendall(answer)

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.getsockname()[1]}", heads
        finally:
            server.shutdown(socket.SHUT_RDWR)
            thread.join(10)


def test_what_comes_back_is_the_json_value() -> None:
    with listener(OK % (10, b'{"a": [1]}')) as (url, heads):
        got = admin_of(url, None).get("/requests", request_id="a b&c", header=["X: 1", "Y: 2"])

    assert got == {"a": [1]}
    assert heads[0].split(b" ")[1] == b"/requests?request_id=a+b%26c&header=X%3A+1&header=Y%3A+2"
    assert b"Authorization" not in heads[0]


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (b"SSH-2.0-OpenSSH_9.2\r\n", "the answer is not HTTP"),
        (b"", "Remote end closed connection without response"),
        (OK % (5, b"hello"), "what answers there is not the admin listener of a sidecar"),
        (OK % (1, b"\xff"), "what answers there is not the admin listener of a sidecar"),
        (b"HTTP/1.1 404 Not Found\r\nContent-Length: 14\r\n\r\n404: Not Found", "404 404: Not Found"),
        (
            b'HTTP/1.1 421 Misdirected\r\nContent-Length: 37\r\n\r\n{"detail": "no \\u001b[31m such name"}',
            "421 no [31m such name",
        ),
        (b"HTTP/1.1 500 Oops\r\nContent-Length: 2\r\n\r\n[]", "500 []"),
        (
            b"HTTP/1.1 401 No\r\nContent-Length: 0\r\n\r\n",
            f"it asks for a token: --token-file FILE, or the variable {TOKEN_VARIABLE}",
        ),
    ],
    ids=["no HTTP", "nothing", "no JSON", "no text", "404", "problem", "a list", "401"],
)
def test_any_other_answer_is_one_line(answer: bytes, said: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(TOKEN_VARIABLE, raising=False)
    with listener(answer) as (url, _), pytest.raises(AdminFailed) as failed:
        admin_of(url, None).get("/state")

    assert str(failed.value) == f"{url}: {said}"


def test_a_token_goes_to_the_address_that_was_named_and_nowhere_else(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(TOKEN_VARIABLE, "secret")
    with listener(OK % (2, b"{}")) as (other, elsewhere):
        location = f"HTTP/1.1 302 Found\r\nLocation: {other}/\r\nContent-Length: 0\r\n\r\n".encode()
        monkeypatch.setenv("http_proxy", other)
        with listener(location) as (url, heads), pytest.raises(AdminFailed, match=r": 302$"):
            admin_of(url, None).get("/state")

    assert b"Authorization: Bearer secret\r\n" in heads[0]
    assert elsewhere == []


def test_who_does_not_answer_is_not_waited_for() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}"

        with pytest.raises(AdminFailed) as failed:
            admin_of(url, None, timeout=0.05).get("/state")

    assert str(failed.value) == f"{url}: no answer within 0.05 s"


def test_a_unix_socket_is_an_address_too(tmp_path: Path) -> None:
    path = tmp_path / "admin.sock"
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(path))
        server.listen()

        def serve() -> None:
            client, _ = server.accept()
            with client:
                client.recv(65536)
                client.sendall(OK % (2, b"[]"))

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        assert admin_of(f"unix://{path}", None).get("/breakers") == []
        thread.join(10)


@pytest.mark.parametrize(
    "url", ["127.0.0.1:9901", "https://127.0.0.1:9901", "http://a b", "http://h:9901/state", "http://h:x"]
)
def test_what_is_no_address_is_a_mistake_on_the_command_line(url: str) -> None:
    with pytest.raises(click.BadParameter):
        admin_of(url, None)


@pytest.mark.parametrize("content", [b"", b"\n", b"two words", b"\xff\xfe", b"a\x01b", "schlüssel".encode()])
def test_what_can_be_no_token_is_a_mistake_on_the_command_line(content: bytes, tmp_path: Path) -> None:
    file = tmp_path / "token"
    file.write_bytes(content)

    with pytest.raises(click.BadParameter):
        admin_of("http://127.0.0.1:9901", file)


def test_it_says_whom_it_asks() -> None:
    assert str(admin_of("http://[::1]:9901/", None)) == "http://[::1]:9901"
    assert isinstance(admin_of("unix:///run/admin.sock", None), Admin)
