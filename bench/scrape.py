"""What a scrape costs, and what it does to the traffic: `python -m bench.scrape`.

A sidecar of 200 routes, each with every policy, so that there is about the most that anybody will have to show. First
alone: the time from asking for `/metrics` to the last byte, as Prometheus asks (OpenMetrics, gzip). Then under the load
of `keep-128B-64`, in pairs of runs, one without scrapes and one with a scrape every second.

What counts is the ratio of the least p99 with scrapes to the least without. Each run with scrapes has some, so the least
shows what they cost; and what else goes on in the machine only ever makes a p99 longer. On a quiet machine the median
of the ratios says the same; where it does not, neither says much.
"""

import http.client
import statistics
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from math import inf
from pathlib import Path

from bench import targets, wrk
from bench.compare import OURS
from bench.field import Field, entered
from bench.process import free_port, started, wait_ready
from bench.rows import HEADLINE
from bench.targets import Verdict

__all__ = ["main"]

ROUTES = 200
SCRAPES = 20  # alone
PAIRS, SECONDS = 5, 4.0
EVERY = 1.0  # seconds between two scrapes under load

SCRAPE_MS = 25.0
P99_RATIO = 1.2

ACCEPT = "application/openmetrics-text;version=1.0.0,text/plain;version=0.0.4;q=0.5"


def config(port: int, ops_port: int, upstream_port: int) -> str:
    """Write a configuration with many routes; the last one takes the load."""
    routes = [
        f"  - {{name: route-{n}, match: {{path: /route-{n}/**}}, upstream: app}}" for n in range(1, ROUTES)
    ]
    return "\n".join(
        [
            "version: 1",
            f'listen: {{traffic: "127.0.0.1:{port}", ops: "127.0.0.1:{ops_port}", admin: off}}',
            f'upstreams: {{app: {{url: "http://127.0.0.1:{upstream_port}", max_connections: 1024}}}}',
            "defaults:",
            "  rate_limit: {limit: 1000000/1s, key: client_ip, fields: off}",
            "  bulkhead: {max_concurrent: 1000}",
            "  breaker: {consecutive_failures: 5, failure_rate: 50%}",
            "  cache: {fresh_for: 1ms}",
            "  fallback: [stale, {static: {body: none}}]",
            "access_log: off",
            "drain_timeout: 1s",
            "routes:",
            *routes,
            "  - {name: loaded, match: {path: /**}, upstream: app}",
            "",
        ]
    )


def scrape(port: int) -> tuple[float, int]:
    """Give the seconds that one scrape took, and its bytes."""
    begin = time.perf_counter()
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    try:
        connection.request("GET", "/metrics", headers={"Accept": ACCEPT, "Accept-Encoding": "gzip"})
        response = connection.getresponse()
        body = response.read()
        if response.status != 200:
            raise ValueError(f"/metrics answered {response.status}")
        return time.perf_counter() - begin, len(body)
    finally:
        connection.close()


@contextmanager
def scraped(port: int) -> Iterator[list[float]]:
    """Scrape now and then while the block lasts; gives the seconds that each took."""
    took: list[float] = []
    over = threading.Event()

    def run() -> None:
        while not over.wait(EVERY / 2 if not took else EVERY):
            took.append(scrape(port)[0])

    thread = threading.Thread(target=run)
    thread.start()
    try:
        yield took
    finally:
        over.set()
        thread.join()


def measure(ground: Field, where: Path, pairs: int, seconds: float) -> list[Verdict]:
    """Run the sidecar, tell what was measured, and hold it against the targets."""
    port, ops_port = free_port(), free_port()
    file, log = where / "scrape.yaml", where / "scrape.log"
    file.write_text(config(port, ops_port, ground.upstream_port))
    command = [*ground.programs[OURS].command, "run", "--config", str(file)]
    with started(command, ground.cores.proxy, log=log) as process:
        wait_ready(process, ops_port, "/health/ready", log=log)
        first, size = scrape(ops_port)
        alone = [scrape(ops_port)[0] for _ in range(SCRAPES)]
        print(
            f"scrape, {ROUTES} routes: first {first * 1e3:.1f} ms, then",
            _milliseconds(alone),
            f"{size} bytes",
        )
        ratios: list[float] = []
        least = {False: inf, True: inf}
        for pair in range(pairs):
            runs = {}
            took: list[float] = []
            for with_scrapes in (False, True) if pair % 2 else (True, False):
                if with_scrapes:
                    with scraped(ops_port) as took:
                        runs[True] = wrk.run(HEADLINE, port, seconds, ground.cores)
                else:
                    runs[False] = wrk.run(HEADLINE, port, seconds, ground.cores)
            ratios.append(runs[True].p99_s / runs[False].p99_s)
            least = {
                with_scrapes: min(p99_s, runs[with_scrapes].p99_s) for with_scrapes, p99_s in least.items()
            }
            print(
                f"pair {pair + 1}: p99 {runs[False].p99_s * 1e3:.2f} ms without, {runs[True].p99_s * 1e3:.2f} ms with"
                f" scrapes ({ratios[-1]:.2f}); p50 {runs[False].p50_s * 1e3:.2f}, {runs[True].p50_s * 1e3:.2f};"
                f" {runs[False].per_second:.0f}, {runs[True].per_second:.0f} requests/s; a scrape",
                _milliseconds(took),
                flush=True,
            )
    print(
        f"least p99: {least[False] * 1e3:.2f} ms without, {least[True] * 1e3:.2f} ms with scrapes;", end=" "
    )
    print(f"median of the ratios {statistics.median(ratios):.2f}")
    return [
        targets.at_most(f"a scrape of {ROUTES} routes, ms", statistics.median(alone) * 1e3, SCRAPE_MS),
        targets.at_most(
            "least p99 scraped every second to not at all", least[True] / least[False], P99_RATIO
        ),
    ]


def _milliseconds(took: Sequence[float]) -> str:
    return f"{statistics.median(took) * 1e3:.1f} ms (at most {max(took) * 1e3:.1f})" if took else "none"


def main(arguments: Sequence[str] = ()) -> None:
    """`python -m bench.scrape [PAIRS [SECONDS]]`."""
    pairs = int(arguments[0]) if arguments else PAIRS
    seconds = float(arguments[1]) if len(arguments) > 1 else SECONDS
    with entered([OURS]) as ground:
        for line in targets.lines(measure(ground, ground.where, pairs, seconds)):
            print(line)


if __name__ == "__main__":
    main(sys.argv[1:])
