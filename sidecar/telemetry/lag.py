"""How late the event loop is: the time between the moment a timer was due and the moment it was run.

Everything here runs on one loop, so whatever keeps it busy makes everybody wait: requests, probes, time-outs. A timer
that comes 80 ms late says that any of them may come 80 ms late. That is what Node.js calls event loop delay
(`perf_hooks.monitorEventLoopDelay`), measured the same way.

The clock is not the loop's own: uvloop's stands still within a turn, and goes in whole milliseconds. uvloop's timers may
come up to a millisecond early or late for that reason; what is early counts as 0.
"""

import asyncio
from collections import deque
from collections.abc import Callable
from time import perf_counter

from sidecar.counts import Histogram

__all__ = ["LagMeter"]

_MINUTE = 60.0


class LagMeter:
    """Measures every `every` seconds while it runs. `last` is the newest lag and `seconds` counts all, in seconds."""

    __slots__ = ("_clock", "_due", "_every", "_loop", "_seen", "_timer", "last", "seconds")

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        every: float = 0.25,
        clock: Callable[[], float] = perf_counter,
    ) -> None:
        self._loop = loop
        self._every = every
        self._clock = clock
        self._due = 0.0
        self._timer: asyncio.TimerHandle | None = None
        self._seen: deque[tuple[float, float]] = deque(maxlen=int(_MINUTE / every) + 1)  # when, and the lag
        self.last = 0.0
        self.seconds = Histogram()

    @property
    def worst(self) -> float:
        """The largest lag of the last minute, in seconds; 0 before there was one."""
        since = self._clock() - _MINUTE
        return max((lag for when, lag in self._seen if when >= since), default=0.0)

    def start(self) -> None:
        """Begin to measure. A meter that runs already goes on as it does."""
        if self._timer is None:
            self._wait()

    def stop(self) -> None:
        """Measure no more; what has been seen stays."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _wait(self) -> None:
        self._due = self._clock() + self._every
        self._timer = self._loop.call_later(self._every, self._measure)

    def _measure(self) -> None:
        now = self._clock()
        self.last = lag = max(0.0, now - self._due)
        self._seen.append((now, lag))
        self.seconds.observe(lag)
        self._wait()
