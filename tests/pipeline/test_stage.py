"""Stages are linked in reading order, once, and what is not in the list costs nothing."""

import asyncio
from collections.abc import Awaitable

from sidecar.message import NO_FIELDS, Reply
from sidecar.pipeline.exchange import Exchange
from sidecar.pipeline.stage import Stage, compose
from tests.support.exchanges import an_exchange
from tests.support.virtual_time import in_virtual_time


class Named(Stage):
    """Writes its name on the way in and on the way out."""

    __slots__ = ("log", "name")

    def __init__(self, name: str, log: list[str]) -> None:
        self.name = name
        self.log = log

    async def __call__(self, exchange: Exchange) -> Reply:
        self.log.append(f"+{self.name}")
        reply = await self.next(exchange)
        self.log.append(f"-{self.name}")
        return reply


class Plain(Stage):
    """Says nothing of its own."""


@in_virtual_time
async def test_the_first_stage_is_the_outermost() -> None:
    log: list[str] = []

    async def terminal(exchange: Exchange) -> Reply:
        log.append("upstream")
        return Reply(200, NO_FIELDS)

    await compose([Named("a", log), Named("b", log), Named("c", log)], terminal)(an_exchange())

    assert log == ["+a", "+b", "+c", "upstream", "-c", "-b", "-a"]


@in_virtual_time
async def test_no_stages_is_the_terminal_itself() -> None:
    async def terminal(exchange: Exchange) -> Reply:
        return Reply(200, NO_FIELDS)

    assert compose([], terminal) is terminal


@in_virtual_time
async def test_a_stage_that_adds_nothing_passes_everything_on() -> None:
    reply, exchange = Reply(200, NO_FIELDS), an_exchange()
    seen: list[Exchange] = []

    def terminal(exchange: Exchange) -> Awaitable[Reply]:
        seen.append(exchange)
        return asyncio.sleep(0, reply)

    assert await compose([Plain()], terminal)(exchange) is reply
    assert seen == [exchange]
    assert Plain().describe() == "Plain"


# --- counting on ---


class Counting(Stage):
    """A stage that counts in both ways."""

    __slots__ = ("by_word", "number")

    counters = ("by_word", "number")

    def __init__(self, number: int, **by_word: int) -> None:
        self.number = number
        self.by_word = by_word


def test_a_stage_that_takes_the_place_of_another_counts_on() -> None:
    before, after = Counting(3, a=1, gone=5), Counting(0, a=0, new=0)

    after.count_on(before)
    before.by_word["a"] += 1  # a request that had begun before
    after.by_word["a"] += 1

    assert after.number == 3
    assert after.by_word == {"a": 3, "gone": 5, "new": 0}


def test_a_stage_that_counts_nothing_has_nothing_to_go_on_from() -> None:
    Stage().count_on(Stage())
