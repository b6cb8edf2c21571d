"""When a breaker trips, and for how long it stays open. Numbers in, a word or a number out.

Four triggers, any of those that are set may trip (None: not set):

| trigger | trips when | after |
|---|---|---|
| `consecutive_failures` | so many failures in a row | Envoy's `consecutive_5xx`, Finagle, Linkerd |
| `failures_in_window` | so many failures, among at least `min_requests` | opossum's volume threshold |
| `failure_rate` | at least this share failed, of at least `min_requests` | Hystrix, Resilience4j |
| `slow_rate` | at least this share was slower than `slow_duration`, of at least `min_requests` | Resilience4j |

The open time grows by `open_multiplier` each time that a trial fails, so that an outage of an hour is not probed every
few seconds, and is jittered, so that the replicas of a sidecar do not all probe in the same moment.
"""

from dataclasses import dataclass, field
from math import inf

from sidecar.policy.trip import Cause

__all__ = ["DEFAULT_COUNT", "BreakerSettings"]

# The statuses that count as failures. Not 501: the upstream is well, it only does not know the method.
DEFAULT_COUNT = frozenset({500, 502, 503, 504})


@dataclass(frozen=True, slots=True)
class BreakerSettings:
    """Settings of one breaker. Times in seconds, rates in (0, 1].

    A call is slow when its response head took longer than `slow_duration`. `window` bounds what the three triggers
    after the first look at. `open_for` is the first open time; the grown one is at most `open_max` (or `open_for`, if
    that is longer), and the jitter of ± `open_jitter` comes on top. `max_trials` requests at once may try the upstream
    while HALF_OPEN, `successes` good ones close, and one that is undecided for `max_wait` has failed.
    """

    consecutive_failures: int | None = 5
    failures_in_window: int | None = None
    failure_rate: float | None = None
    slow_duration: float | None = None
    slow_rate: float | None = None
    window: float = 30.0
    min_requests: int = 10
    open_for: float = 30.0
    open_multiplier: float = 1.5
    open_max: float = 300.0
    open_jitter: float = 0.1
    count: frozenset[int] = field(default=DEFAULT_COUNT)
    max_trials: int = 1
    successes: int = 2
    max_wait: float = 30.0

    def cause(self, run: int, total: int, failures: int, slow: int) -> Cause | None:
        """Give why to trip, None if there is no reason: `run` failures in a row, and the counts of the window."""
        if self.consecutive_failures is not None and run >= self.consecutive_failures:
            return "consecutive_failures"
        if total < self.min_requests or not total:
            return None
        if self.failures_in_window is not None and failures >= self.failures_in_window:
            return "failures_in_window"
        # Divided, not multiplied: 7 / 100 is 0.07, but 0.07 * 100 is more than 7.
        if self.failure_rate is not None and failures / total >= self.failure_rate:
            return "failure_rate"
        if self.slow_rate is not None and self.slow_duration is not None and slow / total >= self.slow_rate:
            return "slow_call_rate"
        return None

    @property
    def slow_after(self) -> float:
        """How long a head may take before its call is slow, in seconds; infinity without `slow_duration`."""
        return inf if self.slow_duration is None else self.slow_duration

    @property
    def slow_trips(self) -> bool:
        """Whether slow calls can trip."""
        return self.slow_rate is not None and self.slow_duration is not None

    @property
    def volume(self) -> int:
        """The count of requests at which a trigger of the window becomes able to trip; 0: there is no such trigger."""
        of_failures = self.failures_in_window is not None or self.failure_rate is not None
        return self.min_requests if of_failures or self.slow_trips else 0

    def open_time(self, reopened: int, u: float) -> float:
        """Give for how many seconds to open, when `reopened` trials have failed since the outage began; u in [0, 1)."""
        most = max(self.open_max, self.open_for)
        try:
            grown = min(self.open_for * self.open_multiplier**reopened, most)
        except OverflowError:
            grown = most
        return grown * (1 + self.open_jitter * (2 * u - 1))

    def threshold(self, cause: Cause) -> str:
        """Say in words what was reached when a trip has this cause; "" for a cause that trips nothing."""
        within = f"of at least {self.min_requests} requests within {self.window:g} s"
        if cause == "consecutive_failures":
            return f"{self.consecutive_failures} failures in a row"
        if cause == "failures_in_window":
            return f"{self.failures_in_window} failures {within}"
        if cause == "failure_rate":
            return f"{_percent(self.failure_rate)} failures {within}"
        if cause == "slow_call_rate":
            return f"{_percent(self.slow_rate)} slower than {self.slow_duration:g} s {within}"
        if cause == "trial_timed_out":
            return f"1 trial undecided after {self.max_wait:g} s"
        return "1 failed trial" if cause == "trial_failed" else ""


def _percent(rate: float | None) -> str:
    return f"{100 * (rate or 0.0):g} %"
