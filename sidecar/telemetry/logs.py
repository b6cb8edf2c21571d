"""The log: structlog events as JSON lines or for a console, written by a thread so that no pipe can stop the loop.

A full pipe (a log collector that hangs) fills the bounded queue, and then lines are dropped and counted: losing a log
line is better than losing a request. Which lines: those of requests, of which there are many. They may fill 9/10 of the
queue; the rest is for what is rare and tells more (a breaker's change, a fault, the stop). Once there was no room, no
request gets a line until everything queued has been written; then `log.lines_dropped` says how many are missing, and at
that place. So the lines keep the order of time, and a slow reader sees stretches without holes.

`close` gives the writer a moment to finish. In the second half of it only the rare lines are written.

A line is a line, whatever a client, an upstream or an exception has put into a value. JSON escapes by itself what is not
ASCII. For a console every value is made printable, so that it can neither begin a line of its own nor steer the
terminal, and a traceback is indented, which no event's line is.

`LogControl` holds the level in force, and may be told another one at any time.
"""

import logging
import sys
import threading
from collections.abc import Callable, MutableMapping
from contextlib import suppress
from queue import SimpleQueue
from typing import Any, Literal, TextIO

from sidecar.fate import Fate
from sidecar.telemetry.record import Record
from sidecar.telemetry.redaction import printable, printable_all
from sidecar.telemetry.slim import structlog

__all__ = ["REQUEST", "LogControl", "LogWriter", "Style", "make_logger", "request_line", "style_of"]

REQUEST = "request"  # the event of a request's line

Style = Literal["json", "console"]

_LEVELS = {
    "debug": logging.DEBUG,
    "info": logging.INFO,
    "warning": logging.WARNING,
    "error": logging.ERROR,
    "critical": logging.CRITICAL,
}

# What is worth a warning whatever the status: an answer that broke after a good head.
_BROKE = frozenset(fate for fate in Fate if fate.startswith(("timeout_", "upstream_"))) | {Fate.INTERNAL}

_QUEUE = 10_000
_REQUESTS = _QUEUE * 9 // 10
_CLOSE_SECONDS = 1.0


class LogControl:
    """Which lines are written: those of `level` and above. It may be changed while lines are."""

    def __init__(self, level: str = "info") -> None:
        self.set(level)

    @property
    def level(self) -> str:
        """The level in force."""
        return self._level

    def set(self, level: str) -> None:
        """Write lines of this level and above from now on.

        Raises:
            ValueError: there is no such level.

        """
        if level not in _LEVELS:
            raise ValueError(f"there is no level {level!r}")
        self._level = level
        self._least = _LEVELS[level]

    def gate(self, _: Any, level: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
        """Let an event of this level on, as a processor of structlog. Who changed what is told at any level."""
        if _LEVELS[level] < self._least and not str(event.get("event")).startswith("admin."):
            raise structlog.DropEvent
        return event


class LogWriter:
    """A file-like object for structlog. `dropped` counts the lines that were not written.

    `gap_line` gives the line that tells of a number of them; None: nothing does.
    """

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._lines: SimpleQueue[tuple[str, bool] | None] = SimpleQueue()
        self.gap_line: Callable[[int], str] | None = None
        # Two counts: one is the writing thread's alone, the other is added to by whoever has a line to write.
        self._refused = 0
        self._refusing = threading.Lock()
        self._unwritten = 0
        self._told = 0  # of both
        self._gap = False  # requests get no line until the queue is empty
        self._hurry = False
        self._thread = threading.Thread(target=self._run, name="log-writer", daemon=True)
        self._thread.start()

    @property
    def dropped(self) -> int:
        """How many lines found no room, or could not be written."""
        return self._refused + self._unwritten

    def msg(self, line: str, *, of_request: bool = False) -> None:
        """Queue one line."""
        queued = self._lines.qsize()
        if queued >= _QUEUE or (of_request and (self._gap or queued >= _REQUESTS)):
            self._gap = True
            with self._refusing:
                self._refused += 1
        else:
            self._lines.put((line, of_request))

    # structlog calls the method that is named like the level.
    log = debug = info = warning = warn = error = critical = fatal = failure = exception = msg

    def close(self) -> None:
        """Write what is queued, for at most a second, and stop."""
        self._lines.put(None)
        self._thread.join(_CLOSE_SECONDS / 2)
        self._hurry = True
        self._thread.join(_CLOSE_SECONDS / 2)

    def _run(self) -> None:
        lines = self._lines
        while (item := lines.get()) is not None:
            line, of_request = item
            if of_request and self._hurry:
                self._unwritten += 1
                continue
            written = self._write(line)
            if lines.empty():
                self._gap = False
                if written:
                    self._tell()
        self._tell()
        with suppress(OSError, ValueError):
            self._stream.flush()

    def _write(self, line: str) -> bool:
        try:
            try:
                self._stream.write(line + "\n")
            except UnicodeEncodeError:  # a terminal that has not all letters
                self._stream.write(line.encode("ascii", "backslashreplace").decode() + "\n")
            if self._lines.empty():
                self._stream.flush()
        except (OSError, ValueError):
            self._unwritten += 1  # the pipe is gone; the sidecar goes on without a log
            return False
        return True

    def _tell(self) -> None:
        """Say what is missing, if anything is."""
        missing = self.dropped - self._told
        if missing and self.gap_line is not None and self._write(self.gap_line(missing)):
            self._told += missing


def style_of(wanted: Literal["auto", "json", "console"], profile: str) -> Style:
    """Give the form of the lines: `auto` is for people in development, for programs elsewhere."""
    if wanted != "auto":
        return wanted
    return "console" if profile == "development" else "json"


def make_logger(
    writer: LogWriter, style: Style, stream: TextIO = sys.stdout, control: LogControl | None = None
) -> structlog.typing.FilteringBoundLogger:
    """Give a logger that writes through `writer` what `control` lets pass; without one, from `info` on."""
    control = control or LogControl()
    processors: list[structlog.typing.Processor] = [
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(
            fmt="iso" if style == "json" else "%H:%M:%S.%f", utc=style == "json", key="time"
        ),
        structlog.processors.format_exc_info,
    ]
    renderer: Callable[[Any, str, MutableMapping[str, Any]], str | bytes]
    if style == "json":
        renderer = structlog.processors.JSONRenderer()
    else:
        processors.append(_for_people)
        renderer = structlog.dev.ConsoleRenderer(
            colors=stream.isatty(),
            sort_keys=False,
            timestamp_key="time",
            exception_formatter=structlog.dev.plain_traceback,  # it is a text already
        )

    def render(logger: Any, level: str, event: MutableMapping[str, Any]) -> tuple[tuple[Any], dict[str, Any]]:
        of_request = event.get("event") == REQUEST  # before it is rendered: that takes the event apart
        return (renderer(logger, level, event),), {"of_request": of_request}

    def gap_line(count: int) -> str:
        event: Any = {"event": "log.lines_dropped", "count": count}
        for processor in (*processors, renderer):
            event = processor(writer, "warning", event)
        return str(event)

    writer.gap_line = gap_line
    logger: Any = structlog.wrap_logger(
        writer,
        processors=[control.gate, *processors, render],
        wrapper_class=structlog.make_filtering_bound_logger(logging.DEBUG),
        cache_logger_on_first_use=True,
    )
    bound: structlog.typing.FilteringBoundLogger = logger
    return bound


def request_line(log: Any) -> Callable[[Record], None]:
    """Give what writes the line of a request to `log`: a warning where something failed behind or in the sidecar."""

    def write(record: Record) -> None:
        told = record.as_dict()
        fields = {key: value for key, value in told.items() if key != "at" and value not in (None, "")}
        failed = record.status >= 500 or record.fate in _BROKE
        (log.warning if failed else log.info)(REQUEST, **fields)

    return write


def _for_people(_: Any, __: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """Write what a person would, in characters that only print: «ok 3.1 ms», not a list of mappings."""
    attempts, breaker, traceback = event.get("attempts"), event.get("breaker"), event.pop("exception", None)
    if isinstance(attempts, list):
        event["attempts"] = ", ".join(map(_attempt, attempts)) or "none"
    if isinstance(breaker, dict):
        event["breaker"] = _breaker(breaker)
    told: MutableMapping[str, Any] = printable_all(event)
    if traceback is not None:
        told["exception"] = "\n".join(f"    {printable(line)}" for line in str(traceback).split("\n"))
    return told


def _attempt(attempt: dict[str, Any]) -> str:
    waited = attempt.get("backoff_ms")
    after = f"after {waited:g} ms " if waited is not None else ""
    return f"{after}{attempt['result']} {attempt['ms']:g} ms"


def _breaker(breaker: dict[str, Any]) -> str:
    before, after = breaker["before"], breaker["after"]
    return f"{breaker['name']} {before}" if before == after else f"{breaker['name']} {before} then {after}"
