"""The decision record: counted, kept within its bounds, and told to the log where it is worth a line."""

import json
from time import time  # noqa: TID251 -- a record's `at` is the wall clock

import pytest

from sidecar.errors import BadResponse, ClientGone, RequestError, TotalTimeout
from sidecar.fate import Fate
from sidecar.message import NO_FIELDS, Reply
from sidecar.pipeline.exchange import Exchange
from sidecar.telemetry.record import METHODS, AccessLog, Record, Recorder
from tests.support.exchanges import a_request


class Clock:
    """A clock that is set by hand."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def a_recorder(
    *, keep: int = 10, access_log: AccessLog = "off", lines: list[Record] | None = None
) -> Recorder:
    """Make a recorder of the routes `orders` and `_none`."""
    told: list[Record] = [] if lines is None else lines
    return Recorder(["orders", "_none"], keep=keep, access_log=access_log, line=told.append)


def play(
    recorder: Recorder,
    *,
    route: str = "orders",
    method: str = "GET",
    target: str = "/orders/1?token=secret",
    status: int = 200,
    fate: Fate = Fate.OK,
    error: BaseException | None = None,
) -> Exchange:
    """Play an exchange to its end: its head after 250 ms, its end after a second."""
    clock = Clock()
    request = a_request(method, target, client="192.0.2.7")
    exchange = Exchange(request, route, clock, recorder)
    exchange.upstream = "db"
    exchange.attempts = (("upstream_connect", 0.1), ("ok", 0.15))
    reply = Reply(status, NO_FIELDS)
    clock.now = 0.25
    exchange.answer(reply, fate)
    clock.now = 1.0
    reply.close(error)
    return exchange


def test_a_record_says_what_happened_and_nothing_of_the_query() -> None:
    recorder = a_recorder()

    play(recorder)

    (record,) = recorder.records()
    assert abs(record.at - time()) < 60
    assert record == Record(
        at=record.at,
        request_id="test-000001",
        route="orders",
        fate=Fate.OK,
        why_not_retried=None,
        would=(),
        method="GET",
        path="/orders/1",
        status=200,
        client="192.0.2.7",
        upstream="db",
        attempts=(("upstream_connect", 0.1), ("ok", 0.15)),
        queued_seconds=0.0,
        head_seconds=0.25,
        total_seconds=1.0,
        error=None,
    )


def test_as_json_its_times_are_in_milliseconds() -> None:
    recorder = a_recorder()
    play(recorder, error=BadResponse("bad chunk"))
    (record,) = recorder.records()

    told = record.as_dict()

    assert json.loads(json.dumps(told)) == told
    assert told == {
        "at": round(record.at, 3),
        "request_id": "test-000001",
        "route": "orders",
        "fate": "upstream_bad_response",
        "why_not_retried": None,
        "would_reject": None,
        "method": "GET",
        "path": "/orders/1",
        "status": 200,
        "client": "192.0.2.7",
        "upstream": "db",
        "attempts": [{"n": 1, "result": "upstream_connect", "ms": 100}, {"n": 2, "result": "ok", "ms": 150}],
        "queued_ms": None,
        "head_ms": 250,
        "total_ms": 1000,
        "error": "BadResponse: bad chunk",
    }


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (TotalTimeout(), "TotalTimeout"),
        (BadResponse("bad chunk"), "BadResponse: bad chunk"),
        (KeyError("anybody's text"), "KeyError"),
    ],
)
def test_an_error_is_told_by_its_name_and_by_what_its_kind_does_not_say(
    error: BaseException, text: str
) -> None:
    recorder = a_recorder()

    play(recorder, error=error)

    assert recorder.records()[0].error == text


def test_a_request_that_got_no_head_has_no_head_time() -> None:
    recorder = a_recorder()
    clock = Clock()
    exchange = Exchange(a_request(), "orders", clock, recorder)
    clock.now = 3.0
    exchange.finish(ClientGone())

    (record,) = recorder.records()

    assert (record.head_seconds, record.total_seconds, record.fate) == (0, 3, Fate.CLIENT_GONE)


def test_the_newest_records_are_kept_and_come_first() -> None:
    recorder = a_recorder(keep=3)

    for number in range(10):
        play(recorder, target=f"/{number}")

    assert [record.path for record in recorder.records()] == ["/9", "/8", "/7"]
    assert recorder.by_route["orders"].requests == {(b"GET", 200, "ok"): 10}


def test_good_answers_do_not_wash_away_the_failure_that_somebody_will_ask_about() -> None:
    recorder = a_recorder(keep=1000)

    play(recorder, target="/failed", status=504, fate=Fate.TIMEOUT_TOTAL)
    for number in range(5000):
        play(recorder, target=f"/{number}")

    paths = [record.path for record in recorder.records()]
    assert paths == [*(f"/{number}" for number in range(4999, 4999 - 128, -1)), "/failed"]


def test_records_of_good_and_bad_ends_come_in_one_order_of_time() -> None:
    recorder = a_recorder()

    for number in range(6):
        play(recorder, target=f"/{number}", fate=Fate.OK if number % 2 else Fate.TIMEOUT_TOTAL)

    times = [record.at for record in recorder.records()]
    assert times == sorted(times, reverse=True)
    assert {record.path for record in recorder.records()} == {f"/{number}" for number in range(6)}


def test_keeping_none_is_allowed() -> None:
    recorder = a_recorder(keep=0)

    play(recorder)

    assert recorder.records() == []
    assert recorder.by_route["orders"].requests == {(b"GET", 200, "ok"): 1}


def test_a_record_does_not_grow_with_its_request() -> None:
    recorder = a_recorder(keep=1)

    play(recorder, target="/" + "x" * 8000, method="M" * 8000)

    (record,) = recorder.records()
    assert len(record.path) <= 1024
    assert len(record.method) <= 1024


def test_requests_are_counted_by_route_method_status_and_fate() -> None:
    recorder = a_recorder()

    for _ in range(2):
        play(recorder)
    play(recorder, method="POST", status=503, fate=Fate.UPSTREAM_STATUS)
    play(recorder, route="_none", status=404, fate=Fate.NO_ROUTE)

    assert {route: counts.requests for route, counts in recorder.by_route.items()} == {
        "orders": {(b"GET", 200, "ok"): 2, (b"POST", 503, "upstream_status"): 1},
        "_none": {(b"GET", 404, "no_route"): 1},
    }
    assert recorder.by_route["orders"].seconds.total == 3
    assert recorder.by_route["orders"].seconds.cumulative()[-1] == ("+Inf", 3)


def test_a_method_that_nobody_knows_makes_no_series_of_its_own() -> None:
    recorder = a_recorder()

    for method in ("BREW", "get", "", "X" * 100):
        play(recorder, method=method)
    for known in sorted(METHODS):
        play(recorder, method=known.decode())

    counted = {method for method, _, _ in recorder.by_route["orders"].requests}
    assert counted == METHODS | {b"_OTHER"}
    assert recorder.by_route["orders"].requests[(b"_OTHER", 200, "ok")] == 4


@pytest.mark.parametrize(
    ("level", "lines"),
    [
        ("off", []),
        ("errors", ["ok_after_retry", "timeout_total"]),
        ("all", ["ok", "ok_after_retry", "timeout_total"]),
    ],
)
def test_the_log_gets_what_was_asked_for(level: AccessLog, lines: list[str]) -> None:
    told: list[Record] = []
    recorder = a_recorder(access_log=level, lines=told)

    for fate in (Fate.OK, Fate.OK_AFTER_RETRY, Fate.TIMEOUT_TOTAL):
        play(recorder, fate=fate)

    assert [str(record.fate) for record in told] == lines
    assert len(recorder.records()) == 3


def test_a_request_that_breaks_after_a_good_head_is_worth_a_line() -> None:
    told: list[Record] = []

    play(a_recorder(access_log="errors", lines=told), error=RequestError("broke"))

    assert [record.error for record in told] == ["RequestError: broke"]
