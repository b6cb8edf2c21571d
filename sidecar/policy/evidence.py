"""What a breaker has seen of its upstream: the window, the run of failures, and the last attempts. It decides nothing.

The window and the run begin anew with each generation of the breaker; the last attempts are remembered across
generations, since what led to an outage explains the trials that failed after it.
"""

from collections import deque

from sidecar.policy.breaker_settings import BreakerSettings
from sidecar.policy.trip import Attempt, Cause, Trip
from sidecar.policy.window import Window

__all__ = ["Evidence", "percent"]

_LAST = 10  # attempts that are remembered
_BUCKETS = 60  # of the window: half a second in the default of 30 s


class Evidence:
    """Seen so far. `run` is how many attempts in a row have failed, `slow_after` in seconds."""

    __slots__ = ("_first_error", "_settings", "recent", "run", "slow_after", "window")

    def __init__(self, settings: BreakerSettings) -> None:
        self._settings = settings
        self._first_error: str | None = None  # of the run
        self.run = 0
        self.slow_after = settings.slow_after
        self.window = Window(settings.window, _BUCKETS)
        self.recent: deque[tuple[float, str, float | None]] = deque(maxlen=_LAST)  # when, what, seconds

    def success(self, now: float, seconds: float, what: str) -> int:
        """Count a good head that took `seconds`. Gives how many requests the window holds. The run goes on."""
        self.recent.append((now, what, seconds))
        return self.window.add(now, False, seconds > self.slow_after)

    def failure(self, now: float, seconds: float | None, what: str) -> None:
        """Count a failure; `seconds` is None for a body that broke."""
        self.recent.append((now, what, seconds))
        self.window.add(now, True, seconds is not None and seconds > self.slow_after)
        if self.run == 0:
            self._first_error = what
        self.run += 1

    def cause(self, now: float) -> Cause | None:
        """Give why to trip now, None if there is no reason."""
        window = self.window
        return self._settings.cause(self.run, window.total(now), window.failures(now), window.slow(now))

    def counts(self, now: float) -> tuple[int, int]:
        """Give the failures of the window, and its requests."""
        return self.window.failures(now), self.window.total(now)

    def trip(self, number: int, at: float, cause: Cause, open_for: float) -> Trip:
        """Give the snapshot of a trip at this moment."""
        failures, total = self.counts(at)
        return Trip(
            number=number,
            at=at,
            cause=cause,
            threshold=self._settings.threshold(cause),
            failures=failures,
            total=total,
            failure_rate=percent(failures, total),
            first_error=self._first_error if self.run else None,
            open_for=open_for,
            attempts=tuple(Attempt(at - when, what, seconds) for when, what, seconds in self.recent),
        )

    def under(self, settings: BreakerSettings) -> "Evidence":
        """Give what is seen from now on, under other settings; the last attempts are remembered."""
        made = Evidence(settings)
        made.recent = self.recent
        return made

    def begin(self) -> None:
        """Begin new counts, for a new generation."""
        self.run = 0
        self.window.clear()


def percent(failures: int, total: int) -> float:
    """Give a share in percent, to one place; 0 of nothing."""
    return round(100 * failures / total, 1) if total else 0.0
