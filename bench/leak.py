"""Does anything stay behind? A million requests, some of which their clients break off, looked at in steps.

After each step all clients are gone and the sidecar has had time to let go of its idle upstream connections;
what it then holds must be what it held before. Memory may grow in the first steps (caches, arenas of the
allocator), and must then stay.
"""

import asyncio
import http.client
import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from prometheus_client.parser import text_string_to_metric_families

from bench import clients, restless, table, targets, usage
from bench.compare import MIB, OURS
from bench.cores import pinned
from bench.field import Field
from bench.peers import Proxy
from bench.process import pause
from bench.results import Journal

__all__ = ["Plan", "as_table", "gauges", "run", "verdicts"]

UPSTREAM_IDLE = "1s"  # so that what a look sees are leaks, not connections kept on purpose
SLOWEST = 500  # requests a second; a step that is slower still has somebody waiting for ever
# Words in the names of gauges that count what is held. Others (times, versions, limits) may differ.
HELD = ("connections", "tasks", "in_use", "in_flight", "inflight", "queued", "active", "pool", "open_")

Point = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Plan:
    """`leave` is the share of turns in which a client leaves early, in [0, 1].

    `settle` is in seconds, from the last client to the look. To see nothing but leaks it must be longer than
    `half_close_grace` (one second), and after that UPSTREAM_IDLE.
    """

    requests: int
    steps: int
    connections: int
    leave: float
    seed: int
    settle: float = 3.0


def run(ground: Field, name: str, plan: Plan, journal: Journal, say: Callable[[str], None]) -> list[Point]:
    """Load one proxy in steps. The first point is before the load, after a few requests that warm it up."""
    clients.file_limit()
    chance = random.Random(plan.seed)
    points: list[Point] = []
    with ground.start(name, idle_timeout=UPSTREAM_IDLE) as proxy:
        sizes = [max(1, plan.requests // 100), *[max(1, plan.requests // plan.steps)] * plan.steps]
        done = -sizes[0]  # the warm-up does not count
        for size in sizes:
            tally = _step(ground, proxy, plan, size, chance)
            done += size
            points.append(_look(proxy, done, tally))
            say(
                f"leak, {name}: {done} requests, {points[-1]['rss_mib']:.1f} MiB, {points[-1]['files']} files"
            )
            journal.note(
                ground, proxy=name, points=points, verdicts=[one.as_json() for one in verdicts(points)]
            )
    return points


def _step(ground: Field, proxy: Proxy, plan: Plan, size: int, chance: random.Random) -> restless.Tally:
    crowd = restless.Crowd(size, plan.leave, chance)
    limit = 60 + size / SLOWEST
    with pinned(ground.cores.rest):
        tally = asyncio.run(restless.let_in(crowd, proxy.port, plan.connections, limit))
    pause(plan.settle)
    return tally


def _look(proxy: Proxy, done: int, tally: restless.Tally) -> Point:
    seen = usage.look(proxy.pid)
    return {
        "requests": done,
        "answered": tally.answered,
        "left": dict(tally.left),
        "failed": tally.failed,
        "rss_mib": seen.rss_bytes / MIB,
        "files": seen.files,
        "cpu_s": seen.cpu_s,
        "gauges": gauges(_metrics(proxy.ops_port)) if proxy.ops_port else {},
    }


def _metrics(port: int) -> str:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
    try:
        connection.request("GET", "/metrics", headers={"Connection": "close"})
        return connection.getresponse().read().decode()
    finally:
        connection.close()


def gauges(text: str) -> dict[str, float]:
    """Take the gauges that count what is held out of a Prometheus exposition, by name and labels."""
    held = (
        sample
        for family in text_string_to_metric_families(text)
        if family.type == "gauge"
        and family.name.startswith(OURS)
        and any(word in family.name for word in HELD)
        for sample in family.samples
    )
    return {_full_name(sample.name, sample.labels): sample.value for sample in held}


def _full_name(name: str, labels: Mapping[str, str]) -> str:
    return f"{name}{{{','.join(f'{key}={value}' for key, value in sorted(labels.items()))}}}"


def verdicts(points: list[Point]) -> list[targets.Verdict]:
    """Hold what is there at the end against the beginning; memory against the end of the first fifth."""
    if len(points) < 3:
        return []
    first, settled, last = points[0], points[max(1, (len(points) - 1) // 5)], points[-1]
    changed = [name for name, value in last["gauges"].items() if value != first["gauges"].get(name, 0)]
    return [
        targets.at_most(
            "growth of memory after the first fifth, MiB",
            last["rss_mib"] - settled["rss_mib"],
            targets.LEAK_MIB,
        ),
        targets.at_most("growth of open files", last["files"] - first["files"], 0),
        targets.at_most(f"gauges that changed: {', '.join(changed) or 'none'}", len(changed), 0),
        targets.at_most("requests that failed", sum(point["failed"] for point in points), 0),
    ]


def as_table(name: str, points: list[Point]) -> str:
    """Show the steps."""
    head = ["check", "proxy", "requests", "answered", "left early", "failed", "RSS MiB", "files", "held"]
    return table.render(head, [_line(name, point) for point in points])


def _line(name: str, point: Point) -> list[str]:
    return [
        "leak",
        name,
        str(point["requests"]),
        str(point["answered"]),
        str(sum(point["left"].values())),
        str(point["failed"]),
        f"{point['rss_mib']:.2f}",
        str(point["files"]),
        " ".join(f"{value:g}" for value in point["gauges"].values()),
    ]
