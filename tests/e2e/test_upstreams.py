"""In front of servers that we did not write, what a client gets is what the server sent."""

import gzip
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from .kit import Answer, App, Sidecar, ask, config, dial, sidecar
from .pattern import BLOCK
from .programs import curl, http_server, nginx

TEXT = b"a line of text that can be squeezed\n" * 200

# What the sidecar adds, and what is the business of one connection.
OURS = {"x-request-id", "connection", "date", "keep-alive", "x-requests"}


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("root")
    (folder / "index.html").write_text("<h1>an index</h1>")
    (folder / "text.txt").write_bytes(TEXT)
    (folder / "block.bin").write_bytes(BLOCK)
    (folder / "with space & ü.txt").write_text("found")
    return folder


@pytest.fixture(scope="module")
def server(root: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with nginx(root, tmp_path_factory.mktemp("nginx")) as address:
        yield address


@pytest.fixture(scope="module")
def in_front(server: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sidecar]:
    with sidecar(config(f"http://{server}"), tmp_path_factory.mktemp("sidecar")) as running:
        yield running


@pytest.fixture(scope="module")
def old_server(root: Path) -> Iterator[str]:
    with http_server(root) as address:
        yield address


@pytest.fixture(scope="module")
def in_front_of_old(old_server: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sidecar]:
    with sidecar(config(f"http://{old_server}"), tmp_path_factory.mktemp("old")) as running:
        yield running


def theirs(answer: Answer) -> Answer:
    """Leave out what may differ: see OURS."""
    fields = {name: value for name, value in answer.fields.items() if name not in OURS}
    return Answer(answer.status, fields, answer.body)


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/", 200),
        ("GET", "/text.txt", 200),
        ("HEAD", "/text.txt", 200),
        ("GET", "/block.bin", 200),
        ("GET", "/with%20space%20%26%20%C3%BC.txt?and=a&query", 200),
        ("GET", "/not-there", 404),
        ("POST", "/text.txt", 501),
        ("FOO", "/text.txt", 501),
    ],
)
def test_http_1_0_server(
    old_server: str, in_front_of_old: Sidecar, method: str, path: str, status: int
) -> None:
    """`python -m http.server` answers in HTTP/1.0 and closes: the client gets the same answer in HTTP/1.1.

    It answers a method that it does not know with its name, so the unknown one has arrived there.
    """
    direct = ask(old_server, path, method=method)
    through = ask(in_front_of_old.traffic, path, method=method)

    assert through.status == status
    assert theirs(through) == theirs(direct)


def test_http_1_0_server_leaves_client_connections_open(in_front_of_old: Sidecar) -> None:
    """That the server closes after each answer is no matter of the client's, whose connection lives on."""
    with dial(in_front_of_old.traffic) as client, client.makefile("rb") as answers:
        for _ in range(3):
            client.sendall(b"GET /index.html HTTP/1.1\r\nHost: a\r\n\r\n")
            head = b"".join(iter(answers.readline, b"\r\n"))
            assert head.startswith(b"HTTP/1.1 200 OK\r\n")
            assert answers.read(17) == b"<h1>an index</h1>"


def test_curl_with_a_method_that_nobody_knows(in_front_of_old: Sidecar) -> None:
    """`-X FOO` gets as far as the server, which answers that it does not know FOO."""
    assert b"Unsupported method ('FOO')" in curl("-X", "FOO", f"{in_front_of_old.url}/")


def test_made_up_methods_are_counted_as_other(in_front_of_old: Sidecar) -> None:
    """Whoever makes up methods makes no new time series."""
    for method in ("MADEUP", "MADEUPTOO"):
        assert ask(in_front_of_old.traffic, "/", method=method).status == 501

    metrics = in_front_of_old.metrics()
    assert [name for name in metrics if "MADEUP" in name] == []
    counted = 'sidecar_requests_total{code="501",fate="upstream_status",method="_OTHER",route="all"}'
    assert metrics[counted] >= 2


@pytest.mark.parametrize(
    ("path", "headers", "status"),
    [
        ("/", {}, 200),
        ("/text.txt", {}, 200),
        ("/block.bin", {}, 200),
        ("/block.bin", {"Range": "bytes=1000-70000"}, 206),
        ("/block.bin", {"Range": "bytes=-5"}, 206),
        ("/block.bin", {"Range": "bytes=99999999-"}, 416),
        ("/not-there", {}, 404),
        ("/%2e%2e/etc/passwd", {}, 400),
    ],
)
def test_nginx(server: str, in_front: Sidecar, path: str, headers: dict[str, str], status: int) -> None:
    """Files, ranges and refusals of nginx arrive as they are."""
    direct = ask(server, path, headers=headers)
    through = ask(in_front.traffic, path, headers=headers)

    assert through.status == status
    assert theirs(through) == theirs(direct)


def test_nginx_several_ranges(server: str, in_front: Sidecar) -> None:
    """A multipart answer arrives byte for byte, but for the boundary that nginx makes up each time."""
    answers = [
        ask(address, "/block.bin", headers={"Range": "bytes=0-9,100-109"})
        for address in (server, in_front.traffic)
    ]

    types, bodies = [], []
    for answer in answers:
        kind, _, boundary = answer.fields["content-type"].partition("; boundary=")
        types.append((answer.status, kind))
        bodies.append(answer.body.replace(boundary.encode(), b"BOUNDARY"))
    assert types == [(206, "multipart/byteranges")] * 2
    assert bodies[0] == bodies[1]


def test_nginx_gzip_is_untouched(server: str, in_front: Sidecar) -> None:
    """Nothing is decompressed on the way, and nobody asks for compression in the client's name."""
    asked = ask(in_front.traffic, "/text.txt", headers={"Accept-Encoding": "gzip"})
    direct = ask(server, "/text.txt", headers={"Accept-Encoding": "gzip"})
    plain = ask(in_front.traffic, "/text.txt", headers={"Accept-Encoding": "identity"})

    assert asked.fields["content-encoding"] == "gzip"
    assert theirs(asked) == theirs(direct)
    assert gzip.decompress(asked.body) == TEXT
    assert "content-encoding" not in plain.fields
    assert plain.body == TEXT


def test_nginx_304_has_no_body_and_the_connection_goes_on(server: str, in_front: Sidecar) -> None:
    """A revalidated file is a 304 with its ETag and nothing after its head."""
    etag = ask(server, "/text.txt").fields["etag"].encode()
    with dial(in_front.traffic) as client, client.makefile("rb") as answers:
        for _ in range(2):
            client.sendall(b"GET /text.txt HTTP/1.1\r\nHost: a\r\nIf-None-Match: %b\r\n\r\n" % etag)
            head = b"".join(iter(answers.readline, b"\r\n")).split(b"\r\n")
            assert head[0] == b"HTTP/1.1 304 Not Modified"
            assert b"ETag: %b" % etag in head


def test_nginx_connections_are_used_again(root: Path, tmp_path: Path) -> None:
    """Requests of different clients, one after the other, travel on one kept-alive connection to nginx."""
    with nginx(root, tmp_path) as address, sidecar(config(f"http://{address}"), tmp_path) as proxy:
        numbers = [ask(proxy.traffic, "/").fields["x-requests"] for _ in range(5)]
        metrics = proxy.metrics()

    assert numbers == ["1", "2", "3", "4", "5"]
    assert metrics['sidecar_upstream_connections{state="idle",upstream="app"}'] == 1


@pytest.mark.parametrize("number", [0, 1, 1000])
def test_chunked_answers(app: App, proxy: Sidecar, number: int) -> None:
    """A body of unknown length arrives whole."""
    answer = ask(proxy.traffic, f"/chunked/{number}")

    assert answer.body == b"".join(b"piece %d\n" % n for n in range(number))
    assert answer.fields["transfer-encoding"] == "chunked"


def test_gzip_of_an_application_is_untouched(app: App, proxy: Sidecar) -> None:
    direct, through = (ask(address, "/gzip") for address in (app.address, proxy.traffic))

    assert theirs(through) == theirs(direct)


def test_events_arrive_when_they_are_sent(app: App, proxy: Sidecar) -> None:
    """The first server-sent event is with the client while the second one has not happened yet."""
    with dial(proxy.traffic) as client, client.makefile("rb") as answers:
        client.sendall(b"GET /sse/events HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
        head = b"".join(iter(answers.readline, b"\r\n")).lower()
        first = [answers.readline() for _ in range(4)]
        app.open("events")
        rest = answers.read()

    assert b"content-type: text/event-stream\r\n" in head
    assert first == [b"b\r\n", b"data: one\n", b"\n", b"\r\n"]
    assert rest == b"b\r\ndata: two\n\n\r\n0\r\n\r\n"


def test_echo_streams_both_ways_at_once(app: App, proxy: Sidecar) -> None:
    """The answer to an upload begins before the upload has ended, and both go on together."""
    size = 8 * len(BLOCK)
    with dial(proxy.traffic) as client, client.makefile("rb") as answers:
        client.sendall(b"POST /echo HTTP/1.0\r\nHost: a\r\nContent-Length: %d\r\n\r\n" % size)
        client.sendall(b"first")
        head = b"".join(iter(answers.readline, b"\r\n"))
        assert head.startswith(b"HTTP/1.1 200 OK\r\n")
        assert answers.read(5) == b"first"
        rest = (BLOCK * 8)[5:]
        sender = threading.Thread(target=client.sendall, args=(rest,))
        sender.start()
        assert answers.read() == rest
        sender.join()


def test_the_upstream_sees_the_client_s_request(app: App, proxy: Sidecar) -> None:
    """Method, target and fields arrive as they were, less what is hop-by-hop, plus what a proxy adds."""
    with dial(proxy.traffic) as client:
        client.sendall(
            b"PATCH /what//a/../%2F%7e;p?q=1&&q=%20+ HTTP/1.1\r\nHost: shop.example\r\n"
            b"X-b: 2\r\nX-A: 1\r\nX-b: 3\r\nConnection: close, X-Private\r\nX-Private: mine\r\n"
            b"TE: trailers\r\nX-Request-ID: of-the-test\r\nContent-Length: 4\r\n\r\nbody"
        )
        seen = Answer(200, {}, client.makefile("rb").read().partition(b"\r\n\r\n")[2]).json()

    via = [value for name, value in seen["fields"] if name == "Via"]
    assert len(via) == 1
    assert via[0].startswith("1.1 sidecar-")
    assert seen == {
        "method": "PATCH",
        "target": "/what//a/../%2F%7e;p?q=1&&q=%20+",
        "version": "1.1",
        "fields": [
            ["Host", "shop.example"],
            ["X-b", "2"],
            ["X-A", "1"],
            ["X-b", "3"],
            ["Content-Length", "4"],
            ["X-Forwarded-For", "127.0.0.1"],
            ["X-Forwarded-Proto", "http"],
            ["X-Forwarded-Host", "shop.example"],
            ["Via", via[0]],
            ["X-Request-ID", "of-the-test"],
        ],
        "body": "body",
    }
