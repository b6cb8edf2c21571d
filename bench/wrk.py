"""The load generator: run wrk, read what it prints.

wrk waits for each answer before its connection's next request (a closed loop). Its latencies run from the
request written to the answer read, so a new connection's handshake is in requests/s but not in p50 and p99.
"""

import re
import secrets
import shutil
import signal
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from bench.cores import Layout, pinned
from bench.rows import Row

__all__ = ["Load", "WrkFailed", "find", "parse", "run"]

LUA = Path(__file__).with_name("lua")
SAMPLE_EVERY = 0.05  # seconds between two looks at the proxy while wrk runs
ANSWER_LIMIT = 10  # seconds after which wrk counts an answer as timed out

_SECONDS = {"us": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0}
_SCRIPTS = {
    "close": "close.lua",
    "post": "post.lua",
    "varied": "varied.lua",
    "policies": "distinct.lua",
    "breaker-open": "distinct.lua",
}


class WrkFailed(Exception):
    """wrk is missing, ended with an error, or printed something else than its report."""


@dataclass(frozen=True, slots=True)
class Load:
    """What one run of wrk saw. Latencies in seconds.

    `failed` counts socket errors, and answers that are neither 2xx nor 3xx; where refusals are what is measured, those
    that are.
    """

    requests: int
    seconds: float
    p50_s: float
    p99_s: float
    failed: int

    @property
    def per_second(self) -> float:
        """Requests answered a second."""
        return self.requests / self.seconds


def find() -> str:
    """Return wrk's path. Raises WrkFailed where it is not installed."""
    found = shutil.which("wrk")
    if found is None:
        raise WrkFailed("wrk is not installed (Debian package wrk)")
    return found


def run(row: Row, port: int, seconds: float, cores: Layout, sample: Callable[[], None] | None = None) -> Load:
    """Put one row's load on a port for so many seconds; `sample` is called now and then meanwhile.

    wrk takes whole seconds only; for less it is interrupted, upon which it reports as usual.
    """
    threads = min(cores.workers, row.connections)
    script = _SCRIPTS.get(row.load)
    command = [find(), "-t", str(threads), "-c", str(row.connections), "-d", f"{max(1, round(seconds))}s"]
    command += ["--latency", "--timeout", f"{ANSWER_LIMIT}s"]
    command += ["-s", str(LUA / script)] if script else []
    command += [f"http://127.0.0.1:{port}{row.path}", "--", secrets.token_hex(4)]
    return parse(_watch(command, seconds, cores, sample), refusals=row.load == "breaker-open")


def _watch(command: list[str], seconds: float, cores: Layout, sample: Callable[[], None] | None) -> str:
    """Run wrk to its end, with a limit on how long that may take."""
    with pinned(cores.rest):
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    begin = time.monotonic()
    try:
        while (text := _output(process)) is None:
            elapsed = time.monotonic() - begin
            if sample is not None:
                sample()
            if elapsed > seconds + ANSWER_LIMIT + 5:
                raise WrkFailed(f"wrk did not end in time: {' '.join(command)}")
            if elapsed > seconds and seconds % 1:
                process.send_signal(signal.SIGINT)
    finally:
        process.kill()
        process.wait()
    if process.returncode != 0:
        raise WrkFailed(text.strip())
    return text


def _output(process: subprocess.Popen[str]) -> str | None:
    """Return all that the process printed if it ends within a moment, else None."""
    try:
        return process.communicate(timeout=SAMPLE_EVERY)[0]
    except subprocess.TimeoutExpired:
        return None


def parse(text: str, *, refusals: bool = False) -> Load:
    """Read wrk's report (`--latency`), of a load that should be answered, or refused all along.

    Raises WrkFailed where it is not one.
    """
    total = re.search(r"(\d+) requests in ([\d.]+)(us|ms|s|m|h)", text)
    p50 = re.search(r"50%\s+([\d.]+)(us|ms|s|m|h)", text)
    p99 = re.search(r"99%\s+([\d.]+)(us|ms|s|m|h)", text)
    if total is None or p50 is None or p99 is None:
        raise WrkFailed(f"not a report of wrk: {text.strip()[:200]!r}")
    socket_errors = re.search(r"Socket errors: connect (\d+), read (\d+), write (\d+), timeout (\d+)", text)
    statuses = re.search(r"Non-2xx or 3xx responses: (\d+)", text)
    requests, not_ok = int(total[1]), int(statuses[1]) if statuses else 0
    failed = sum(map(int, socket_errors.groups())) if socket_errors else 0
    failed += requests - not_ok if refusals else not_ok
    return Load(
        requests=requests,
        seconds=float(total[2]) * _SECONDS[total[3]],
        p50_s=float(p50[1]) * _SECONDS[p50[2]],
        p99_s=float(p99[1]) * _SECONDS[p99[2]],
        failed=failed,
    )
