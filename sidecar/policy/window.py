"""How many, how many of them failures, how many slow: over the last so many seconds.

A sliding window in buckets. An observation is counted for at least `seconds` and at most one bucket longer: "three
failures within 30 s" must not be missed for the sake of where a bucket begins. The error is at most one part in
`buckets`; the price of an observation is a comparison and an addition, and memory is one row for each bucket in which
something happened, whatever the load.
"""

from collections import deque
from math import inf

__all__ = ["Window"]


class Window:
    """Counts of the last `seconds`. `now` must not go backwards; all times are of one clock, in seconds."""

    __slots__ = ("_begun", "_buckets", "_ends", "_epoch", "_failures", "_past", "_slow", "_total", "_width")

    def __init__(self, seconds: float, buckets: int = 10) -> None:
        self._width = seconds / buckets
        self._buckets = buckets
        self._past: deque[tuple[int, int, int, int]] = deque()  # (bucket, observations, failures, slow ones)
        self.clear()

    def clear(self) -> None:
        """Forget everything."""
        self._past.clear()
        self._total = self._failures = self._slow = 0  # of the whole window, the present bucket included
        self._begun = (0, 0, 0)  # what they were when the present bucket began
        self._epoch = 0
        self._ends = -inf

    def add(self, now: float, failure: bool = False, slow: bool = False) -> int:
        """Count one observation; gives how many the window holds with it."""
        if now >= self._ends:
            self._roll(now)
        if failure:
            self._failures += 1
        if slow:
            self._slow += 1
        self._total = total = self._total + 1
        return total

    def total(self, now: float) -> int:
        """Give how many observations there were."""
        if now >= self._ends:
            self._roll(now)
        return self._total

    def failures(self, now: float) -> int:
        """Give how many of them were failures."""
        if now >= self._ends:
            self._roll(now)
        return self._failures

    def slow(self, now: float) -> int:
        """Give how many of them were slow."""
        if now >= self._ends:
            self._roll(now)
        return self._slow

    def _roll(self, now: float) -> None:
        """Put the present bucket away, drop those that are too old, and begin the bucket of `now`."""
        past = self._past
        total, failures, slow = self._begun
        if self._total > total:
            past.append((self._epoch, self._total - total, self._failures - failures, self._slow - slow))
        self._epoch = epoch = int(now // self._width)
        self._ends = (epoch + 1) * self._width
        oldest = epoch - self._buckets
        while past and past[0][0] < oldest:
            _, total, failures, slow = past.popleft()
            self._total -= total
            self._failures -= failures
            self._slow -= slow
        self._begun = (self._total, self._failures, self._slow)
