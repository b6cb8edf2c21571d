"""The log: structlog events as JSON lines or for a console, written by a thread so that no pipe can stop the loop.

A full pipe (a log collector that hangs) fills the bounded queue, and then lines are dropped and counted: losing a log
line is better than losing a request. `close` gives the writer a moment to finish.
"""

import logging
import queue
import sys
import threading
from collections.abc import MutableMapping
from contextlib import suppress
from time import monotonic
from typing import Any, Literal, TextIO

import structlog

__all__ = ["LogWriter", "make_logger"]

_QUEUE = 10_000
_CLOSE_SECONDS = 1.0


class LogWriter:
    """A file-like object for structlog. `dropped` counts the lines that found the queue full."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._lines: queue.Queue[str | None] = queue.Queue(_QUEUE)
        self.dropped = 0
        self._thread = threading.Thread(target=self._run, name="log-writer", daemon=True)
        self._thread.start()

    def msg(self, line: str) -> None:
        """Queue one line."""
        try:
            self._lines.put_nowait(line)
        except queue.Full:
            self.dropped += 1

    # structlog calls the method that is named like the level.
    log = debug = info = warning = warn = error = critical = fatal = failure = exception = msg

    def close(self) -> None:
        """Write what is queued, for at most a second, and stop."""
        end = monotonic() + _CLOSE_SECONDS
        try:
            self._lines.put(None, timeout=_CLOSE_SECONDS)
        except queue.Full:
            return
        self._thread.join(max(0.0, end - monotonic()))

    def _run(self) -> None:
        while (line := self._lines.get()) is not None:
            try:
                self._stream.write(line + "\n")
                if self._lines.empty():
                    self._stream.flush()
            except (OSError, ValueError):
                self.dropped += 1  # the pipe is gone; the sidecar goes on without a log
        with suppress(OSError, ValueError):
            self._stream.flush()


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
    if style == "json":
        processors.append(structlog.processors.JSONRenderer())
    else:
        processors += [
            _for_people,
            structlog.dev.ConsoleRenderer(colors=stream.isatty(), sort_keys=False, timestamp_key="time"),
        ]
    logger: Any = structlog.wrap_logger(
        writer,
        processors=processors,
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
