"""What a client sends ahead waits in its socket, not in our memory."""

import asyncio

import pytest

from sidecar.message import HIGH_WATER
from tests.wire.kit import Gateway

REQUEST = b"GET /ahead HTTP/1.1\r\nHost: a\r\n\r\n"
POST = b"POST /ahead HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc"
READ = 256 * 1024  # the most that one read of a socket gives


@pytest.mark.parametrize("ahead", [REQUEST, POST], ids=["GET", "POST"])
async def test_pipelining_does_not_grow_the_buffer(gate: Gateway, ahead: bytes) -> None:
    """Each answer used to let another whole read in, ten thousand times what the answered request had taken up."""
    client = await gate.client()
    loop = asyncio.get_running_loop()
    most = 0

    async def look() -> None:
        nonlocal most
        while True:
            server = gate.sidecar.server
            assert server is not None
            most = max([most, *(len(connection._buffer) for connection in server.connections)])
            await asyncio.sleep(0)

    looking = loop.create_task(look())
    try:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.5):
                await loop.sock_sendall(client.sock, ahead * 1_000_000)
    finally:
        looking.cancel()

    assert 0 < most <= HIGH_WATER + READ
