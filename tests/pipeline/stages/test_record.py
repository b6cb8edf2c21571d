"""The outermost stage: one answer, one fate, one record, whatever happens inside."""

import asyncio

import pytest

from sidecar.errors import BadResponse, ClientGone, ConnectFailed, Disconnected
from sidecar.fate import Fate
from sidecar.pipeline.exchange import Exchange
from sidecar.telemetry.record import Recorder
from tests.support.exchanges import a_request, a_route, some_parts
from tests.support.upstream import Upstream, answer, fail, hang, stream
from tests.support.virtual_time import in_virtual_time


class Unspeakable(Exception):
    """A fault that cannot even be put into words."""

    def __str__(self) -> str:
        raise ValueError("no words")


@pytest.mark.parametrize(
    ("status", "fate"),
    [
        (200, "ok"),
        (204, "ok"),
        (304, "ok"),
        (404, "ok"),
        (429, "ok"),
        (500, "upstream_status"),
        (503, "upstream_status"),
    ],
)
@in_virtual_time
async def test_an_answer_of_the_upstream_passes_with_its_status(status: int, fate: str) -> None:
    route = a_route(Upstream(answer(status)))

    got = await route.get()

    assert (got.status, route.fates, route.done[0].status) == (status, [fate], status)


@in_virtual_time
async def test_every_answer_has_the_id_of_its_request() -> None:
    route = a_route(Upstream(answer(200), answer(500), fail(Disconnected())))

    for number in range(3):
        got = await route.ask(a_request(request_id=f"id-{number}"))
        assert got.header(b"x-request-id") == f"id-{number}".encode()


@in_virtual_time
async def test_an_error_becomes_the_answer_that_explains_it() -> None:
    error = ConnectFailed("10.1.2.3:5432 refused")
    route = a_route(Upstream(fail(error)))

    got = await route.get()

    assert (got.status, route.fates) == (502, ["upstream_connect"])
    assert route.done[0].error is error


@pytest.mark.parametrize("fault", [ValueError("a secret"), KeyError(), Unspeakable(), RecursionError()])
@in_virtual_time
async def test_an_unforeseen_exception_is_one_requests_500_and_is_told_of(fault: Exception) -> None:
    told: list[tuple[Exchange, Exception]] = []
    parts = some_parts(on_fault=lambda exchange, fault: told.append((exchange, fault)))
    route = a_route(Upstream(fail(fault), answer(200)), parts=parts)

    got, next_one = await route.get(), await route.get()

    assert (got.status, next_one.status, route.fates) == (500, 200, ["internal", "ok"])
    assert told == [(route.done[0], fault)]
    assert b"secret" not in got.body
    assert type(fault).__name__.encode() not in got.body


@in_virtual_time
async def test_a_client_that_leaves_before_the_head_is_recorded_and_the_cancellation_goes_on() -> None:
    route = a_route(Upstream(hang()))
    task = route.start()
    await asyncio.sleep(5)

    task.cancel()
    await asyncio.wait([task])

    assert task.cancelled()
    (exchange,) = route.done
    assert (exchange.fate, exchange.finished_at) == (Fate.CLIENT_GONE, 5)
    assert isinstance(exchange.error, ClientGone)


@in_virtual_time
async def test_a_client_that_left_has_the_status_499_in_the_record_though_nobody_saw_it() -> None:
    route = a_route(Upstream(hang()))
    task = route.start()
    await asyncio.sleep(5)

    task.cancel()
    await asyncio.wait([task])

    assert [exchange.status for exchange in route.done] == [499]


@in_virtual_time
async def test_a_client_that_left_before_the_head_has_no_time_of_a_head_in_its_record() -> None:
    recorder = Recorder(["a-route"], keep=1, access_log="off", line=lambda _: None)
    route = a_route(Upstream(hang()), attempt=10, total=15)
    task = route.start()
    await asyncio.sleep(5)

    task.cancel()
    await asyncio.wait([task])
    recorder(route.done[0])

    (record,) = recorder.records()
    assert (record.head_seconds, record.total_seconds) == (0, 5)


@in_virtual_time
async def test_the_time_of_the_head_is_when_the_client_got_one_whoever_wrote_it() -> None:
    route = a_route(Upstream(answer(after=1), fail(Disconnected(), after=2), hang()), attempt=10)

    got = [await route.get() for _ in range(3)]

    assert [exchange.head_at for exchange in route.done] == [one.at for one in got] == [1, 3, 13]


@in_virtual_time
async def test_a_body_that_breaks_after_its_head_changes_the_fate() -> None:
    broken = BadResponse("bad chunk")
    route = a_route(Upstream(stream([(1, b"half")], breaks=broken)))

    got = await route.get()

    assert (got.status, got.body, got.error) == (200, b"half", broken)
    assert (route.fates, route.done[0].status) == (["upstream_bad_response"], 200)


@in_virtual_time
async def test_the_record_comes_when_the_body_has_ended_not_at_its_head() -> None:
    route = a_route(Upstream(stream([(10, b"late")], after=2)))
    task = route.start()

    await asyncio.sleep(5)
    assert route.done == []
    await task

    (exchange,) = route.done
    assert (exchange.head_at, exchange.finished_at) == (2, 12)
