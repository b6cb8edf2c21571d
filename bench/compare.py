"""The comparison: every row through every proxy, in turn, several times; medians, and ratios of medians.

The runs interleave (A B C D, A B C D, …), so that a slow minute of the machine hits all of them; where a row compares
two loads of the sidecar instead of the proxies, those do. Each run warms up first. What counts is CPU time per
request of the proxy's process tree: unlike requests/s it does not depend on whether the generator keeps up. `busy` is
the share of its core that the proxy used; well below 1 means that requests/s and latency say more about the generator
than about the proxy.
"""

import statistics
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, fields
from typing import Any

from bench import table, targets, usage, wrk
from bench.cores import Layout
from bench.field import Field
from bench.peers import COMPILED, Proxy
from bench.results import Journal
from bench.rows import CACHE_HIT, HEADLINE, OPEN_BREAKER, POLICIES, Row

__all__ = ["Plan", "Run", "as_table", "measure", "median", "ratios", "run", "verdicts"]

MIB = 1024 * 1024
Taker = tuple[str, Row, Proxy]  # who takes part in a row: its name there, its load, the process
RATED = ("cpu_us", "requests_per_s", "p50_ms", "p99_ms")  # what is compared as a ratio
OURS = "sidecar"


@dataclass(frozen=True, slots=True)
class Plan:
    """What to run. `seconds` is of one measured run, `warm_up` of the load before it."""

    rows: Sequence[Row]
    runs: int
    seconds: float
    warm_up: float


@dataclass(frozen=True, slots=True)
class Run:
    """One run of a row through a proxy. Memory is of the process tree; its peak is as sampled meanwhile.

    `cpu_us` is 0 where no request was answered.
    """

    cpu_us: float
    requests_per_s: float
    p50_ms: float
    p99_ms: float
    failed: float
    busy: float
    rss_before_mib: float
    rss_peak_mib: float
    rss_after_mib: float


def run(ground: Field, plan: Plan, journal: Journal, say: Callable[[str], None]) -> list[dict[str, Any]]:
    """Measure every row; the journal is written after each. Returns the rows as they stand in it."""
    done: list[dict[str, Any]] = []
    for row in plan.rows:
        if row.beside is not None and OURS not in ground.programs:
            say(f"{row.name} left out: it is of the sidecar alone")
            continue
        with _takers(ground, row) as takers:
            runs = _in_turn(row, takers, plan, ground.cores, say)
        done.append(_as_json(row, runs))
        journal.note(ground, rows=done, verdicts=[verdict.as_json() for verdict in verdicts(done)])
    return done


@contextmanager
def _takers(ground: Field, row: Row) -> Iterator[list[Taker]]:
    """Run whoever takes part in a row: every proxy under its load, or the sidecar under its two loads."""
    if row.beside is None:
        with ground.start_all(row.setup) as proxies:
            yield [(proxy.name, row, proxy) for proxy in proxies]
    else:
        with ground.start(OURS, setup=row.setup) as proxy:
            yield [(OURS, row, proxy), (row.beside.name, row.beside, proxy)]


def _in_turn(
    row: Row, takers: list[Taker], plan: Plan, cores: Layout, say: Callable[[str], None]
) -> dict[str, list[Run]]:
    runs: dict[str, list[Run]] = {name: [] for name, _, _ in takers}
    for turn in range(plan.runs):
        for name, load, proxy in takers:
            if plan.warm_up:
                wrk.run(load, proxy.port, plan.warm_up, cores)
            runs[name].append(measure(load, proxy, plan.seconds, cores))
        told = ", ".join(f"{name} {table.number(of[-1].cpu_us)}" for name, of in runs.items())
        say(f"{row.name} {turn + 1}/{plan.runs}, CPU µs per request: {told}")
    return runs


def measure(row: Row, proxy: Proxy, seconds: float, cores: Layout) -> Run:
    """Put the load on and look at the proxy before, while and after."""
    before = usage.look(proxy.pid)
    peak = before.rss_bytes

    def sample() -> None:
        nonlocal peak
        peak = max(peak, usage.rss_bytes(proxy.pid))

    load = wrk.run(row, proxy.port, seconds, cores, sample)
    after = usage.look(proxy.pid)
    cpu_s = after.cpu_s - before.cpu_s
    return Run(
        cpu_us=cpu_s / load.requests * 1e6 if load.requests else 0.0,
        requests_per_s=load.per_second,
        p50_ms=load.p50_s * 1e3,
        p99_ms=load.p99_s * 1e3,
        failed=load.failed,
        busy=cpu_s / load.seconds,
        rss_before_mib=before.rss_bytes / MIB,
        rss_peak_mib=max(peak, after.rss_bytes) / MIB,
        rss_after_mib=after.rss_bytes / MIB,
    )


def median(runs: Sequence[Run]) -> Run:
    """Take the median of each figure by itself; of `failed` the worst, which a median would hide."""
    middle = {one.name: statistics.median(getattr(run, one.name) for run in runs) for one in fields(Run)}
    return Run(**middle | {"failed": max(run.failed for run in runs)})


def ratios(ours: Sequence[Run], theirs: Sequence[Run]) -> dict[str, dict[str, float]]:
    """Divide our medians by theirs. `low` and `high` are the extremes of the turns, each divided by itself.

    A figure that is 0 for them (a row too short to use any CPU) has no ratio.
    """
    mine, other = median(ours), median(theirs)
    result = {}
    for name in RATED:
        if any(getattr(run, name) == 0 for run in (other, *theirs)):
            continue
        each = [getattr(a, name) / getattr(b, name) for a, b in zip(ours, theirs, strict=True)]
        result[name] = {
            "ratio": getattr(mine, name) / getattr(other, name),
            "low": min(each),
            "high": max(each),
        }
    return result


def _as_json(row: Row, runs: dict[str, list[Run]]) -> dict[str, Any]:
    ours, compiled = runs.get(OURS), runs.get(COMPILED)
    return {
        "name": row.name,
        "load": row.load,
        "size": row.size,
        "connections": row.connections,
        "proxies": {
            name: {"median": asdict(median(of)), "runs": [asdict(one) for one in of]}
            for name, of in runs.items()
        },
        "ratios": {name: ratios(ours, of) for name, of in runs.items() if name != OURS} if ours else {},
        "compiled": {name: ratios(compiled, of) for name, of in runs.items() if name != COMPILED}
        if compiled
        else {},
    }


BOUNDS: tuple[tuple[Row, str, str, str, Callable[[str, float, float], targets.Verdict], float], ...] = (
    (HEADLINE, "envoy", "cpu_us", "CPU per request", targets.at_most, targets.CPU_TO_ENVOY),
    (HEADLINE, "nginx", "cpu_us", "CPU per request", targets.at_most, targets.CPU_TO_NGINX),
    (HEADLINE, "envoy", "p99_ms", "p99", targets.at_most, targets.P99_TO_ENVOY),
    (POLICIES, "envoy", "cpu_us", "CPU per request", targets.at_most, targets.POLICIES_CPU_TO_ENVOY),
    (POLICIES, "nginx", "cpu_us", "CPU per request", targets.at_most, targets.POLICIES_CPU_TO_NGINX),
    (CACHE_HIT, POLICIES.name, "requests_per_s", "requests/s", targets.at_least, targets.HIT_TO_MISS),
    (OPEN_BREAKER, POLICIES.name, "requests_per_s", "requests/s", targets.at_least, targets.REFUSAL_TO_PASS),
)


def verdicts(rows: Sequence[dict[str, Any]]) -> list[targets.Verdict]:
    """Hold the rows that have targets against them, as far as they were run."""
    given = []
    for key, of in (("ratios", ""), ("compiled", " compiled,")):
        found = {row["name"]: row.get(key, {}) for row in rows}
        given += [
            judge(
                f"{row.name},{of} {words}, ratio to {other}", found[row.name][other][figure]["ratio"], limit
            )
            for row, other, figure, words, judge, limit in BOUNDS
            if figure in found.get(row.name, {}).get(other, {})
        ]
    return given


def as_table(rows: Sequence[dict[str, Any]]) -> str:
    """Show the medians; a `ratio` is the sidecar's figure to its left divided by this line's."""
    head = [
        "row",
        "proxy",
        "CPU µs/req",
        "ratio",
        "req/s",
        "ratio",
        "p50 ms",
        "p99 ms",
        "ratio",
        "failed",
        "busy",
        "RSS MiB",
        "peak",
    ]
    return table.render(head, [line for row in rows for line in _lines(row)])


def _lines(row: dict[str, Any]) -> list[list[str]]:
    return [_line(row, name, of["median"]) for name, of in row["proxies"].items()]


def _line(row: dict[str, Any], name: str, median: dict[str, float]) -> list[str]:
    def against(figure: str) -> str:
        return table.ratio(row["ratios"].get(name, {}).get(figure, {}).get("ratio"))

    return [
        row["name"],
        name,
        table.number(median["cpu_us"]),
        against("cpu_us"),
        table.number(median["requests_per_s"]),
        against("requests_per_s"),
        table.number(median["p50_ms"]),
        table.number(median["p99_ms"]),
        against("p99_ms"),
        f"{median['failed']:.0f}",
        table.ratio(median["busy"]),
        table.number(median["rss_before_mib"]),
        table.number(median["rss_peak_mib"]),
    ]
