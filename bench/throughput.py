"""Large answers: bytes a second compared with nginx, and how much memory that takes.

64 clients read 1000 KiB answers as fast as they can. Each run is a fresh process, so that the growth of its
memory is from rest to the peak under load, without what earlier runs left behind.
"""

import statistics
from collections.abc import Callable

from bench import table, targets, usage, wrk
from bench.compare import MIB, OURS, measure
from bench.field import Field
from bench.process import pause
from bench.results import Journal
from bench.rows import SIZES, Row

__all__ = ["ROW", "as_table", "run", "verdicts"]

ROW = Row("keep", SIZES[-1], 64)
REST = 0.5  # seconds from ready to the look at memory at rest

Point = dict[str, float]


def run(
    ground: Field, runs: int, seconds: float, journal: Journal, say: Callable[[str], None]
) -> dict[str, list[Point]]:
    """Measure every proxy in turn. Returns the points as they stand in the journal."""
    points: dict[str, list[Point]] = {name: [] for name in ground.programs}
    for turn in range(runs):
        for name, mine in points.items():
            mine.append(_point(ground, name, seconds))
            say(f"throughput {turn + 1}/{runs}, {name}: {mine[-1]['mb_per_s']:.0f} MB/s")
        journal.note(ground, proxies=points, verdicts=[verdict.as_json() for verdict in verdicts(points)])
    return points


def _point(ground: Field, name: str, seconds: float) -> Point:
    with ground.start(name) as proxy:
        pause(REST)
        rest = usage.rss_bytes(proxy.pid) / MIB
        wrk.run(ROW, proxy.port, min(0.5, seconds), ground.cores)
        seen = measure(ROW, proxy, seconds, ground.cores)
    return {
        "mb_per_s": seen.requests_per_s * ROW.size / 1e6,
        "cpu_us": seen.cpu_us,
        "busy": seen.busy,
        "failed": seen.failed,
        "rss_rest_mib": rest,
        "rss_growth_mib": seen.rss_peak_mib - rest,
    }


def _median(points: list[Point], figure: str) -> float:
    return statistics.median(point[figure] for point in points)


def verdicts(points: dict[str, list[Point]]) -> list[targets.Verdict]:
    """Hold the sidecar against its targets, as far as it took part."""
    if not points.get(OURS):
        return []
    growth = targets.at_most(
        "growth of memory, MiB", _median(points[OURS], "rss_growth_mib"), targets.RSS_GROWTH_MIB
    )
    if not points.get("nginx"):
        return [growth]
    share = _median(points[OURS], "mb_per_s") / _median(points["nginx"], "mb_per_s")
    return [targets.at_least(f"{ROW.name}, MB/s, ratio to nginx", share, targets.THROUGHPUT_TO_NGINX), growth]


def as_table(points: dict[str, list[Point]]) -> str:
    """Show the medians; `ratio` is the sidecar's rate divided by this proxy's."""
    head = ["row", "proxy", "MB/s", "ratio", "CPU µs/req", "busy", "failed", "RSS at rest MiB", "growth MiB"]
    return table.render(head, [_line(name, points) for name in points])


def _line(name: str, points: dict[str, list[Point]]) -> list[str]:
    mine, ours = points[name], points.get(OURS, [])
    share = _median(ours, "mb_per_s") / _median(mine, "mb_per_s") if ours and name != OURS else None
    return [
        ROW.name,
        name,
        table.number(_median(mine, "mb_per_s")),
        table.ratio(share),
        table.number(_median(mine, "cpu_us")),
        table.ratio(_median(mine, "busy")),
        f"{max(point['failed'] for point in mine):.0f}",
        table.number(_median(mine, "rss_rest_mib")),
        table.number(_median(mine, "rss_growth_mib")),
    ]
