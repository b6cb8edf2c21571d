"""What probes are told while the traffic listener has all that it can do, and while an upstream is down."""

import subprocess
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


def test_probes_are_answered_within_50_ms_while_traffic_saturates_the_sidecar(
    app: App, tmp_path: Path
) -> None:
    """Answers come from the cache, so that the sidecar is what is busy, and nothing else holds the clients up."""
    program = need("wrk")
    with sidecar(config(app.url, route="cache: {fresh_for: 1m}"), tmp_path) as proxy:
        with subprocess.Popen(
            [program, "-t1", "-c128", "-d4s", "--timeout", "10s", f"{proxy.url}/hello"],
            stdout=subprocess.PIPE,
        ) as load:
            until(lambda: proxy.clients() >= 128, "all of wrk's connections")
            taken: list[float] = []
            ends = perf_counter() + 3.0
            while perf_counter() < ends:
                taken += [a_probe(proxy, path) for path in PROBES]
                pause(0.01)
            assert load.poll() is None, "the load must outlast the probes"
            assert load.wait(20) == 0
        answered = sum(
            value for name, value in proxy.metrics().items() if name.startswith("sidecar_requests_total")
        )

    taken.sort()
    p99 = taken[int(len(taken) * 0.99)]
    assert answered > 3000
    assert len(taken) > 60
    assert p99 < PROMISED, f"p50 {taken[len(taken) // 2]:.4f} s, p99 {p99:.4f} s, most {taken[-1]:.4f} s"


@pytest.mark.parametrize("uvloop", [True, False])
def test_probes_are_answered_within_50_ms_also_beside_a_thousand_busy_connections(
    app: App, tmp_path: Path, uvloop: bool
) -> None:
    """One turn of the loop takes longer than that: they must not wait for turns."""
    program = need("wrk")
    text = config(app.url, route="cache: {fresh_for: 1m}")
    with (
        sidecar(text, tmp_path, uvloop=uvloop) as proxy,
        subprocess.Popen(
            [program, "-t1", "-c1000", "-d6s", "--timeout", "10s", f"{proxy.url}/hello"],
            stdout=subprocess.PIPE,
        ) as load,
    ):
        ends = perf_counter() + 5.0
        until(lambda: proxy.clients() >= 1000, "all of wrk's connections")
        taken: list[float] = []
        while perf_counter() < ends:
            taken += [a_probe(proxy, path) for path in PROBES]
            pause(0.01)
        assert load.poll() is None, "the load must outlast the probes"
        assert load.wait(20) == 0

    taken.sort()
    p99 = taken[int(len(taken) * 0.99)]
    assert len(taken) >= 100
    assert p99 < PROMISED, f"p50 {taken[len(taken) // 2]:.4f} s, p99 {p99:.4f} s, most {taken[-1]:.4f} s"


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
