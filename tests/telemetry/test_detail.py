"""What the line of a request tells of its way: waits, the breaker, the deadline, its trace. With the real stages."""

import asyncio
from typing import Any

import pytest

from sidecar.counts import Histogram
from sidecar.errors import ConnectFailed
from sidecar.message import Headers
from sidecar.pipeline.assemble import Policy, assemble
from sidecar.pipeline.exchange import Exchange
from sidecar.policy.breaker import Breaker, BreakerSettings
from sidecar.policy.fallback import Static
from sidecar.policy.retry import RetrySettings
from sidecar.telemetry.record import Record, Recorder
from tests.support.exchanges import Route, a_body, a_request, some_parts
from tests.support.upstream import Step, Upstream, answer, fail, hang, stream
from tests.support.virtual_time import in_virtual_time, now

TRACEPARENT: Headers = [(b"traceparent", b"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00")]
OFF: dict[str, Any] = {"attempt": None, "total": None, "idle": None}


class Told:
    """A route `orders`, and the lines that its requests got."""

    def __init__(self, *script: Step, **policy: Any) -> None:
        self.records: list[Record] = []
        pipeline = assemble(
            Policy("orders", "db", **(OFF | policy)), some_parts(), Histogram(), Upstream(*script)
        )
        recorder = Recorder(["orders"], keep=9, access_log="all", line=self.records.append, now=now)
        recorder.watch([pipeline])
        self.route = Route(pipeline)
        self.route.done = _Sink(recorder)

    async def get(self, **request: Any) -> dict[str, Any]:
        """Ask, and give the line."""
        await asyncio.sleep(1)  # no clock stands at 0 when a request comes
        await self.route.ask(a_request(**({"headers": TRACEPARENT} | request)))
        return self.records[-1].as_dict()


class _Sink(list[Exchange]):
    """In the place of the list of what is done."""

    def __init__(self, recorder: Recorder) -> None:
        super().__init__()
        self._recorder = recorder

    def append(self, exchange: Exchange) -> None:
        super().append(exchange)
        self._recorder(exchange)


def a_breaker(**settings: Any) -> Breaker:
    return Breaker("db", BreakerSettings(**settings), lambda: 0.5)


@in_virtual_time
async def test_an_attempt_says_how_long_it_was_waited_for() -> None:
    settings = RetrySettings(retries=2, base=1.0, max=8.0, jitter="none")
    told = Told(fail(ConnectFailed()), answer(503, after=0.5), answer(200), retry=settings)

    line = await told.get()

    assert line["attempts"] == [
        {"n": 1, "result": "upstream_connect", "ms": 0.0},
        {"n": 2, "result": "status_5xx", "ms": 500.0, "backoff_ms": 1000.0},
        {"n": 3, "result": "ok", "ms": 0.0, "backoff_ms": 2000.0},
    ]
    assert (line["upstream_ms"], line["total_ms"]) == (500.0, 3500.0)


@in_virtual_time
async def test_the_breaker_is_told_as_it_was_and_as_it_became() -> None:
    breaker = a_breaker(consecutive_failures=2, open_for=10.0)
    told = Told(fail(ConnectFailed()), fail(ConnectFailed()), answer(200), breaker=breaker)

    seen = [(await told.get())["breaker"] for _ in range(3)]

    assert seen == [
        {"name": "db", "before": "CLOSED", "after": "CLOSED"},
        {"name": "db", "before": "CLOSED", "after": "OPEN"},
        {"name": "db", "before": "OPEN", "after": "OPEN"},
    ]


@in_virtual_time
async def test_a_request_whose_second_attempt_meets_an_open_breaker_found_it_closed() -> None:
    breaker = a_breaker(consecutive_failures=1, open_for=60.0)
    told = Told(fail(ConnectFailed()), breaker=breaker, retry=RetrySettings(retries=2))

    line = await told.get()

    assert line["breaker"] == {"name": "db", "before": "CLOSED", "after": "OPEN"}
    assert line["why_not_retried"] == "breaker_open"


@in_virtual_time
async def test_a_route_without_a_breaker_tells_of_none() -> None:
    assert (await Told(answer(200)).get())["breaker"] is None


@pytest.mark.parametrize(
    ("step", "left"),
    [
        (answer(200, after=1), 4000.0),
        (stream([(1, b"one"), (60, b"two")]), 5000.0),
        (hang(), 0.0),
    ],
)
@in_virtual_time
async def test_what_is_left_of_the_deadline_is_measured_at_the_head(step: Step, left: float) -> None:
    settings = RetrySettings(retries=1)  # with a retry to be had, `total` stands in the chain

    assert (await Told(step, total=5.0, attempt=9.0, retry=settings).get())["deadline_left_ms"] == left


@in_virtual_time
async def test_an_upload_that_came_whole_is_no_exception() -> None:
    line = await Told(answer(200, after=1), total=5.0).get(method="PUT", body=a_body(b"x"))

    assert line["deadline_left_ms"] == 4000.0


@in_virtual_time
async def test_without_a_deadline_nothing_is_left_of_it() -> None:
    assert (await Told(answer(200, after=1)).get())["deadline_left_ms"] is None


@in_virtual_time
async def test_a_fallback_is_told_with_what_it_stands_for() -> None:
    steps = (Static(body=b"sorry", content_type=b"text/plain"),)

    line = await Told(fail(ConnectFailed()), fallback=steps).get()

    assert (line["fate"], line["fallback"], line["error"]) == ("fallback_static", "static", "ConnectFailed")


@pytest.mark.parametrize(
    ("headers", "trace"), [(TRACEPARENT, "0af7651916cd43dd8448eb211c80319c"), ([(b"Accept", b"*/*")], None)]
)
@in_virtual_time
async def test_the_trace_that_a_request_belongs_to_is_told(headers: Headers, trace: str | None) -> None:
    assert (await Told(answer(200)).get(headers=headers))["trace_id"] == trace
