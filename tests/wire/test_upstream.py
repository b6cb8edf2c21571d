"""One exchange with the upstream: early answers, broken ones, and what becomes of the connections (RFC 9112 §8, §9)."""

import h11
import pytest

from tests.wire.judge import response_in
from tests.wire.kit import Client, Gateway, gateway, get
from tests.wire.upstream import Conn, Hold, close, eventually, fin, gone, reset, settle

UPLOAD = b"POST /up HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n"
TOO_LARGE = b"HTTP/1.1 413 Too Large\r\nContent-Length: 3\r\n\r\nbig"


async def read_nothing_more(conn: Conn) -> None:
    """Leave what comes in the kernel's buffers."""
    conn.writer.transport.pause_reading()  # type: ignore[attr-defined]  # a stream's transport can be read from


async def send_until_blocked(client: Client) -> None:
    """Send zeros until nothing more is taken."""
    blocked = 0
    while blocked < 200:
        try:
            client.sock.send(bytes(100_000))
            blocked = 0
        except BlockingIOError:
            blocked += 1
        await settle()


# --- answers before the request ended ---


@pytest.mark.parametrize("coded", [False, True], ids=["length", "chunked"])
async def test_an_early_answer_reaches_the_client_and_both_connections_end(
    gate: Gateway, coded: bool
) -> None:
    """RFC 9112 §9.3: what is left of the body makes both connections useless."""
    gate.upstream.play(TOO_LARGE, gone, early=True)
    client = await gate.client()
    head = UPLOAD % 1000
    await client.send(
        head.replace(b"Content-Length: 1000", b"Transfer-Encoding: chunked") + b"4\r\nhalf\r\n"
        if coded
        else head + b"half"
    )
    response = await client.response(b"POST")

    assert (response.status, response.body, response.values(b"connection")) == (413, b"big", [b"close"])
    assert (await client.rest(), client.ended) == (b"", "fin")
    await eventually(lambda: gate.upstream.conns[0].ended)
    await eventually(lambda: gate.pool.open == 0)


async def test_a_client_that_goes_on_sending_still_reads_an_early_answer(gate: Gateway) -> None:
    """RFC 9112 §9.6: a close with unread bytes would send a reset, and that may destroy the answer."""
    gate.upstream.play(TOO_LARGE, gone, early=True)
    client = await gate.client()
    await client.send(UPLOAD % 1_000_000, b"x" * 1000)
    await eventually(lambda: gate.records)
    for _ in range(20):
        await client.send(b"x" * 10_000)

    assert (await client.response(b"POST")).status == 413
    assert (await client.rest(), client.ended) == (b"", "fin")


async def test_an_early_answer_from_an_upstream_that_reads_no_more_holds_no_connection(gate: Gateway) -> None:
    """It stopped reading and keeps its side open: what was meant for it is dropped, not waited for."""
    hold = Hold()
    gate.upstream.play(read_nothing_more, hold, TOO_LARGE, Hold(), early=True)
    client = await gate.client()
    await client.send(UPLOAD % 50_000_000)
    await send_until_blocked(client)
    hold.release()

    assert (await client.response(b"POST")).status == 413
    client.close()
    await eventually(lambda: gate.connections == 0)
    await eventually(lambda: gate.pool.open == 0)


async def test_a_long_answer_and_a_long_request_may_cross(gate: Gateway) -> None:
    """The upstream begins to answer at once and echoes what comes."""

    async def echo(conn: Conn) -> None:
        echoed = conn.raw.index(b"\r\n\r\n") + 4
        while not conn.request.done or echoed < len(conn.raw):
            if echoed == len(conn.raw):
                conn.request.feed(await conn.receive())
            data, echoed = bytes(conn.raw[echoed:]), len(conn.raw)
            await conn.send(b"%x\r\n%b\r\n" % (len(data), data))
        await conn.send(b"0\r\n\r\n")

    gate.upstream.play(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", echo, early=True)
    client = await gate.client()
    await client.send(UPLOAD % 12, b"one ", b"two ")
    await client.until(b"two ")
    await client.send(b"end!")

    assert (await client.until(b"0\r\n\r\n")).endswith(b"end!\r\n0\r\n\r\n")


# --- answers that break ---


def looks_complete(client: Client) -> bool:
    """Tell whether a client that got this, to the end of its connection, takes it for a whole answer."""
    if client.ended == "reset":
        return False
    try:
        response_in(bytes(client.received))
    except h11.RemoteProtocolError:
        return False
    return True


TRUNCATED = {
    "length": b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf",
    "nothing of it": b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n",
    "chunk": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n8\r\nhalf",
    "between chunks": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\n",
    "last chunk": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\n0\r\n",
    "trailer": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\n0\r\nX: 1\r\n",
    "bad chunk": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\nzz\r\n",
    "long chunk": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nhalfway",
}


@pytest.mark.parametrize("version", [b"HTTP/1.1", b"HTTP/1.0"])
@pytest.mark.parametrize("end", [close, reset], ids=["close", "reset"])
@pytest.mark.parametrize("kind", list(TRUNCATED))
async def test_a_body_that_breaks_never_looks_complete(
    gate: Gateway, kind: str, end: object, version: bytes
) -> None:
    """RFC 9112 §8: where the end of the connection would end the body, only a reset can tell."""
    head, blank, body = TRUNCATED[kind].partition(b"\r\n\r\n")
    seen = Hold()
    gate.upstream.play(head + blank, seen, body, end)  # type: ignore[arg-type]  # close or reset
    client = await gate.client()
    await client.send(get(version=version))
    await client.until(b"\r\n\r\n")
    seen.release()
    await client.rest()

    assert not looks_complete(client)
    fates = ["upstream_bad_response"] if kind in ("bad chunk", "long chunk") else ["upstream_disconnected"]
    assert await gate.fates(1) == fates


async def test_a_body_until_close_that_is_reset_never_looks_complete(gate: Gateway) -> None:
    gate.upstream.play(b"HTTP/1.0 200 OK\r\n\r\nhalf", reset)
    client = await gate.client()
    await client.send(get(version=b"HTTP/1.0"))
    await client.rest()

    assert client.ended == "reset"


@pytest.mark.parametrize("end", [close, reset, fin], ids=["close", "reset", "fin"])
@pytest.mark.parametrize(
    "sent", [b"", b"HTTP", b"HTTP/1.1 200 OK\r\nX: 1\r\n"], ids=["nothing", "a word", "half a head"]
)
async def test_an_upstream_that_ends_before_its_head_is_a_502(
    gate: Gateway, sent: bytes, end: object
) -> None:
    gate.upstream.play(sent, end, gone)  # type: ignore[arg-type]  # close, reset or fin
    client = await gate.client()
    await client.send(get())
    error = await client.response()
    await client.send(get())

    assert (error.status, await gate.fates(1)) == (502, ["upstream_disconnected"])
    assert (await client.response()).status == 200


async def test_the_client_of_a_502_learns_nothing_of_the_inside(gate: Gateway) -> None:
    gate.upstream.play(b"garbage-\xff-secret\r\n\r\n", close)

    response = await gate.ask(get())

    everything = bytes(response.body) + b"".join(value for _, value in response.headers)
    for secret in (b"secret", b"Traceback", b"127.0.0.1", b"Error(", str(gate.upstream.port).encode()):
        assert secret not in everything


async def test_an_upstream_that_stops_in_its_body_is_given_up() -> None:
    async with gateway(route={"timeout": {"idle": "40ms"}}) as gate:
        gate.upstream.play(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf", gone)
        client = await gate.client()
        await client.send(get())
        await client.rest()

        assert (looks_complete(client), await gate.fates(1)) == (False, ["timeout_idle"])
        await eventually(lambda: gate.pool.open == 0)


async def test_an_upstream_that_reads_no_more_of_a_request_is_given_up() -> None:
    async with gateway(route={"timeout": {"idle": "40ms", "attempt": "off", "total": "off"}}) as gate:
        gate.upstream.play(read_nothing_more, Hold(), early=True)
        client = await gate.client()
        await client.send(UPLOAD % 50_000_000)
        await send_until_blocked(client)

        assert (await client.response(b"POST")).status == 504
        assert await gate.fates(1) == ["timeout_idle"]
        await eventually(lambda: gate.pool.open == 0)


async def test_server_sent_events_are_flushed_as_they_come(gate: Gateway) -> None:
    holds = [Hold() for _ in range(5)]
    events = [step for n, hold in enumerate(holds) for step in (b"data: %d\n\n" % n, hold)]
    gate.upstream.play(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n", *events, close)
    client = await gate.client()
    await client.send(get())

    for n, hold in enumerate(holds):
        await client.until(b"data: %d\n\n" % n)
        hold.release()
    assert await client.until(b"0\r\n\r\n")
