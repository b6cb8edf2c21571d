"""Timers that cost a request two dictionary operations instead of two kernel or libuv timers.

A `Lane` holds everything that waits for the *same* duration. Equal durations expire in the order in which they were
started, and a dict keeps exactly that order, so one loop timer, set for the first entry, serves them all; an entry that
is stopped in time (nearly all of them) never meets the loop. When the timer finds its entry gone it is set again for the
entry that is first by then: at most one wake-up per duration, whatever the load.

The same idea as Varghese and Lauck, "Hashed and Hierarchical Timing Wheels" (1987), scheme 2 per duration.
"""

import asyncio
from collections.abc import Callable
from typing import Generic, TypeVar

__all__ = ["Lane"]

K = TypeVar("K")


class Lane(Generic[K]):
    """All the timers of one duration (`delay`, seconds) on one loop. `expire(key)` is called for each that runs out."""

    __slots__ = ("_due", "_expire", "_loop", "_time", "_timer", "delay")

    def __init__(self, loop: asyncio.AbstractEventLoop, delay: float, expire: Callable[[K], None]) -> None:
        self._loop = loop
        self._time = loop.time
        self._expire = expire
        self._due: dict[K, float] = {}
        self._timer: asyncio.TimerHandle | None = None
        self.delay = delay

    def __len__(self) -> int:
        """Tell how many timers run."""
        return len(self._due)

    def __contains__(self, key: K) -> bool:
        """Tell whether the timer of `key` runs."""
        return key in self._due

    def start(self, key: K) -> float:
        """Start, or start again, the timer of `key`. Gives when it will run out."""
        due = self._due
        if key in due:
            del due[key]  # to the end of the order, where its new time belongs
        due[key] = when = self._time() + self.delay
        if self._timer is None:
            self._timer = self._loop.call_at(when, self._wake)
        return when

    def stop(self, key: K) -> None:
        """Stop the timer of `key`; nothing happens if it does not run."""
        self._due.pop(key, None)

    def clear(self) -> None:
        """Stop all."""
        self._due.clear()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _wake(self) -> None:
        # A loop may call a timer up to its clock's resolution early (uvloop counts whole milliseconds).
        now = self._time() + 0.001
        due = self._due
        try:
            # A copy: the first entry of a dict takes the longer to find the more were deleted before it.
            for key, when in list(due.items()):
                if when > now:
                    break
                if due.get(key) == when:  # not stopped, nor started again, by an `expire` before it
                    del due[key]
                    self._expire(key)
        finally:
            # Not before: whoever starts a timer inside `expire` must find one set. And also when `expire` failed: the
            # others still have to run out.
            self._timer = self._loop.call_at(next(iter(due.values())), self._wake) if due else None
