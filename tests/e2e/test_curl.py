"""curl, as people use it at a prompt."""

import json
from pathlib import Path

import pytest

from .kit import App, Sidecar, ask
from .pattern import BLOCK
from .programs import curl, run_curl


def fields_of(seen: bytes) -> dict[str, str]:
    return {name.lower(): value for name, value in json.loads(seen)["fields"]}


def test_get(app: App, proxy: Sidecar) -> None:
    assert curl(f"{proxy.url}/hello") == b"hello"


def test_head(app: App, proxy: Sidecar) -> None:
    """`-I` gives the head of the answer, with the length that the body would have, and waits for no body."""
    head = curl("--head", f"{proxy.url}/hello").decode().split("\r\n")

    assert head[0] == "HTTP/1.1 200 OK"
    assert "Content-Length: 5" in head


def test_post(app: App, proxy: Sidecar) -> None:
    seen = curl("--data", "a=1&b=2", f"{proxy.url}/what")

    assert json.loads(seen)["method"] == "POST"
    assert json.loads(seen)["body"] == "a=1&b=2"
    assert fields_of(seen)["content-type"] == "application/x-www-form-urlencoded"


def test_form_with_a_file(app: App, proxy: Sidecar, tmp_path: Path) -> None:
    file = tmp_path / "file.txt"
    file.write_text("the file's text")

    seen = curl("--form", f"upload=@{file}", f"{proxy.url}/what")

    assert "the file's text" in json.loads(seen)["body"]


@pytest.mark.parametrize("path", ["/hello", "/chunked/3"])
def test_http_1_0(app: App, proxy: Sidecar, path: str) -> None:
    """An HTTP/1.0 client gets no chunks: the body ends with the connection."""
    raw = curl("--http1.0", "--raw", "--include", f"{proxy.url}{path}")

    head, _, body = raw.partition(b"\r\n\r\n")
    assert body == {"/hello": b"hello", "/chunked/3": b"piece 0\npiece 1\npiece 2\n"}[path]
    assert b"transfer-encoding" not in head.lower()
    assert b"\r\nConnection: close" in head


def test_chunked_upload(app: App, proxy: Sidecar, tmp_path: Path) -> None:
    """A file of unknown length goes up in chunks and comes back whole."""
    (tmp_path / "file.bin").write_bytes(BLOCK * 3)

    echoed = curl(
        *("--request", "POST", "--header", "Transfer-Encoding: chunked"),
        *("--upload-file", str(tmp_path / "file.bin"), f"{proxy.url}/echo"),
    )

    assert echoed == BLOCK * 3


def test_expect_100_continue(app: App, proxy: Sidecar, tmp_path: Path) -> None:
    """The upstream's `100 Continue` reaches curl, which would wait ten minutes for it here."""
    (tmp_path / "file.bin").write_bytes(BLOCK)

    done = run_curl(
        *("--verbose", "--header", "Expect: 100-continue", "--expect100-timeout", "600"),
        *("--request", "POST", "--data-binary", f"@{tmp_path / 'file.bin'}", f"{proxy.url}/upload/expect"),
    )

    told = [line for line in done.stderr.decode().splitlines() if line.startswith("< HTTP/")]
    assert told == ["< HTTP/1.1 100 Continue", "< HTTP/1.1 200 OK"]
    assert json.loads(done.stdout) == {"bytes": len(BLOCK), "right": True}


def test_compressed(app: App, proxy: Sidecar) -> None:
    """curl asks for compression, the upstream compresses, curl undoes it: the sidecar has no part in it."""
    assert curl("--compressed", f"{proxy.url}/gzip") == b"squeeze me " * 1000


def test_two_urls_on_one_connection(app: App, proxy: Sidecar) -> None:
    done = run_curl("--verbose", f"{proxy.url}/hello", f"{proxy.url}/chunked/1")

    assert done.stdout == b"hellopiece 0\n"
    assert "Re-using existing connection" in done.stderr.decode()


@pytest.mark.parametrize("method", ["PROPFIND", "M-SEARCH", "OPTIONS", "DELETE"])
def test_any_method(app: App, proxy: Sidecar, method: str) -> None:
    seen = curl("--request", method, f"{proxy.url}/what")

    assert json.loads(seen)["method"] == method


def test_websocket_handshake_of_curl(app: App, proxy: Sidecar) -> None:
    """The tunnel answers 101 with the key's digest that RFC 6455 §1.3 gives as its example."""
    with_key = (
        *(
            "--include",
            "--max-time",
            "0.5",
            "--header",
            "Connection: Upgrade",
            "--header",
            "Upgrade: websocket",
        ),
        *("--header", "Sec-WebSocket-Version: 13", "--header", "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ=="),
    )
    head = run_curl("--http1.1", *with_key, f"{proxy.url}/ws").stdout.decode().lower()

    assert head.startswith("http/1.1 101 ")
    assert "sec-websocket-accept: s3pplmbitxaq9kygzzhzrbk+xoo=\r\n" in head


def test_h2c_is_not_switched_to(app: App, proxy: Sidecar) -> None:
    """curl offers to go on in HTTP/2; the offer goes no further and the answer is HTTP/1.1."""
    seen = curl("--http2", f"{proxy.url}/what")

    assert {"upgrade", "http2-settings", "connection"} & fields_of(seen).keys() == set()


def test_large_answer_to_a_file(app: App, proxy: Sidecar, tmp_path: Path) -> None:
    curl("--output", str(tmp_path / "got"), f"{proxy.url}/download/curl/{20 * len(BLOCK) + 17}")

    assert (tmp_path / "got").read_bytes() == BLOCK * 20 + BLOCK[:17]


def test_a_client_that_leaves_ends_the_upstream_s_work(app: App, proxy: Sidecar) -> None:
    """curl gives up after a moment: the upstream's handler is cancelled, not left to finish for nobody."""
    done = run_curl("--max-time", "0.3", f"{proxy.url}/held/curl-leaves")

    assert done.returncode == 28
    app.wait_for("curl-leaves", arrived=1, cancelled=1)


def test_what_we_answer_ourselves(proxy: Sidecar) -> None:
    """A refused request gets problem+json with the word that also stands in `Proxy-Status`, and its id."""
    answer = ask(proxy.traffic, "/", headers={"Content-Length": "1, 2"})

    problem = answer.json()
    assert (answer.status, answer.fields["content-type"]) == (400, "application/problem+json")
    assert (problem["status"], problem["code"]) == (400, "bad_request")
    assert problem["request_id"] == answer.fields["x-request-id"]
    assert answer.fields["proxy-status"] == 'sidecar; error=http_request_error; details="bad_request"'
