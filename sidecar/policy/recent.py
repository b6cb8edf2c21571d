"""What was usual of late: the median of the last few durations.

A median and not a mean: one download that took an hour says nothing about the next request. Adding is what every
request pays, so it is nothing but an append; the sorting (half a microsecond) is paid by whoever asks.
"""

from collections import deque

__all__ = ["FEWEST", "KEPT", "Recent"]

KEPT = 64
FEWEST = 8  # fewer than this are an anecdote


class Recent:
    """The last `KEPT` durations, in seconds. `add(seconds)` notes one more."""

    __slots__ = ("_durations", "add")

    def __init__(self) -> None:
        self._durations: deque[float] = deque(maxlen=KEPT)
        self.add = self._durations.append

    def median(self) -> float:
        """Give the median (of an even number the upper one), 0 while there are fewer than `FEWEST`."""
        known = len(self._durations)
        return sorted(self._durations)[known // 2] if known >= FEWEST else 0.0
