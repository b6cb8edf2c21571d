"""One client connection: requests in order, kept alive as its version says, and what a FIN means (RFC 9112 §9)."""

import pytest

from tests.wire.kit import Gateway, gateway, get
from tests.wire.upstream import Hold, Pause, eventually, gone, ok, settle

POST = b"POST / HTTP/1.1\r\nHost: a.example\r\nContent-Length: 5\r\n\r\nhello"


# --- persistence ---


@pytest.mark.parametrize(
    ("version", "fields", "kept"),
    [
        (b"HTTP/1.1", b"", True),
        (b"HTTP/1.1", b"Connection: keep-alive\r\n", True),
        (b"HTTP/1.1", b"Connection: close\r\n", False),
        (b"HTTP/1.1", b"Connection: foo, CLOSE\r\n", False),
        (b"HTTP/1.1", b"Connection: foo\r\nConnection: close\r\n", False),
        (b"HTTP/1.0", b"", False),
        (b"HTTP/1.0", b"Connection: Keep-Alive\r\n", True),
        (b"HTTP/1.0", b"Connection: keep-alive, close\r\n", False),
    ],
)
async def test_a_connection_persists_as_its_version_and_connection_say(
    gate: Gateway, version: bytes, fields: bytes, kept: bool
) -> None:
    """RFC 9112 §9.3; the answer says so where the client could not know."""
    client = await gate.client()
    await client.send(get(b"/1", fields, version=version))
    response = await client.response()

    options = [value.lower() for value in response.values(b"connection")]
    assert (b"close" in options) == (not kept)
    assert (b"keep-alive" in options) == (kept and version == b"HTTP/1.0")
    if kept:
        await client.send(get(b"/2", fields, version=version))
        assert (await client.response()).status == 200
    else:
        assert (await client.rest(), client.ended) == (b"", "fin")


async def test_an_upstream_that_closes_does_not_close_the_client(gate: Gateway) -> None:
    gate.upstream.play(ok(b"1", b"Connection: close\r\nKeep-Alive: timeout=1\r\n"))
    client = await gate.client()
    await client.send(get())
    first = await client.response()
    await client.send(get())
    second = await client.response()

    assert (first.body, second.body) == (b"1", b"ok")
    assert first.values(b"connection") == first.values(b"keep-alive") == []
    assert len(gate.upstream.conns) == 2


# --- pipelining ---


@pytest.mark.parametrize("together", [True, False], ids=["one segment", "one by one"])
async def test_pipelined_requests_are_answered_in_order(gate: Gateway, together: bool) -> None:
    """RFC 9112 §9.3.2. Twenty, with and without bodies, of every framing."""
    requests = [
        get(b"/%d" % n)
        if n % 3 == 0
        else b"POST /%d HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc" % n
        if n % 3 == 1
        else b"PUT /%d HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n" % n
        for n in range(20)
    ]
    for n in range(20):
        gate.upstream.play(ok(b"answer %d" % n))
    client = await gate.client()

    await client.send(*([b"".join(requests)] if together else requests))
    answers = [(await client.response()).body for _ in range(20)]

    assert answers == [b"answer %d" % n for n in range(20)]
    assert [request.target for request in gate.upstream.requests] == [b"/%d" % n for n in range(20)]
    assert [request.body for request in gate.upstream.requests] == [
        b"" if n % 3 == 0 else b"abc" for n in range(20)
    ]


async def test_a_pipelined_request_waits_for_the_answer_before_it(gate: Gateway) -> None:
    gate.upstream.play(gone)
    client = await gate.client()
    await client.send(POST + POST)
    await eventually(lambda: gate.upstream.heads)
    await settle()

    assert len(gate.upstream.heads) == 1


async def test_a_flood_of_pipelined_requests_is_not_read_into_memory(gate: Gateway) -> None:
    """What waits behind a request under way is bounded by not reading: the client's own send buffer fills."""
    gate.upstream.play(gone)
    client = await gate.client()
    client.sock.setsockopt(1, 7, 65536)  # SOL_SOCKET, SO_SNDBUF
    await client.send(get())
    await eventually(lambda: gate.upstream.heads)
    flood = get(b"/flood") * 1000
    sent = idle = 0
    while sent < 64_000_000 and idle < 50:
        try:
            sent += client.sock.send(flood)
            idle = 0
        except BlockingIOError:
            idle += 1
        await settle()

    assert sent < 32_000_000
    assert len(gate.upstream.heads) == 1


async def test_after_connection_close_nothing_more_is_served(gate: Gateway) -> None:
    """RFC 9112 §9.6: a server MUST NOT process requests after the one with `close`."""
    client = await gate.client()
    await client.send(get(b"/1", b"Connection: close\r\n") + get(b"/2"))

    assert (await client.response()).status == 200
    assert await client.rest() == b""
    assert [request.target for request in gate.upstream.requests] == [b"/1"]


async def test_empty_lines_before_a_request_are_ignored(gate: Gateway) -> None:
    """RFC 9112 §2.2: at least one; clients of old send one after a POST."""
    client = await gate.client()
    await client.send(b"\r\n\r\n" + POST + b"\r\n" + get())

    assert [(await client.response()).status, (await client.response()).status] == [200, 200]


async def test_empty_lines_are_not_ignored_for_ever(gate: Gateway) -> None:
    """However they are split."""
    together, apart = await gate.client(), await gate.client()
    await together.send(b"\r\n" * 50)
    await apart.send(*[b"\r\n"] * 50)

    assert (await together.response()).status == 400
    assert (await apart.response()).status == 400


# --- the client's FIN ---


@pytest.mark.parametrize("request_bytes", [get(), POST], ids=["GET", "POST"])
async def test_a_client_that_half_closes_is_answered(gate: Gateway, request_bytes: bytes) -> None:
    client = await gate.client()
    await client.send(request_bytes)
    client.fin()
    response = await client.response()

    assert response.status == 200
    assert (await client.rest(), client.ended) == (b"", "fin")


@pytest.mark.parametrize("early", [True, False], ids=["before", "after"])
async def test_pipelined_requests_before_a_fin_are_all_answered(gate: Gateway, early: bool) -> None:
    """Whether the FIN comes before or after the first answer."""
    hold = Hold()
    gate.upstream.play(hold, ok())
    client = await gate.client()
    await client.send(get(b"/1") + POST + get(b"/3"))
    if not early:
        hold.release()
    client.fin()
    await settle()
    hold.release()

    assert [(await client.response()).status for _ in range(3)] == [200, 200, 200]
    assert (await client.rest(), client.ended) == (b"", "fin")


async def test_a_fin_is_a_farewell_after_the_grace() -> None:
    """The upstream call is given up, so that a client that is gone holds nothing."""
    async with gateway(limits={"half_close_grace": "30ms"}) as gate:
        gate.upstream.play(gone)
        client = await gate.client()
        await client.send(get())
        await eventually(lambda: gate.upstream.heads)
        client.fin()

        assert await gate.fates(1) == ["client_gone"]
        await eventually(lambda: gate.upstream.conns[0].ended)
        await eventually(lambda: gate.connections == 0)


async def test_the_grace_holds_for_each_request_that_came_before_the_fin() -> None:
    """The second of two pipelined requests hangs: its client may be long gone, so it is not waited for either."""
    async with gateway(limits={"half_close_grace": "30ms"}) as gate:
        hold = Hold()
        gate.upstream.play(hold, ok())
        gate.upstream.play(gone)
        client = await gate.client()
        await client.send(get(b"/1") + get(b"/2"))
        client.fin()
        await settle()
        hold.release()

        assert (await client.response()).status == 200
        assert await gate.fates(2) == ["ok", "client_gone"]
        await eventually(lambda: gate.connections == 0)


@pytest.mark.parametrize(
    "half",
    [b"GET /2 HTT", b"\r\n", b"POST /2 HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhel"],
    ids=["head", "empty line", "body"],
)
async def test_half_a_request_before_a_fin_is_not_waited_for(gate: Gateway, half: bytes) -> None:
    """It can never become whole: the connection ends at once after the answer before it."""
    hold = Hold()
    gate.upstream.play(hold, ok())
    client = await gate.client()
    await client.send(get(b"/1") + half)
    client.fin()
    await settle()
    hold.release()

    assert (await client.response()).status == 200
    await client.rest()
    await eventually(lambda: gate.connections == 0, within=1)
    assert [request.target for request in gate.upstream.requests] == [b"/1"]


@pytest.mark.parametrize(
    "sent", [b"", b"GET / HT", b"\r\n", get()[:-2]], ids=["nothing", "line", "empty", "head"]
)
async def test_a_fin_between_requests_ends_the_connection(gate: Gateway, sent: bytes) -> None:
    client = await gate.client()
    await client.send(sent)
    client.fin()
    await client.rest()

    await eventually(lambda: gate.connections == 0, within=1)
    assert gate.upstream.conns == []


async def test_a_download_goes_on_for_a_half_closed_client_that_reads() -> None:
    """The grace asks whether anybody is there, and a client that takes bytes is."""
    async with gateway(limits={"half_close_grace": "300ms"}) as gate:
        paced = [step for _ in range(8) for step in (b"x", Pause(0.05))]
        gate.upstream.play(b"HTTP/1.1 200 OK\r\nContent-Length: 8\r\n\r\n", *paced)
        client = await gate.client()
        await client.send(get())
        await client.until(b"\r\n\r\n")
        client.fin()

        assert await client.rest() == b"x" * 8
        assert await gate.fates(1) == ["ok"]


# --- draining ---


async def test_draining_closes_idle_connections_and_finishes_the_others(gate: Gateway) -> None:
    hold = Hold()
    idle, busy = await gate.client(), await gate.client()
    await idle.send(get())
    await idle.response()
    gate.upstream.play(hold, ok(b"done"))
    await busy.send(get())
    await eventually(lambda: len(gate.upstream.heads) == 2)
    assert gate.sidecar.server is not None

    gate.sidecar.server.drain()

    assert (await idle.rest(), idle.ended) == (b"", "fin")
    hold.release()
    last = await busy.response()
    assert (last.body, last.values(b"connection"), await busy.rest()) == (b"done", [b"close"], b"")
