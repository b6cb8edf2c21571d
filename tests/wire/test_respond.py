"""What goes back to the client: the upstream's answer, framed anew for this client (RFC 9110 §6.4, RFC 9112 §6)."""

import pytest

from tests.wire.judge import response_in
from tests.wire.kit import Gateway, get
from tests.wire.upstream import close, ok

CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"


async def test_the_answer_comes_back_byte_for_byte(gate: Gateway) -> None:
    """Status line, order, case and repetition of the fields, and the body, whatever it holds."""
    body = b"\x00\xffHTTP/1.1 200 OK\r\n\r\n"
    gate.upstream.play(
        b"HTTP/1.1 203 So  so, \xe9\r\nset-cookie: a=1\r\nX-Empty:\r\nDATE: Sat, 01 Jan 2000 00:00:00 GMT\r\n"
        b"Set-Cookie: b=2\r\ncontent-ENCODING: gzip\r\nset-cookie: a=1\r\nContent-length: %d\r\n\r\n%b"
        % (len(body), body)
    )
    client = await gate.client()
    await client.send(get(fields=b"X-Request-ID: r\r\nConnection: close\r\n"))

    assert await client.rest() == (
        b"HTTP/1.1 203 So  so, \xe9\r\nset-cookie: a=1\r\nX-Empty: \r\nDATE: Sat, 01 Jan 2000 00:00:00 GMT\r\n"
        b"Set-Cookie: b=2\r\ncontent-ENCODING: gzip\r\nset-cookie: a=1\r\nContent-length: %d\r\n"
        b"X-Request-ID: r\r\nConnection: close\r\n\r\n%b" % (len(body), body)
    )


@pytest.mark.parametrize("status", [200, 299, 300, 404, 418, 499, 500, 599])
async def test_any_final_status_is_passed_on(gate: Gateway, status: int) -> None:
    gate.upstream.play(b"HTTP/1.1 %d Whatever\r\nContent-Length: 1\r\n\r\nx" % status)

    response = await gate.ask(get())

    assert (response.status, response.reason, response.body) == (status, b"Whatever", b"x")
    assert await gate.fates(1) == ["ok" if status < 500 else "upstream_status"]


async def test_fields_of_one_connection_do_not_come_back(gate: Gateway) -> None:
    gate.upstream.play(
        ok(
            b"x",
            b"Connection: X-Listed, keep-alive\r\nX-Listed: 1\r\nKeep-Alive: timeout=5\r\nProxy-Connection: close\r\n"
            b"Upgrade: foo\r\nTE: x\r\nX-Kept: 1\r\n",
        )
    )

    response = await gate.ask(get())

    names = [name for name, _ in response.headers]
    assert names == [b"Date", b"X-Kept", b"Content-Length", b"X-Request-ID"]


async def test_an_answer_without_a_date_gets_one(gate: Gateway) -> None:
    """RFC 9110 §6.6.1."""
    gate.upstream.play(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")

    response = await gate.ask(get())

    assert [len(value) for value in response.values(b"date")] == [29]


async def test_426_says_to_what_one_must_upgrade(gate: Gateway) -> None:
    """RFC 9110 §15.5.22 (MUST send Upgrade) and §7.8 (whoever sends Upgrade MUST also list it in Connection)."""
    gate.upstream.play(
        b"HTTP/1.1 426 Upgrade Required\r\nConnection: Upgrade\r\nUpgrade: TLS/1.3\r\nContent-Length: 0\r\n\r\n"
    )

    response = await gate.ask(get())

    assert response.values(b"upgrade") == [b"TLS/1.3"]
    assert b"upgrade" in b",".join(response.values(b"connection")).lower()


# --- framing ---

FRAMINGS = {
    "length": b"Content-Length: 5\r\n\r\nhello",
    "chunked": b"Transfer-Encoding: chunked\r\n\r\n2;x=y\r\nhe\r\n3\r\nllo\r\n0\r\n\r\n",
    "until close": b"Connection: close\r\n\r\nhello",
}


@pytest.mark.parametrize("framing", list(FRAMINGS))
@pytest.mark.parametrize("asked", [b"HTTP/1.1", b"HTTP/1.0"])
async def test_a_body_of_any_framing_reaches_a_client_of_any_version(
    gate: Gateway, framing: str, asked: bytes
) -> None:
    """RFC 9112 §6.1: no Transfer-Encoding to an HTTP/1.0 client; what has no length then ends with the connection."""
    steps = (close,) if framing == "until close" else ()
    gate.upstream.play(b"HTTP/1.1 200 OK\r\n" + FRAMINGS[framing], *steps)
    client = await gate.client()
    await client.send(get(fields=b"Connection: keep-alive\r\n", version=asked))
    response = await client.response()

    assert response.body == b"hello"
    sized = framing == "length"
    old = asked == b"HTTP/1.0"
    assert response.values(b"content-length") == ([b"5"] if sized else [])
    assert response.values(b"transfer-encoding") == ([] if sized or old else [b"chunked"])
    if old and not sized:
        assert (response.values(b"connection"), await client.rest()) == ([b"close"], b"")
    else:
        await client.send(get(version=asked))
        assert (await client.response()).body == b"ok"


async def test_an_answer_of_http_10_reaches_the_client_as_http_11(gate: Gateway) -> None:
    gate.upstream.play(b"HTTP/1.0 200 OK\r\n\r\nold", close)
    client = await gate.client()
    await client.send(get())

    assert (await client.response()).body == b"old"
    assert bytes(client.received).startswith(b"HTTP/1.1 200 OK\r\n")


@pytest.mark.parametrize(
    ("method", "head", "fields"),
    [
        (b"HEAD", b"200 OK\r\nContent-Length: 5\r\n", [(b"Content-Length", b"5")]),
        (b"HEAD", b"200 OK\r\nTransfer-Encoding: chunked\r\n", []),
        (b"HEAD", b"200 OK\r\n", []),
        (b"HEAD", b"404 No\r\nContent-Length: 7\r\n", [(b"Content-Length", b"7")]),
        (b"GET", b"204 No Content\r\n", []),
        (b"GET", b"204 No Content\r\nContent-Length: 0\r\n", []),
        (b"GET", b"204 No Content\r\nTransfer-Encoding: chunked\r\n", []),
        (b"GET", b"304 Not Modified\r\nETag: x\r\n", [(b"ETag", b"x")]),
        (b"GET", b"304 Not Modified\r\nContent-Length: 9\r\n", [(b"Content-Length", b"9")]),
        (b"GET", b"304 Not Modified\r\nTransfer-Encoding: chunked\r\n", []),
        (b"POST", b"204 No Content\r\nX: y\r\n", [(b"X", b"y")]),
        (b"HEAD", b"304 Not Modified\r\n", []),
    ],
)
@pytest.mark.parametrize("version", [b"HTTP/1.1", b"HTTP/1.0"])
async def test_what_has_no_body_by_definition_has_none(
    gate: Gateway, method: bytes, head: bytes, fields: list[tuple[bytes, bytes]], version: bytes
) -> None:
    """RFC 9112 §6.3 rule 1, RFC 9110 §8.6 (no Content-Length in a 204): and both connections go on."""
    gate.upstream.play(b"HTTP/1.1 " + head + b"\r\n")
    client = await gate.client()
    ask = method + b" / " + version + b"\r\nHost: a\r\nConnection: keep-alive\r\n\r\n"
    await client.send(ask)
    response = await client.response(method)
    await client.send(get(b"/2"))
    after = await client.response()

    own = (b"date", b"x-request-id", b"connection")
    assert [pair for pair in response.headers if pair[0].lower() not in own] == fields
    assert (response.body, after.body) == (b"", b"ok")
    assert len(gate.upstream.conns) == 1


async def test_our_own_error_to_a_head_has_no_body(gate: Gateway) -> None:
    gate.upstream.play(close)
    client = await gate.client()
    await client.send(b"HEAD / HTTP/1.1\r\nHost: a\r\n\r\n", get())
    error = await client.response(b"HEAD")
    after = await client.response()

    assert (error.status, error.body, after.body) == (502, b"", b"ok")
    assert int(error.values(b"content-length")[0]) > 0


# --- trailers ---


async def test_trailers_of_the_answer_come_back(gate: Gateway) -> None:
    """RFC 9110 §6.5; in one piece and in several."""
    parts = (
        CHUNKED.replace(b"\r\n\r\n", b"\r\nTrailer: X-Sum\r\n\r\n"),
        b"2\r\nhe\r\n0\r\nX-",
        b"Sum: 1 \r\nx-more: \t2\r\n",
        b"\r\n",
    )
    gate.upstream.play(b"".join(parts))
    gate.upstream.play(*parts)

    for response in (await gate.ask(get()), await gate.ask(get())):
        assert (response.body, response.trailers) == (b"he", [(b"X-Sum", b"1"), (b"x-more", b"2")])
        assert response.values(b"trailer") == [b"X-Sum"]


async def test_trailers_do_not_go_to_an_http_10_client(gate: Gateway) -> None:
    gate.upstream.play(CHUNKED + b"2\r\nhe\r\n0\r\nX-Sum: 1\r\n\r\n")
    client = await gate.client()
    await client.send(get(version=b"HTTP/1.0"))

    assert response_in(await client.rest()).body == b"he"


@pytest.mark.parametrize("apart", [False, True], ids=["whole", "streamed"])
async def test_trailers_of_the_request_go_on(gate: Gateway, apart: bool) -> None:
    client = await gate.client()
    parts = (
        b"POST / HTTP/1.1\r\nHost: a\r\nTrailer: X-Sum\r\nTransfer-Encoding: chunked\r\n\r\n",
        b"2\r\nhe\r\n0\r\n",
        b"X-Sum: 1\r\n\r\n",
    )
    await client.send(*(parts if apart else [b"".join(parts)]))

    assert (await client.response(b"POST")).status == 200
    assert (gate.upstream.requests[0].body, gate.upstream.requests[0].trailers) == (b"he", [(b"X-Sum", b"1")])


FORBIDDEN = [
    b"Content-Length",
    b"Transfer-Encoding",
    b"Host",
    b"Connection",
    b"Authorization",
    b"Cookie",
    b"Set-Cookie",
    b"Via",
]


@pytest.mark.parametrize(
    "name",
    [
        *FORBIDDEN,
        b"X-Forwarded-For",
        b"X-Forwarded-Host",
        b"x_forwarded_for",
        b"Content_Length",
        b"X-Request-ID",
        b"Forwarded",
    ],
)
async def test_a_trailer_cannot_frame_route_or_vouch(gate: Gateway, name: bytes) -> None:
    """RFC 9110 §6.5.1; a service that merges trailers into its fields would believe them."""
    client = await gate.client()
    await client.send(
        b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n",
        b"2\r\nhe\r\n0\r\n%b: 1\r\nX-Kept: 1\r\n\r\n" % name,
    )
    await client.response(b"POST")

    assert gate.upstream.requests[0].trailers == [(b"X-Kept", b"1")]


@pytest.mark.parametrize("name", FORBIDDEN)
async def test_a_trailer_of_an_answer_cannot_frame_or_authorise(gate: Gateway, name: bytes) -> None:
    gate.upstream.play(CHUNKED, b"2\r\nhe\r\n0\r\n%b: 1\r\nX-Kept: 1\r\n\r\n" % name)

    assert (await gate.ask(get())).trailers == [(b"X-Kept", b"1")]
