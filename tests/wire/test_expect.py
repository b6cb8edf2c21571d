"""`Expect: 100-continue` end to end, and interim responses (RFC 9110 §10.1.1, §15.2)."""

import pytest

from tests.wire.kit import Gateway, gateway, get
from tests.wire.upstream import body_read, close, eventually, ok, settle

HEAD = b"POST / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\n"
CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"


async def test_100_comes_from_the_upstream_and_the_body_after_it(gate: Gateway) -> None:
    """A proxy MUST forward the expectation, and gives no 100 of its own."""
    gate.upstream.play(CONTINUE, body_read, ok(b"done"), early=True)
    client = await gate.client()
    await client.send(HEAD)
    assert await client.until(b"\r\n\r\n") == CONTINUE
    assert gate.upstream.heads[0].values(b"expect") == [b"100-continue"]
    assert gate.upstream.requests == []

    await client.send(b"hello")
    response = await client.response(b"POST")
    await client.send(get())
    after = await client.response()

    assert (response.body, after.body) == (b"done", b"ok")
    assert gate.upstream.requests[0].body == b"hello"
    assert len(gate.upstream.conns) == 1


async def test_no_100_before_the_upstream_says_so(gate: Gateway) -> None:
    client = await gate.client()
    await client.send(HEAD)
    await eventually(lambda: gate.upstream.heads)
    await settle()
    assert client.received == b""

    await client.send(b"hello")

    assert (await client.response(b"POST")).interim == []


@pytest.mark.parametrize("status", [417, 413, 401, 200])
async def test_a_final_answer_instead_of_100_is_passed_on_and_the_connection_ends(
    gate: Gateway, status: int
) -> None:
    """The client may or may not send the body now: nobody could tell it from a request (RFC 9110 §10.1.1)."""
    gate.upstream.play(b"HTTP/1.1 %d No\r\nContent-Length: 2\r\n\r\nno" % status, early=True)
    client = await gate.client()
    await client.send(HEAD)
    response = await client.response(b"POST")

    assert (response.status, response.body, response.interim) == (status, b"no", [])
    assert response.values(b"connection") == [b"close"]
    await client.send(get(b"/smuggled"))
    assert await client.rest() == b""
    assert [head.target for head in gate.upstream.heads] == [b"/"]
    await eventually(lambda: gate.pool.open == 0)


async def test_an_expectation_of_http_10_is_ignored(gate: Gateway) -> None:
    """RFC 9110 §10.1.1: MUST ignore it, and MUST NOT send a 100 to such a client (§15.2)."""
    gate.upstream.play(CONTINUE, ok(), early=True)
    client = await gate.client()
    await client.send(HEAD.replace(b"1.1", b"1.0") + b"hello")

    assert (await client.response(b"POST")).interim == []
    assert gate.upstream.requests[0].values(b"expect") == []


async def test_a_chunked_body_may_wait_for_100_too(gate: Gateway) -> None:
    gate.upstream.play(CONTINUE, body_read, ok(), early=True)
    client = await gate.client()
    await client.send(HEAD.replace(b"Content-Length: 5", b"Transfer-Encoding: chunked"))
    await client.until(b"\r\n\r\n")
    await client.send(b"5\r\nhello\r\n0\r\n\r\n")

    assert (await client.response(b"POST")).status == 200
    assert gate.upstream.requests[0].body == b"hello"


async def test_a_client_that_does_not_wait_for_100_is_served(gate: Gateway) -> None:
    gate.upstream.play(CONTINUE, ok())
    client = await gate.client()
    await client.send(HEAD + b"hello" + get())

    first = await client.response(b"POST")
    assert ([status for status, _ in first.interim], first.status) == ([100], 200)
    assert (await client.response()).status == 200


# --- other interim responses ---


async def test_interim_answers_are_relayed_as_they_come(gate: Gateway) -> None:
    fields = b"Link: </a.css>; rel=preload\r\nlink: </b>\r\nConnection: x-hop\r\nX-Hop: 1\r\n"
    hints = b"HTTP/1.1 103 Early Hints\r\n" + fields + b"\r\n"
    gate.upstream.play(hints + b"HTTP/1.1 102 Processing\r\n\r\n", hints, ok(b"done"))

    response = await gate.ask(get())

    links = [(b"Link", b"</a.css>; rel=preload"), (b"link", b"</b>")]
    assert response.interim == [(103, links), (102, []), (103, links)]
    assert (response.status, response.body) == (200, b"done")


async def test_interim_answers_do_not_go_to_an_http_10_client(gate: Gateway) -> None:
    """RFC 9110 §15.2: MUST NOT."""
    gate.upstream.play(b"HTTP/1.1 103 Early Hints\r\n\r\n", CONTINUE, ok(b"done"))
    client = await gate.client()
    await client.send(get(version=b"HTTP/1.0"))
    response = await client.response()

    assert (response.interim, response.body) == ([], b"done")


async def test_an_interim_answer_frames_nothing(gate: Gateway) -> None:
    """RFC 9110 §8.6, RFC 9112 §6.1: no Content-Length and no Transfer-Encoding in a 1xx; it has no body."""
    gate.upstream.play(b"HTTP/1.1 103 Early Hints\r\nContent-Length: 5\r\nX: 1\r\n\r\n", ok(b"done"))

    response = await gate.ask(get())

    assert response.interim == [(103, [(b"X", b"1")])]
    assert response.body == b"done"


async def test_an_upstream_that_only_sends_interim_answers_is_stopped() -> None:
    async with gateway() as gate:
        gate.upstream.play(b"HTTP/1.1 102 Processing\r\n\r\n" * 2000)
        client = await gate.client()
        await client.send(get())
        response = await client.response()

        assert (response.status, len(response.interim) < 100) == (502, True)
        assert await gate.fates(1) == ["upstream_bad_response"]


async def test_an_upstream_that_ends_after_an_interim_answer_is_a_502(gate: Gateway) -> None:
    gate.upstream.play(b"HTTP/1.1 103 Early Hints\r\n\r\n", close)

    response = await gate.ask(get())

    assert ([status for status, _ in response.interim], response.status) == ([103], 502)
    assert await gate.fates(1) == ["upstream_disconnected"]
