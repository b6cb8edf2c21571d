"""Token buckets: each key has `capacity` tokens, a request takes one, and `limit` of them come back in every `per`.

Kept as the generic cell rate algorithm (ITU-T I.371, Annex A: virtual scheduling), one number for each key: the time at
which its bucket will be full again. A request puts that off by the time in which one token comes; it is refused when
that would be further away than a whole bucket.

All times are integers, in ticks (microseconds) times `limit`, so that the time of one token, `per / limit`, is an integer
too: nothing is ever rounded within, the last token of a burst is there, and waiting as long as told is enough to the
microsecond. Memory: about 200 bytes for each key.
"""

from collections import OrderedDict

from sidecar.policy.key_table import make_room
from sidecar.policy.rate_key import Key
from sidecar.policy.ticks import TICKS, seconds_until

__all__ = ["TokenBuckets"]


class TokenBuckets:
    """The buckets of all keys. `per` in seconds; `evicted` counts the keys that were forgotten too early."""

    __slots__ = ("_capacity", "_full_at", "_limit", "_max_keys", "_token", "evicted")

    def __init__(self, limit: int, per: float, capacity: int, max_keys: int) -> None:
        self._limit = limit
        self._token = max(1, round(per * TICKS))
        self._capacity = capacity * self._token
        self._max_keys = max_keys
        self._full_at: OrderedDict[Key, int] = OrderedDict()
        self.evicted = 0

    @property
    def keys(self) -> int:
        """How many keys are remembered."""
        return len(self._full_at)

    def decide(self, key: Key, now: float) -> tuple[bool, int, float, float]:
        """Take a token of `key`: (allowed, remaining, reset, retry_after), as `RateLimiter.decide` says."""
        limit = self._limit
        at = round(now * TICKS) * limit
        table = self._full_at
        full_at = table.get(key)
        if full_at is None:
            if make_room(table, self._max_keys, _owes, at):
                self.evicted += 1
            full_at = at
        else:
            table.move_to_end(key)
            if full_at < at:  # noqa: PLR1730 -- on the way of each request, and max() takes four times as long
                full_at = at
        token = self._token
        left = self._capacity - (full_at - at) - token
        if left < 0:
            wait = seconds_until(at // limit - left // limit, now)
            return False, 0, wait, wait
        table[key] = full_at + token
        return True, left // token, -((left % token - token) // limit) / TICKS, 0.0


def _owes(full_at: int, at: int) -> int:
    return full_at - at
