"""An aiohttp client, which keeps connections and asks for many things at once."""

import asyncio
import io
from collections.abc import AsyncIterator

import aiohttp
import pytest

from .kit import App, Sidecar
from .pattern import BLOCK, Checker

SIZE = 32 * len(BLOCK)


@pytest.fixture
async def session(app: App, proxy: Sidecar) -> AsyncIterator[aiohttp.ClientSession]:
    connector = aiohttp.TCPConnector(limit=0)
    timeout = aiohttp.ClientTimeout(total=30)
    async with aiohttp.ClientSession(proxy.url, connector=connector, timeout=timeout) as session:
        yield session


async def test_200_at_once(session: aiohttp.ClientSession) -> None:
    """200 clients at once, five rounds: each gets the answer to its own question."""

    async def one(number: int) -> None:
        for turn in range(5):
            sent = f"{number} in turn {turn}".encode()
            async with session.post(f"/what?{number}", data=sent) as response:
                seen = await response.json()
            assert (seen["target"], seen["body"]) == (f"/what?{number}", sent.decode())

    await asyncio.gather(*(one(number) for number in range(200)))


async def test_streaming_down(session: aiohttp.ClientSession) -> None:
    checker = Checker()
    async with session.get(f"/download/down/{SIZE}?chunked") as response:
        async for piece in response.content.iter_any():
            checker.feed(piece)

    assert (response.status, checker.size, checker.right) == (200, SIZE, True)


async def test_streaming_up(session: aiohttp.ClientSession) -> None:
    async def pieces() -> AsyncIterator[bytes]:
        for _ in range(SIZE // len(BLOCK)):
            yield BLOCK

    async with session.post("/upload/up", data=pieces()) as response:
        assert await response.json() == {"bytes": SIZE, "right": True}


async def test_ten_streams_each_way_at_once(session: aiohttp.ClientSession) -> None:
    """Streams share the loop, the pool and nothing else: each arrives whole while the others run."""
    each = 4 * len(BLOCK) + 1

    async def down(number: int) -> tuple[int, bool]:
        checker = Checker()
        async with session.get(f"/download/many-{number}/{each}") as response:
            async for piece in response.content.iter_any():
                checker.feed(piece)
        return checker.size, checker.right

    async def up(number: int) -> tuple[int, bool]:
        async with session.post(f"/upload/many-{number}", data=io.BytesIO((BLOCK * 5)[:each])) as response:
            seen = await response.json()
        return seen["bytes"], seen["right"]

    results = await asyncio.gather(*(way(number) for number in range(10) for way in (down, up)))

    assert results == [(each, True)] * 20
