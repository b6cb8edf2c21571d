"""What the process takes of its machine, and what is left of it: CPU, memory, disk.

Nobody who asks waits: what the kernel tells from memory (proc(5), cgroup files) is read at most once a second, and all
who ask within it get the same answer, so that they do not shorten each other's time of measuring. Disks may be far away
and never answer (NFS), so a thread of its own asks, one at a time, and what it found last is told.

CPU is the average since the reading before, at least a second ago; the first one is of the time since the start. The
process' own is in percent of one core, the machine's in percent of all of them.

The limit on memory is the smallest of the control groups that the process is in (cgroups(7), both versions); in a
container the kernel ends the process when it takes more. Where `/sys/fs/cgroup` shows the container's own group as its
root, the path that `/proc/self/cgroup` tells may not be there, and the root's limit is the one that counts.
"""

import os
import stat
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from time import monotonic, process_time

import psutil

__all__ = ["SYSTEM", "Disk", "System", "Usage", "memory_limit"]

_DISK_EVERY = 10.0  # seconds
_NO_LIMIT = 1 << 60  # cgroup v1 says a number of this size where there is no limit
_STDOUT = 1


@dataclass(frozen=True, slots=True)
class Usage:
    """One reading. CPU in percent, over the last `seconds`; memory in bytes. `limit` None: there is none.

    `memory` is what the process holds (its resident set), `machine_free` what new programs could have.
    """

    seconds: float
    cpu: float
    machine_cpu: float
    cores: int
    memory: int
    limit: int | None
    machine_memory: int
    machine_free: int


@dataclass(frozen=True, slots=True)
class Disk:
    """The file system that something lies on: bytes in all, and those that the process could still write."""

    total: int
    free: int


class System:
    """Reads, and remembers what it read for `keep` seconds. `clock` measures."""

    def __init__(self, clock: Callable[[], float] = monotonic, keep: float = 1.0) -> None:
        self._clock = clock
        self._keep = keep
        self._process: psutil.Process | None = None
        self._usage: Usage | None = None
        self._read_at = clock()
        self._used = process_time()
        self._machine = _machine_times()
        self._disks: dict[str, Disk] = {}
        self._disks_asked_at: float | None = None
        self._asking: threading.Thread | None = None

    def usage(self) -> Usage:
        """Give what is taken now, or was within the last `keep` seconds."""
        now = self._clock()
        if self._usage is None or now - self._read_at >= self._keep:
            self._usage = self._read(now)
        return self._usage

    def _read(self, now: float) -> Usage:
        seconds, self._read_at = max(now - self._read_at, 1e-6), now
        used, before = process_time(), self._used
        busy, total = _machine_times()
        busy_before, total_before = self._machine
        self._used, self._machine = used, (busy, total)
        if self._process is None:
            self._process = psutil.Process()
        memory = psutil.virtual_memory()
        passed = total - total_before
        return Usage(
            seconds=seconds,
            cpu=100 * (used - before) / seconds,
            machine_cpu=100 * (busy - busy_before) / passed if passed > 0 else 0.0,
            cores=os.cpu_count() or 1,
            memory=self._process.memory_info().rss,
            limit=memory_limit(),
            machine_memory=memory.total,
            machine_free=memory.available,
        )

    def disks(self) -> dict[str, Disk]:
        """Give what was found last, and have it asked again if that is some seconds old.

        `working` is what the working directory lies on; `log` what standard output is written to, if that is a file.
        Empty before there was an answer.
        """
        now = self._clock()
        due = self._disks_asked_at is None or now - self._disks_asked_at >= _DISK_EVERY
        if due and (self._asking is None or not self._asking.is_alive()):
            self._disks_asked_at = now
            # A daemon: a file system that never answers must not hold up the end of the program.
            self._asking = threading.Thread(target=self._ask, name="disks", daemon=True)
            self._asking.start()
        return self._disks

    def _ask(self) -> None:
        found: dict[str, Disk] = {}
        with suppress(OSError):
            found["working"] = _disk(".")
        with suppress(OSError):
            if stat.S_ISREG(os.fstat(_STDOUT).st_mode):
                found["log"] = _disk(_STDOUT)
        self._disks = found


def _machine_times() -> tuple[float, float]:
    """Give the seconds that all cores were busy, and all that have passed for them.

    A guest's time is in `user` and `nice` already; waiting for a disk is idleness (proc_stat(5)).
    """
    times = psutil.cpu_times()._asdict()
    total = sum(seconds for name, seconds in times.items() if name not in ("guest", "guest_nice"))
    return total - times.get("idle", 0.0) - times.get("iowait", 0.0), total


def _disk(place: str | int) -> Disk:
    seen = os.statvfs(place)
    return Disk(seen.f_blocks * seen.f_frsize, seen.f_bavail * seen.f_frsize)


def memory_limit(root: Path = Path("/")) -> int | None:
    """Give the bytes that the control groups of this process allow it, None where they do not say."""
    limits = [limit for file in _limit_files(root) if (limit := _number(file)) is not None]
    return min(limits, default=None)


def _limit_files(root: Path) -> Iterator[Path]:
    """Give the files in which a limit may stand: of the process' groups, and of those that these lie in."""
    groups = root / "sys/fs/cgroup"
    try:
        lines = (root / "proc/self/cgroup").read_text().splitlines()
    except OSError:
        return
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if controllers == "":
            base, file = groups, "memory.max"
        elif "memory" in controllers.split(","):
            base, file = groups / "memory", "memory.limit_in_bytes"
        else:
            continue
        group = base / path.lstrip("/")
        while group != base and base in group.parents:
            yield group / file
            group = group.parent
        yield base / file


def _number(file: Path) -> int | None:
    """Read a limit; `max` and numbers that no machine has are none."""
    try:
        said = file.read_text().strip()
    except OSError:
        return None
    return int(said) if said.isdigit() and int(said) < _NO_LIMIT else None


SYSTEM = System()
"""The process' own: whoever shows CPU and memory shares its readings."""
