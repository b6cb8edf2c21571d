"""The log: one JSON object a line, and whatever the stream does, nobody waits for it."""

import io
import json
import threading
from typing import Any, TextIO, cast

import pytest

from sidecar.telemetry.logs import LogWriter, make_logger

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
