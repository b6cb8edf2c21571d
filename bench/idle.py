"""What an idle client costs: memory for each of many kept-alive connections that do nothing."""

from collections.abc import Callable

from bench import clients, table, targets, usage
from bench.compare import MIB, OURS
from bench.field import Field
from bench.process import pause
from bench.results import Journal

__all__ = ["as_table", "bounded", "run", "verdicts"]

WARM = 200  # connections opened and closed before the first look, so that what is made once is made
SETTLE = 2.0  # seconds from the last connection to the second look
SAMPLE = 50  # connections used again at the end, to see that they are alive

Point = dict[str, float]


def bounded(count: int) -> int:
    """Return how many connections one process may hold here, at most `count`."""
    return min(count, clients.file_limit() - clients.SPARE_FILES)


def run(ground: Field, count: int, journal: Journal, say: Callable[[str], None]) -> dict[str, Point]:
    """Hold so many connections to every proxy, one proxy after the other."""
    points: dict[str, Point] = {}
    for name in tuple(ground.programs):
        points[name] = _point(ground, name, count)
        say(f"idle, {name}: {points[name]['kib_each']:.2f} KiB each")
        journal.note(ground, proxies=points, verdicts=[verdict.as_json() for verdict in verdicts(points)])
    return points


def _point(ground: Field, name: str, count: int) -> Point:
    with ground.start(name) as proxy:
        with clients.held(proxy.port, min(WARM, count)):
            pass
        pause(SETTLE)
        before = usage.rss_bytes(proxy.pid)
        with clients.held(proxy.port, count) as held:
            pause(SETTLE)
            after = usage.rss_bytes(proxy.pid)
            closed = clients.closed_by_peer(held)
            alive = clients.still_answer(held[:: max(1, count // SAMPLE)])
    return {
        "connections": count,
        "rss_before_mib": before / MIB,
        "rss_after_mib": after / MIB,
        "kib_each": (after - before) / count / 1024,
        "closed": closed,
        "alive": float(alive),
    }


def verdicts(points: dict[str, Point]) -> list[targets.Verdict]:
    """Hold the sidecar against its targets, as far as it took part."""
    ours = points.get(OURS)
    if ours is None:
        return []
    return [
        targets.at_most("memory of an idle connection, KiB", ours["kib_each"], targets.IDLE_KIB),
        targets.at_most("idle connections that were closed", ours["closed"] + 1 - ours["alive"], 0),
    ]


def as_table(points: dict[str, Point]) -> str:
    """Show every proxy."""
    head = ["check", "proxy", "connections", "RSS before MiB", "after MiB", "KiB each", "closed"]
    return table.render(head, [_line(name, point) for name, point in points.items()])


def _line(name: str, point: Point) -> list[str]:
    return [
        "idle",
        name,
        f"{point['connections']:.0f}",
        table.number(point["rss_before_mib"]),
        table.number(point["rss_after_mib"]),
        table.number(point["kib_each"]),
        f"{point['closed']:.0f}",
    ]
