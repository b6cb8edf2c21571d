"""The measurement of scrapes as it is run, for a moment: that it works, and that it says what it found."""

import re
import shutil
import subprocess
import sys

import pytest

from bench import peers
from bench.process import ROOT
from bench.scrape import ROUTES, config
from sidecar.config.load import load_text


@pytest.mark.skipif(
    shutil.which("wrk") is None or isinstance(peers.locate("nginx"), peers.Missing),
    reason="wrk and nginx are not installed",
)
def test_one_short_pair_of_runs() -> None:
    command = [sys.executable, "-m", "bench.scrape", "1", "1"]

    done = subprocess.run(command, capture_output=True, text=True, timeout=40, check=False, cwd=ROOT)

    assert done.returncode == 0, done.stderr
    assert re.search(r"^scrape, 200 routes: first [\d.]+ ms, then [\d.]+ ms", done.stdout, re.MULTILINE)
    assert re.search(r"^pair 1: p99 .* with scrapes .*; a scrape [\d.]+ ms", done.stdout, re.MULTILINE)
    assert len(re.findall(r"^(?:met|MISSED) ", done.stdout, re.MULTILINE)) == 2


def test_every_route_of_it_has_every_policy() -> None:
    found = load_text(config(1, 2, 3), env={}).config

    assert len(found.routes) == ROUTES
    for route in found.routes:
        assert all(
            (route.breaker, route.bulkhead, route.rate_limit, route.cache, route.fallback, route.retry)
        )
