"""Large bodies pass in bounded memory: whoever is slow slows down whoever sends.

What may be held for one stream is bounded by our own buffers and the kernel's; 64 MiB fit in neither.
"""

import asyncio
import tracemalloc

import pytest

from tests.wire.kit import Gateway, get
from tests.wire.upstream import Conn, Pause, close, eventually, ok, settle

SIZE = 64 << 20
PIECE = bytes(range(256)) * 1024
BOUND = 4 << 20  # our own buffers: 64 KiB to 256 KiB per side, and what a read may bring at once


class Source:
    """A step that sends SIZE bytes as fast as they are taken; `sent` tells how many were."""

    def __init__(self, *, chunked: bool = False) -> None:
        self.sent = 0
        self._chunked = chunked

    async def __call__(self, conn: Conn) -> None:
        while self.sent < SIZE:
            framed = b"%x\r\n%b\r\n" % (len(PIECE), PIECE) if self._chunked else PIECE
            conn.writer.write(framed)
            await conn.writer.drain()
            self.sent += len(PIECE)
        if self._chunked:
            conn.writer.write(b"0\r\n\r\n")


async def stands_still(source: Source) -> int:
    """Wait until nothing more is sent, and give how much was."""
    before, same = -1, 0
    while same < 200:
        same = same + 1 if source.sent == before else 0
        before = source.sent
        await settle()
    return before


@pytest.mark.parametrize("framing", ["length", "until close"])
async def test_a_client_that_does_not_read_stops_the_upstream(gate: Gateway, framing: str) -> None:
    source = Source()
    fields = b"Content-Length: %d\r\n" % SIZE if framing == "length" else b"Connection: close\r\n"
    gate.upstream.play(b"HTTP/1.1 200 OK\r\n" + fields + b"\r\n", source, close)
    client = await gate.client(receive_buffer=65536)
    version = b"HTTP/1.1" if framing == "length" else b"HTTP/1.0"
    tracemalloc.start()
    try:
        await client.send(get(version=version))
        await client.until(b"\r\n\r\n")
        held = await stands_still(source)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()

    assert held < SIZE // 2
    assert peak < BOUND
    client.received.clear()
    wrong = 0
    at = 0
    while at < SIZE:
        data = await client.receive()
        client.received.clear()
        assert data, f"ended at {at}"
        wrong += data[0] != at % 256 or data[-1] != (at + len(data) - 1) % 256
        at += len(data)
    assert (at, wrong) == (SIZE, 0)


async def test_a_chunked_download_is_whole(gate: Gateway) -> None:
    gate.upstream.play(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", Source(chunked=True))
    client = await gate.client()
    await client.send(get(version=b"HTTP/1.0"))
    await client.until(b"\r\n\r\n")
    size = 0
    while data := await client.receive():
        client.received.clear()
        size += len(data)

    assert (size, client.ended) == (SIZE, "fin")


@pytest.mark.parametrize("coded", [False, True], ids=["length", "chunked"])
async def test_an_upstream_that_does_not_read_stops_the_client(gate: Gateway, coded: bool) -> None:
    taken = 0

    async def slowly(conn: Conn) -> None:
        nonlocal taken
        conn.writer.transport.pause_reading()  # type: ignore[attr-defined]  # a stream's transport can be read from
        taken = len(conn.raw.partition(b"\r\n\r\n")[2])  # came with the head
        await resume.wait()
        conn.writer.transport.resume_reading()  # type: ignore[attr-defined]  # as above
        while data := await conn.reader.read(1 << 20):
            taken += len(data)
            if data.endswith(b"0\r\n\r\n") if coded else taken >= SIZE:
                break
        await conn.send(ok(b"taken"))

    resume = asyncio.Event()
    gate.upstream.play(slowly, close, early=True)
    client = await gate.client()
    loop = asyncio.get_running_loop()
    framing = b"Transfer-Encoding: chunked" if coded else b"Content-Length: %d" % SIZE
    await client.send(b"POST / HTTP/1.1\r\nHost: a\r\n" + framing + b"\r\n\r\n")
    sent = 0

    async def pour() -> None:
        nonlocal sent
        while sent < SIZE:
            framed = b"%x\r\n%b\r\n" % (len(PIECE), PIECE) if coded else PIECE
            await loop.sock_sendall(client.sock, framed)
            sent += len(PIECE)
        if coded:
            await loop.sock_sendall(client.sock, b"0\r\n\r\n")

    async with asyncio.TaskGroup() as group:
        tracemalloc.start()
        try:
            pouring = group.create_task(pour())
            before, same = -1, 0
            while same < 200:
                same = same + 1 if sent == before else 0
                before = sent
                await settle()
            peak = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
        assert not pouring.done()
        assert before < SIZE // 2
        assert peak < BOUND
        resume.set()
        response = await client.response(b"POST")

    assert (response.body, sent) == (b"taken", SIZE)


async def test_a_stream_of_tiny_chunks_arrives_whole(gate: Gateway) -> None:
    """One byte a chunk is the worst ratio of framing to payload."""
    count = 20_000
    gate.upstream.play(
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + b"1\r\nx\r\n" * count, b"0\r\n\r\n"
    )

    response = await gate.ask(get())

    assert response.body == b"x" * count


async def test_a_slow_reader_does_not_keep_others_waiting(gate: Gateway) -> None:
    source = Source()
    gate.upstream.play(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % SIZE, source)
    slow = await gate.client(receive_buffer=65536)
    await slow.send(get())
    await stands_still(source)

    for _ in range(20):
        assert (await gate.ask(get())).status == 200


async def test_a_connection_whose_answer_is_read_slowly_serves_the_next_request(gate: Gateway) -> None:
    """What is paused for one answer is not left paused for the next."""
    size = 3 << 20
    gate.upstream.play(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % size + (PIECE * 12))
    client = await gate.client(receive_buffer=4096)
    await client.send(get(b"/1"), get(b"/2"))
    gate.upstream.play(Pause(0.001), ok(b"second"))
    await settle()

    assert len((await client.response()).body) == size
    assert (await client.response()).body == b"second"
    await eventually(lambda: gate.pool.idle == gate.pool.open)
