"""The exact sliding window: never more than `limit` requests of a key in *any* stretch of `per` seconds.

Exact, since every admitted request of the last `per` is remembered. The usual approximations let more through: counters
of fixed windows up to twice the limit around their boundary, two of them weighted more than the limit whenever the
requests of the first were not spread evenly. Refused requests do not count.

The times are ticks, whole microseconds, and what has left the window is found by bisection, in bulk.

Memory: 8 bytes for each admitted request of the last `per`, up to an eighth more until what has left is cut off, and
about 250 bytes for each key: at most `max_keys * (250 + 10 * limit)` bytes, 13 MB for a limit of 100 and 10 000 keys.
For limits in the ten thousands a token bucket is the better choice.
"""

from array import array
from bisect import bisect_right
from collections import OrderedDict

from sidecar.policy.key_table import make_room
from sidecar.policy.rate_key import Key
from sidecar.policy.ticks import TICKS, seconds_until

__all__ = ["SlidingWindows"]


class SlidingWindows:
    """The windows of all keys. `per` in seconds; `evicted` counts the keys that were forgotten too early."""

    __slots__ = ("_admitted", "_limit", "_max_keys", "_per", "evicted")

    def __init__(self, limit: int, per: float, max_keys: int) -> None:
        self._limit = limit
        self._per = max(1, round(per * TICKS))
        self._max_keys = max_keys
        self._admitted: OrderedDict[Key, array[int]] = OrderedDict()  # never an empty array
        self.evicted = 0

    @property
    def keys(self) -> int:
        """How many keys are remembered."""
        return len(self._admitted)

    def decide(self, key: Key, now: float) -> tuple[bool, int, float, float]:
        """Admit a request of `key`: (allowed, remaining, reset, retry_after), as `RateLimiter.decide` says."""
        at = round(now * TICKS)
        per = self._per
        table = self._admitted
        times = table.get(key)
        left = 0  # the window: so many of the times, from the front
        if times is None:
            if make_room(table, self._max_keys, self._owes, at):
                self.evicted += 1
            times = table[key] = array("q")
        else:
            table.move_to_end(key)
            edge = at - per
            if times[0] <= edge:
                left = bisect_right(times, edge)
                if left * 8 >= len(times):
                    del times[:left]
                    left = 0
        free = self._limit - len(times) + left
        if free <= 0:
            wait = seconds_until(times[left] + per, now)
            return False, 0, wait, wait
        times.append(at)
        return True, free - 1, (times[left] + per - at) / TICKS, 0.0

    def _owes(self, times: "array[int]", at: int) -> int:
        return len(times) - bisect_right(times, at - self._per)
