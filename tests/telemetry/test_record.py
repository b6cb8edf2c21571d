"""The decision record: counted, kept within its bounds, and told to the log where it is worth a line."""

import json
from time import time  # noqa: TID251 -- a record's `at` is the wall clock
from typing import Any

import pytest

from sidecar.errors import BadResponse, ClientGone, RequestError, TotalTimeout
from sidecar.fate import Fate
from sidecar.message import NO_FIELDS, Headers, Reply
from sidecar.pipeline.exchange import Exchange
from sidecar.telemetry.record import LINES_PER_SECOND, METHODS, AccessLog, Record, Recorder
from tests.support.exchanges import a_request

TRACEPARENT = b"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00"


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
    ends: float = 1.0,
    would: tuple[str, ...] = (),
    fault: str | None = None,
    request_id: str = "test-000001",
    headers: Headers | None = None,
) -> Exchange:
    """Play an exchange of a second to its end: its head came after 250 ms."""
    clock = Clock()
    clock.now = ends - 1.0
    request = a_request(method, target, headers, client="192.0.2.7", request_id=request_id)
    exchange = Exchange(request, route, clock, recorder)
    exchange.upstream = "db"
    exchange.attempts = (("upstream_connect", 0.1), ("ok", 0.15))
    exchange.would = would
    exchange.fault = fault
    reply = Reply(status, NO_FIELDS)
    clock.now = ends - 0.75
    exchange.answer(reply, fate)
    clock.now = ends
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
        fault=None,
        error=None,
        suppressed=0,
    )


def test_a_record_says_what_was_injected() -> None:
    recorder = a_recorder()

    play(recorder, fault="delay, abort")

    (record,) = recorder.records()
    assert (record.fault, record.as_dict()["fault"]) == ("delay, abort", "delay, abort")


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
        "query": None,
        "trace_id": None,
        "fallback": None,
        "breaker": None,
        "upstream_ms": 250,
        "deadline_left_ms": None,
        "queued_ms": None,
        "head_ms": 250,
        "total_ms": 1000,
        "fault": None,
        "error": "BadResponse: bad chunk",
        "suppressed": None,
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


# --- the same line over and over ---

REPETITIVE = [
    *(fate for fate in Fate if fate.startswith(("rejected_", "fallback_"))),
    Fate.NO_ROUTE,
    Fate.BAD_REQUEST,
    Fate.CLIENT_GONE,
    Fate.MAINTENANCE,
]


def suppressed(lines: list[Record]) -> list[int]:
    return [record.suppressed for record in lines]


@pytest.mark.parametrize("fate", REPETITIVE)
def test_an_outage_does_not_flood_the_log_and_every_request_is_accounted_for(fate: Fate) -> None:
    told: list[Record] = []
    recorder = a_recorder(access_log="errors", lines=told)

    for number in range(2500):  # a thousand a second, from the 1st second on
        play(recorder, fate=fate, status=503, ends=1 + number / 1000)

    assert suppressed(told) == [0] * 10 + [990] + [0] * 9 + [990] + [0] * 9
    assert told[10].as_dict()["suppressed"] == 990
    assert [record.total_seconds for record in told] == pytest.approx([1.0] * 30)
    play(recorder, fate=fate, status=503, ends=1000)
    assert told[-1].suppressed == 490
    assert len(told) + sum(suppressed(told)) == 2501
    assert recorder.by_route["orders"].requests == {(b"GET", 503, fate.value): 2501}


def test_ten_in_a_second_are_not_too_many() -> None:
    told: list[Record] = []
    recorder = a_recorder(access_log="errors", lines=told)

    for number in range(100):
        play(recorder, fate=Fate.REJECTED_RATE_LIMIT, status=429, ends=1 + number / LINES_PER_SECOND)

    assert suppressed(told) == [0] * 100


def test_a_second_is_over_when_it_is_over() -> None:
    told: list[Record] = []
    recorder = a_recorder(access_log="errors", lines=told)

    for ends in [*([5.0] * 11), 5.999, 6.0]:
        play(recorder, fate=Fate.REJECTED_RATE_LIMIT, status=429, ends=ends)

    assert suppressed(told) == [0] * 10 + [2]


def test_each_route_and_each_fate_has_lines_of_its_own() -> None:
    told: list[Record] = []
    recorder = a_recorder(access_log="errors", lines=told)

    for _ in range(50):
        for route in ("orders", "_none"):
            for fate in (Fate.REJECTED_BREAKER_OPEN, Fate.FALLBACK_STALE):
                play(recorder, route=route, fate=fate)

    seen = [(record.route, record.fate) for record in told]
    assert {each: seen.count(each) for each in seen} == {
        ("orders", Fate.REJECTED_BREAKER_OPEN): 10,
        ("orders", Fate.FALLBACK_STALE): 10,
        ("_none", Fate.REJECTED_BREAKER_OPEN): 10,
        ("_none", Fate.FALLBACK_STALE): 10,
    }


@pytest.mark.parametrize(
    "fate", [Fate.UPSTREAM_STATUS, Fate.UPSTREAM_CONNECT, Fate.TIMEOUT_TOTAL, Fate.INTERNAL]
)
def test_what_failed_at_the_upstream_or_here_always_has_its_line(fate: Fate) -> None:
    told: list[Record] = []
    recorder = a_recorder(access_log="errors", lines=told)

    for _ in range(500):
        play(recorder, fate=fate, status=502, would=("rate_limit",))

    assert suppressed(told) == [0] * 500


def test_who_asks_for_all_lines_gets_them_all() -> None:
    told: list[Record] = []
    recorder = a_recorder(access_log="all", lines=told)

    for _ in range(500):
        play(recorder, fate=Fate.REJECTED_BREAKER_OPEN, status=503)
        play(recorder, would=("rate_limit",))

    assert suppressed(told) == [0] * 1000


def test_the_records_kept_are_of_all_of_them() -> None:
    recorder = a_recorder(keep=1000, access_log="errors")

    for _ in range(500):
        play(recorder, fate=Fate.REJECTED_BREAKER_OPEN, status=503)

    assert suppressed(recorder.records()) == [0] * 500


# --- shadow ---


@pytest.mark.parametrize("fate", [Fate.OK, Fate.CACHE_FRESH, Fate.CACHE_STALE, Fate.COALESCED])
@pytest.mark.parametrize(("level", "lines"), [("off", 0), ("errors", 1), ("all", 1)])
def test_a_good_answer_that_a_policy_in_shadow_would_have_refused_is_worth_a_line(
    level: AccessLog, lines: int, fate: Fate
) -> None:
    told: list[Record] = []

    play(a_recorder(access_log=level, lines=told), fate=fate, would=("rate_limit", "breaker"))

    assert [record.as_dict()["would_reject"] for record in told] == [["rate_limit", "breaker"]] * lines


def test_a_shadow_that_would_refuse_everybody_does_not_flood_the_log() -> None:
    told: list[Record] = []
    recorder = a_recorder(access_log="errors", lines=told)

    for number in range(2000):
        play(recorder, would=("rate_limit",) if number % 2 else (), ends=1 + number / 1000)

    assert suppressed(told) == [0] * 10 + [490] + [0] * 9


# --- a share of the good ones ---


def told_with(sample: float, ids: range, fate: Fate = Fate.OK, **more: Any) -> set[str]:
    """Give the ids of the requests that got a line."""
    told: list[Record] = []
    recorder = Recorder(["orders"], keep=10, access_log="all", line=told.append, sample=sample)
    for number in ids:
        play(recorder, fate=fate, request_id=f"0123456789abcdef-{number:06x}", **more)
    return {record.request_id for record in told}


def test_of_good_answers_the_share_that_was_asked_for_gets_a_line() -> None:
    assert len(told_with(0.1, range(5000))) == pytest.approx(500, rel=0.2)
    assert told_with(0.0, range(100)) == set()
    assert len(told_with(1.0, range(100))) == 100


def test_every_sidecar_on_a_requests_way_keeps_the_same_lines() -> None:
    tenth, again, half = told_with(0.1, range(2000)), told_with(0.1, range(2000)), told_with(0.5, range(2000))

    assert tenth == again
    assert tenth < half


@pytest.mark.parametrize(
    "fate", [fate for fate in Fate if fate not in {"ok", "cache_fresh", "cache_stale", "coalesced"}]
)
def test_what_did_not_end_well_is_in_no_sample(fate: Fate) -> None:
    assert len(told_with(0.0, range(50), fate)) == 50


def test_what_a_shadow_would_have_refused_is_in_no_sample() -> None:
    assert len(told_with(0.0, range(50), would=("rate_limit",))) == 50


# --- the rest ---


@pytest.mark.parametrize(("query", "shown"), [(False, None), (True, "a=1&token=***")])
def test_the_query_is_told_only_where_that_was_asked_for_and_never_its_secrets(
    query: bool,
    shown: str | None,
) -> None:
    told: list[Record] = []
    recorder = Recorder(["orders"], keep=10, access_log="all", line=told.append, query=query)

    play(recorder, target="/orders/1?a=1&token=secret")

    (line,) = [record.as_dict() for record in told]
    assert (line["path"], line["query"]) == ("/orders/1", shown)
    assert "secret" not in str(recorder.records())


@pytest.mark.parametrize(
    ("fate", "source"),
    [(Fate.FALLBACK_STALE, "stale"), (Fate.FALLBACK_UPSTREAM, "upstream"), (Fate.OK, None)],
)
def test_the_source_of_a_fallback_is_told(fate: Fate, source: str | None) -> None:
    recorder = a_recorder()

    play(recorder, fate=fate)

    assert recorder.records()[0].as_dict()["fallback"] == source


@pytest.mark.parametrize("level", ["off", "errors"])
def test_a_failure_is_kept_with_all_that_is_known_of_it(level: AccessLog) -> None:
    recorder = a_recorder(access_log=level)

    play(recorder, fate=Fate.UPSTREAM_CONNECT, headers=[(b"traceparent", TRACEPARENT)])
    play(recorder, headers=[(b"traceparent", TRACEPARENT)])

    good, bad = recorder.records()
    assert bad.detail is not None
    assert bad.detail.trace_id == "0af7651916cd43dd8448eb211c80319c"
    assert good.detail is None, "a good answer costs no more than it must"
