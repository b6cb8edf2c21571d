"""Upgrades: after a 101 that was asked for, a tunnel with back-pressure and an idle limit (RFC 9110 §7.8)."""

import asyncio
from contextlib import suppress

import pytest

from tests.wire.kit import Client, Gateway, gateway, get
from tests.wire.upstream import Conn, Pause, close, eventually, fin, gone, ok, reset, settle, until

ASK = get(b"/chat", b"Connection: keep-alive, Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Key: x\r\n")
SWITCH = (
    b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
    b"Sec-WebSocket-Accept: y\r\n\r\n"
)


async def echo(conn: Conn) -> None:
    """Send back what comes, until the sidecar ends it."""
    while data := await conn.receive():
        await conn.send(data)


async def opened(gate: Gateway, *steps: object) -> Client:
    """Open a tunnel whose upstream then plays `steps`."""
    gate.upstream.play(SWITCH, *steps)  # type: ignore[arg-type]  # steps of a script
    client = await gate.client()
    await client.send(ASK)
    assert (await client.until(b"\r\n\r\n")).startswith(b"HTTP/1.1 101 ")
    return client


async def test_an_upgrade_is_asked_for_and_answered_with_all_its_fields(gate: Gateway) -> None:
    gate.upstream.play(SWITCH, echo)
    client = await gate.client()
    await client.send(ASK)
    response = await client.response()

    (asked,) = gate.upstream.requests
    assert sorted(asked.passed_on) == [
        (b"Connection", b"Upgrade"),
        (b"Host", b"a.example"),
        (b"Sec-WebSocket-Key", b"x"),
        (b"Upgrade", b"websocket"),
    ]
    assert response.status == 101
    assert response.values(b"connection") == [b"Upgrade"]
    assert response.values(b"upgrade") == [b"websocket"]
    assert response.values(b"sec-websocket-accept") == [b"y"]


async def test_bytes_go_both_ways_as_they_come(gate: Gateway) -> None:
    client = await opened(gate, echo)
    for message in (b"one", b"\r\n\r\n", b"GET / HTTP/1.1\r\nHost: a\r\n\r\n", bytes(range(256)) * 999):
        await client.send(message)
        assert await client.until(message) == message


async def test_bytes_sent_before_the_101_are_not_lost(gate: Gateway) -> None:
    """Both ways: with the request, and in the segment of the 101."""
    gate.upstream.play(SWITCH + b"early down", until(b"early up"), b" late down", gone)
    client = await gate.client()
    await client.send(ASK + b"early ", b"up")
    await client.until(b" late down")

    head, _, payload = bytes(client.received).partition(b"\r\n\r\n")
    assert (head[:12], payload) == (b"HTTP/1.1 101", b"early down late down")
    assert bytes(gate.upstream.conns[0].raw).endswith(b"early up")


async def test_one_direction_may_end_before_the_other(gate: Gateway) -> None:
    """The client's FIN is passed on, and the upstream still has the last word."""
    client = await opened(gate, gone, b"goodbye", close)
    await client.send(b"hello")
    client.fin()

    assert (await client.rest(), client.ended) == (b"goodbye", "fin")
    assert bytes(gate.upstream.conns[0].raw).endswith(b"hello")
    assert await gate.fates(1) == ["ok"]


async def test_the_upstream_may_end_first(gate: Gateway) -> None:
    client = await opened(gate, b"bye", fin, until(b"last words"))
    assert await client.rest() == b"bye"

    await client.send(b"last words")
    client.fin()

    await eventually(lambda: bytes(gate.upstream.conns[0].raw).endswith(b"last words"))
    await eventually(lambda: gate.connections == 0)


async def test_a_fin_before_the_101_is_passed_on_after_it(gate: Gateway) -> None:
    """A client that has said all it has to say: the upstream must learn of it, or it waits for ever."""
    hold = Pause(0.01)
    gate.upstream.play(hold, SWITCH, gone, b"goodbye", close)
    client = await gate.client()
    await client.send(ASK + b"hello")
    client.fin()

    assert (await client.rest()).endswith(b"goodbye")
    assert bytes(gate.upstream.conns[0].raw).endswith(b"hello")


@pytest.mark.parametrize("end", [close, reset], ids=["close", "reset"])
async def test_when_the_upstream_is_lost_the_client_is_closed(gate: Gateway, end: object) -> None:
    client = await opened(gate, end)
    await client.rest()

    client.close()
    await eventually(lambda: gate.connections == 0)
    assert gate.pool.open == 0


async def test_when_the_client_is_lost_the_upstream_is_closed(gate: Gateway) -> None:
    client = await opened(gate, gone)
    client.reset()

    await eventually(lambda: gate.upstream.conns[0].ended)
    await eventually(lambda: gate.pool.open == 0)
    assert len(await gate.fates(1)) == 1


async def test_a_tunnel_that_stands_still_is_closed() -> None:
    async with gateway(route={"timeout": {"idle": "50ms"}}) as gate:
        client = await opened(gate, gone)
        await client.rest()

        await eventually(lambda: gate.upstream.conns[0].ended)
        assert await gate.fates(1) == ["timeout_idle"]


async def test_a_tunnel_that_moves_one_way_is_not_idle() -> None:
    async with gateway(route={"timeout": {"idle": "300ms"}}) as gate:
        paced = [step for _ in range(7) for step in (b"x", Pause(0.05))]
        client = await opened(gate, *paced, close)

        assert await client.rest() == b"x" * 7


@pytest.mark.parametrize("way", ["down", "up"])
async def test_a_slow_end_slows_the_other_down(gate: Gateway, way: str) -> None:
    """What is under way in between is bounded: 32 MiB do not fit in the buffers, so the sender stands still."""
    total = 32 << 20
    moved = 0

    async def send_much(conn: Conn) -> None:
        nonlocal moved
        while moved < total:
            conn.writer.write(bytes(1 << 16))
            await conn.writer.drain()
            moved += 1 << 16

    async def read_nothing(conn: Conn) -> None:
        conn.writer.transport.pause_reading()  # type: ignore[attr-defined]  # a stream's transport can be read from
        await asyncio.sleep(3600)

    client = await opened(gate, send_much if way == "down" else read_nothing)
    before, same = -1, 0
    while same < 200 and moved < total:
        if way == "up":
            with suppress(BlockingIOError):
                moved += client.sock.send(bytes(1 << 16))
        same = same + 1 if moved == before else 0
        before = moved
        await settle()

    assert moved < total
    if way == "down":
        received = 0
        while received < total:
            received += len(await client.receive())


# --- what is not a tunnel ---


async def test_an_upgrade_may_be_refused_and_the_connection_goes_on(gate: Gateway) -> None:
    gate.upstream.play(ok(b"no"))
    client = await gate.client()
    await client.send(ASK + get(b"/next"))

    assert [(await client.response()).body, (await client.response()).body] == [b"no", b"ok"]
    assert gate.upstream.requests[1].values(b"upgrade") == []


@pytest.mark.parametrize(
    "fields",
    [
        b"Upgrade: websocket\r\n",
        b"Connection: upgrade\r\n",
        b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAoAAAAAIAAAAA\r\n",
        b"Connection: Upgrade\r\nUpgrade: websocket, h2c\r\n",
        b"Connection: Upgrade\r\nUpgrade: h2c/1\r\n",
        b'Connection: Upgrade\r\nUpgrade: "H2C"\r\n',
        b"Connection: Upgrade\r\nUpgrade: x h2c\r\n",
        b"Connection: Upgrade\r\nUpgrade: H2C\r\n",
    ],
)
async def test_what_is_not_properly_asked_for_or_is_h2c_does_not_go_on(gate: Gateway, fields: bytes) -> None:
    """h2c would take every later request past the sidecar."""
    await gate.ask(get(fields=fields))

    assert gate.upstream.requests[0].passed_on == [(b"Host", b"a.example")]


async def test_an_http_10_client_gets_no_upgrade(gate: Gateway) -> None:
    """RFC 9110 §7.8: a server MUST ignore an Upgrade in an HTTP/1.0 request."""
    await gate.ask(get(fields=b"Connection: Upgrade\r\nUpgrade: websocket\r\n", version=b"HTTP/1.0"))

    assert gate.upstream.requests[0].passed_on == [(b"Host", b"a.example")]


async def test_a_101_that_nobody_asked_for_is_a_502(gate: Gateway) -> None:
    gate.upstream.play(SWITCH, gone)

    response = await gate.ask(get())

    assert (response.status, await gate.fates(1)) == (502, ["upstream_bad_response"])


async def test_a_101_before_the_request_is_whole_is_a_502(gate: Gateway) -> None:
    """The rest of the body would go into the tunnel."""
    gate.upstream.play(SWITCH, gone, early=True)
    client = await gate.client()
    await client.send(
        b"POST / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: x\r\nContent-Length: 10\r\n\r\nhalf"
    )

    assert (await client.response(b"POST")).status == 502


async def test_an_upgrade_with_a_body_switches_after_the_body(gate: Gateway) -> None:
    gate.upstream.play(SWITCH, echo)
    client = await gate.client()
    await client.send(
        b"POST / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nContent-Length: 4\r\n\r\nbody",
        b"more",
    )
    await client.until(b"\r\n\r\n")

    assert await client.until(b"more") == b"more"
    assert gate.upstream.requests[0].body == b"body"


async def test_a_tunnel_connection_never_returns_to_the_pool(gate: Gateway) -> None:
    client = await opened(gate, echo)
    client.close()
    await eventually(lambda: gate.connections == 0)
    await gate.ask(get())

    assert len(gate.upstream.conns) == 2
    assert b"/chat" not in bytes(gate.upstream.conns[1].raw)
