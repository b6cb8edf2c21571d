"""Plain counters in the objects that own them; Prometheus reads them at scrape time, a request pays an addition."""

from bisect import bisect_left

__all__ = ["SECONDS", "Histogram"]

# OpenTelemetry's advice for http.server.request.duration, with two bounds below it: a sidecar's own share is small.
SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0)


class Histogram:
    """Observations in seconds by bucket. `counts[i]` counts those at most `bounds[i]`; the last one the rest."""

    __slots__ = ("bounds", "counts", "total")

    def __init__(self, bounds: tuple[float, ...] = SECONDS) -> None:
        self.bounds = bounds
        self.counts = [0] * (len(bounds) + 1)
        self.total = 0.0

    def observe(self, seconds: float) -> None:
        """Count one observation."""
        self.counts[bisect_left(self.bounds, seconds)] += 1
        self.total += seconds

    def cumulative(self) -> list[tuple[str, int]]:
        """Give (upper bound, observations up to it) as Prometheus wants them, ending with +Inf."""
        rows: list[tuple[str, int]] = []
        running = 0
        for bound, count in zip(self.bounds, self.counts, strict=False):
            running += count
            rows.append((f"{bound:g}" if bound != int(bound) else f"{bound:.1f}", running))
        rows.append(("+Inf", running + self.counts[-1]))
        return rows
