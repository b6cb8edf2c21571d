"""wrk, which keeps 64 connections as busy as it can."""

import re
import subprocess
from pathlib import Path

from .kit import App, config, need, sidecar


def test_two_seconds_of_load(app: App, tmp_path: Path) -> None:
    """Every answer is 2xx, no socket has an error, and every request is counted once."""
    program = need("wrk")
    with sidecar(config(app.url), tmp_path) as proxy:
        done = subprocess.run(
            [program, "-t1", "-c64", "-d2s", "--timeout", "10s", f"{proxy.url}/hello"],
            capture_output=True,
            text=True,
            timeout=30,
            check=True,
        )
        metrics = proxy.metrics()

    found = re.search(r"(\d+) requests in", done.stdout)
    assert found is not None, done.stdout
    answered = int(found[1])
    assert answered > 200
    assert "Socket errors" not in done.stdout
    assert "Non-2xx" not in done.stdout
    # wrk leaves with up to 64 requests under way, whose answers it does not count.
    counted = sum(value for name, value in metrics.items() if name.startswith("sidecar_requests_total"))
    assert answered <= counted <= answered + 64
    fates = {name for name, value in metrics.items() if name.startswith("sidecar_requests_total") and value}
    assert {re.findall(r'fate="(\w+)"', name)[0] for name in fates} <= {"ok", "client_gone"}
