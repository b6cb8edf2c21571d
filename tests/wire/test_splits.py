"""Where the bytes are split makes no difference: each conversation, split at every position, comes to the same.

Compared is what is observed outside: the requests that the upstream got and the answers that the client got, each as h11
reads them, and how the client's connection ended.
"""

import asyncio
import re
from dataclasses import dataclass

import h11
import pytest

from tests.wire.conversations import CONVERSATIONS, Conversation
from tests.wire.judge import Reading, Received, Response
from tests.wire.kit import Gateway
from tests.wire.upstream import Conn, close, settle

# In an answer of ours: its made-up id, and the words for what is wrong, which may depend on how much was seen of it.
_OURS = re.compile(rb'"(request_id|detail)": "[^"]*"')


@dataclass
class Observed:
    """What came of one conversation. `end` is "whole" where the last answer is, else "broken"."""

    requests: list[Received]
    answers: list[Response]
    end: str
    tunnelled: tuple[bytes, bytes] = (b"", b"")


def _answers(data: bytes, methods: tuple[bytes, ...]) -> tuple[list[Response], str, bytes]:
    """Read the answers; of one that breaks, how much of its body came is not told: nobody promises that."""
    found: list[Response] = []
    for method in methods:
        reading = Reading(method)
        broken = False
        try:
            reading.feed(data)
            if not reading.done:
                reading.feed(b"")
        except h11.RemoteProtocolError:
            broken = True
        response = reading.response
        assert response is not None
        found.append(response)
        response.headers = [pair for pair in response.headers if not _varies(pair[0], response)]
        response.body = _OURS.sub(b"", response.body)
        if broken or not reading.done:
            return found, "broken", b""
        data = reading.rest
    return found, "whole", data


def _varies(name: bytes, response: Response) -> bool:
    """Tell what differs from turn to turn: the date and the length of an answer of ours, and its made-up id."""
    ours = bool(response.values(b"proxy-status"))
    return ours and name.lower() in (b"date", b"x-request-id", b"content-length")


async def hold(
    gate: Gateway, talk: Conversation, sent: tuple[bytes, ...], answers: tuple[tuple[bytes, ...], ...]
) -> Observed:
    """Hold the conversation with the client's bytes and the upstream's answers in these pieces."""
    upstream = gate.upstream
    upstream.forget()
    upstream.requests.clear()
    tunnel = talk is CONVERSATIONS["tunnel"]
    tail = b"early up\r\n\r\n"

    async def early_up(conn: Conn) -> None:
        while not conn.raw.endswith(tail) and await conn.receive():
            pass

    for n, pieces in enumerate(answers):
        ending = (*((early_up,) if tunnel else ()), *((close,) if n in talk.ends else ()))
        upstream.play(*pieces, *ending)
    client = await gate.client()
    await client.send(*sent)
    await client.rest()
    client.close()
    for _ in range(2):
        await settle()
    found, end, rest = _answers(bytes(client.received), talk.methods)
    up = bytes(upstream.conns[-1].raw).partition(b"\r\n\r\n")[2] if tunnel else b""
    observed = Observed(list(upstream.requests), found, end, (up, rest))
    assert upstream.malformed == []
    if not tunnel:
        assert rest == b""
    return observed


def positions(data: bytes) -> range:
    """Every position where `data` can be split; on plain asyncio, which takes the same way, every third."""
    everywhere = "uvloop" in type(asyncio.get_running_loop()).__module__
    return range(1, len(data), 1 if everywhere else 3)


def _bytes(data: bytes) -> tuple[bytes, ...]:
    return tuple(data[n : n + 1] for n in range(len(data)))


@pytest.mark.parametrize("name", list(CONVERSATIONS))
async def test_where_the_clients_bytes_are_split_makes_no_difference(gate: Gateway, name: str) -> None:
    talk = CONVERSATIONS[name]
    whole = tuple((answer,) for answer in talk.answers)
    expected = await hold(gate, talk, (talk.client,), whole)

    for at in positions(talk.client):
        assert await hold(gate, talk, (talk.client[:at], talk.client[at:]), whole) == expected, at
    assert await hold(gate, talk, _bytes(talk.client), whole) == expected


@pytest.mark.parametrize("name", [name for name, talk in CONVERSATIONS.items() if talk.answers])
async def test_where_the_upstreams_bytes_are_split_makes_no_difference(gate: Gateway, name: str) -> None:
    talk = CONVERSATIONS[name]
    whole = tuple((answer,) for answer in talk.answers)
    expected = await hold(gate, talk, (talk.client,), whole)

    for n, answer in enumerate(talk.answers):
        for at in positions(answer):
            split = (*whole[:n], (answer[:at], answer[at:]), *whole[n + 1 :])
            assert await hold(gate, talk, (talk.client,), split) == expected, (n, at)
    assert (
        await hold(gate, talk, (talk.client,), tuple(_bytes(answer) for answer in talk.answers)) == expected
    )


async def test_what_the_conversations_come_to(gate: Gateway) -> None:
    """That all splits agree says nothing if they agree on nonsense."""
    observed = {}
    for name, talk in CONVERSATIONS.items():
        outcome = await hold(gate, talk, (talk.client,), tuple((answer,) for answer in talk.answers))
        observed[name] = ([answer.status for answer in outcome.answers], len(outcome.requests), outcome.end)

    assert observed == {
        "get": ([200], 1, "whole"),
        "length": ([200], 1, "whole"),
        "chunked with trailers": ([200], 1, "whole"),
        "pipelined": ([200, 200, 204, 200], 4, "whole"),
        "http/1.0": ([200], 1, "whole"),
        "until close": ([200], 1, "whole"),
        "interim": ([200], 1, "whole"),
        "no bodies": ([200, 304, 200], 3, "whole"),
        "empty lines": ([200, 200], 2, "whole"),
        "absolute": ([200], 1, "whole"),
        "bad chunk": ([400], 0, "whole"),
        "two lengths": ([400], 0, "whole"),
        "bare line feed": ([400], 0, "whole"),
        "nonsense": ([400], 0, "whole"),
        "invalid answer": ([502], 1, "whole"),
        "answer that is not http": ([502], 1, "whole"),
        "answer that breaks": ([200], 1, "broken"),
        "tunnel": ([101], 1, "whole"),
    }
