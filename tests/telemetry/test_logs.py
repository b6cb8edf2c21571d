"""The log: one JSON object a line, and whatever the stream does, nobody waits for it."""

import io
import json
import threading
from collections.abc import Callable
from time import monotonic
from typing import Any, TextIO, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.fate import Fate
from sidecar.telemetry.detail import BreakerSeen, Detail
from sidecar.telemetry.logs import LogControl, LogWriter, make_logger, request_line, style_of
from sidecar.telemetry.record import Record
from sidecar.telemetry.redaction import printable

PATIENCE = 10  # seconds until a test that waits for a thread gives up


class Gate(io.StringIO):
    """A stream that takes a line only when it is let: a pipe whose reader is slow, or hangs."""

    def __init__(self) -> None:
        super().__init__()
        self.open = threading.Event()
        self.waiting = threading.Event()

    def write(self, text: str) -> int:
        self.waiting.set()
        assert self.open.wait(PATIENCE)
        return super().write(text)


class Gone(io.StringIO):
    """A pipe whose reader has gone."""

    def write(self, text: str) -> int:
        raise BrokenPipeError


class Kept(io.StringIO):
    """A stream that keeps what was flushed."""

    def __init__(self) -> None:
        super().__init__()
        self.flushed = ""

    def flush(self) -> None:
        self.flushed = self.getvalue()


def logged(stream: TextIO, write: Any) -> list[dict[str, Any]]:
    """Give the lines that `write(log)` logged as JSON."""
    writer = LogWriter(stream)
    write(make_logger(writer, "json"))
    writer.close()
    text = cast("io.StringIO", stream).getvalue()
    assert text == "" or text.endswith("\n")
    return [json.loads(line) for line in text.splitlines()]


def test_a_line_is_one_json_object_with_its_time_level_and_event() -> None:
    (line,) = logged(io.StringIO(), lambda log: log.info("sidecar.ready", version="1", addresses=["a", "b"]))

    assert line.pop("time").endswith("Z")
    assert line == {"event": "sidecar.ready", "level": "info", "version": "1", "addresses": ["a", "b"]}


@pytest.mark.parametrize("level", ["info", "warning", "error", "critical"])
def test_every_level_is_written_under_its_name(level: str) -> None:
    (line,) = logged(io.StringIO(), lambda log: getattr(log, level)("event"))

    assert line["level"] == level


def test_debug_is_not_written() -> None:
    assert logged(io.StringIO(), lambda log: log.debug("event")) == []


@pytest.mark.parametrize("text", ["line\nfeed", "\r\n{}", 'quo"te', "ünï ☃", "\x00\x1b[31m", "\ud800"])
def test_whatever_stands_in_a_value_a_line_stays_one_line(text: str) -> None:
    (line,) = logged(io.StringIO(), lambda log: log.info("event", path=text))

    assert line["path"] == text


def test_what_json_does_not_know_is_written_somehow() -> None:
    (line,) = logged(io.StringIO(), lambda log: log.info("event", odd=object(), raw=b"\xff"))

    assert line["event"] == "event"


def test_an_exception_is_written_with_its_traceback_on_the_same_line() -> None:
    (line,) = logged(io.StringIO(), lambda log: log.error("request.fault", exc_info=ValueError("why")))

    assert "ValueError: why" in line["exception"]


@pytest.mark.parametrize("fault", [None, ValueError("why")])
def test_on_a_console_a_line_can_be_read_by_a_person(fault: Exception | None) -> None:
    stream = io.StringIO()
    writer = LogWriter(stream)

    make_logger(writer, "console", stream).error("sidecar.fault", exc_info=fault, port=8080)
    writer.close()

    assert "sidecar.fault" in stream.getvalue()
    assert "8080" in stream.getvalue()
    assert "\x1b[" not in stream.getvalue(), "colours belong on a terminal only"
    assert fault is None or "ValueError: why" in stream.getvalue()


def test_what_was_written_is_flushed() -> None:
    stream = Kept()
    writer = LogWriter(stream)

    writer.info("line")
    writer.close()

    assert stream.flushed == "line\n"


def test_a_stream_that_hangs_stops_nobody_and_what_finds_no_room_is_counted() -> None:
    stream = Gate()
    writer = LogWriter(stream)
    writer.info("first")
    assert stream.waiting.wait(PATIENCE)

    for number in range(10_005):
        writer.info(f"{number}")

    assert writer.dropped == 5
    stream.open.set()
    writer.close()


def test_closing_gives_a_slow_stream_the_time_to_take_what_is_queued() -> None:
    stream = Gate()
    writer = LogWriter(stream)
    for number in range(10_005):
        writer.info(f"{number}")
    threading.Timer(0.05, stream.open.set).start()

    writer.close()

    lines = stream.getvalue().splitlines()
    assert len(lines) + writer.dropped == 10_005
    assert lines[-1] == str(len(lines) - 1)


def test_closing_does_not_wait_for_ever_for_a_stream_that_hangs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sidecar.telemetry.logs._CLOSE_SECONDS", 0.01)
    stream = Gate()
    writer = LogWriter(stream)
    writer.info("line")
    assert stream.waiting.wait(PATIENCE)

    writer.close()

    assert stream.getvalue() == ""
    stream.open.set()


def test_a_pipe_that_is_gone_costs_lines_and_nothing_else() -> None:
    writer = LogWriter(Gone())

    for _ in range(3):
        writer.info("line")
    writer.close()

    assert writer.dropped == 3


def test_lines_are_written_in_their_order() -> None:
    stream = io.StringIO()
    writer = LogWriter(stream)

    for number in range(1000):
        writer.info(f"{number}")
    writer.close()

    assert stream.getvalue().splitlines() == [f"{number}" for number in range(1000)]


# --- more lines than the stream takes ---

ROOM = 9_000  # lines of requests that fit in the queue


def stuck() -> tuple[Gate, LogWriter, Any]:
    """Give a stream that hangs with the first line, its writer, and a logger."""
    stream = Gate()
    writer = LogWriter(stream)
    log = make_logger(writer, "json")
    log.info("sidecar.ready")
    assert stream.waiting.wait(PATIENCE)
    return stream, writer, log


def until(condition: Callable[[], bool]) -> None:
    end = monotonic() + PATIENCE
    while not condition():
        assert monotonic() < end
        threading.Event().wait(0.001)


def written(stream: io.StringIO) -> list[tuple[str, int | None]]:
    """Give the event and the number of each line."""
    lines = [json.loads(line) for line in stream.getvalue().splitlines()]
    return [(line["event"], line.get("n", line.get("count"))) for line in lines]


def test_what_is_rare_finds_room_when_requests_find_none_and_the_gap_is_told_at_its_place() -> None:
    stream, writer, log = stuck()

    for number in range(ROOM + 500):
        log.info("request", n=number)
        if number % 100 == 0:
            log.warning("breaker.opened", n=number)
    stream.open.set()
    until(lambda: "log.lines_dropped" in stream.getvalue())
    log.info("request", n=-1)
    log.info("sidecar.stopped")
    writer.close()

    lines = written(stream)
    fits = [number for event, number in lines if event == "request"]
    assert lines[0] == ("sidecar.ready", None)
    assert [number for event, number in lines if event == "breaker.opened"] == list(range(0, ROOM + 500, 100))
    assert fits == [*range(ROOM - 90), -1], "the 90 rare lines among them take room too"
    assert lines[-3:] == [("log.lines_dropped", 590), ("request", -1), ("sidecar.stopped", None)]
    assert writer.dropped == 590


def test_the_line_of_a_gap_looks_like_any_other() -> None:
    for style in ("json", "console"):
        stream = Gate()
        writer = LogWriter(stream)
        log = make_logger(writer, cast("Any", style), stream)
        for number in range(ROOM + 5):
            log.info("request", n=number)
        stream.open.set()
        writer.close()

        last = stream.getvalue().splitlines()[-1]
        if style == "json":
            told = json.loads(last)
            assert told.pop("time").endswith("Z")
            assert told == {"event": "log.lines_dropped", "level": "warning", "count": writer.dropped}
        else:
            assert "[warning  ] log.lines_dropped" in last
            assert f"count={writer.dropped}" in last


def test_a_gap_is_one_stretch_requests_get_lines_again_when_all_that_waited_is_written() -> None:
    stream, writer, log = stuck()
    for number in range(ROOM + 1):
        log.info("request", n=number)
    assert writer.dropped == 1

    log.warning("breaker.opened", n=1)
    log.info("request", n=-1)
    assert writer.dropped == 2
    stream.open.set()
    until(lambda: "log.lines_dropped" in stream.getvalue())
    log.info("request", n=-2)
    writer.close()

    assert written(stream)[ROOM:] == [
        ("request", ROOM - 1),
        ("breaker.opened", 1),
        ("log.lines_dropped", 2),
        ("request", -2),
    ]
    assert writer.dropped == 2


def test_a_gap_does_not_end_with_the_first_line_for_which_there_is_room() -> None:
    class Turnstile(Gate):
        """A stream that takes as many lines as it is told to."""

        def __init__(self) -> None:
            super().__init__()
            self.open.set()
            self.may = threading.Semaphore(0)

        def write(self, text: str) -> int:
            assert self.may.acquire(timeout=PATIENCE)
            return super().write(text)

    stream = Turnstile()
    writer = LogWriter(stream)
    log = make_logger(writer, "json")
    for number in range(ROOM + 5):
        log.info("request", n=number)
    first = writer.dropped
    stream.may.release(100)
    until(lambda: len(stream.getvalue().splitlines()) == 100)

    log.info("request", n=-1)

    assert writer.dropped == first + 1
    stream.may.release(ROOM * 2)
    writer.close()


def test_each_gap_is_told_of_with_its_own_count() -> None:
    stream, writer, log = stuck()
    for number in range(ROOM + 3):
        log.info("request", n=number)
    stream.open.set()
    until(lambda: "log.lines_dropped" in stream.getvalue())
    stream.open.clear()
    stream.waiting.clear()
    log.info("sidecar.ready")
    assert stream.waiting.wait(PATIENCE)
    for number in range(ROOM + 5):
        log.info("request", n=number)
    stream.open.set()
    until(lambda: stream.getvalue().count("log.lines_dropped") == 2)
    log.info("sidecar.stopped")
    writer.close()

    assert [count for event, count in written(stream) if event == "log.lines_dropped"] == [3, 5]
    assert writer.dropped == 8


def test_a_line_that_could_not_be_written_is_told_of_when_one_can() -> None:
    class Full(io.StringIO):
        """A disk that is full for a time."""

        full = True

        def write(self, text: str) -> int:
            if self.full:
                raise OSError
            return super().write(text)

    stream = Full()
    writer = LogWriter(stream)
    log = make_logger(writer, "json")
    log.info("request", n=1)
    log.info("request", n=2)
    until(lambda: writer.dropped == 2)
    stream.full = False
    log.info("request", n=3)
    writer.close()

    assert written(stream) == [("request", 3), ("log.lines_dropped", 2)]


def test_at_the_end_a_slow_reader_gets_what_is_rare_rather_than_one_request_after_another(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    class Slow(Gate):
        """A reader that takes some 500 lines a second."""

        def write(self, text: str) -> int:
            threading.Event().wait(0.002)
            return super().write(text)

    monkeypatch.setattr("sidecar.telemetry.logs._CLOSE_SECONDS", 0.4)
    stream = Slow()
    writer = LogWriter(stream)
    log = make_logger(writer, "json")
    for number in range(1000):
        log.info("request", n=number)
    log.info("breaker.closed")
    log.info("sidecar.stopped")
    stream.open.set()
    writer.close()

    lines = written(stream)
    requests = [number for event, number in lines if event == "request"]
    assert requests == list(range(len(requests)))
    assert 0 < len(requests) < 1000
    assert lines[len(requests) :] == [
        ("breaker.closed", None),
        ("sidecar.stopped", None),
        ("log.lines_dropped", 1000 - len(requests)),
    ]
    assert writer.dropped == 1000 - len(requests)


# --- the level ---

LEVELS = ["debug", "info", "warning", "error"]


@pytest.mark.parametrize("level", LEVELS)
def test_what_is_below_the_level_is_not_written(level: str) -> None:
    stream = io.StringIO()
    writer = LogWriter(stream)
    log = make_logger(writer, "json", control=LogControl(level))

    for each in [*LEVELS, "critical"]:
        getattr(log, each)("event")
    writer.close()

    told = [json.loads(line)["level"] for line in stream.getvalue().splitlines()]
    assert told == [*LEVELS, "critical"][LEVELS.index(level) :]


def test_the_level_changes_while_the_program_runs() -> None:
    stream = io.StringIO()
    writer = LogWriter(stream)
    control = LogControl()
    log = make_logger(writer, "json", control=control)

    told = []
    for level in ("debug", "error", "info"):
        control.set(level)
        told.append(control.level)
        log.debug("debug", under=level)
        log.info("info", under=level)
    writer.close()

    assert told == ["debug", "error", "info"]
    lines = [json.loads(line) for line in stream.getvalue().splitlines()]
    assert [(line["event"], line["under"]) for line in lines] == [
        ("debug", "debug"),
        ("info", "debug"),
        ("info", "info"),
    ]


def test_a_level_that_does_not_exist_changes_nothing() -> None:
    control = LogControl("warning")

    with pytest.raises(ValueError, match="loud"):
        control.set("loud")

    assert control.level == "warning"


@pytest.mark.parametrize(
    ("wanted", "profile", "style"),
    [
        ("auto", "development", "console"),
        ("auto", "production", "json"),
        ("auto", "testing", "json"),
        ("json", "development", "json"),
        ("console", "production", "console"),
    ],
)
def test_people_read_the_log_in_development_and_programs_elsewhere(
    wanted: Any, profile: str, style: str
) -> None:
    assert style_of(wanted, profile) == style


# --- the line of a request ---


def a_record(**changed: Any) -> Record:
    fields: dict[str, Any] = {
        "at": 1.0,
        "request_id": "id-1",
        "route": "orders",
        "fate": Fate.OK,
        "why_not_retried": None,
        "would": (),
        "method": "GET",
        "path": "/orders",
        "status": 200,
        "client": "192.0.2.7",
        "upstream": "db",
        "attempts": (("ok", 0.0031),),
        "queued_seconds": 0.0,
        "head_seconds": 0.004,
        "total_seconds": 0.005,
        "fault": None,
        "error": None,
    }
    return Record(**(fields | changed))


def told_of(record: Record, style: Any = "json") -> str:
    """Give what the log says of one request."""
    stream = io.StringIO()
    writer = LogWriter(stream)
    request_line(make_logger(writer, style, stream))(record)
    writer.close()
    return stream.getvalue()


BAD = {
    "fate": Fate.FALLBACK_STALE,
    "status": 200,
    "why_not_retried": "retries_spent",
    "attempts": (("upstream_connect", 0.1), ("status_5xx", 0.2)),
    "queued_seconds": 0.05,
    "error": "ConnectFailed: refused",
    "detail": Detail(
        trace_id="0af7651916cd43dd8448eb211c80319c",
        query="a=1",
        waits=((2, 0.25),),
        breaker=BreakerSeen("db", "CLOSED", "OPEN"),
        deadline_left=0.1234,
    ),
}


def test_the_line_of_a_request_says_all_that_was_decided() -> None:
    line = json.loads(told_of(a_record(**BAD)))

    assert line.pop("time").endswith("Z")
    assert line == {
        "event": "request",
        "level": "info",
        "status": 200,
        "method": "GET",
        "path": "/orders",
        "query": "a=1",
        "fate": "fallback_stale",
        "why_not_retried": "retries_spent",
        "route": "orders",
        "request_id": "id-1",
        "trace_id": "0af7651916cd43dd8448eb211c80319c",
        "client": "192.0.2.7",
        "upstream": "db",
        "attempts": [
            {"n": 1, "result": "upstream_connect", "ms": 100.0},
            {"n": 2, "result": "status_5xx", "ms": 200.0, "backoff_ms": 250.0},
        ],
        "fallback": "stale",
        "breaker": {"name": "db", "before": "CLOSED", "after": "OPEN"},
        "queued_ms": 50.0,
        "upstream_ms": 300.0,
        "head_ms": 4.0,
        "total_ms": 5.0,
        "deadline_left_ms": 123.4,
        "error": "ConnectFailed: refused",
    }


def test_on_a_console_the_same_line_reads_like_a_sentence() -> None:
    line = told_of(a_record(**BAD), "console")

    assert "attempts='upstream_connect 100 ms, after 250 ms status_5xx 200 ms'" in line
    assert "breaker='db CLOSED then OPEN'" in line
    assert line.count("\n") == 1


@pytest.mark.parametrize(
    ("status", "fate", "level"),
    [
        (200, Fate.OK, "info"),
        (404, Fate.NO_ROUTE, "info"),
        (429, Fate.REJECTED_RATE_LIMIT, "info"),
        (499, Fate.CLIENT_GONE, "info"),
        (200, Fate.FALLBACK_STALE, "info"),
        (503, Fate.REJECTED_BREAKER_OPEN, "warning"),
        (502, Fate.UPSTREAM_CONNECT, "warning"),
        (200, Fate.UPSTREAM_DISCONNECTED, "warning"),
        (500, Fate.INTERNAL, "warning"),
        (503, Fate.FALLBACK_STATIC, "warning"),
    ],
)
def test_what_failed_is_a_warning_so_that_it_stays_when_the_rest_is_turned_off(
    status: int, fate: Fate, level: str
) -> None:
    assert json.loads(told_of(a_record(status=status, fate=fate)))["level"] == level


HOSTILE = [
    '/a\n{"event":"request","status":200}',
    "/a\r\n12:00:00 [info     ] sidecar.stopped",
    "/a\x1b[2J\x1b]0;title\x07",
    "/a\x9b31m\x85\x00\x7f",
    "/a\u2028\u2029\u202e",
    "/a b status=200 fate=ok",
]


@pytest.mark.parametrize("text", HOSTILE)
@pytest.mark.parametrize("field", ["path", "client", "method", "error", "request_id"])
@pytest.mark.parametrize("style", ["json", "console"])
def test_nothing_that_a_client_sends_can_forge_a_line_or_steer_the_terminal(
    style: str, field: str, text: str
) -> None:
    written = told_of(a_record(**{field: text}), style)

    assert written.endswith("\n")
    assert written[:-1].isprintable()
    assert len(written.splitlines()) == 1
    if style == "console":
        assert " status=200 " in written.replace(text, "")
        assert repr(printable(text)) in written or " " not in text, "what has spaces is quoted"


@given(text=st.text(), style=st.sampled_from(["json", "console"]))
def test_whatever_stands_in_a_record_its_line_is_one_that_prints(text: str, style: str) -> None:
    detail = Detail(trace_id=text, query=text, breaker=BreakerSeen(text, text, text))
    written = told_of(a_record(path=text, error=text, would=(text,), detail=detail), style)

    assert written[:-1].isprintable()
    assert written[-1] == "\n"


def test_an_exception_cannot_forge_a_line_on_a_console() -> None:
    stream = io.StringIO()
    writer = LogWriter(stream)
    log = make_logger(writer, "console", stream)

    log.error("sidecar.fault", exc_info=ValueError("why\n12:00:00 [info     ] sidecar.stopped\r\x1b[2J"))
    writer.close()

    first, *rest = stream.getvalue().split("\n")
    assert "sidecar.fault" in first
    assert "    12:00:00 [info     ] sidecar.stopped\\r\\x1b[2J" in rest
    assert all(line.startswith("    ") for line in rest if line)
    assert stream.getvalue().replace("\n", "").isprintable()


def test_a_terminal_that_has_not_all_letters_gets_the_line_all_the_same() -> None:
    raw = io.BytesIO()
    stream = io.TextIOWrapper(raw, encoding="ascii", write_through=True)
    writer = LogWriter(stream)

    writer.info("Zürich ☃")
    writer.close()

    assert raw.getvalue() == b"Z\\xfcrich \\u2603\n"
    assert writer.dropped == 0


def test_lines_that_several_threads_write_are_all_counted() -> None:
    stream = Gate()
    writer = LogWriter(stream)
    writer.info("first")
    assert stream.waiting.wait(PATIENCE)

    threads = [threading.Thread(target=lambda: [writer.info("line") for _ in range(5000)]) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert writer.dropped in range(10_000, 10_005), "each thread may find room that another one is taking"
    dropped = writer.dropped
    stream.open.set()
    writer.close()
    assert len(stream.getvalue().splitlines()) == 20_001 - dropped


def test_who_changed_what_is_told_at_any_level() -> None:
    stream = io.StringIO()
    writer = LogWriter(stream)
    log = make_logger(writer, "json", control=LogControl("error"))

    log.info("admin.change", action="log_level")
    log.info("config.reloaded")
    writer.close()

    assert [json.loads(line)["event"] for line in stream.getvalue().splitlines()] == ["admin.change"]
