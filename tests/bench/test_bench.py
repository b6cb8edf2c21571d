"""The benchmark as it is run, with whichever peers are installed, for a fraction of a second.

What it shows of the machine is not looked at, only that every part works and that the JSON has its shape.
"""

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path
from string import Template

import psutil
import pytest

from bench import peers
from bench.cli import main
from bench.process import ROOT
from bench.rows import Setup
from sidecar.config.load import load_text

FIGURES = {
    "cpu_us",
    "requests_per_s",
    "p50_ms",
    "p99_ms",
    "failed",
    "busy",
    "rss_before_mib",
    "rss_peak_mib",
    "rss_after_mib",
}

needs_load = pytest.mark.skipif(
    shutil.which("wrk") is None or isinstance(peers.locate("nginx"), peers.Missing),
    reason="wrk and nginx are not installed",
)


def bench(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Run the program as a user does. The limit is the promise that a short run is short."""
    command = [sys.executable, "-m", "bench", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=15, check=False, cwd=ROOT)


@needs_load
def test_one_short_row_through_every_peer(tmp_path: Path) -> None:
    options = ["--rows", "keep-128B-1", "--seconds", "0.2", "--runs", "1", "--warm-up", "0", "--no-plot"]

    done = bench("compare", *options, "--out", str(tmp_path))

    assert done.returncode == 0, done.stderr
    (written,) = tmp_path.iterdir()
    document = json.loads(written.read_text())
    assert set(document) == {
        "format",
        "kind",
        "started_at",
        "machine",
        "settings",
        "peers",
        "missing",
        "rows",
        "verdicts",
    }
    assert set(document["peers"]) | set(document["missing"]) == set(peers.NAMES)
    (row,) = document["rows"]
    assert set(row["proxies"]) == set(document["peers"])
    assert all(set(of["median"]) == FIGURES and len(of["runs"]) == 1 for of in row["proxies"].values())
    assert all(of["median"]["failed"] == 0 < of["median"]["requests_per_s"] for of in row["proxies"].values())
    assert {"sidecar", "nginx"} <= set(row["proxies"])
    assert row["ratios"]["nginx"]["p99_ms"]["ratio"] > 0
    assert all(name in done.stdout for name in row["proxies"])
    assert str(written) in done.stdout


@needs_load
def test_the_rows_of_the_sidecar_alone(tmp_path: Path) -> None:
    """Each beside the requests that go through; a hit is an answer, and an open breaker never gives one."""
    options = ["--rows", "cache-hit-*,breaker-open-*", "--seconds", "0.2", "--runs", "1", "--warm-up", "0.2"]

    done = bench("compare", *options, "--peers", "sidecar", "--no-plot", "--out", str(tmp_path))

    assert done.returncode == 0, done.stderr
    (written,) = tmp_path.iterdir()
    rows = json.loads(written.read_text())["rows"]
    assert [(row["name"], set(row["proxies"]), set(row["ratios"])) for row in rows] == [
        ("cache-hit-128B-64", {"sidecar", "policies-128B-64"}, {"policies-128B-64"}),
        ("breaker-open-64", {"sidecar", "policies-128B-64"}, {"policies-128B-64"}),
    ]
    assert [of["median"]["failed"] for row in rows for of in row["proxies"].values()] == [0, 0, 0, 0]


@needs_load
def test_without_the_sidecar_its_own_rows_are_left_out(tmp_path: Path) -> None:
    options = ["--rows", "cache-hit-*,keep-128B-1", "--seconds", "0.2", "--runs", "1", "--warm-up", "0"]

    done = bench("compare", *options, "--peers", "nginx", "--no-plot", "--out", str(tmp_path))

    assert done.returncode == 0, done.stderr
    assert "cache-hit-128B-64 left out: it is of the sidecar alone" in done.stderr
    assert [line.split()[0] for line in done.stdout.splitlines()[2:-1]] == ["keep-128B-1"]


@needs_load
def test_a_short_look_for_leaks(tmp_path: Path) -> None:
    options = ["--requests", "300", "--steps", "2", "--connections", "4", "--settle", "0.1"]

    done = bench("leak", *options, "--out", str(tmp_path))

    assert done.returncode == 0, done.stdout + done.stderr
    (written,) = tmp_path.iterdir()
    points = json.loads(written.read_text())["points"]
    assert [point["requests"] for point in points] == [0, 150, 300]
    assert all(point["answered"] + sum(point["left"].values()) in {3, 150} for point in points)


@needs_load
def test_nothing_is_left_running(tmp_path: Path) -> None:
    """Also where the run fails half-way: here wrk cannot be found once the proxies are up."""
    options = ["--rows", "keep-128B-1", "--peers", "nginx", "--out", str(tmp_path / "out")]
    command = [sys.executable, "-m", "bench", "compare", *options]
    nowhere = {"PATH": "", "TMPDIR": str(tmp_path)}

    done = subprocess.run(
        command, capture_output=True, text=True, timeout=15, check=False, cwd=ROOT, env=nowhere
    )

    assert (done.returncode, done.stderr.splitlines()[-1]) == (
        1,
        "Error: wrk is not installed (Debian package wrk)",
    )
    assert [
        one for one in psutil.process_iter(["cmdline"]) if str(tmp_path) in str(one.info["cmdline"])
    ] == []
    assert [one.name for one in tmp_path.iterdir()] == ["out"]


def test_mistakes_are_told_in_a_line(tmp_path: Path) -> None:
    done = [
        bench("compare", "--rows", "keep-129B-1", "--out", str(tmp_path)),
        bench("compare", "--peers", "apache", "--out", str(tmp_path)),
    ]

    assert [(one.returncode, one.stderr.splitlines()[-1].split(";")[0]) for one in done] == [
        (1, "Error: no row matches keep-129B-1"),
        (
            2,
            "Error: Invalid value for '--peers': apache: choose from sidecar, sidecar-compiled, nginx, haproxy, envoy",
        ),
    ]


def test_the_sidecar_runs_with_its_defaults() -> None:
    """Its configuration loads without a warning, all timeouts on: what is compared is what people run."""
    loaded = load_text(filled_in("sidecar", "plain"))

    assert loaded.warnings == ()
    (route,) = loaded.config.routes
    assert (route.timeout.attempt, route.timeout.total, route.timeout.idle) == (10.0, 15.0, 60.0)


def test_the_sidecar_runs_with_every_policy() -> None:
    """Which is what the row promises, on both of its routes. Its clients do all come from one machine."""
    loaded = load_text(filled_in("sidecar", "policies"))

    assert [warning.id for warning in loaded.warnings] == ["one-client"]
    assert [
        (route.rate_limit, route.cache, route.retry, route.breaker, route.bulkhead).count(None)
        for route in loaded.config.routes
    ] == [0, 0]
    assert all(route.retry and route.retry.retries and route.retry.budget for route in loaded.config.routes)


def test_envoy_runs_with_its_policies(tmp_path: Path) -> None:
    envoy = peers.locate("envoy")
    if isinstance(envoy, peers.Missing):
        pytest.skip(envoy.reason)
    config = tmp_path / "envoy.yaml"
    text = filled_in("envoy", "policies")
    config.write_text(text)

    command = [*envoy.command, "--mode", "validate", "-c", str(config)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=15, check=False)

    assert (done.returncode, done.stdout.strip()) == (0, f"configuration '{config}' OK"), done.stderr
    assert [
        word
        for word in ("retry_policy", "circuit_breakers", "outlier_detection", "local_ratelimit")
        if word not in text
    ] == []


def filled_in(name: str, setup: Setup) -> str:
    """Give a proxy's configuration."""
    values = {
        "port": 8080,
        "ops_port": 9900,
        "upstream_port": 9000,
        "down_port": 9001,
        "connections": 16384,
        "idle_timeout": "60s",
    }
    template = ROOT / "bench" / "templates" / f"{peers.template(name, setup)}.tmpl"
    return Template(template.read_text()).substitute(values)


def test_the_page_names_only_commands_that_exist() -> None:
    """And all of them."""
    page = (ROOT / "docs" / "benchmarks.md").read_text()
    told = {words.strip('"').split()[0] for words in re.findall(r'make bench ARGS=("[^"]+"|\w+)', page)}

    assert told | {"plot"} == set(main.commands)
