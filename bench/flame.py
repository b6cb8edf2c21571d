"""Where the sidecar's CPU time goes: py-spy samples its stack while a row's load is on.

The sampler runs off the proxy's core and does not stop the process at each sample, so the load stays as it
is. Time in C code (the event loop, the parser, system calls) counts for the Python function that called it.
"""

import re
import shutil
import subprocess
import sys
from collections import Counter
from pathlib import Path

from bench import table, wrk
from bench.cores import pinned
from bench.field import Field
from bench.process import NotStarted
from bench.rows import Row

__all__ = ["as_table", "find", "record", "shares"]

RATE = 400  # samples a second
WARM = 1.0  # seconds of load before the first sample
SHOWN = 25  # functions in the table
LINE = re.compile(r":\d+\)$")


def find() -> str:
    """Return py-spy's path. Raises NotStarted where it is not installed."""
    beside = shutil.which("py-spy", path=str(Path(sys.executable).parent))
    found = beside or shutil.which("py-spy")
    if found is None:
        raise NotStarted("py-spy is not installed (pip install -e '.[bench]')")
    return found


def record(ground: Field, row: Row, seconds: float, out: Path) -> str:
    """Sample the sidecar under a row's load, and write the folded stacks to `out`.

    That is one line for each stack, with its count; any flame graph viewer reads it. Returns the same text.
    """
    sampler = find()
    with ground.start("sidecar", setup=row.setup) as proxy:
        wrk.run(row, proxy.port, WARM, ground.cores)
        command = [sampler, "record", "--nonblocking", "--rate", str(RATE), "--duration", str(round(seconds))]
        command += ["--format", "raw", "--output", str(out), "--pid", str(proxy.pid)]
        with pinned(ground.cores.rest):
            process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
        try:
            wrk.run(row, proxy.port, seconds + 1, ground.cores)
            _, said = process.communicate(timeout=30)
        finally:
            process.kill()
            process.wait()
    if process.returncode != 0:
        raise NotStarted(f"py-spy: {said.strip()}")
    return out.read_text()


def shares(folded: str) -> tuple[Counter[str], Counter[str]]:
    """Count samples by function: those in which it ran itself, and those in which it was on the stack."""
    own: Counter[str] = Counter()
    total: Counter[str] = Counter()
    for line in folded.splitlines():
        stack, _, count = line.rpartition(" ")
        frames = [LINE.sub(")", frame) or "(no Python frame)" for frame in stack.split(";")]
        own[frames[-1]] += int(count)
        total.update(dict.fromkeys(frames, int(count)))
    return own, total


def as_table(folded: str) -> str:
    """Show the functions that ran most, with the share of all samples in percent."""
    own, total = shares(folded)
    whole = own.total() or 1
    lines = [
        ["profile", function, f"{100 * count / whole:.1f}", f"{100 * total[function] / whole:.1f}"]
        for function, count in own.most_common(SHOWN)
    ]
    return table.render(["check", "function", "own %", "with callees %"], lines)
