"""Where uvloop is missing, plain asyncio gives the same answers."""

import json
import re
from collections.abc import Iterator
from pathlib import Path

import aiohttp
import pytest

from .kit import App, Sidecar, ask, config, dial, sidecar, until
from .pattern import BLOCK, Checker
from .programs import curl
from .test_stop import Later

ROUTES = """
upstreams: {{app: {{url: '{url}'}}, down: {{url: 'http://127.0.0.1:9'}}}}
routes:
  - {{name: down, match: {{path: /down}}, upstream: down}}
  - {{name: short, match: {{path: /held/**}}, upstream: app, timeout: {{attempt: 200ms}}}}
  - {{name: small, match: {{path: /small}}, upstream: app, max_body: 10B}}
  - {{name: all, match: {{path: /**}}, upstream: app}}
"""

CONVERSATIONS = {
    "get": b"GET /hello HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n",
    "head": b"HEAD /hello HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n",
    "chunked": b"GET /chunked/3 HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n",
    "old": b"GET /chunked/3 HTTP/1.0\r\n\r\n",
    "post": b"POST /echo HTTP/1.1\r\nHost: a\r\nConnection: close\r\nContent-Length: 5\r\n\r\nhello",
    "chunks up": b"POST /what HTTP/1.1\r\nHost: a\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n\r\n"
    b"5\r\nhello\r\n0\r\n\r\n",
    "expect": b"POST /echo HTTP/1.1\r\nHost: a\r\nConnection: close\r\nContent-Length: 5\r\n"
    b"Expect: 100-continue\r\n\r\nhello",
    "pipeline": b"GET /hello HTTP/1.1\r\nHost: a\r\n\r\nGET /status/503 HTTP/1.1\r\nHost: a\r\n\r\n"
    b"GET /hello HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n",
    "not found": b"GET /not-there HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n",
    "down": b"GET /down HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n",
    "late": b"GET /held/never HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n",
    "too large": b"POST /small HTTP/1.1\r\nHost: a\r\nConnection: close\r\nContent-Length: 11\r\n\r\nhello world",
    "no route": b"OPTIONS * HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n",
    "invalid": b"GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "no host": b"GET / HTTP/1.1\r\n\r\n",
    "websocket": b"GET /ws HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
    b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
    b"\x81\x82\0\0\0\0hi\x88\x80\0\0\0\0",
}


@pytest.fixture(scope="module")
def pair(app: App, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Sidecar, Sidecar]]:
    """Two sidecars that differ in nothing but the loop."""
    folder = tmp_path_factory.mktemp("pair")
    listen = "listen: {traffic: 127.0.0.1:0, ops: 127.0.0.1:0, admin: 127.0.0.1:0}"
    text = f"version: 1\n{listen}\n" + ROUTES.format(url=app.url)
    with sidecar(text, folder) as quick, sidecar(text, folder, uvloop=False) as plain:
        yield quick, plain


def uses_uvloop(proxy: Sidecar) -> bool:
    return "uvloop" in Path(f"/proc/{proxy.pid}/maps").read_text()


def conversation(proxy: Sidecar, said: bytes) -> bytes:
    """Say something; give all that comes, but for times, ids, our name and the sizes of chunks."""
    with dial(proxy.traffic) as client:
        client.sendall(said)
        heard = client.makefile("rb").read()
    head, _, body = heard.partition(b"\r\n\r\n")
    if b"\r\nTransfer-Encoding: chunked" in head:
        # Where one chunk ends and the next begins is a matter of when they came.
        heard = b"%b\r\n\r\n%b" % (head, re.sub(rb"[0-9a-f]+\r\n([^\r]+)\r\n", rb"\1", body))
    heard = re.sub(rb"(?m)^Date: [^\r]+", b"Date: then", heard)
    return re.sub(rb"[0-9a-f]{16}-[0-9a-f]{6}|sidecar-[0-9a-f]{8}", b"(made up)", heard)


def test_the_two_differ(pair: tuple[Sidecar, Sidecar]) -> None:
    pytest.importorskip("uvloop", reason="uvloop is not installed")

    assert [uses_uvloop(each) for each in pair] == [True, False]


@pytest.mark.parametrize("name", CONVERSATIONS)
def test_the_same_bytes(pair: tuple[Sidecar, Sidecar], name: str) -> None:
    quick, plain = (conversation(each, CONVERSATIONS[name]) for each in pair)

    assert plain == quick
    assert plain.startswith(b"HTTP/1.1 ")


def test_bodies_pass_both_ways(pair: tuple[Sidecar, Sidecar]) -> None:
    body = BLOCK * 16

    answer = ask(pair[1].traffic, "/echo", method="POST", body=body)

    assert (answer.status, answer.body == body) == (200, True)


async def test_websocket(pair: tuple[Sidecar, Sidecar]) -> None:
    async with (
        aiohttp.ClientSession() as session,
        session.ws_connect(f"{pair[1].url}/ws", max_msg_size=0) as socket,
    ):
        for _ in range(5):
            await socket.send_bytes(BLOCK)
            assert await socket.receive_bytes(timeout=10) == BLOCK


def test_a_client_that_leaves_ends_the_upstream_s_work(app: App, pair: tuple[Sidecar, Sidecar]) -> None:
    with dial(pair[1].traffic) as client:
        client.sendall(b"GET /download/plain-leaves/%d HTTP/1.1\r\nHost: a\r\n\r\n" % (1 << 40))
        assert client.recv(1000)

    app.wait_for("plain-leaves", arrived=1, cancelled=1)


def test_a_download_is_bounded_by_its_reader(app: App, pair: tuple[Sidecar, Sidecar]) -> None:
    plain = pair[1]
    before = plain.rss()
    checker = Checker()
    size = 128 << 20
    most = 0
    with dial(plain.traffic) as client:
        client.sendall(b"GET /download/plain/%d HTTP/1.0\r\n\r\n" % size)
        heard = b""
        while b"\r\n\r\n" not in heard:
            heard += client.recv(1000)
        checker.feed(heard.partition(b"\r\n\r\n")[2])
        while piece := client.recv(1 << 20):
            checker.feed(piece)
            most = max(most, plain.rss() - before)

    assert (checker.size, checker.right) == (size, True)
    assert most < 20 << 20


def test_it_drains(app: App, tmp_path: Path) -> None:
    """SIGTERM lets a request under way finish, and the exit status is 0."""
    with sidecar(config(app.url), tmp_path, uvloop=False) as proxy:
        asking = Later(lambda: curl(f"{proxy.url}/held/drains"))
        app.wait_for("drains", arrived=1)
        proxy.process.terminate()
        until(lambda: ask(proxy.ops, "/health/ready").status == 503, "not ready any more")
        app.open("drains")

        assert asking.result() == b"held, then answered"
        assert proxy.exit_status() == 0
    ready = json.loads(proxy.out[0])
    assert ready["event"] == "sidecar.ready"
