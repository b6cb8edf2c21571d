"""From a copy to a reply."""

import asyncio

import pytest

from sidecar.message import Body, Fields, Headers
from sidecar.pipeline.stages.cached import LARGE, PIECE, answer_from, fresh_from, reply_from
from sidecar.policy.cache_request import asked
from sidecar.policy.store import Entry
from tests.support.caches import a_copy as a_copy_of
from tests.support.exchanges import a_request
from tests.support.virtual_time import in_virtual_time

FIELDS: Headers = [(b"Content-Length", b"5"), (b"ETag", b'"1"')]


def a_copy(body: bytes = b"hello", status: int = 200) -> Entry:
    return a_copy_of(
        b"r h /", status, Fields(FIELDS), body, 100.0, age_at_store=5.5, lifetime=60.9, etag=b'"1"'
    )


def test_a_copy_becomes_a_reply_of_its_age() -> None:
    copy = a_copy()

    reply = reply_from(copy, a_request(), 110.0, ((b"X", b"1"),))

    assert (reply.status, reply.fields, reply.body, reply.length) == (200, copy.fields, b"hello", 5)
    assert reply.extra == ((b"Age", b"15"), (b"X", b"1"))


def test_a_head_gets_the_section_without_the_body() -> None:
    copy = a_copy()

    reply = reply_from(copy, a_request("HEAD"), 110.0, ())

    assert (reply.status, reply.fields, reply.body, reply.length) == (200, copy.fields, None, 5)


def test_a_204_has_no_body_and_no_length() -> None:
    reply = reply_from(a_copy(b"", 204), a_request(), 110.0, ())

    assert (reply.status, reply.body, reply.length) == (204, None, None)


def test_each_reply_is_a_new_one() -> None:
    copy = a_copy()

    assert reply_from(copy, a_request(), 110.0, ()) is not reply_from(copy, a_request(), 110.0, ())


def test_a_hit_says_its_age_and_how_long_it_will_be_fresh() -> None:
    copy, request = a_copy(), a_request()
    read = asked(request.fields)

    said = [fresh_from(copy, read, request, at).extra for at in (100.0, 100.4, 100.5, 110.0, 100.0)]

    assert said == [
        ((b"Age", b"5"), (b"Cache-Status", b"sidecar; hit; ttl=55")),
        ((b"Age", b"5"), (b"Cache-Status", b"sidecar; hit; ttl=55")),
        ((b"Age", b"6"), (b"Cache-Status", b"sidecar; hit; ttl=54")),
        ((b"Age", b"15"), (b"Cache-Status", b"sidecar; hit; ttl=45")),
        ((b"Age", b"5"), (b"Cache-Status", b"sidecar; hit; ttl=55")),
    ]


def test_a_client_that_has_the_copy_gets_a_304() -> None:
    copy, request = a_copy(), a_request(headers=[(b"If-None-Match", b'"1"')])
    read = asked(request.fields)

    replies = [
        fresh_from(copy, read, request, 100.0),
        answer_from(copy, read, request, 100.0, ((b"X", b"1"),)),
    ]

    assert [(reply.status, reply.body, reply.length) for reply in replies] == [(304, None, None)] * 2
    assert [reply.fields.pairs for reply in replies] == [((b"ETag", b'"1"'),)] * 2
    assert replies[0].fields is replies[1].fields
    assert [reply.extra[1:] for reply in replies] == [
        ((b"Cache-Status", b"sidecar; hit; ttl=55"),),
        ((b"X", b"1"),),
    ]
    assert replies[1].extra[0] == (b"Age", b"5")


@pytest.mark.parametrize(("tag", "status"), [(b'"2"', 200), (b'"1"', 404)])
def test_a_client_that_has_another_copy_or_asks_of_an_error_gets_it_whole(tag: bytes, status: int) -> None:
    request = a_request(headers=[(b"If-None-Match", tag)])

    reply = answer_from(a_copy(status=status), asked(request.fields), request, 100.0, ())

    assert (reply.status, reply.body) == (status, b"hello")


# --- large bodies ---


@in_virtual_time
async def test_a_large_body_goes_out_as_its_client_reads() -> None:
    whole = bytes(range(256)) * (LARGE // 256) + b"end"
    reply = reply_from(a_copy(whole), a_request(), 110.0, ())
    body = reply.body
    assert isinstance(body, Body)
    assert (reply.length, body.waiting, body.paused) == (len(whole), 2 * PIECE, True)

    got = b""
    while piece := await body.read():
        got += piece
        assert body.waiting <= 2 * PIECE

    assert got == whole


@in_virtual_time
async def test_a_client_that_stops_in_the_middle_gets_no_more_until_it_goes_on() -> None:
    whole = b"x" * (LARGE + 1)
    body = reply_from(a_copy(whole), a_request(), 110.0, ()).body
    assert isinstance(body, Body)
    got: list[int] = []
    ends: list[BaseException | None] = []

    def sip(data: bytes) -> None:
        got.append(len(data))
        body.hold()
        if len(got) == 4:
            body.release()  # within the piece that it was given

    body.pipe(sip, ends.append)
    assert got == [PIECE, PIECE]
    body.release()
    assert (got, ends) == ([PIECE] * 3, [])
    body.release()

    assert (got, ends) == ([PIECE] * 4 + [1], [None])
    await asyncio.sleep(0)


@in_virtual_time
async def test_a_body_is_large_from_a_quarter_of_a_mebibyte_on() -> None:
    assert LARGE == 256 * 1024
    assert isinstance(reply_from(a_copy(b"x" * (LARGE - 1)), a_request(), 0.0, ()).body, bytes)
    assert isinstance(reply_from(a_copy(b"x" * LARGE), a_request(), 0.0, ()).body, Body)
    assert reply_from(a_copy(b"x" * LARGE), a_request("HEAD"), 0.0, ()).body is None


@in_virtual_time
async def test_a_client_that_leaves_a_large_body_leaves_nothing_behind() -> None:
    body = reply_from(a_copy(b"x" * LARGE * 2), a_request(), 0.0, ()).body
    assert isinstance(body, Body)

    body.discard()

    assert (body.finished, body.waiting) == (True, 0)
