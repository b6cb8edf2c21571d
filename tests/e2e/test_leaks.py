"""After any amount of trouble, everything that was taken has been given back."""

import asyncio
import random
import socket
import struct
from contextlib import suppress
from pathlib import Path

import psutil
import pytest

from .kit import App, Sidecar, ask, dial, sidecar, until
from .pattern import BLOCK

CANCELS = 1000
AT_ONCE = 50

HEAD = b"HTTP/1.1\r\nHost: a\r\n"
PHASES = {
    "connected": b"",
    "half a head": b"GET /hello HTTP/1.1\r\nHo",
    "waiting": b"GET /held/leaks %b\r\n" % HEAD,
    "uploading": b"POST /upload/leaks %bContent-Length: 9999999\r\n\r\n%b" % (HEAD, BLOCK[:100_000]),
    "uploading in chunks": b"POST /upload/leaks %bTransfer-Encoding: chunked\r\n\r\n5\r\nfirst\r\n" % HEAD,
    "half a chunk": b"POST /upload/leaks %bTransfer-Encoding: chunked\r\n\r\n5\r\nfi" % HEAD,
    "downloading": b"GET /download/leaks/99999999 %b\r\n" % HEAD,
    "pipelining": b"GET /chunked/5 %b\r\n" % HEAD * 20,
    "wrong": b"GET /hello HTTP/9.9\r\n\r\n",
    "refused upstream": b"GET /down %b\r\n" % HEAD,
    "tunnel": b"GET /ws %bConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n" % HEAD,
}


async def leave_early(address: str, chance: random.Random) -> None:
    """Say something, listen for a while or not at all, and leave, politely or not."""
    host, _, port = address.rpartition(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    writer.write(PHASES[chance.choice(list(PHASES))])
    with suppress(OSError, TimeoutError):
        if chance.random() < 0.7:
            async with asyncio.timeout(chance.random() * 0.02):
                while await reader.read(chance.choice([1, 1000, 100_000])):
                    pass
    if chance.random() < 0.5:
        writer.transport.abort()
    writer.close()
    with suppress(OSError):
        await writer.wait_closed()


async def many(address: str, number: int, seed: int) -> None:
    """Let `number` clients come and go, some at a time."""
    chance = random.Random(seed)
    gate = asyncio.Semaphore(AT_ONCE)

    async def one() -> None:
        async with gate:
            await leave_early(address, chance)

    await asyncio.gather(*(one() for _ in range(number)))


def held(proxy: Sidecar) -> dict[str, float]:
    """Give what the sidecar holds for others."""
    gauges = ("sidecar_client_connections", "sidecar_upstream_connections")
    metrics = {name: value for name, value in proxy.metrics().items() if name.partition("{")[0] in gauges}
    return {**metrics, "threads": psutil.Process(proxy.pid).num_threads(), "files": proxy.open_files()}


@pytest.mark.parametrize("uvloop", [True, False], ids=["uvloop", "asyncio"])
def test_1000_cancels_leave_nothing_behind(app: App, tmp_path: Path, *, uvloop: bool) -> None:
    """Open files, threads, client and upstream connections are what they were, and so, nearly, is the memory."""
    text = (
        "version: 1\n"
        "listen: {traffic: 127.0.0.1:0, ops: 127.0.0.1:0, admin: 127.0.0.1:0}\n"
        "access_log: off\n"
        "upstreams:\n"
        f"  app: {{url: '{app.url}', idle_timeout: 200ms, max_connections: 40}}\n"
        "  down: {url: http://127.0.0.1:9}\n"
        "routes:\n"
        "  - {name: down, match: {path: /down}, upstream: down}\n"
        "  - {name: all, upstream: app}\n"
    )
    with sidecar(text, tmp_path, uvloop=uvloop) as proxy:
        # As many as will be measured: how much memory it takes at once depends on how many leave at once, and stays.
        asyncio.run(many(proxy.traffic, CANCELS, seed=1))
        until(
            lambda: proxy.clients() == 0 == proxy.metrics()[IDLE] == proxy.busy(), "quiet after the warm-up"
        )
        before, memory = held(proxy), proxy.rss()

        asyncio.run(many(proxy.traffic, CANCELS, seed=2))
        until(lambda: held(proxy) == before, f"as before: {before}; now: {held(proxy)}")

        assert proxy.rss() - memory < 10 << 20
        assert ask(proxy.traffic, "/hello").status == 200
        counted = sum(
            value for name, value in proxy.metrics().items() if name.startswith("sidecar_requests_total")
        )
    # Every client but those with no or half a head made at least one request.
    assert counted > CANCELS * 0.7


IDLE = 'sidecar_upstream_connections{state="idle",upstream="app"}'


def test_a_reset_is_noticed_while_the_upload_is_held_back(app: App, proxy: Sidecar) -> None:
    """A busy upstream does not read, so neither does the sidecar; a client's reset still ends the call at once."""
    client = dial(proxy.traffic)
    client.sendall(b"POST /unread/reset HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n" % (1 << 40))
    app.wait_for("reset", arrived=1)
    client.settimeout(0.3)
    with suppress(TimeoutError):
        while True:
            client.send(BLOCK)
    client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    client.close()

    until(lambda: proxy.clients() == 0 == proxy.busy(), "both connections closed", within=5)
