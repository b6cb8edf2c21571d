"""The log: structlog events as JSON lines or for a console, written by a thread so that no pipe can stop the loop.

A full pipe (a log collector that hangs) fills the bounded queue, and then lines are dropped and counted: losing a log
line is better than losing a request. Which lines: those of requests, of which there are many. They may fill 9/10 of the
queue; the rest is for what is rare and tells more (a breaker's change, a fault, the stop). Once there was no room, no
request gets a line until everything queued has been written; then `log.lines_dropped` says how many are missing, and at
that place. So the lines keep the order of time, and a slow reader sees stretches without holes.

`close` gives the writer a moment to finish. In the second half of it only the rare lines are written.
"""

import logging
import sys
import threading
from collections.abc import Callable, MutableMapping
from contextlib import suppress
from queue import SimpleQueue
from typing import Any, Literal, TextIO

import structlog

__all__ = ["REQUEST", "LogWriter", "make_logger"]

REQUEST = "request"  # the event of a request's line

_QUEUE = 10_000
_REQUESTS = _QUEUE * 9 // 10
_CLOSE_SECONDS = 1.0


class LogWriter:
    """A file-like object for structlog. `dropped` counts the lines that were not written.

    `gap_line` gives the line that tells of a number of them; None: nothing does.
    """

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._lines: SimpleQueue[tuple[str, bool] | None] = SimpleQueue()
        self.gap_line: Callable[[int], str] | None = None
        # Two counts, since each of two threads adds to one of them.
        self._refused = 0
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
            self._stream.write(line + "\n")
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


def make_logger(
    writer: LogWriter, style: Literal["json", "console"], stream: TextIO = sys.stdout
) -> structlog.typing.FilteringBoundLogger:
    """Give a logger that writes through `writer`."""
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
            colors=stream.isatty(), sort_keys=False, timestamp_key="time"
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
        processors=[*processors, render],
        wrapper_class=structlog.make_filtering_bound_logger(logging.INFO),
        cache_logger_on_first_use=True,
    )
    bound: structlog.typing.FilteringBoundLogger = logger
    return bound


def _for_people(_: Any, __: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """Write attempts as a person would: «ok 3.1 ms», not as a list of mappings."""
    attempts = event.get("attempts")
    if isinstance(attempts, list):
        event["attempts"] = (
            ", ".join(f"{attempt['result']} {attempt['ms']:g} ms" for attempt in attempts) or "none"
        )
    return event
