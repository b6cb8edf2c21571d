"""The client leaves, at every await there is: one fate, everything given back once, and the cancellation goes on.

Between two awaits nothing can happen, so leaving after each turn of the loop, at each moment of the script, is leaving
everywhere.
"""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass

import pytest

from sidecar.errors import ClientGone, Disconnected
from sidecar.message import Reply
from sidecar.pipeline.exchange import Exchange
from tests.support.exchanges import Route, Settings, a_body, a_request, a_route
from tests.support.upstream import Step, Upstream, answer, fail, hang, stream
from tests.support.virtual_time import in_virtual_time, now

ALL: Settings = {"attempt": 10.0, "total": 15.0, "idle": 60.0, "max_body": 1000}
TURNS = 6

SCRIPTS: dict[str, Callable[[], Step]] = {
    "at once": answer,
    "waiting for the head": lambda: answer(after=3),
    "a hang": hang,
    "an error": lambda: fail(Disconnected(), after=3),
    "a body": lambda: stream([(1, b"a"), (2, b"b")], after=1),
    "a body that breaks": lambda: stream([(1, b"a")], after=2, breaks=Disconnected(head_seen=True)),
}


@dataclass(slots=True)
class Slots:
    """What a stage with something to give back would hold: a slot from its call to the end of its reply."""

    upstream: Upstream
    taken: int = 0
    given: int = 0

    async def __call__(self, exchange: Exchange) -> Reply:
        self.taken += 1
        try:
            reply = await self.upstream(exchange)
        except BaseException:
            self.given += 1
            raise
        reply.on_close(self._give)
        return reply

    def _give(self, error: BaseException | None) -> None:
        self.given += 1


async def leave(route: Route, at: float, turns: int) -> "asyncio.Task[object]":
    """Ask, and leave at a time, after so many more turns of the loop."""
    task = route.start(a_request("PUT", body=a_body(b"payload")))
    if at:
        await asyncio.sleep(at)
    for _ in range(turns):
        await asyncio.sleep(0)
    task.cancel()
    await asyncio.wait([task])
    return task


@pytest.mark.parametrize("turns", range(TURNS))
@pytest.mark.parametrize("at", [0, 1, 2, 3, 10])
@pytest.mark.parametrize("script", SCRIPTS)
@in_virtual_time
async def test_leaving_at_any_time_gives_everything_back_exactly_once(
    script: str, at: float, turns: int
) -> None:
    upstream = Upstream(SCRIPTS[script](), answer(after=9))
    slots = Slots(upstream)
    route = a_route(slots, **ALL)

    task = await leave(route, at, turns)

    assert slots.taken == slots.given <= 1
    assert len(route.done) == slots.taken
    assert upstream.under_way == 0
    assert sum(route.counts.values()) == slots.taken
    if task.cancelled() and slots.taken:
        assert route.fates == ["client_gone"]
        assert isinstance(route.done[0].error, ClientGone)
    elif not task.cancelled():
        assert task.exception() is None
    # A timer that was left behind would end this one, or the sleep after it.
    if slots.taken:
        assert (await route.get()).status == 200
    await asyncio.sleep(1000)
    assert slots.taken == slots.given


@in_virtual_time
async def test_leaving_in_the_body_drops_it_and_tells_the_upstream_why() -> None:
    upstream = Upstream(stream([(1, b"a"), (100, b"b")], after=1))
    route = a_route(upstream, **ALL)

    task = await leave(route, 5, 0)

    assert task.cancelled()
    (arrival,) = upstream.arrivals
    assert arrival.dropped
    assert [type(error) for error in arrival.closed] == [ClientGone]
    assert (route.fates, route.done[0].status, route.done[0].finished_at) == (["client_gone"], 200, 5)


@pytest.mark.parametrize("bound", ["attempt", "total"])
@in_virtual_time
async def test_leaving_in_the_tick_of_a_timeout_is_leaving(bound: str) -> None:
    upstream = Upstream(hang())
    bounds: Settings = {"attempt": 10.0} if bound == "attempt" else {"total": 10.0}
    route = a_route(upstream, **bounds)
    task = route.start()
    loop = asyncio.get_running_loop()
    loop.call_at(10, task.cancel)

    await asyncio.wait([task])

    assert (task.cancelled(), now(), route.fates) == (True, 10, ["client_gone"])
    assert upstream.under_way == 0


@in_virtual_time
async def test_leaving_twice_is_leaving_once() -> None:
    upstream = Upstream(hang())
    route = a_route(upstream, **ALL)
    task = route.start()
    await asyncio.sleep(1)

    task.cancel()
    task.cancel()
    await asyncio.wait([task])

    assert (task.cancelled(), route.fates, upstream.under_way) == (True, ["client_gone"], 0)
