"""The rate limit: how many requests of one key may pass.

`token_bucket` lets `limit` per `per` pass on average, and a burst of `burst` (the limit, unless said otherwise) at once:
in any stretch of `per` no more than `burst + limit`. `sliding_window` never lets more than `limit` pass in any stretch
of `per`, whenever it begins. See `token_bucket.py` and `sliding_window.py` for how, and for the memory they take,
`key_table.py` for what happens when there are more keys than `max_keys`, `rate_key.py` for what a key is.

A limiter holds the state, so it outlives the stage that asks it: where two configurations have equal settings, the
limiter of the one serves the other, and no quota is refilled by a reload.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from sidecar.policy.rate_key import Key
from sidecar.policy.sliding_window import SlidingWindows
from sidecar.policy.token_bucket import TokenBuckets

__all__ = ["Algorithm", "RateLimitSettings", "RateLimiter"]

Algorithm = Literal["token_bucket", "sliding_window"]


@dataclass(frozen=True, slots=True)
class RateLimitSettings:
    """`limit` requests in `per` seconds. `burst` is of the token bucket alone; None: as much as `limit`.

    `by` says whose requests are counted together; it decides nothing here, but quotas of other things are other quotas.
    """

    limit: int
    per: float
    algorithm: Algorithm = "token_bucket"
    burst: int | None = None
    max_keys: int = 10_000
    by: str = "client_ip"

    @property
    def capacity(self) -> int:
        """How many requests of one key may pass at once."""
        if self.algorithm == "sliding_window" or self.burst is None:
            return self.limit
        return self.burst


class RateLimiter:
    """Decides on one request after the other. The same object may serve several routes.

    `decide(key, now)` lets one request of `key` pass at `now` (seconds, never going back), or not, and gives (allowed,
    remaining, reset, retry_after). `remaining` is how many more may pass at once, and `reset` in how many seconds that
    grows by one. `retry_after` is 0 if allowed, else the same as `reset`: after that many seconds a request passes, if
    no other one of the key takes its place, and before that none does. A request that is refused uses nothing up.
    """

    __slots__ = ("_keys", "decide", "settings")

    decide: Callable[[Key, float], tuple[bool, int, float, float]]

    def __init__(self, settings: RateLimitSettings) -> None:
        self.settings = settings
        self._keys: TokenBuckets | SlidingWindows
        if settings.algorithm == "sliding_window":
            self._keys = SlidingWindows(settings.limit, settings.per, settings.max_keys)
        else:
            self._keys = TokenBuckets(settings.limit, settings.per, settings.capacity, settings.max_keys)
        self.decide = self._keys.decide  # the algorithm's own: a request pays for one call

    def __repr__(self) -> str:
        """Tell settings and live state in one line; of the keys only their number, they may be secrets."""
        settings = self.settings
        return f"<RateLimiter {settings.algorithm} {settings.limit} per {settings.per:g}s, {self.keys} keys>"

    @property
    def keys(self) -> int:
        """How many keys are remembered."""
        return self._keys.keys

    @property
    def evicted(self) -> int:
        """How many keys were forgotten for want of room while they still owed something."""
        return self._keys.evicted
