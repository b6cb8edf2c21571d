"""How an upstream is, by the probes that it was sent: well, failing, or not yet known.

    not known ──(the first probe decides)──▶ well ──(`fall` bad ones in a row)──▶ failing
                                              ▲────(`rise` good ones in a row)──────┘

HAProxy's `fall` and `rise`. The first probe decides alone, as in Envoy: one result says more than none.

A probe is not a request. It asks one cheap question of one path; what requests come to is for the breaker to judge. So
failing probes never open a breaker, and good ones never close it. They may tell an open one that a trial is worth its
while before its time is over (`vouches_since`), within three bounds:

- it takes `rise` good probes in a row, all begun after the trip: one from before it says nothing about what came then;
- after a trial has failed, the probes were good while requests were not. They are believed again only when they have
  noticed something: when one has failed since, and then `rise` were good. A page that is well whatever happens behind it
  would else undo the growth of the open time;
- and an operator's word is not theirs to shorten: that bound is the breaker's own (`Breaker.hasten`).

Pure: `now` comes in, in seconds of a clock that does not go backwards.
"""

from collections import deque
from dataclasses import dataclass

from sidecar.policy.trip import Trip

__all__ = ["Health", "HealthSettings"]


@dataclass(frozen=True, slots=True)
class HealthSettings:
    """After how many bad probes in a row an upstream is failing, and after how many good ones it is well again."""

    fall: int = 3
    rise: int = 2


class Health:
    """The health of one upstream.

    `healthy` is None until the first probe; `since` is when it became what it is, `checked_at` when the last probe
    ended, both None before there was one. `latency` is how long the last good probe took, in seconds. `why` says what
    was wrong with the last bad one, and is None while all is well. `passes` and `failures` count all probes.
    """

    __slots__ = (
        "_failed_at",
        "_good",
        "_run",
        "checked_at",
        "failures",
        "healthy",
        "latency",
        "passes",
        "settings",
        "since",
        "why",
    )

    def __init__(self, settings: HealthSettings) -> None:
        self.settings = settings
        self.healthy: bool | None = None
        self.since: float | None = None
        self.checked_at: float | None = None
        self.latency: float | None = None
        self.why: str | None = None
        self.passes = 0
        self.failures = 0
        self._run = 0  # bad probes in a row
        self._good: deque[float] = deque(
            maxlen=settings.rise
        )  # when good probes in a row began, the last ones
        self._failed_at: float | None = None

    def __repr__(self) -> str:
        """Tell the live state in one line."""
        word = {None: "not known", True: "well", False: "failing"}[self.healthy]
        return f"<Health {word}, {self.passes} passed, {self.failures} failed>"

    def passed(self, now: float, seconds: float) -> bool:
        """Take a good probe, which ended now and took `seconds`. True: that changed how the upstream is."""
        self.checked_at = now
        self.latency = seconds
        self.passes += 1
        self._run = 0
        self._good.append(now - seconds)
        if self.healthy is False and len(self._good) < self.settings.rise:
            return False
        self.why = None
        return self._become(now, healthy=True)

    def failed(self, now: float, why: str) -> bool:
        """Take a bad probe, which ended now. True: that changed how the upstream is."""
        self.checked_at = self._failed_at = now
        self.why = why
        self.failures += 1
        self._run += 1
        self._good.clear()
        if self.healthy is True and self._run < self.settings.fall:
            return False
        return self._become(now, healthy=False)

    def vouches_since(self, trip: Trip) -> bool:
        """Tell whether what was seen since a trip says that a request may be tried."""
        if len(self._good) < self.settings.rise or self._good[0] < trip.at:
            return False
        if trip.cause not in ("trial_failed", "trial_timed_out"):
            return True
        return self._failed_at is not None and self._failed_at >= trip.at

    def _become(self, now: float, *, healthy: bool) -> bool:
        if self.healthy is healthy:
            return False
        self.healthy = healthy
        self.since = now
        return True
