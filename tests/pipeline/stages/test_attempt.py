"""One attempt: bounded to its head, measured, and counted by its result."""

import asyncio

import pytest

from sidecar.errors import (
    AttemptTimeout,
    BadResponse,
    BodyTooLarge,
    ConnectFailed,
    Disconnected,
    Overloaded,
    RequestBodyTimeout,
    RequestError,
    UpstreamFailed,
    UpstreamIdle,
)
from sidecar.fate import Fate
from sidecar.pipeline.exchange import Exchange
from sidecar.pipeline.stages.attempt import RESULTS, AttemptStage
from tests.support.exchanges import a_route, some_parts
from tests.support.upstream import Arrival, Step, Upstream, answer, fail, hang, stream
from tests.support.virtual_time import in_virtual_time, now


def ignore(exchange: Exchange, fault: Exception) -> None:
    """Take a fault without a word."""


BOUNDS = [None, 10.0]


@in_virtual_time
async def test_an_attempt_without_a_head_ends_at_its_timeout() -> None:
    upstream = Upstream(hang())
    route = a_route(upstream, attempt=10)

    got = await route.get()

    assert (got.status, got.at, route.fates) == (504, 10, ["timeout_attempt"])
    assert upstream.arrivals == [Arrival(0, b"GET", b"/", "cancelled", 10)]
    assert isinstance(route.done[0].error, AttemptTimeout)


@in_virtual_time
async def test_a_head_in_time_ends_the_timeout_however_long_the_body_takes() -> None:
    route = a_route(Upstream(stream([(3600, b"late")], after=9)), attempt=10)

    got = await route.get()

    assert (got.status, got.body, route.fates) == (200, b"late", ["ok"])


@pytest.mark.parametrize("bound", BOUNDS)
@pytest.mark.parametrize(
    ("error", "result"),
    [
        (ConnectFailed(), "upstream_connect"),
        (Disconnected(), "upstream_disconnected"),
        (BadResponse(), "upstream_bad_response"),
        (UpstreamIdle(), "timeout_idle"),
        (AttemptTimeout(), "timeout_attempt"),
        (Overloaded(retry_after=1), "rejected_overload"),
        (BodyTooLarge(), "request_broke"),
        (RequestBodyTimeout(), "request_broke"),
    ],
)
@in_virtual_time
async def test_a_failed_attempt_is_counted_by_what_came_of_it(
    error: RequestError, result: str, bound: float | None
) -> None:
    route = a_route(Upstream(fail(error, after=2)), attempt=bound)

    await route.get()

    assert route.counts == {result: 1}
    assert route.done[0].attempts == ((result, 2.0),)
    assert route.done[0].error is error


@pytest.mark.parametrize("bound", BOUNDS)
@pytest.mark.parametrize(("status", "result"), [(200, "ok"), (404, "ok"), (499, "ok"), (500, "status_5xx")])
@in_virtual_time
async def test_an_answered_attempt_is_counted_by_its_status(
    status: int, result: str, bound: float | None
) -> None:
    route = a_route(Upstream(answer(status, after=3)), attempt=bound)

    await route.get()

    assert route.counts == {result: 1}
    assert route.done[0].attempts == ((result, 3.0),)
    assert route.done[0].upstream == "an-upstream"
    assert (sum(route.seconds.counts), route.seconds.total) == (1, 3)


@pytest.mark.parametrize("bound", BOUNDS)
@in_virtual_time
async def test_a_client_that_left_is_no_fault_of_the_upstream(bound: float | None) -> None:
    route = a_route(Upstream(hang()), attempt=bound)
    task = route.start()
    await asyncio.sleep(4)

    task.cancel()
    await asyncio.wait([task])

    assert route.counts == {"cancelled": 1}
    assert route.done[0].attempts == (("cancelled", 4),)


@pytest.mark.parametrize("bound", BOUNDS)
@in_virtual_time
async def test_an_unforeseen_exception_does_not_break_the_counting(bound: float | None) -> None:
    parts = some_parts(on_fault=ignore)
    route = a_route(Upstream(fail(ZeroDivisionError())), attempt=bound, parts=parts)

    got = await route.get()

    assert (got.status, sum(route.counts.values())) == (500, 1)


@in_virtual_time
async def test_every_result_has_its_count_from_the_beginning() -> None:
    attempts = a_route(Upstream()).pipeline.find(AttemptStage)

    assert attempts is not None
    assert attempts.counts == dict.fromkeys(RESULTS, 0)


def test_the_results_cover_every_way_an_upstream_can_fail() -> None:
    def fates_below(kind: type[UpstreamFailed]) -> set[Fate]:
        return {kind.fate}.union(*(fates_below(child) for child in kind.__subclasses__()))

    assert fates_below(UpstreamFailed) <= set(RESULTS)


@in_virtual_time
async def test_attempts_side_by_side_do_not_touch_each_other() -> None:
    upstream = Upstream(hang(), answer(after=9), fail(Disconnected(), after=8), hang())
    route = a_route(upstream, attempt=10)
    tasks = []
    for _ in range(4):
        tasks.append(route.start())
        await asyncio.sleep(5)

    got = await asyncio.gather(*tasks)

    assert [(one.status, one.at) for one in got] == [(504, 10), (200, 14), (502, 18), (504, 25)]


@in_virtual_time
async def test_a_timeout_that_was_not_needed_never_cancels_what_the_task_does_next() -> None:
    route = a_route(Upstream(answer(after=9)), attempt=10)

    await route.get()
    await asyncio.sleep(100)

    assert now() == 109


@pytest.mark.parametrize(
    "step",
    [
        answer(after=10),
        stream([(1, b"x")], after=10),
        fail(Disconnected(), after=10),
        fail(KeyError(), after=10),
    ],
    ids=["answer", "stream", "disconnect", "fault"],
)
@in_virtual_time
async def test_what_comes_in_the_tick_of_the_timeout_is_given_back_or_given_out(step: Step) -> None:
    upstream = Upstream(step)
    route = a_route(upstream, attempt=10, parts=some_parts(on_fault=ignore))

    got = await route.get()
    task = asyncio.current_task()

    assert got.at == 10
    assert len(route.done) == 1
    assert sum(route.counts.values()) == 1
    assert upstream.under_way == 0
    assert task is not None
    assert task.cancelling() == 0
