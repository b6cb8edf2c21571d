"""WebSockets through the tunnel, by two client libraries."""

import asyncio
from typing import Any

import aiohttp
import pytest

from .kit import App, Sidecar, until
from .pattern import BLOCK


async def test_aiohttp_echo(app: App, proxy: Sidecar) -> None:
    """Twenty messages of 1 MiB come back, and so do small texts; the server's close code passes."""
    async with (
        aiohttp.ClientSession() as session,
        session.ws_connect(f"{proxy.url}/ws", max_msg_size=0, protocols=("echo",)) as socket,
    ):
        assert socket.protocol == "echo"
        for turn in range(20):
            await socket.send_bytes(BLOCK)
            await socket.send_str(f"turn {turn}")
            assert await socket.receive_bytes(timeout=10) == BLOCK
            assert await socket.receive_str(timeout=10) == f"turn {turn}"
        await socket.send_str("bye")
        await socket.receive(timeout=10)

    assert socket.close_code == 4001


def test_websockets_echo(app: App, proxy: Sidecar) -> None:
    """The library `websockets` agrees. It also pings, and what answers is at the other end of the tunnel."""
    client: Any = pytest.importorskip("websockets.sync.client", reason="websockets is not installed")

    with client.connect(f"ws://{proxy.traffic}/ws", max_size=None, proxy=None) as socket:
        assert socket.ping().wait(10)
        for _ in range(5):
            socket.send(BLOCK)
            assert socket.recv(10) == BLOCK


async def test_a_tunnel_holds_one_upstream_connection_and_gives_it_back(app: App, proxy: Sidecar) -> None:
    await asyncio.to_thread(until, lambda: proxy.busy() == 0, "an idle pool")
    async with aiohttp.ClientSession() as session:
        async with session.ws_connect(f"{proxy.url}/ws") as socket:
            await socket.send_str("there")
            assert await socket.receive_str(timeout=10) == "there"
            during = await asyncio.to_thread(proxy.busy)
        await asyncio.to_thread(until, lambda: proxy.busy() == 0, "the connection given back")

    assert during == 1
