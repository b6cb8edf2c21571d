"""What telling of requests costs: `python -m bench.telemetry`.

Two sidecars with one route, one as it is by default (every request counted, timed and recorded) and one with
`telemetry: off`, under the load of `keep-128B-64` by turns. What counts is the CPU time of a request in the one against
that in the other, of the same pair of runs; the median over the pairs.
"""

import statistics
import sys
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

from bench import targets, usage, wrk
from bench.compare import OURS
from bench.field import Field, entered
from bench.process import free_port, started, wait_ready
from bench.rows import HEADLINE
from bench.targets import Verdict

__all__ = ["main"]

PAIRS, SECONDS = 5, 3.0
RATIO = 1.12


def config(port: int, ops_port: int, upstream_port: int, *, telemetry: bool) -> str:
    """Write a configuration with one route."""
    return "\n".join(
        [
            "version: 1",
            f'listen: {{traffic: "127.0.0.1:{port}", ops: "127.0.0.1:{ops_port}", admin: off}}',
            f'upstreams: {{app: {{url: "http://127.0.0.1:{upstream_port}", max_connections: 1024}}}}',
            "routes: [{name: everything, upstream: app}]",
            "drain_timeout: 1s",
            "" if telemetry else "telemetry: off",
            "",
        ]
    )


def measure(ground: Field, where: Path, pairs: int, seconds: float) -> list[Verdict]:
    """Run both, tell what was measured, and hold it against the target."""
    with ExitStack() as stack:
        sidecars: dict[bool, tuple[int, int]] = {}
        for telemetry in (True, False):
            port, ops_port = free_port(), free_port()
            file, log = where / f"telemetry-{telemetry}.yaml", where / f"telemetry-{telemetry}.log"
            file.write_text(config(port, ops_port, ground.upstream_port, telemetry=telemetry))
            command = [*ground.programs[OURS].command, "run", "--config", str(file)]
            process = stack.enter_context(started(command, ground.cores.proxy, log=log))
            wait_ready(process, ops_port, "/health/ready", log=log)
            sidecars[telemetry] = process.pid, port
        ratios = []
        for pair in range(pairs):
            cost = {
                telemetry: _cpu_us(*sidecars[telemetry], ground, seconds)
                for telemetry in ((False, True) if pair % 2 else (True, False))
            }
            ratios.append(cost[True] / cost[False])
            print(
                f"pair {pair + 1}: {cost[True]:.1f} µs a request, {cost[False]:.1f} µs with telemetry off"
                f" ({ratios[-1]:.3f})",
                flush=True,
            )
    return [targets.at_most("CPU a request with telemetry to without", statistics.median(ratios), RATIO)]


def _cpu_us(pid: int, port: int, ground: Field, seconds: float) -> float:
    before = usage.cpu_seconds(pid)
    load = wrk.run(HEADLINE, port, seconds, ground.cores)
    return (usage.cpu_seconds(pid) - before) / load.requests * 1e6


def main(arguments: Sequence[str] = ()) -> None:
    """`python -m bench.telemetry [PAIRS [SECONDS]]`."""
    pairs = int(arguments[0]) if arguments else PAIRS
    seconds = float(arguments[1]) if len(arguments) > 1 else SECONDS
    with entered([OURS]) as ground:
        for line in targets.lines(measure(ground, ground.where, pairs, seconds)):
            print(line)


if __name__ == "__main__":
    main(sys.argv[1:])
