"""How long to wait before a retry: four ways to grow, three kinds of jitter.

With n = 1 for the first retry:

| strategy | before jitter |
|---|---|
| exponential | base * multiplier^(n-1), at most `max` |
| linear | base * n, at most `max` |
| fixed | base, at most `max` |
| decorrelated | between base and three times the wait before, at most `max`; it is its own jitter |

| jitter | the wait, of a delay d |
|---|---|
| full | between 0 and d |
| equal | between d/2 and d |
| none | d |

M. Brooker, "Exponential Backoff And Jitter", AWS Architecture Blog, 2015, compares them: without jitter, callers that
failed together come back together; full jitter needs the fewest calls until all of them have got through.
"""

from dataclasses import dataclass
from typing import Literal

__all__ = ["Backoff", "Jitter", "Strategy"]

Strategy = Literal["exponential", "linear", "fixed", "decorrelated"]
Jitter = Literal["full", "equal", "none"]


@dataclass(frozen=True, slots=True)
class Backoff:
    """One back-off. `base` and `max` are in seconds."""

    strategy: Strategy = "exponential"
    base: float = 0.1
    multiplier: float = 2.0
    max: float = 2.0
    jitter: Jitter = "full"

    def delay(self, retry: int, u: float, previous: float = 0.0) -> float:
        """Give the seconds to wait before retry number `retry` (1 is the first).

        `u` is a random number in [0, 1). `previous` is the wait before this one in seconds, 0 if there was none; only
        the decorrelated strategy looks at it.
        """
        if self.strategy == "decorrelated":
            longest = 3 * max(previous, self.base)
            return min(self.max, self.base + u * (longest - self.base))
        delay = min(self.max, self._grown(retry))
        if self.jitter == "full":
            return u * delay
        if self.jitter == "equal":
            return delay / 2 + u * delay / 2
        return delay

    def _grown(self, retry: int) -> float:
        if self.strategy == "linear":
            return self.base * retry
        if self.strategy == "fixed":
            return self.base
        try:
            return self.base * self.multiplier ** (retry - 1)
        except OverflowError:
            return self.max
