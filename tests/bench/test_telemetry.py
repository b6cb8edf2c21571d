"""The measurement of telemetry as it is run, for a moment: that it works, and that it says what it found."""

import re
import shutil
import subprocess
import sys

import pytest

from bench import peers
from bench.process import ROOT
from bench.telemetry import config
from sidecar.config.load import load_text


@pytest.mark.skipif(
    shutil.which("wrk") is None or isinstance(peers.locate("nginx"), peers.Missing),
    reason="wrk and nginx are not installed",
)
def test_one_short_pair_of_runs() -> None:
    command = [sys.executable, "-m", "bench.telemetry", "1", "1"]

    done = subprocess.run(command, capture_output=True, text=True, timeout=40, check=False, cwd=ROOT)

    assert done.returncode == 0, done.stderr
    assert re.search(r"^pair 1: [\d.]+ µs a request, [\d.]+ µs with telemetry off", done.stdout, re.MULTILINE)
    assert len(re.findall(r"^(?:met|MISSED) ", done.stdout, re.MULTILINE)) == 1


def test_the_two_differ_in_telemetry_alone() -> None:
    on, off = (load_text(config(1, 2, 3, telemetry=each), env={}).config for each in (True, False))

    assert (on.telemetry is None, off.telemetry is None) == (False, True)
    assert on.model_copy(update={"telemetry": None}) == off
