"""What a client may take before it is refused: sizes, times and numbers."""

import asyncio

import pytest

from tests.wire.kit import Gateway, gateway, get
from tests.wire.upstream import eventually, gone, settle

POST = b"POST / HTTP/1.1\r\nHost: a\r\n"


async def refused(gate: Gateway, *sent: bytes) -> int:
    """Send, and give the status with which the connection then ends. Nothing that follows may be served."""
    client = await gate.client()
    await client.send(*sent, get(b"/after"))
    response = await client.response()
    assert response.values(b"connection") == [b"close"]
    assert await client.rest() == b""
    assert [head.target for head in gate.upstream.heads if head.target == b"/after"] == []
    assert await gate.fates(1) == ["bad_request"]
    return response.status


# --- sizes ---


async def test_a_body_within_its_bound_passes() -> None:
    async with gateway(route={"max_body": "10B"}) as gate:
        client = await gate.client()
        await client.send(POST + b"Content-Length: 10\r\n\r\n0123456789")
        assert (await client.response(b"POST")).status == 200
        await client.send(POST + b"Transfer-Encoding: chunked\r\n\r\n5\r\n01234\r\n5\r\n56789\r\n0\r\n\r\n")
        assert (await client.response(b"POST")).status == 200


@pytest.mark.parametrize(
    "parts",
    [
        (POST + b"Content-Length: 11\r\n\r\n",),
        (POST + b"Content-Length: 11\r\n\r\n01234567890",),
        (POST + b"Content-Length: 999999999999999999\r\n\r\n0",),
        (POST + b"Content-Length: 11\r\nExpect: 100-continue\r\n\r\n",),
        (POST + b"Transfer-Encoding: chunked\r\n\r\nb\r\n01234567890\r\n0\r\n\r\n",),
        (POST + b"Transfer-Encoding: chunked\r\n\r\n", b"6\r\n012345\r\n", b"5\r\n67890\r\n"),
    ],
    ids=["announced", "here", "huge", "expected", "chunked here", "chunked"],
)
async def test_a_larger_body_is_413_and_never_whole_upstream(parts: tuple[bytes, ...]) -> None:
    async with gateway(route={"max_body": "10B"}) as gate:
        client = await gate.client()
        await client.send(*parts)
        response = await client.response(b"POST")

        assert (response.status, await gate.fates(1)) == (413, ["bad_request"])
        assert gate.upstream.requests == []


async def test_a_target_that_is_too_long_is_414() -> None:
    async with gateway(limits={"target": "64B"}) as gate:
        assert (await gate.ask(get(b"/" + b"x" * 63))).status == 200
    for size in (64, 200, 5000):
        async with gateway(limits={"target": "64B"}) as gate:
            assert await refused(gate, get(b"/" + b"x" * size)) == 414


async def test_a_target_is_refused_before_its_line_ends() -> None:
    async with gateway(limits={"target": "64B"}) as gate:
        assert await refused(gate, b"GET /" + b"x" * 500) == 414


async def test_a_head_that_is_too_large_is_431() -> None:
    async with gateway(limits={"head": "1KiB"}) as gate:
        fits = get(fields=b"X: " + b"x" * (1024 - len(get()) - 5) + b"\r\n")
        assert (len(fits), (await gate.ask(fits)).status) == (1024, 200)
    for sent in (
        get(fields=b"X: " + b"x" * 1024 + b"\r\n"),
        get(fields=b"X: y\r\n" * 300),
        b"GET / HTTP/1.1\r\nHost: a\r\n" + b"X: " + b"x" * 2000,
    ):
        async with gateway(limits={"head": "1KiB"}) as gate:
            assert await refused(gate, sent) == 431


async def test_too_many_fields_are_431() -> None:
    async with gateway(limits={"fields": 10}) as gate:
        assert (await gate.ask(get(fields=b"X: y\r\n" * 9))).status == 200
    async with gateway(limits={"fields": 10}) as gate:
        assert await refused(gate, get(fields=b"X: y\r\n" * 10)) == 431


@pytest.mark.parametrize("version", [b"HTTP/2.0", b"HTTP/1.2", b"HTTP/0.9", b"HTTP/3.0", b"HTTP/9.9"])
async def test_other_versions_are_505(gate: Gateway, version: bytes) -> None:
    assert await refused(gate, get(version=version)) == 505


@pytest.mark.parametrize(
    "coding", [b"gzip", b"gzip, chunked", b"deflate", b"compress, chunked", b"chunked;q=1", b"x"]
)
async def test_other_transfer_codings_are_501(gate: Gateway, coding: bytes) -> None:
    """RFC 9112 §6.1; 400 where it is no list of codings at all, or chunked is not the last one (§6.3)."""
    assert await refused(gate, POST + b"Transfer-Encoding: %b\r\n\r\n" % coding) in (501, 400)


# --- times ---


@pytest.mark.parametrize("sent", [b"G", b"GET / HTTP/1.1\r\n", get()[:-2], get()[:-1]])
async def test_a_head_that_does_not_end_is_408(sent: bytes) -> None:
    async with gateway(limits={"head_timeout": "40ms"}) as gate:
        client = await gate.client()
        await client.send(sent)
        response = await client.response()

        assert (response.status, response.values(b"connection")) == (408, [b"close"])
        assert await client.rest() == b""


async def test_slowloris_is_cut_off_however_it_dribbles() -> None:
    """The bound is on the whole head, not between two bytes."""
    async with gateway(limits={"head_timeout": "50ms"}) as gate:
        client = await gate.client()
        dribble = get(fields=b"X: y\r\n" * 2000)
        sent = 0
        while not gate.records:
            await client.send(dribble[sent : sent + 1])
            sent += 1
            await eventually(lambda: True)

        assert (await client.response()).status == 408
        assert sent < len(dribble)
        assert gate.upstream.conns == []


async def test_a_connection_that_says_nothing_is_closed() -> None:
    async with gateway(limits={"head_timeout": "40ms"}) as gate:
        client = await gate.client()

        assert (await client.rest(), client.ended) == (b"", "fin")


async def test_an_idle_connection_is_closed_without_a_word() -> None:
    """RFC 9112 §9.5. An answer nobody asked for would be taken for the next request's."""
    async with gateway(limits={"keepalive_timeout": "40ms"}) as gate:
        client = await gate.client()
        await client.send(get())
        await client.response()

        assert (await client.rest(), client.ended) == (b"", "fin")


async def test_an_idle_connection_that_sent_an_empty_line_is_closed_without_a_word() -> None:
    """The line that old clients send after a POST is not the beginning of a request, even in two pieces."""
    async with gateway(limits={"keepalive_timeout": "60ms", "head_timeout": "40ms"}) as gate:
        client = await gate.client()
        await client.send(get())
        await client.response()
        await client.send(b"\r", b"\n")

        assert (await client.rest(), client.ended) == (b"", "fin")


@pytest.mark.parametrize("coded", [False, True], ids=["length", "chunked"])
async def test_a_body_that_stands_still_is_408(coded: bool) -> None:
    async with gateway(route={"timeout": {"idle": "40ms"}}) as gate:
        gate.upstream.play(gone, early=True)
        client = await gate.client()
        await client.send(
            POST + (b"Transfer-Encoding: chunked\r\n\r\n5\r\nhe" if coded else b"Content-Length: 5\r\n\r\nhe")
        )
        response = await client.response(b"POST")

        assert (response.status, await gate.fates(1)) == (408, ["timeout_idle"])
        await eventually(lambda: gate.upstream.conns[0].ended)
        await eventually(lambda: gate.pool.open == 0)


async def test_a_request_that_is_answered_is_not_cut_by_the_bound_on_heads() -> None:
    async with gateway(limits={"head_timeout": "30ms", "keepalive_timeout": "30ms"}) as gate:
        gate.upstream.play(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n", gone)
        client = await gate.client()
        await client.send(get())
        await client.until(b"\r\n\r\n")
        await asyncio.sleep(
            0.08
        )  # longer than both bounds, and nothing else can tell that they do not strike

        assert gate.connections == 1


# --- numbers ---


async def test_a_connection_too_many_is_refused_with_503() -> None:
    async with gateway(limits={"connections": 2}) as gate:
        first, second = await gate.client(), await gate.client()
        await eventually(lambda: gate.connections == 2)
        third = await gate.client()
        await third.send(get())
        response = await third.response()

        assert (response.status, response.values(b"connection")) == (503, [b"close"])
        assert int(response.values(b"retry-after")[0]) >= 1
        assert b'details="rejected_overload"' in response.values(b"proxy-status")[0]
        assert await third.rest() == b""
        assert gate.upstream.conns == []
        second.close()
        await eventually(lambda: gate.connections == 1)
        assert (await gate.ask(get())).status == 200
        await first.send(get())
        assert (await first.response()).status == 200


async def test_a_client_that_lingers_after_an_error_is_cut_off_by_size(gate: Gateway) -> None:
    """It is given time to read its answer, not a drain to pour into."""
    client = await gate.client()
    await client.send(b"nonsense\r\n\r\n")
    assert (await client.response()).status == 400
    sent = 0
    while client.ended != "reset" and sent < 50_000_000:
        await client.send(bytes(100_000))
        sent += 100_000
        await settle()

    assert sent < 20_000_000
    await eventually(lambda: gate.connections == 0)
