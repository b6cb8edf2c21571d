"""Answers that are not HTTP/1.x, or whose framing is not clear, are a 502 and nothing of them reaches a client.

RFC 9112 §6.3: a gateway MUST close the connection to the server, discard the response, and send a 502.
"""

import pytest

from tests.wire.judge import response_in
from tests.wire.kit import Gateway, get
from tests.wire.upstream import eventually, gone, ok

CL5 = b"Content-Length: 5\r\n"
CHUNKED = b"Transfer-Encoding: chunked\r\n"

INVALID = {
    "not http": b"SSH-2.0-OpenSSH_9.6\r\n\r\n",
    "http/0.9": b"<html>hello</html>\r\n\r\n",
    "http/2": b"HTTP/2.0 200 OK\r\n\r\n",
    "http/2 preface": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "http/1.2": b"HTTP/1.2 200 OK\r\n\r\n",
    "lower case": b"http/1.1 200 OK\r\n\r\n",
    "icy": b"ICY 200 OK\r\n\r\n",
    "two spaces": b"HTTP/1.1  200 OK\r\n\r\n",
    "leading space": b" HTTP/1.1 200 OK\r\n\r\n",
    "empty line first": b"\r\nHTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n",
    "tab": b"HTTP/1.1\t200 OK\r\n\r\n",
    "status 99": b"HTTP/1.1 99 OK\r\n\r\n",
    "status 099": b"HTTP/1.1 099 OK\r\n\r\n",
    "status 600": b"HTTP/1.1 600 OK\r\n\r\n",
    "status 1000": b"HTTP/1.1 1000 OK\r\n\r\n",
    "status 2e2": b"HTTP/1.1 2e2 OK\r\n\r\n",
    "status +20": b"HTTP/1.1 +20 OK\r\n\r\n",
    "no status": b"HTTP/1.1\r\n\r\n",
    "nul in reason": b"HTTP/1.1 200 O\x00K\r\n\r\n",
    "cr in reason": b"HTTP/1.1 200 O\rK\r\n\r\n",
    "bare lf": b"HTTP/1.1 200 OK\nContent-Length: 0\n\n",
    "bare lf in a field": b"HTTP/1.1 200 OK\r\nX: a\nY: b\r\nContent-Length: 0\r\n\r\n",
    "bare cr in a field": b"HTTP/1.1 200 OK\r\nX: a\rY: b\r\nContent-Length: 0\r\n\r\n",
    "nul in a field": b"HTTP/1.1 200 OK\r\nX: a\x00\r\nContent-Length: 0\r\n\r\n",
    "control in a field": b"HTTP/1.1 200 OK\r\nX: a\x01\r\nContent-Length: 0\r\n\r\n",
    "space before colon": b"HTTP/1.1 200 OK\r\nContent-Length : 5\r\n\r\nhello",
    "no colon": b"HTTP/1.1 200 OK\r\nContent-Length 5\r\n\r\nhello",
    "no name": b"HTTP/1.1 200 OK\r\n: 5\r\n\r\n",
    "obs-fold": b"HTTP/1.1 200 OK\r\nX: a\r\n b\r\nContent-Length: 0\r\n\r\n",
    "fold first": b"HTTP/1.1 200 OK\r\n X: a\r\nContent-Length: 0\r\n\r\n",
    "cl and te": b"HTTP/1.1 200 OK\r\n" + CL5 + CHUNKED + b"\r\n0\r\n\r\n",
    "te and cl": b"HTTP/1.1 200 OK\r\n" + CHUNKED + CL5 + b"\r\n0\r\n\r\n",
    "two lengths": b"HTTP/1.1 200 OK\r\n" + CL5 + b"Content-Length: 6\r\n\r\nhello!",
    "two equal lengths": b"HTTP/1.1 200 OK\r\n" + CL5 + CL5 + b"\r\nhello",
    "length list": b"HTTP/1.1 200 OK\r\nContent-Length: 5, 6\r\n\r\nhello",
    "length +5": b"HTTP/1.1 200 OK\r\nContent-Length: +5\r\n\r\nhello",
    "length -5": b"HTTP/1.1 200 OK\r\nContent-Length: -5\r\n\r\nhello",
    "length 0x5": b"HTTP/1.1 200 OK\r\nContent-Length: 0x5\r\n\r\nhello",
    "length 5.0": b"HTTP/1.1 200 OK\r\nContent-Length: 5.0\r\n\r\nhello",
    "length empty": b"HTTP/1.1 200 OK\r\nContent-Length:\r\n\r\nhello",
    "length 5 5": b"HTTP/1.1 200 OK\r\nContent-Length: 5 5\r\n\r\nhello",
    "length of 2^64": b"HTTP/1.1 200 OK\r\nContent-Length: 18446744073709551621\r\n\r\nhello",
    "te gzip": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\n",
    "te gzip, chunked": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
    "te chunked twice": b"HTTP/1.1 200 OK\r\n" + CHUNKED + CHUNKED + b"\r\n0\r\n\r\n",
    "te chunked, chunked": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked, chunked\r\n\r\n0\r\n\r\n",
    "te identity": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: identity\r\n\r\nhello",
    "te xchunked": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: xchunked\r\n\r\n0\r\n\r\n",
    "te empty": b"HTTP/1.1 200 OK\r\nTransfer-Encoding:\r\n\r\nhello",
    "te vtab": b"HTTP/1.1 200 OK\r\nTransfer-Encoding:\x0bchunked\r\n\r\n0\r\n\r\n",
    "te in http/1.0": b"HTTP/1.0 200 OK\r\n" + CHUNKED + b"\r\n0\r\n\r\n",
    "chunk size with a sign": b"HTTP/1.1 200 OK\r\n" + CHUNKED + b"\r\n+5\r\nhello\r\n0\r\n\r\n",
    "chunk size 0x5": b"HTTP/1.1 200 OK\r\n" + CHUNKED + b"\r\n0x5\r\nhello\r\n0\r\n\r\n",
    "chunk lf": b"HTTP/1.1 200 OK\r\n" + CHUNKED + b"\r\n5\nhello\r\n0\r\n\r\n",
    "chunk overrun": b"HTTP/1.1 200 OK\r\n" + CHUNKED + b"\r\n5\r\nhellooo\r\n0\r\n\r\n",
    "chunk size of 17 digits": b"HTTP/1.1 200 OK\r\n" + CHUNKED + b"\r\n00000000000000005\r\nhello\r\n0\r\n\r\n",
    "head too large": b"HTTP/1.1 200 OK\r\nX: " + b"x" * 300_000 + b"\r\n\r\n",
    "endless line": b"HTTP/1.1 200 " + b"x" * 300_000,
    "endless fields": b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 60_000 + b"\r\n",
}


@pytest.mark.parametrize("kind", list(INVALID))
async def test_an_invalid_answer_is_a_502_and_its_connection_is_closed(gate: Gateway, kind: str) -> None:
    gate.upstream.play(INVALID[kind], gone)
    client = await gate.client()
    await client.send(get(b"/bad"))
    response = await client.response()

    assert response.status == 502
    assert response.values(b"content-type") == [b"application/problem+json"]
    assert b"http_protocol_error" in response.values(b"proxy-status")[0]
    assert await gate.fates(1) == ["upstream_bad_response"]
    await eventually(lambda: gate.upstream.conns[0].ended)
    await client.send(get(b"/next"))
    assert (await client.response()).body == b"ok"


SPLITTING = {
    "second answer in the body's place": b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n",
    "in a field's value": b"HTTP/1.1 200 OK\r\nX: a%0d%0aSet-Cookie: b\r\nContent-Length: 0\r\n\r\n",
    "after a 204": b"HTTP/1.1 204 No Content\r\nContent-Length: 40\r\n\r\n",
    "after a chunked body": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "after a 304 with a length": b"HTTP/1.1 304 Not Modified\r\nContent-Length: 40\r\n\r\n",
}


@pytest.mark.parametrize("apart", [False, True], ids=["one segment", "two segments"])
@pytest.mark.parametrize("kind", list(SPLITTING))
async def test_one_answer_is_never_taken_for_anothers(gate: Gateway, kind: str, apart: bool) -> None:
    """Two clients, one connection: the second gets its own answer, not what was smuggled behind the first's."""
    poison = ok(b"poison")
    gate.upstream.play(*([SPLITTING[kind], poison] if apart else [SPLITTING[kind] + poison]), gone)
    first, second = await gate.client(), await gate.client()
    await first.send(get(b"/1", b"Connection: close\r\n"))
    mine = response_in(await first.rest())
    await second.send(get(b"/2", b"Connection: close\r\n"))
    theirs = response_in(await second.rest())

    assert (mine.body, theirs.body) == (b"", b"ok")
    assert b"poison" not in bytes(first.received) + bytes(second.received)


async def test_the_body_of_an_answer_to_head_is_not_the_next_answer(gate: Gateway) -> None:
    gate.upstream.play(ok(b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\npoison"), gone)
    client = await gate.client()
    await client.send(b"HEAD / HTTP/1.1\r\nHost: a\r\n\r\n")
    await client.response(b"HEAD")
    await client.send(get())

    assert (await client.response()).body == b"ok"
    assert b"poison" not in client.received
