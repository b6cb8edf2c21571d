"""How long from exec to the first answer, and how much memory a proxy takes before its first request.

Ready is the first 200: of the sidecar's `/health/ready` on its ops listener, of a proxied request for the
others.
"""

import statistics
from collections.abc import Callable

from bench import table, targets, usage
from bench.compare import MIB, OURS
from bench.field import Field
from bench.process import pause
from bench.results import Journal

__all__ = ["as_table", "run", "verdicts"]

REST = 1.0  # seconds from ready to the look at memory

Point = dict[str, float]


def run(ground: Field, runs: int, journal: Journal, say: Callable[[str], None]) -> dict[str, list[Point]]:
    """Start every proxy in turn, several times. Returns the points as they stand in the journal."""
    points: dict[str, list[Point]] = {name: [] for name in ground.programs}
    for turn in range(runs):
        for name, mine in points.items():
            with ground.start(name) as proxy:
                pause(REST)
                mine.append({"ready_s": proxy.ready_s, "rss_rest_mib": usage.rss_bytes(proxy.pid) / MIB})
            say(f"startup {turn + 1}/{runs}, {name}: {mine[-1]['ready_s']:.3f} s")
    journal.note(ground, proxies=points, verdicts=[verdict.as_json() for verdict in verdicts(points)])
    return points


def _median(points: list[Point], figure: str) -> float:
    return statistics.median(point[figure] for point in points)


def verdicts(points: dict[str, list[Point]]) -> list[targets.Verdict]:
    """Hold the sidecar against its targets, as far as it took part."""
    ours = points.get(OURS)
    if not ours:
        return []
    return [
        targets.at_most("start to ready, s", _median(ours, "ready_s"), targets.READY_S),
        targets.at_most("memory at rest, MiB", _median(ours, "rss_rest_mib"), targets.RSS_REST_MIB),
    ]


def as_table(points: dict[str, list[Point]]) -> str:
    """Show the medians."""
    lines = [
        [
            "startup",
            name,
            table.number(_median(mine, "ready_s") * 1e3),
            table.number(_median(mine, "rss_rest_mib")),
        ]
        for name, mine in points.items()
    ]
    return table.render(["check", "proxy", "ready ms", "RSS at rest MiB"], lines)
