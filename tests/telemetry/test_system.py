"""What the process takes of its machine."""

import os
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from time import process_time
from types import SimpleNamespace
from typing import Any

import psutil
import pytest

from sidecar.telemetry.system import Disk, System, memory_limit

V2 = "sys/fs/cgroup"
V1 = "sys/fs/cgroup/memory"


class Clock:
    at = 0.0

    def __call__(self) -> float:
        return self.at


def a_machine(root: Path, groups: str, files: Mapping[str, str]) -> Path:
    """Lay out what the kernel shows of control groups."""
    for name, text in {"proc/self/cgroup": groups, **files}.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"{text}\n")
    return root


def burn(seconds: float) -> None:
    until = process_time() + seconds
    while process_time() < until:
        pass


# --- CPU and memory ---


def test_memory_is_that_of_this_process_on_this_machine() -> None:
    seen = System().usage()

    assert 0.5 < seen.memory / psutil.Process().memory_info().rss < 2
    assert seen.machine_memory == psutil.virtual_memory().total
    assert 0 < seen.machine_free <= seen.machine_memory
    assert seen.cores == os.cpu_count()


def test_cpu_is_the_average_since_the_reading_before() -> None:
    clock = Clock()
    system = System(clock)
    burn(0.05)
    clock.at = 1.0
    first = system.usage()
    clock.at = 3.0
    second = system.usage()

    assert (first.seconds, second.seconds) == (1.0, 2.0)
    assert first.cpu > 4.9  # 50 ms of one second
    assert second.cpu < first.cpu
    assert all(0 <= seen.machine_cpu <= 100 for seen in (first, second))


def test_several_readers_do_not_disturb_each_other() -> None:
    """What they are told within a second is one and the same reading."""
    clock = Clock()
    system = System(clock)
    clock.at = 5.0
    first = system.usage()
    clock.at = 5.9
    burn(0.01)

    assert system.usage() is first
    clock.at = 6.0
    assert system.usage() is not first


# --- the limit on memory ---


@pytest.mark.parametrize(
    ("groups", "files", "limit"),
    [
        pytest.param("0::/", {f"{V2}/memory.max": "1048576"}, 1048576, id="a container's own root"),
        pytest.param("0::/", {f"{V2}/memory.max": "max"}, None, id="no limit"),
        pytest.param(
            "0::/a/b",
            {f"{V2}/a/b/memory.max": "max", f"{V2}/a/memory.max": "4096", f"{V2}/memory.max": "8192"},
            4096,
            id="the smallest of those it lies in",
        ),
        pytest.param("0::/not/shown", {f"{V2}/memory.max": "4096"}, 4096, id="a path that is not shown"),
        pytest.param("0::/../..", {f"{V2}/memory.max": "4096"}, 4096, id="a path that leads outside"),
        pytest.param(
            "5:cpu:/a\n4:memory,x:/a\n0::/",
            {f"{V1}/a/memory.limit_in_bytes": "4096", f"{V1}/memory.limit_in_bytes": str((1 << 63) - 4096)},
            4096,
            id="version 1",
        ),
        pytest.param(
            "4:memory:/", {f"{V1}/memory.limit_in_bytes": "9223372036854771712"}, None, id="v1, none"
        ),
        pytest.param("0::/", {}, None, id="nothing there"),
        pytest.param("0::/", {f"{V2}/memory.max": "what?"}, None, id="nonsense"),
    ],
)
def test_the_limit_is_that_of_the_control_groups(
    tmp_path: Path, groups: str, files: Mapping[str, str], limit: int | None
) -> None:
    assert memory_limit(a_machine(tmp_path, groups, files)) == limit


def test_where_there_are_no_control_groups_there_is_no_limit(tmp_path: Path) -> None:
    assert memory_limit(tmp_path) is None


# --- disks ---


class Disks:
    """A file system that answers when it is let."""

    def __init__(self) -> None:
        self.let = threading.Event()
        self.asked: list[object] = []

    def __call__(self, place: object) -> Any:
        self.asked.append(place)
        assert self.let.wait(10)
        return SimpleNamespace(f_frsize=4, f_blocks=100, f_bavail=25)


def settled(system: System) -> None:
    """Wait until nobody asks any more."""
    for thread in threading.enumerate():
        if thread.name == "disks":
            thread.join(10)


@pytest.fixture
def disks(monkeypatch: pytest.MonkeyPatch) -> Disks:
    made = Disks()
    monkeypatch.setattr(os, "statvfs", made)
    return made


def test_a_disk_that_does_not_answer_makes_nobody_wait_and_is_asked_once(disks: Disks) -> None:
    clock = Clock()
    system = System(clock)
    seen = [system.disks()]
    clock.at = 1000.0
    seen.append(system.disks())
    asked = len(disks.asked)
    disks.let.set()
    settled(system)

    assert (seen, asked) == ([{}, {}], 1)
    assert system.disks()["working"] == Disk(total=400, free=100)


def test_a_disk_is_asked_again_after_some_seconds(disks: Disks) -> None:
    disks.let.set()
    clock = Clock()
    system = System(clock)
    numbers = []
    for at in (0.0, 9.9, 10.0):
        clock.at = at
        system.disks()
        settled(system)
        numbers.append(disks.asked.count("."))

    assert numbers == [1, 1, 2]


def test_the_log_has_a_disk_where_it_is_a_file(
    disks: Disks, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    disks.let.set()
    real: Callable[[int], os.stat_result] = os.fstat
    with (tmp_path / "log").open("w") as file:
        found = []
        for descriptor in (file.fileno(), os.open(os.devnull, os.O_WRONLY)):
            monkeypatch.setattr(os, "fstat", lambda _, at=descriptor: real(at))
            system = System()
            system.disks()
            settled(system)
            found.append(sorted(system.disks()))

    assert found == [["log", "working"], ["working"]]


def test_a_disk_that_is_gone_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    def gone(_: object) -> Any:
        raise FileNotFoundError

    monkeypatch.setattr(os, "statvfs", gone)
    system = System()
    system.disks()
    settled(system)

    assert system.disks() == {}
