"""Start a program, wait until it answers, stop it: whatever happens in between.

Every program gets a session of its own, so that Ctrl-C reaches only the benchmark, which then stops each in
turn and leaves none behind. Should the benchmark itself be killed, `setpriv` (util-linux) makes the kernel
end them.
"""

import http.client
import random
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import psutil

from bench.cores import pinned

__all__ = ["ROOT", "NotStarted", "free_port", "get_status", "pause", "started", "wait_ready"]

ROOT = Path(__file__).resolve().parent.parent
STOP_GRACE = 5.0  # seconds between SIGTERM and SIGKILL


class NotStarted(Exception):
    """A program ended, or did not answer in time. The text ends with its last words."""


def pause(seconds: float) -> None:
    """Let time pass. The benchmark's own process runs no event loop while it measures others."""
    time.sleep(seconds)  # noqa: TID251 - see above: there is no loop to block


def free_port() -> int:
    """Find a port below the ephemeral range, where no outgoing connection of the load takes it meanwhile."""
    pick = random.Random()
    for _ in range(200):
        port = pick.randrange(20_000, 32_000)
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port
    raise NotStarted("no free port between 20000 and 32000")


def get_status(port: int, path: str, timeout: float = 1.0) -> int | None:
    """Ask 127.0.0.1 once; None where nothing that speaks HTTP answers."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=timeout)
    try:
        connection.request("GET", path, headers={"Connection": "close"})
        return connection.getresponse().status
    except (OSError, http.client.HTTPException):
        return None
    finally:
        connection.close()


def wait_ready(
    process: subprocess.Popen[bytes], port: int, path: str, *, log: Path, limit: float = 15.0
) -> None:
    """Wait for the first 200. Raises NotStarted when the program ends before it, or after `limit` seconds."""
    begin = time.monotonic()
    while (elapsed := time.monotonic() - begin) < limit:
        if process.poll() is not None:
            raise NotStarted(f"{log.stem} ended with status {process.returncode}: {_last_words(log)}")
        if get_status(port, path) == 200:
            return
        pause(0.002)
    raise NotStarted(f"{log.stem} did not answer within {elapsed:.0f} s: {_last_words(log)}")


@contextmanager
def started(command: Sequence[str], cores: frozenset[int], *, log: Path) -> Iterator[subprocess.Popen[bytes]]:
    """Run a program on these cores for as long as the block lasts. What it says goes to `log`."""
    with pinned(cores), log.open("wb") as out:
        process = subprocess.Popen(
            [*_end_with_us(), *command],
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=out,
            cwd=ROOT,
            start_new_session=True,
        )
    try:
        yield process
    finally:
        _stop(process)


def _end_with_us() -> list[str]:
    """Give the prefix that ties a program's life to ours. It replaces itself by the program: the id stays."""
    found = shutil.which("setpriv")
    return [found, "--pdeathsig", "TERM", "--"] if found else []


def _stop(process: subprocess.Popen[bytes]) -> None:
    """End the program and what it started: politely, then at once."""
    children = _children(process.pid)
    if process.poll() is None:
        process.send_signal(signal.SIGTERM)
    try:
        process.wait(STOP_GRACE)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    _, alive = psutil.wait_procs(children, timeout=1.0)
    for child in alive:
        child.kill()


def _children(pid: int) -> list[psutil.Process]:
    try:
        return list(psutil.Process(pid).children(recursive=True))
    except psutil.NoSuchProcess:
        return []


def _last_words(log: Path) -> str:
    """Return the last line of a log: of a traceback, too, the one that says what is wrong."""
    said = log.read_text(errors="replace").split("\n")
    return next((line.strip() for line in reversed(said) if line.strip()), "it said nothing")
