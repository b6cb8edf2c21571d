"""Answers that are not HTTP/1.x, or whose framing is not clear, are a 502 and nothing of them reaches a client.

RFC 9112 §6.3: a gateway MUST close the connection to the server, discard the response, and send a 502.
"""

import pytest

from tests.wire.bad_answers import INVALID
from tests.wire.judge import response_in
from tests.wire.kit import Gateway, get
from tests.wire.upstream import eventually, gone, ok


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
