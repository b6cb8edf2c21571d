"""Nothing ambiguous goes upstream, and nothing behind what was refused (RFC 9112 §11.2).

Every request of the corpus stands between two plain ones on one connection. What the upstream gets is read by h11, which
shares no code with the sidecar: it must be the plain one before and, where the request has one meaning, exactly that and
the plain one after.
"""

import pytest

from tests.wire.judge import requests_in
from tests.wire.kit import Gateway, get
from tests.wire.smuggling import CORPUS, Meaning
from tests.wire.upstream import ok

BEFORE, AFTER = get(b"/before"), get(b"/after", b"Connection: close\r\n")


def test_the_corpus_is_large() -> None:
    assert len(CORPUS) >= 150


@pytest.mark.parametrize("apart", [False, True], ids=["one segment", "apart"])
@pytest.mark.parametrize("name", list(CORPUS))
async def test_it_is_refused_or_has_one_meaning(gate: Gateway, name: str, apart: bool) -> None:
    sent, meaning = CORPUS[name]
    gate.upstream.default = ok(b"ok")
    client = await gate.client()
    await client.send(*((BEFORE, sent, AFTER) if apart else (BEFORE + sent + AFTER,)))
    first = await client.response()
    second = await client.response(sent.split(b" ", 1)[0] if meaning else b"GET")
    rest = await client.rest()

    assert (first.status, first.body) == (200, b"ok")
    if meaning is None:
        assert 400 <= second.status < 600
        assert second.values(b"content-type") == [b"application/problem+json"]
        assert (second.values(b"connection"), rest) == ([b"close"], b"")
        assert [request.target for request in gate.upstream.requests] == [b"/before"]
        assert all(head.target in (b"/before", b"/x") for head in gate.upstream.heads)
    else:
        assert second.status == 200
        assert rest.startswith(b"HTTP/1.1 200 ")
        assert _read_by_h11(gate) == [(b"GET", b"/before", b""), meaning, (b"GET", b"/after", b"")]


def _read_by_h11(gate: Gateway) -> list[Meaning]:
    """Read what each connection to the upstream carried, from its raw bytes."""
    return [
        (request.method, request.target, request.body)
        for conn in gate.upstream.conns
        for request in requests_in(bytes(conn.raw))
    ]


async def test_a_host_that_was_replaced_is_nowhere_upstream(gate: Gateway) -> None:
    await gate.ask(b"GET http://real.example/x HTTP/1.1\r\nHost: forged.example\r\n\r\n")

    assert b"forged.example" not in gate.upstream.raw


async def test_a_body_that_is_a_request_stays_a_body_when_its_answer_comes_early(gate: Gateway) -> None:
    """The upstream answers at the head; what then comes from the client is body, or nothing."""
    gate.upstream.play(ok(b"early"), early=True)
    client = await gate.client()
    await client.send(b"POST /x HTTP/1.1\r\nHost: a\r\nContent-Length: 100\r\n\r\n")
    assert (await client.response(b"POST")).body == b"early"
    await client.send(get(b"/smuggled"))
    await client.rest()
    await gate.ask(get(b"/clean"))

    assert [request.target for request in gate.upstream.requests] == [b"/clean"]
    assert [bytes(conn.raw).count(b"/clean") for conn in gate.upstream.conns] == [0, 1]
