"""Slots and the queue around an attempt, in virtual time: who waits, who leaves, and what is never lost."""

import asyncio
import random
from collections.abc import Callable
from typing import Any

import pytest

from sidecar.counts import Histogram
from sidecar.errors import (
    AttemptTimeout,
    BodyTooLarge,
    BreakerOpen,
    BulkheadFull,
    ConnectFailed,
    Disconnected,
    QueueTimeout,
    RequestError,
)
from sidecar.message import NO_FIELDS, Body, Reply
from sidecar.pipeline.exchange import Exchange
from sidecar.pipeline.stage import Call, Stage, compose
from sidecar.pipeline.stages.attempt import AttemptStage
from sidecar.pipeline.stages.bulkhead import BulkheadStage
from sidecar.pipeline.stages.deadline import TotalDeadline
from sidecar.policy.bulkhead import Bulkhead, BulkheadSettings
from tests.support.exchanges import a_body, a_request, an_exchange
from tests.support.upstream import Arrival, Step, Upstream, answer, fail, hang, stream
from tests.support.virtual_time import VirtualTimeLoop, in_virtual_time, now


class Stretch:
    """A stage around an upstream, with what tests ask of it."""

    def __init__(
        self,
        upstream: Call,
        bulkhead: Bulkhead | None = None,
        *,
        shadow: bool = False,
        total: float | None = None,
        **settings: Any,
    ) -> None:
        loop = asyncio.get_running_loop()
        self.bulkhead = bulkhead or Bulkhead("reads", BulkheadSettings(**settings))
        self.stage = BulkheadStage(self.bulkhead, loop, shadow=shadow)
        outer: list[Stage] = [TotalDeadline(loop, total)] if total is not None else []
        self.call = compose([*outer, self.stage], upstream)
        self.exchanges: list[Exchange] = []

    async def ask(self, exchange: Exchange | None = None) -> Reply:
        """Ask, and leave the reply open."""
        exchange = exchange or an_exchange()
        self.exchanges.append(exchange)
        return await self.call(exchange)

    async def whole(self) -> Reply:
        """Ask, read the body and close, as the wire does."""
        reply = await self.ask()
        try:
            if isinstance(reply.body, Body):
                while await reply.body.read():
                    pass
        finally:
            reply.close()
        return reply

    def start(self) -> "asyncio.Task[Reply]":
        return asyncio.get_running_loop().create_task(self.whole())

    @property
    def held(self) -> tuple[int, int]:
        """How many hold a slot, and how many wait."""
        return self.bulkhead.in_use, self.bulkhead.queued


def waits(bulkhead: Bulkhead) -> tuple[int, float]:
    """How many have waited, and for how long in all."""
    return sum(bulkhead.waits.counts), bulkhead.waits.total


async def settle() -> None:
    """Let everything that is ready run."""
    for _ in range(10):
        await asyncio.sleep(0)


async def outcome(task: "asyncio.Task[Reply]") -> str:
    await asyncio.wait([task])
    if task.cancelled():
        return "cancelled"
    error = task.exception()
    return type(error).__name__ if error else f"{task.result().status} at {now():g}"


# --- a slot ---


@in_virtual_time
async def test_no_more_attempts_are_under_way_than_there_are_slots() -> None:
    upstream = Upstream(then=answer(200, after=1))
    stretch = Stretch(upstream, max_concurrent=3, queue_timeout=60)
    most = 0

    tasks = [stretch.start() for _ in range(10)]
    while not all(task.done() for task in tasks):
        most = max(most, upstream.under_way)
        await asyncio.sleep(0.5)

    assert most == 3
    assert [arrival.at for arrival in upstream.arrivals] == [0, 0, 0, 1, 1, 1, 2, 2, 2, 3]
    assert stretch.held == (0, 0)


@in_virtual_time
async def test_a_slot_is_held_until_the_body_has_ended() -> None:
    stretch = Stretch(Upstream(stream([(10, b"late")], after=1)))

    reply = await stretch.ask()
    assert (now(), stretch.held) == (1, (1, 0))
    assert isinstance(reply.body, Body)
    assert [await reply.body.read(), await reply.body.read()] == [b"late", b""]
    assert stretch.held == (1, 0)

    reply.close()
    reply.close()

    assert stretch.held == (0, 0)


@in_virtual_time
async def test_a_body_that_breaks_gives_its_slot_back() -> None:
    stretch = Stretch(Upstream(stream([(1, b"one")], breaks=Disconnected())))
    reply = await stretch.ask()

    reply.close(Disconnected())

    assert stretch.held == (0, 0)


@pytest.mark.parametrize("body", [b"whole", b"", None])
@in_virtual_time
async def test_an_answer_that_came_whole_gives_its_slot_back_with_its_head(body: bytes | None) -> None:
    async def upstream(exchange: Exchange) -> Reply:
        return Reply(200, NO_FIELDS, body)

    stretch = Stretch(upstream)

    reply = await stretch.ask()

    assert stretch.held == (0, 0)
    reply.close()
    assert stretch.held == (0, 0)


@in_virtual_time
async def test_a_tunnel_holds_its_slot_until_it_is_closed() -> None:
    async def upstream(exchange: Exchange) -> Reply:
        reply = Reply(101, NO_FIELDS)
        reply.tunnel = object()
        return reply

    stretch = Stretch(upstream)

    reply = await stretch.ask()
    assert stretch.held == (1, 0)

    reply.close()
    assert stretch.held == (0, 0)


@pytest.mark.parametrize("error", [Disconnected(), BreakerOpen(), ZeroDivisionError()])
@in_virtual_time
async def test_an_attempt_that_fails_gives_its_slot_back_at_once(error: Exception) -> None:
    stretch = Stretch(Upstream(fail(error, after=1)))

    with pytest.raises(type(error)):
        await stretch.ask()

    assert stretch.held == (0, 0)


@in_virtual_time
async def test_between_two_attempts_no_slot_is_held() -> None:
    stretch = Stretch(Upstream(fail(Disconnected()), answer(200)), max_concurrent=1, max_queue=0)

    with pytest.raises(Disconnected):
        await stretch.ask()
    await asyncio.sleep(5)  # the back-off: somebody else could have the slot
    assert stretch.bulkhead.enter()
    stretch.bulkhead.leave(0, 0)

    assert (await stretch.ask()).status == 200


@in_virtual_time
async def test_a_caller_who_leaves_gives_the_slot_back_at_once() -> None:
    stretch = Stretch(Upstream(hang()))
    task = stretch.start()
    await settle()
    assert stretch.held == (1, 0)

    task.cancel()

    assert await outcome(task) == "cancelled"
    assert stretch.held == (0, 0)


# --- the queue ---


@in_virtual_time
async def test_a_wait_in_the_queue_is_measured_and_is_no_part_of_the_attempt() -> None:
    loop = asyncio.get_running_loop()
    upstream = Upstream(then=answer(200, after=2))
    attempt = AttemptStage(loop, loop.time, upstream="u", timeout=3.0, seconds=Histogram())
    attempt.next = upstream
    stretch = Stretch(attempt.__call__, max_concurrent=1, queue_timeout=60)

    tasks = [stretch.start() for _ in range(3)]
    await asyncio.wait(tasks)

    assert [exchange.queued for exchange in stretch.exchanges] == [0, 2, 4]
    assert [exchange.attempts for exchange in stretch.exchanges] == [(("ok", 2),)] * 3
    assert waits(stretch.bulkhead) == (2, 6)


@in_virtual_time
async def test_a_second_wait_of_the_same_request_is_added() -> None:
    stretch = Stretch(Upstream(then=answer(200, after=2)), max_concurrent=1, queue_timeout=60)
    exchange = an_exchange()
    for _ in range(2):
        other = stretch.start()
        await settle()
        await stretch.ask(exchange)
        await other

    assert exchange.queued == 4


@pytest.mark.parametrize(
    ("order", "expected"), [("fifo", [0, 1, 2, 3]), ("lifo", [0, 3, 2, 1]), ("adaptive", [0, 3, 2, 1])]
)
@in_virtual_time
async def test_the_order_of_the_queue_is_the_configured_one(order: str, expected: list[int]) -> None:
    upstream = Upstream(then=answer(200, after=20))
    stretch = Stretch(upstream, max_concurrent=1, queue_timeout=100, order=order, target=20)
    served = []

    async def ask(number: int) -> None:
        await asyncio.sleep(number / 100)
        await stretch.whole()
        served.append(number)

    tasks = [asyncio.get_running_loop().create_task(ask(number)) for number in range(4)]
    await asyncio.wait(tasks)

    # In order `adaptive` number 1 has waited for a hair less than 20 s when the first slot comes free.
    assert served == ([0, 1, 3, 2] if order == "adaptive" else expected)


@in_virtual_time
async def test_a_wait_ends_with_a_refusal_at_the_queue_timeout() -> None:
    stretch = Stretch(Upstream(hang()), max_concurrent=1, queue_timeout=3)
    holder = stretch.start()
    await settle()

    with pytest.raises(QueueTimeout) as caught:
        await stretch.ask()

    assert (now(), caught.value.retry_after) == (3, 0)
    assert stretch.held == (1, 0)
    assert stretch.exchanges[1].queued == 3
    assert waits(stretch.bulkhead) == (1, 3)
    assert stretch.bulkhead.rejected_timeout == 1
    holder.cancel()
    await outcome(holder)


@in_virtual_time
async def test_a_full_queue_refuses_at_once_and_says_when_to_come_back() -> None:
    stretch = Stretch(Upstream(then=answer(200, after=8)), max_concurrent=2, max_queue=1, queue_timeout=60)
    for _ in range(4):
        await asyncio.wait([stretch.start(), stretch.start()])
    begun = now()
    tasks = [stretch.start() for _ in range(3)]
    await settle()

    with pytest.raises(BulkheadFull) as caught:
        await stretch.ask()

    assert (now(), caught.value.retry_after) == (begun, 8)  # two turns of 8 s, by two slots
    assert waits(stretch.bulkhead) == (0, 0)
    assert stretch.bulkhead.rejected_full == 1
    await asyncio.wait(tasks)
    assert waits(stretch.bulkhead) == (1, 8)


@in_virtual_time
async def test_a_full_queue_drops_the_oldest_and_not_the_newest_in_order_lifo() -> None:
    stretch = Stretch(
        Upstream(then=answer(200, after=5)), max_concurrent=1, max_queue=1, queue_timeout=60, order="lifo"
    )
    holder, oldest = stretch.start(), stretch.start()
    await asyncio.sleep(2)

    newest = stretch.start()

    assert [await outcome(oldest), now()] == ["BulkheadFull", 2]
    assert [await outcome(holder), await outcome(newest)] == ["200 at 5", "200 at 10"]
    assert [exchange.queued for exchange in stretch.exchanges] == [0, 2, 3]


@in_virtual_time
async def test_without_a_queue_nobody_waits() -> None:
    stretch = Stretch(Upstream(hang()), max_concurrent=1, max_queue=0)
    holder = stretch.start()
    await settle()

    with pytest.raises(BulkheadFull):
        await stretch.ask()

    assert now() == 0
    holder.cancel()
    await outcome(holder)


@in_virtual_time
async def test_a_queued_caller_who_disconnects_leaves_the_queue_at_once() -> None:
    stretch = Stretch(Upstream(then=answer(200, after=5)), max_concurrent=1, queue_timeout=60)
    holder, leaver, other = stretch.start(), stretch.start(), stretch.start()
    await asyncio.sleep(1)
    assert stretch.held == (1, 2)

    leaver.cancel()
    await settle()

    assert stretch.held == (1, 1)
    assert (now(), stretch.bulkhead.left, waits(stretch.bulkhead)) == (1, 1, (1, 1))
    assert [await outcome(each) for each in (leaver, holder, other)] == ["cancelled", "200 at 5", "200 at 10"]


@in_virtual_time
async def test_a_queued_caller_whose_deadline_passes_leaves_the_queue_at_once() -> None:
    stretch = Stretch(Upstream(then=hang()), max_concurrent=1, queue_timeout=60, total=10)
    holder = stretch.start()
    await asyncio.sleep(4)
    late = stretch.start()

    assert [await outcome(holder), now()] == ["TotalTimeout", 10]
    await settle()
    assert stretch.held == (1, 0)  # it went on to the second, which has 4 s left
    assert [await outcome(late), now()] == ["TotalTimeout", 14]
    assert stretch.held == (0, 0)


@in_virtual_time
async def test_a_caller_whose_deadline_cannot_be_met_is_refused_now() -> None:
    upstream = Upstream(then=answer(200, after=6))
    stretch = Stretch(upstream, max_concurrent=1, queue_timeout=60, total=10)
    for _ in range(8):
        await stretch.whole()
    holder = stretch.start()
    await settle()
    begun = now()

    with pytest.raises(BulkheadFull):
        await stretch.ask()

    assert now() == begun  # 6 s for the slot and 6 s for the answer are more than 10 s
    await outcome(holder)


@in_virtual_time
async def test_a_slot_that_comes_when_its_taker_has_just_left_goes_to_the_next() -> None:
    stretch = Stretch(Upstream(then=answer(200, after=5)), max_concurrent=1, queue_timeout=60)
    reply = await _with_a_slot(stretch)
    first, second = stretch.start(), stretch.start()
    await settle()

    reply.close()  # the slot is given to the first, which has not run yet
    first.cancel()

    assert [await outcome(first), await outcome(second)] == ["cancelled", "200 at 5"]
    assert (stretch.held, stretch.bulkhead.admitted) == ((0, 0), 3)


@in_virtual_time
async def test_a_slot_that_comes_after_its_taker_was_cancelled_goes_to_the_next() -> None:
    stretch = Stretch(Upstream(then=answer(200, after=5)), max_concurrent=1, queue_timeout=60)
    reply = await _with_a_slot(stretch)
    first, second = stretch.start(), stretch.start()
    await settle()

    first.cancel()  # its task has not run yet, so it still stands in the queue
    reply.close()

    assert [await outcome(first), await outcome(second)] == ["cancelled", "200 at 5"]
    assert stretch.held == (0, 0)


async def _with_a_slot(stretch: Stretch) -> Reply:
    """Take a slot that is held until the reply is closed."""

    async def stalling(exchange: Exchange) -> Reply:
        return Reply(200, NO_FIELDS, Body(now))

    onward, stretch.stage.next = stretch.stage.next, stalling
    reply = await stretch.ask()
    stretch.stage.next = onward
    return reply


@pytest.mark.parametrize("order", ["fifo", "lifo", "adaptive"])
@in_virtual_time
async def test_thousands_of_callers_who_leave_at_any_moment_leak_no_slot(order: str) -> None:
    chance = random.Random(3)
    upstream = Upstream(then=_whatever(chance))
    stretch = Stretch(upstream, max_concurrent=7, max_queue=9, queue_timeout=2, order=order, total=6)
    loop = asyncio.get_running_loop()
    most = 0
    tasks = []
    for _ in range(3000):
        task = stretch.start()
        tasks.append(task)
        if chance.random() < 0.5:
            loop.call_later(chance.choice([0, 0, 0.05, 0.5, 1, 2, 6]), task.cancel)
        if chance.random() < 0.3:
            await asyncio.sleep(chance.choice([0, 0.05, 0.5]))
        most = max(most, upstream.under_way)

    await asyncio.wait(tasks)
    ends = {type(task.exception()).__name__ if not task.cancelled() else "cancelled" for task in tasks}

    bulkhead = stretch.bulkhead
    assert ends == {"NoneType", "cancelled", "BulkheadFull", "QueueTimeout", "Disconnected", "TotalTimeout"}
    assert most <= 7
    assert stretch.held == (0, 0)
    assert bulkhead.admitted >= len(upstream.arrivals)
    assert [bulkhead.enter() for _ in range(8)] == [True] * 7 + [False]


def _whatever(chance: random.Random) -> Step:
    """Answer, fail, stream or hang, as it comes."""
    steps = [
        answer(200, after=0.5),
        answer(503),
        fail(Disconnected(), after=0.1),
        hang(),
        stream([(1, b"x")]),
    ]

    async def step(exchange: Exchange, arrival: Arrival) -> Reply:
        return await chance.choice(steps)(exchange, arrival)

    return step


@in_virtual_time
async def test_routes_that_share_a_bulkhead_share_slots_and_queue() -> None:
    upstream = Upstream(then=answer(200, after=5))
    one = Stretch(upstream, max_concurrent=1, max_queue=1, queue_timeout=60)
    other = Stretch(upstream, one.bulkhead)
    tasks = [one.start(), other.start()]
    await settle()

    with pytest.raises(BulkheadFull):
        await one.ask()

    assert [await outcome(task) for task in tasks] == ["200 at 5", "200 at 10"]
    assert other.held == (0, 0)


@in_virtual_time
async def test_a_request_that_need_not_wait_sets_no_timer() -> None:
    loop = asyncio.get_running_loop()
    assert isinstance(loop, VirtualTimeLoop)
    stretch = Stretch(Upstream(then=answer(200)))

    await stretch.whole()

    assert loop.timers == 0
    assert waits(stretch.bulkhead) == (0, 0)


# --- what an adaptive limit learns from ---


ROUND = 32


async def after_a_round(stretch: Stretch, make: Callable[[], Exchange] | None = None) -> int:
    """Ask as often as makes a round, and give the limit then."""
    for _ in range(ROUND):
        try:
            reply = await stretch.ask(make() if make else None)
        except RequestError:
            continue
        reply.close()
    return stretch.bulkhead.limit


async def adaptive(upstream: Call, *, total: float | None = None) -> Stretch:
    """Give a stretch with a limit of 7 that knows a second as usual, and half of whose slots others hold.

    After a round of answers as usual it is 8, after one of failures 5.
    """
    learning = Stretch(Upstream(then=answer(200, after=1)), adaptive=(3, 10), max_queue=0)
    bulkhead = learning.bulkhead
    assert [bulkhead.enter(), bulkhead.enter()] == [True, True]
    for _ in range(4):
        await after_a_round(learning)
    assert bulkhead.enter()
    assert (bulkhead.limit, bulkhead.in_use) == (7, 3)
    return Stretch(upstream, bulkhead, total=total)


@pytest.mark.parametrize(
    ("step", "expected"),
    [
        (answer(200, after=1), 8),
        (answer(404, after=1), 8),
        (answer(499, after=1), 8),
        (answer(500, after=1), 7),
        (answer(502, after=1), 7),
        (answer(503), 5),
        (answer(504, after=1), 5),
        (fail(ConnectFailed()), 5),
        (fail(AttemptTimeout(), after=10), 5),
        (fail(BreakerOpen()), 7),
        (fail(BodyTooLarge(), after=10), 7),
    ],
)
@in_virtual_time
async def test_it_learns_from_answers_and_from_signs_of_overload(step: Step, expected: int) -> None:
    stretch = await adaptive(Upstream(then=step))

    assert await after_a_round(stretch) == expected


@in_virtual_time
async def test_a_client_that_leaves_tells_nothing() -> None:
    stretch = await adaptive(Upstream(then=hang()))

    for _ in range(2 * ROUND):
        task = stretch.start()
        await asyncio.sleep(100)
        task.cancel()
        await outcome(task)

    assert (stretch.bulkhead.limit, stretch.bulkhead.in_use) == (7, 3)


@pytest.mark.parametrize(("total", "expected"), [(0.5, 7), (1.0, 5), (30.0, 5)])
@in_virtual_time
async def test_a_deadline_that_passes_tells_something_if_an_answer_was_overdue(
    total: float, expected: int
) -> None:
    stretch = await adaptive(Upstream(then=hang()), total=total)

    assert await after_a_round(stretch) == expected


@in_virtual_time
async def test_latency_is_to_the_head_and_not_to_the_end_of_the_body() -> None:
    stretch = await adaptive(Upstream(then=stream([(0, b"x")], after=1)))

    for _ in range(ROUND):
        reply = await stretch.ask()
        await asyncio.sleep(50)
        reply.close()

    assert stretch.bulkhead.limit == 8


@in_virtual_time
async def test_an_answer_that_takes_longer_than_usual_makes_it_shrink() -> None:
    stretch = await adaptive(Upstream(then=answer(200, after=51)))

    assert await after_a_round(stretch) == 6  # 7.17 · 0.5 + 2.68, half-way


@in_virtual_time
async def test_an_upload_is_the_clients_time_and_not_the_upstreams() -> None:
    async def upstream(exchange: Exchange) -> Reply:
        body = exchange.request.body
        assert body is not None
        await asyncio.sleep(50)
        body.feed(b"the last piece")
        body.finish()
        await asyncio.sleep(1)
        return Reply(200, NO_FIELDS, b"thanks")

    stretch = await adaptive(upstream)

    assert await after_a_round(stretch, lambda: an_exchange(a_request("PUT", body=Body(now)))) == 8


@in_virtual_time
async def test_a_body_that_was_there_before_the_attempt_does_not_make_it_seem_slow() -> None:
    stretch = await adaptive(Upstream(then=answer(200, after=1)))

    assert await after_a_round(stretch, lambda: an_exchange(a_request("PUT", body=a_body(b"old")))) == 8


# --- shadow ---


@in_virtual_time
async def test_in_shadow_nobody_waits_or_is_refused_and_the_record_says_who_would_have_been() -> None:
    stretch = Stretch(
        Upstream(then=answer(200, after=5)), max_concurrent=1, max_queue=1, queue_timeout=60, shadow=True
    )

    tasks = [stretch.start() for _ in range(4)]
    await settle()
    assert stretch.held == (4, 0)

    assert [await outcome(task) for task in tasks] == ["200 at 5"] * 4
    assert [exchange.would for exchange in stretch.exchanges] == [(), (), ("bulkhead",), ("bulkhead",)]
    assert (stretch.stage.would_reject, stretch.bulkhead.rejected_full) == (2, 0)
    assert [exchange.queued for exchange in stretch.exchanges] == [0] * 4
    assert waits(stretch.bulkhead) == (0, 0)
    assert stretch.held == (0, 0)


@in_virtual_time
async def test_in_shadow_a_request_is_named_once_and_counted_each_time() -> None:
    stretch = Stretch(Upstream(then=answer(503)), max_concurrent=1, max_queue=0, shadow=True)
    assert stretch.bulkhead.enter()
    exchange = an_exchange()
    exchange.would += ("rate_limit",)

    await stretch.ask(exchange)
    await stretch.ask(exchange)

    assert list(exchange.would) == ["rate_limit", "bulkhead"]
    assert stretch.stage.would_reject == 2


@in_virtual_time
async def test_in_shadow_slots_come_back_as_ever() -> None:
    chance = random.Random(5)
    stretch = Stretch(
        Upstream(then=_whatever(chance)), max_concurrent=2, max_queue=2, queue_timeout=99, shadow=True
    )
    tasks = []
    for _ in range(500):
        task = stretch.start()
        tasks.append(task)
        if chance.random() < 0.3:
            asyncio.get_running_loop().call_later(chance.choice([0, 0.1, 0.5]), task.cancel)
        else:
            asyncio.get_running_loop().call_later(5, task.cancel)
        if chance.random() < 0.3:
            await asyncio.sleep(0.1)
    await asyncio.wait(tasks)

    assert stretch.held == (0, 0)
    assert stretch.stage.would_reject > 50
    would = stretch.stage.would_reject
    for _ in range(5):
        await _with_a_slot(stretch)
    assert stretch.stage.would_reject == would + 1  # two slots and two places were free again


@in_virtual_time
async def test_in_shadow_the_remaining_time_is_looked_at_too() -> None:
    stretch = Stretch(
        Upstream(then=answer(200, after=6)), max_concurrent=1, queue_timeout=60, total=10, shadow=True
    )
    for _ in range(8):
        await stretch.whole()

    await asyncio.wait([stretch.start(), stretch.start()])

    assert [exchange.would for exchange in stretch.exchanges[8:]] == [(), ("bulkhead",)]


@pytest.mark.parametrize(
    ("settings", "shadow", "expected"),
    [
        ({}, False, "bulkhead reads: 100 at once, 100 wait 1s fifo"),
        ({"max_concurrent": 5, "max_queue": 0}, False, "bulkhead reads: 5 at once, none waits"),
        (
            {"adaptive": (5, 50), "order": "lifo", "queue_timeout": 0.5},
            True,
            "bulkhead reads: 5…50 at once, 100 wait 0.5s lifo, shadow",
        ),
    ],
)
@in_virtual_time
async def test_it_describes_itself(settings: dict[str, Any], shadow: bool, expected: str) -> None:
    assert Stretch(Upstream(), shadow=shadow, **settings).stage.describe() == expected
