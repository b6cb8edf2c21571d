"""What probes are told while the traffic listener has all that it can do, and while an upstream is down."""

import subprocess
from math import inf
from pathlib import Path
from time import perf_counter

import pytest

from .kit import App, Sidecar, ask, config, free_port, need, pause, sidecar, until

PROBES = ("/health/live", "/health/ready")
PROMISED = 0.050  # seconds


def a_probe(proxy: Sidecar, path: str) -> float:
    """Ask once, over a connection of its own, as a kubelet does; give the seconds that it took."""
    began = perf_counter()
    assert ask(proxy.ops, path).status == 200
    return perf_counter() - began


def p99_beside(proxy: Sidecar, connections: int) -> float:
    """Give the p99 of probes, in seconds, while so many clients ask for all that the sidecar can give.

    Infinity where there were too few of them to say: on a busy machine it takes the clients seconds to connect.
    """
    command = [need("wrk"), "-t1", f"-c{connections}", "-d9s", "--timeout", "10s", f"{proxy.url}/hello"]
    taken: list[float] = []
    with subprocess.Popen(command, stdout=subprocess.PIPE) as load:
        until(lambda: proxy.clients() >= connections, "all of wrk's connections")
        while load.poll() is None and len(taken) < 200:
            taken += [a_probe(proxy, path) for path in PROBES]
            pause(0.01)
        assert load.wait(20) == 0
    return sorted(taken)[int(len(taken) * 0.99)] if len(taken) >= 60 else inf


def best_p99_beside(proxy: Sidecar, connections: int) -> float:
    """Give the least p99 of at most three rounds: what else the machine has to do only ever makes one longer."""
    best = p99_beside(proxy, connections)
    for _ in range(2):
        if best >= PROMISED:
            best = min(best, p99_beside(proxy, connections))
    return best


def test_probes_are_answered_within_50_ms_while_traffic_saturates_the_sidecar(
    app: App, tmp_path: Path
) -> None:
    """Answers come from the cache, so that the sidecar is what is busy, and nothing else holds the clients up."""
    with sidecar(config(app.url, route="cache: {fresh_for: 1m}"), tmp_path) as proxy:
        p99 = best_p99_beside(proxy, 128)
        answered = sum(
            value for name, value in proxy.metrics().items() if name.startswith("sidecar_requests_total")
        )

    assert answered > 3000
    assert p99 < PROMISED


@pytest.mark.timeout(120)
@pytest.mark.parametrize("uvloop", [True, False])
def test_probes_are_answered_within_50_ms_also_beside_a_thousand_busy_connections(
    app: App, tmp_path: Path, uvloop: bool
) -> None:
    """One turn of the loop takes longer than that: they must not wait for turns."""
    text = config(app.url, route="cache: {fresh_for: 1m}")
    with sidecar(text, tmp_path, uvloop=uvloop) as proxy:
        assert best_p99_beside(proxy, 1000) < PROMISED


def test_an_upstream_that_is_down_degrades_and_leaves_the_sidecar_ready(app: App, tmp_path: Path) -> None:
    """Or all replicas would be taken out of service at once."""
    text = f"""
version: 1
listen: {{traffic: 127.0.0.1:0, ops: 127.0.0.1:0, admin: off}}
upstreams: {{app: {{url: "{app.url}"}}, dead: {{url: "http://127.0.0.1:{free_port()}"}}}}
routes:
  - {{name: dead, match: {{path: /dead}}, upstream: dead, retry: off, breaker: {{consecutive_failures: 1, open_for: 1h}}}}
  - {{name: all, upstream: app}}
"""
    with sidecar(text, tmp_path) as proxy:
        before = ask(proxy.ops, "/api/health")
        assert ask(proxy.traffic, "/dead").status == 502
        after = ask(proxy.ops, "/api/health")

        assert (before.status, before.json()["status"]) == (200, "healthy")
        assert (after.status, after.json()["status"]) == (200, "degraded")
        assert after.json()["message"] == "Degraded: breaker dead is OPEN."
        services = after.json()["services"]
        assert (services["dead"]["state"], services["dead"]["upstream"]["state"]) == ("OPEN", "DOWN")
        assert ask(proxy.ops, "/health/ready").status == 200
        assert ask(proxy.ops, "/health/detailed").json()["system"]["memory"]["process"] > 1 << 20
