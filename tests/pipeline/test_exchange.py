"""The state of one request: its times, its word, and its end, told once."""

import asyncio

import pytest

from sidecar.errors import ClientGone, Disconnected
from sidecar.fate import Fate, WhyNotRetried
from sidecar.message import NO_FIELDS, Reply
from sidecar.pipeline.exchange import Exchange
from tests.support.exchanges import a_request, an_exchange
from tests.support.virtual_time import in_virtual_time


@in_virtual_time
async def test_its_times_are_those_of_its_beginning_its_head_and_its_end() -> None:
    told: list[Exchange] = []
    exchange = an_exchange(sink=told.append)
    reply = Reply(201, NO_FIELDS)

    await asyncio.sleep(1)
    exchange.answer(reply, Fate.OK)
    await asyncio.sleep(2)
    assert told == []
    reply.close()
    reply.close()

    assert told == [exchange]
    assert (exchange.started_at, exchange.head_at, exchange.finished_at) == (0, 1, 3)
    assert (exchange.status, exchange.fate, exchange.error) == (201, Fate.OK, None)


@pytest.mark.parametrize(
    ("error", "fate"),
    [
        (Disconnected(), Fate.UPSTREAM_DISCONNECTED),
        (ClientGone(), Fate.CLIENT_GONE),
        (ValueError(), Fate.INTERNAL),
    ],
)
@in_virtual_time
async def test_an_error_after_the_head_changes_the_word_and_not_the_status(
    error: BaseException, fate: Fate
) -> None:
    exchange, reply = an_exchange(), Reply(200, NO_FIELDS)
    exchange.answer(reply, Fate.OK)

    reply.close(error)

    assert (exchange.fate, exchange.status, exchange.error) == (fate, 200, error)


@in_virtual_time
async def test_the_bounds_of_its_route_are_handed_to_its_reply() -> None:
    bounded, unbounded = an_exchange(), an_exchange()
    bounded.idle, bounded.lifetime = 60, 3600
    one, two = Reply(200, NO_FIELDS), Reply(200, NO_FIELDS)

    bounded.answer(one, Fate.OK)
    unbounded.answer(two, Fate.OK)

    assert (one.idle, one.lifetime) == (60, 3600)
    assert (two.idle, two.lifetime) == (None, None)


@in_virtual_time
async def test_its_task_is_the_one_that_the_wire_named_else_the_one_that_asks() -> None:
    named = asyncio.get_running_loop().create_task(asyncio.sleep(0))

    assert an_exchange(a_request(task=named)).current_task() is named
    assert an_exchange().current_task() is asyncio.current_task()
    await named


@in_virtual_time
async def test_exchanges_share_no_state_and_tell_theirs_in_one_line() -> None:
    one, two = an_exchange(), an_exchange(a_request("POST", "/x"))
    one.attempts = (*one.attempts, ("ok", 1.0))
    one.fate = Fate.OK

    assert two.attempts == ()
    assert repr(one) == "<Exchange a-route <Request GET /> ok>"
    assert repr(two) == "<Exchange a-route <Request POST /x> under way>"


@in_virtual_time
async def test_an_answer_that_broke_after_its_head_could_not_be_tried_again_and_says_so() -> None:
    exchange = an_exchange()
    exchange.blocked = dict.fromkeys(WhyNotRetried, 0)
    reply = Reply(200, NO_FIELDS)
    exchange.answer(reply, Fate.OK)

    reply.close(Disconnected(head_seen=True))

    assert exchange.why_not_retried == WhyNotRetried.HEAD_SENT
    assert {why: number for why, number in exchange.blocked.items() if number} == {WhyNotRetried.HEAD_SENT: 1}


@in_virtual_time
async def test_a_client_that_left_is_no_reason_against_a_retry() -> None:
    exchange = an_exchange()
    exchange.blocked = dict.fromkeys(WhyNotRetried, 0)
    reply = Reply(200, NO_FIELDS)
    exchange.answer(reply, Fate.OK)

    reply.close(ClientGone())

    assert (exchange.why_not_retried, sum(exchange.blocked.values())) == (None, 0)
