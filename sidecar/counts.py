"""Plain counters in the objects that own them; Prometheus reads them at scrape time, a request pays an addition."""

from bisect import bisect_right

__all__ = ["SECONDS", "Histogram"]

# OpenTelemetry's advice for http.server.request.duration, with two bounds below it: a sidecar's own share is small.
SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0)


_BATCH = 512


class Histogram:
    """Observations in seconds by bucket.

    A request pays for appending to a list; they are sorted into their buckets when somebody looks, or by the batch.
    """

    __slots__ = ("_counts", "_pending", "_total", "bounds")

    def __init__(self, bounds: tuple[float, ...] = SECONDS) -> None:
        self.bounds = bounds
        self._counts = [0] * (len(bounds) + 1)
        self._total = 0.0
        self._pending: list[float] = []

    def observe(self, seconds: float) -> None:
        """Count one observation."""
        pending = self._pending
        pending.append(seconds)
        if len(pending) >= _BATCH:
            self._fold()

    @property
    def counts(self) -> list[int]:
        """How many there were at most as large as each bound (and larger than the one before); the last one: the rest."""
        self._fold()
        return self._counts

    @property
    def total(self) -> float:
        """The sum of all observations."""
        self._fold()
        return self._total

    def _fold(self) -> None:
        if not self._pending:
            return
        pending, self._pending = self._pending, []
        pending.sort()
        self._total += sum(pending)
        below = 0
        for index, bound in enumerate(self.bounds):
            upto = bisect_right(pending, bound)
            self._counts[index] += upto - below
            below = upto
        self._counts[-1] += len(pending) - below

    def cumulative(self) -> list[tuple[str, int]]:
        """Give (upper bound, observations up to it) as Prometheus wants them, ending with +Inf."""
        rows: list[tuple[str, int]] = []
        running = 0
        counts = self.counts
        for bound, count in zip(self.bounds, counts, strict=False):
            running += count
            rows.append((f"{bound:g}" if bound != int(bound) else f"{bound:.1f}", running))
        rows.append(("+Inf", running + counts[-1]))
        return rows
