"""A client that leaves, at every phase: the upstream call ends at once, and nothing stays behind."""

import pytest

from tests.wire.kit import Client, Gateway, gateway, get
from tests.wire.upstream import Hold, eventually, gone, ok, settle

UPLOAD = b"POST /up HTTP/1.1\r\nHost: a\r\nContent-Length: 1000\r\n\r\nhalf"
CODED = b"POST /up HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\n"
BEGUN = b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\nhalf"
SWITCH = b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: x\r\n\r\n"


async def nothing_left(gate: Gateway) -> None:
    """Both sides are as before the request."""
    await eventually(lambda: gate.connections == 0, within=0.9)
    await eventually(lambda: gate.pool.open == gate.pool.idle, within=0.9)


@pytest.mark.parametrize("way", ["reset", "close"])
async def test_before_the_head_is_whole(gate: Gateway, way: str) -> None:
    client = await gate.client()
    await client.send(b"GET / HTTP/1.1\r\nHo")
    getattr(client, way)()

    await nothing_left(gate)
    assert gate.upstream.conns == []


@pytest.mark.parametrize("sent", [UPLOAD, CODED], ids=["length", "chunked"])
@pytest.mark.parametrize("way", ["reset", "close"])
async def test_in_the_middle_of_its_body(gate: Gateway, sent: bytes, way: str) -> None:
    """Here a FIN is clear, too: the request can never become whole."""
    gate.upstream.play(gone, early=True)
    client = await gate.client()
    await client.send(sent)
    await eventually(lambda: gate.upstream.heads)
    getattr(client, way)()

    await nothing_left(gate)
    await eventually(lambda: gate.upstream.conns[0].ended, within=0.9)
    assert gate.upstream.requests == []
    assert await gate.fates(1) == ["client_gone"]


async def test_while_the_upstream_thinks(gate: Gateway) -> None:
    gate.upstream.play(gone)
    client = await gate.client()
    await client.send(get())
    await eventually(lambda: gate.upstream.heads)
    client.reset()

    await nothing_left(gate)
    await eventually(lambda: gate.upstream.conns[0].ended, within=0.9)
    assert await gate.fates(1) == ["client_gone"]


async def test_while_the_upstream_thinks_and_more_requests_wait(gate: Gateway) -> None:
    gate.upstream.play(gone)
    client = await gate.client()
    await client.send(get(b"/1") + get(b"/2"), UPLOAD)
    await eventually(lambda: gate.upstream.heads)
    client.reset()

    await nothing_left(gate)
    assert [head.target for head in gate.upstream.heads] == [b"/1"]


async def test_after_an_interim_answer(gate: Gateway) -> None:
    gate.upstream.play(b"HTTP/1.1 103 Early Hints\r\n\r\n", gone)
    client = await gate.client()
    await client.send(get())
    await client.until(b"\r\n\r\n")
    client.reset()

    await nothing_left(gate)
    assert await gate.fates(1) == ["client_gone"]


@pytest.mark.parametrize(
    "begun",
    [
        BEGUN,
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\n",
        b"HTTP/1.1 200 OK\r\n\r\nhalf",
    ],
    ids=["length", "chunked", "until close"],
)
async def test_in_the_middle_of_its_answer(gate: Gateway, begun: bytes) -> None:
    gate.upstream.play(begun, gone)
    client = await gate.client()
    await client.send(get())
    await client.until(b"half")
    client.reset()

    await nothing_left(gate)
    await eventually(lambda: gate.upstream.conns[0].ended, within=0.9)
    assert await gate.fates(1) == ["client_gone"]


async def test_in_the_middle_of_an_answer_that_never_stops(gate: Gateway) -> None:
    """A client that closes its side and reads no more answers every byte with a reset."""

    async def for_ever(conn: object) -> None:
        while not gate.upstream.conns[0].writer.transport.is_closing():
            await gate.upstream.conns[0].send(b"x" * 1000)

    gate.upstream.play(b"HTTP/1.1 200 OK\r\n\r\n", for_ever)
    client = await gate.client()
    await client.send(get())
    await client.until(b"x")
    client.close()

    await nothing_left(gate)
    assert await gate.fates(1) == ["client_gone"]


async def test_while_it_does_not_read_its_answer() -> None:
    """Nothing can be written and nothing is read: the bound on standing still ends it."""
    async with gateway(route={"timeout": {"idle": "60ms"}}) as gate:
        gate.upstream.play(b"HTTP/1.1 200 OK\r\nContent-Length: 50000000\r\n\r\n", *[bytes(1 << 20)] * 50)
        client = await gate.client(receive_buffer=4096)
        await client.send(get())

        assert await gate.fates(1) == ["timeout_idle"]
        await nothing_left(gate)


async def test_while_its_tunnel_is_asked_for(gate: Gateway) -> None:
    gate.upstream.play(gone)
    client = await gate.client()
    await client.send(get(fields=b"Connection: Upgrade\r\nUpgrade: x\r\n"))
    await eventually(lambda: gate.upstream.heads)
    client.reset()

    await nothing_left(gate)
    assert await gate.fates(1) == ["client_gone"]


async def test_in_its_tunnel(gate: Gateway) -> None:
    gate.upstream.play(SWITCH, gone)
    client = await gate.client()
    await client.send(get(fields=b"Connection: Upgrade\r\nUpgrade: x\r\n"))
    await client.until(b"\r\n\r\n")
    client.reset()

    await nothing_left(gate)
    await eventually(lambda: gate.upstream.conns[0].ended, within=0.9)


async def test_while_waiting_for_a_connection() -> None:
    async with gateway(upstream={"max_connections": 1}) as gate:
        hold = Hold()
        gate.upstream.play(hold, ok())
        first, second = await gate.client(), await gate.client()
        await first.send(get(b"/1"))
        await eventually(lambda: gate.upstream.heads)
        await second.send(get(b"/2"))
        second.reset()

        assert await gate.fates(1) == ["client_gone"]
        hold.release()
        await first.response()
        assert [head.target for head in gate.upstream.heads] == [b"/1"]


async def test_after_its_answer(gate: Gateway) -> None:
    """Its upstream connection is as good as before."""
    client = await gate.client()
    await client.send(get())
    await client.response()
    client.reset()

    await nothing_left(gate)
    assert (gate.pool.idle, await gate.fates(1)) == (1, ["ok"])


async def test_while_it_is_told_of_an_error(gate: Gateway) -> None:
    client = await gate.client()
    await client.send(b"nonsense\r\n\r\n")
    client.reset()

    await nothing_left(gate)


async def test_a_hundred_that_leave_at_any_moment_leave_nothing(gate: Gateway) -> None:
    """After each number of turns of the loop, in the middle of anything."""
    answers = (
        ok(),
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n",
        b"HTTP/1.1 200 OK\r\n\r\nx",
    )
    clients: list[Client] = []
    for n in range(100):
        gate.upstream.play(answers[n % 3], *(() if n % 3 == 0 else (gone,)))
        client = await gate.client()
        await client.send(get() if n % 2 else UPLOAD[:-4].replace(b"1000", b"4") + b"half")
        clients.append(client)
        for _ in range(n % 12):
            await settle()
        if n % 5:
            client.reset()
    for client in clients:
        client.close()

    await eventually(lambda: gate.connections == 0)
    await eventually(lambda: gate.pool.open == gate.pool.idle)
    assert len(set(await gate.fates(1)) - {"ok", "client_gone", "upstream_disconnected"}) == 0
    gate.upstream.forget()
    assert (await gate.ask(get())).status == 200
