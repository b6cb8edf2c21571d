"""A failed reply that was put aside: what it held is given back at once, what it said can be said again."""

import asyncio

import pytest

from sidecar.errors import Disconnected
from sidecar.message import Body, Fields, Reply
from sidecar.pipeline.kept import MOST, Kept
from tests.support.exchanges import an_exchange
from tests.support.upstream import Upstream, stream
from tests.support.virtual_time import in_virtual_time, now

FIELDS = Fields([(b"Retry-After", b"5"), (b"Content-Type", b"text/plain")])


def a_reply(body: bytes | Body | None) -> tuple[Reply, list[BaseException | None]]:
    """Make a reply with everything set that a reply can have, and the list of what it is closed with."""
    reply = Reply(503, FIELDS, body)
    reply.reason = b"Not Now"
    reply.length = 7
    reply.extra = ((b"X-Fault-Injected", b"abort"),)
    closed: list[BaseException | None] = []
    reply.on_close(closed.append)
    return reply, closed


def said(reply: Reply | None) -> tuple[object, ...] | None:
    """Give all that a reply says."""
    if reply is None:
        return None
    return reply.status, reply.reason, reply.fields, reply.length, reply.extra, reply.body, [*reply.trailers]


@pytest.mark.parametrize("body", [b"", b"payload", None])
def test_a_reply_that_is_all_here_is_closed_at_once_and_can_be_given_again(body: bytes | None) -> None:
    reply, closed = a_reply(body)
    reply.trailers = [(b"Checksum", b"5")]

    kept = Kept(reply)
    assert closed == [None]
    kept.end()

    extra = ((b"X-Fault-Injected", b"abort"),)
    assert said(kept.answer()) == (503, b"Not Now", FIELDS, 7, extra, body, [(b"Checksum", b"5")])
    assert closed == [None]


def test_what_is_given_again_has_nothing_to_give_back_and_takes_new_closers() -> None:
    reply, closed = a_reply(b"payload")
    kept = Kept(reply)
    again = kept.answer()
    assert again is not None
    ended: list[BaseException | None] = []

    again.on_close(ended.append)
    again.close()

    assert (closed, ended) == ([None], [None])


def test_a_body_that_comes_whole_is_kept_and_its_reply_closed_when_it_ends() -> None:
    body = Body(lambda: 0.0)
    body.feed(b"pay")
    reply, closed = a_reply(body)
    kept = Kept(reply)
    assert (closed, kept.answer()) == ([], None)
    body.feed(b"load")
    assert (closed, kept.answer()) == ([], None)

    body.finish([(b"Checksum", b"5")])

    assert closed == [None]
    kept.end()
    assert closed == [None]
    extra = ((b"X-Fault-Injected", b"abort"),)
    assert said(kept.answer()) == (503, b"Not Now", FIELDS, 7, extra, b"payload", [(b"Checksum", b"5")])


def test_a_body_that_had_come_whole_before_is_kept() -> None:
    body = Body(lambda: 0.0)
    body.feed(b"payload")
    body.finish()
    reply, closed = a_reply(body)

    again = Kept(reply).answer()

    assert again is not None
    assert (again.body, closed) == (b"payload", [None])


def test_a_body_that_has_not_ended_in_time_is_closed_and_lost() -> None:
    body = Body(lambda: 0.0)
    reply, closed = a_reply(body)
    kept = Kept(reply)
    body.feed(b"pay")

    kept.end()

    assert (closed, kept.answer()) == ([None], None)


def test_a_body_that_breaks_is_lost_and_whoever_holds_something_for_it_is_told_why() -> None:
    body = Body(lambda: 0.0)
    reply, closed = a_reply(body)
    kept = Kept(reply)
    broken = Disconnected(head_seen=True)

    body.fail(broken)
    kept.end()

    assert (closed, kept.answer()) == ([broken], None)


@pytest.mark.parametrize(("over", "whole"), [(0, True), (1, False)])
@pytest.mark.parametrize("first", [0, 1, MOST])
def test_so_much_is_kept_and_not_a_byte_more(first: int, over: int, *, whole: bool) -> None:
    body = Body(lambda: 0.0)
    body.feed(b"x" * first)
    reply, closed = a_reply(body)
    kept = Kept(reply)
    body.feed(b"y" * (MOST + over - first))

    assert closed == ([] if whole else [None])
    body.feed(b"")
    body.finish()
    kept.end()

    again = kept.answer()
    assert closed == [None]
    assert (again is not None) == whole
    if again is not None:
        assert again.body == b"x" * first + b"y" * (MOST - first)


def test_a_reply_that_is_too_large_stays_lost_whatever_still_comes() -> None:
    body = Body(lambda: 0.0)
    reply, closed = a_reply(body)
    kept = Kept(reply)
    for _ in range(3):
        body.feed(b"x" * MOST)
    body.finish()

    assert (closed, kept.answer()) == ([None], None)
    assert repr(kept) == "<Kept 503, not whole>"


def test_it_keeps_no_more_than_sixty_four_kibibytes() -> None:
    assert MOST == 65_536


@in_virtual_time
async def test_an_upstream_that_goes_on_and_on_is_let_go() -> None:
    upstream = Upstream(stream([(second, b"x" * 10_000) for second in range(1, 100)], status=503))
    kept = Kept(await upstream(an_exchange()))

    await asyncio.sleep(6.5)
    assert upstream.under_way == 1
    await asyncio.sleep(1)

    (arrival,) = upstream.arrivals
    assert (upstream.under_way, arrival.closed, arrival.dropped, now()) == (0, [None], True, 7.5)
    kept.end()
    assert arrival.closed == [None]


def test_it_tells_its_state() -> None:
    assert repr(Kept(a_reply(b"x")[0])) == "<Kept 503, whole>"
