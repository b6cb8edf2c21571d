"""`sidecar run`, from the start to the exit code: what it says, and to whom."""

import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from sidecar.cli.probe import Target, ask

ROOT = Path(__file__).parents[2]
SIDECAR = [sys.executable, "-m", "sidecar"]
WITHIN = 20  # seconds


@pytest.fixture
def ports() -> tuple[int, int]:
    """Two ports that nobody has at the moment."""
    with socket.create_server(("127.0.0.1", 0)) as one, socket.create_server(("127.0.0.1", 0)) as other:
        return one.getsockname()[1], other.getsockname()[1]


@pytest.fixture
def file(tmp_path: Path, ports: tuple[int, int]) -> Path:
    path = tmp_path / "sidecar.yaml"
    path.write_text(
        "version: 1\n"
        f"listen: {{traffic: 127.0.0.1:{ports[0]}, ops: 127.0.0.1:{ports[1]}, admin: 127.0.0.1:0}}\n"
        "upstreams:\n"
        "  app: {url: http://127.0.0.1:9}\n"
        "  spare: {url: http://127.0.0.1:10}\n"
        "routes: [{name: everything, upstream: app}]\n"
    )
    return path


def options(ports: tuple[int, int]) -> list[str]:
    return [
        *("run", "--upstream", "http://127.0.0.1:9"),
        *("--listen", f"127.0.0.1:{ports[0]}", "--ops", f"127.0.0.1:{ports[1]}"),
        *("--admin", "127.0.0.1:0"),
    ]


@contextmanager
def running(args: list[str], ops_port: int) -> Iterator[subprocess.Popen[str]]:
    with subprocess.Popen(
        [*SIDECAR, *args], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        try:
            wait_until_ready(process, ops_port)
            yield process
        finally:
            process.kill()


def wait_until_ready(process: subprocess.Popen[str], ops_port: int) -> None:
    pause = threading.Event()
    for _ in range(WITHIN * 20):
        assert process.poll() is None, process.communicate()
        try:
            if ask(Target("127.0.0.1", ops_port), timeout=1)[0] == 200:
                return
        except OSError:
            pass
        pause.wait(0.05)
    pytest.fail(f"not ready within {WITHIN} s")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT], ids=lambda number: number.name)
def test_without_a_file_it_says_what_it_runs_and_a_signal_ends_it_with_0(
    ports: tuple[int, int], number: signal.Signals
) -> None:
    with running(options(ports), ports[1]) as process:
        os.kill(process.pid, number)
        _, said = process.communicate(timeout=WITHIN)

    assert process.returncode == 0
    assert said.startswith("Running without a file. The configuration in effect:\n")
    assert all(
        text in said for text in ("http://127.0.0.1:9 ", f"127.0.0.1:{ports[0]} ", f"127.0.0.1:{ports[1]} ")
    )
    assert "Traceback" not in said


def test_a_file_with_warnings_runs_and_shows_them(file: Path, ports: tuple[int, int]) -> None:
    with running(["run", "--config", str(file)], ports[1]) as process:
        health = subprocess.run(
            [*SIDECAR, "healthcheck", "--config", str(file)],
            cwd=ROOT,
            capture_output=True,
            timeout=WITHIN,
            check=False,
        )
        process.terminate()
        _, said = process.communicate(timeout=WITHIN)

    assert (process.returncode, health.returncode) == (0, 0)
    assert [line.partition(" warning")[2][:19] for line in said.splitlines()] == ["[unused-upstream]: "]


@pytest.mark.parametrize("taken", [0, 1], ids=["traffic", "ops"])
def test_a_taken_port_is_3_and_one_line_that_names_it(ports: tuple[int, int], taken: int) -> None:
    with socket.create_server(("127.0.0.1", ports[taken])):
        done = subprocess.run(
            [*SIDECAR, *options(ports)], cwd=ROOT, capture_output=True, text=True, timeout=WITHIN, check=False
        )

    last = done.stderr.splitlines()[-1]
    assert done.returncode == 3
    assert last.startswith("sidecar: ")
    assert f"127.0.0.1:{ports[taken]}" in last
    assert "Traceback" not in done.stderr
