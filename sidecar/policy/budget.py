"""The retry budget: retries may add so much to an upstream's load and no more, however badly it is doing.

Each request deposits, each retry withdraws. A retry is affordable while

    retries in the last `window` seconds < ratio * requests in the last `window` seconds + min_per_second * window

so in every window that ends with a retry, retries ≤ ratio * requests + floor. It follows that over any time T the
attempts are at most (1 + ratio) * requests + floor * (T / window + 1): a full outage costs the upstream a fifth more
than its callers ask for anyway, where plain retries would cost it a multiple. (Of a window that ends elsewhere nothing
stricter can be promised: a retry comes after the requests that pay for it, and leaves the window after them.)

It is a window and not a token bucket, because a bucket that fills during quiet hours is emptied in one storm.
Finagle's `RetryBudget` (ttl 10 s) and the Gateway API's GEP-3388 (`percent`, `interval`, `minRetryRate`) draw the same
line. Out of budget, the caller gets the upstream's own answer.

Time is cut into buckets, and the bound is held on the safe side of their edges: of the oldest, half-covered bucket the
retries still count and the requests do not any more. So at most one bucket in `BUCKETS` is given away.
"""

from dataclasses import dataclass

from sidecar.native import mypyc_attr

__all__ = ["BUCKETS", "BudgetSettings", "RetryBudget"]

BUCKETS = 20

_ROUNDING = 1e-9  # 0.29 * 100 is a little less than 29


@dataclass(frozen=True, slots=True)
class BudgetSettings:
    """`ratio` of retries to requests, 0.2 is a fifth; a floor of so many retries a second; `window` in seconds."""

    ratio: float = 0.2
    min_per_second: float = 1.0
    window: float = 10.0


@mypyc_attr(allow_interpreted_subclasses=True)
class RetryBudget:
    """The budget of one upstream, shared by all the routes to it. Times are the loop's, in seconds, never going back."""

    __slots__ = (
        "_bucket",
        "_ends",
        "_floor",
        "_ratio",
        "_requests",
        "_requests_here",
        "_requests_past",
        "_retries",
        "_retries_all",
        "_start",
        "_width",
        "settings",
    )

    def __init__(self, settings: BudgetSettings, now: float) -> None:
        self.settings = settings
        self._ratio = settings.ratio
        self._floor = settings.min_per_second * settings.window
        self._width = settings.window / BUCKETS
        self._start = now
        self._bucket = 0  # which one is filled now, counted from the start
        self._ends = now + self._width
        # The present bucket is last. Of the requests the window covers BUCKETS, of the retries one more.
        self._requests_here = 0
        self._requests: list[int] = []
        self._requests_past = 0  # their sum
        self._retries = [0] * (BUCKETS + 1)
        self._retries_all = 0

    def __repr__(self) -> str:
        """Tell the live state in one line."""
        requests = self._requests_past + self._requests_here
        return f"<RetryBudget {self._retries_all} retries for {requests} requests>"

    def deposit(self, now: float) -> None:
        """Count a request, that is, a first attempt, when it has been made: what was refused on its way pays nothing."""
        if now >= self._ends:
            self._turn(now)
        self._requests_here += 1

    def withdraw(self, now: float) -> bool:
        """Pay for one retry. False: it cannot be afforded, and nothing is paid."""
        if self.balance(now) < 1 - _ROUNDING:
            return False
        self._retries[-1] += 1
        self._retries_all += 1
        return True

    def balance(self, now: float) -> float:
        """Give how many retries can be afforded now; only whole ones can be had."""
        if now >= self._ends:
            self._turn(now)
        requests = self._requests_past + self._requests_here
        return max(0.0, self._ratio * requests + self._floor - self._retries_all)

    def _turn(self, now: float) -> None:
        """Go on to the bucket that `now` is in, and let go of those that the window has left."""
        bucket = int((now - self._start) / self._width)
        steps = min(max(1, bucket - self._bucket), BUCKETS + 1)
        self._requests = [*self._requests, self._requests_here, *[0] * (steps - 1)][-(BUCKETS - 1) :]
        self._requests_past = sum(self._requests)
        self._requests_here = 0
        self._retries = [*self._retries[steps:], *[0] * steps]
        self._retries_all = sum(self._retries)
        self._bucket = max(bucket, self._bucket + 1)
        self._ends = self._start + (self._bucket + 1) * self._width
