"""The machine of a run: what a reader needs to judge absolute figures. Nothing that identifies it."""

import os
import platform
from dataclasses import asdict, dataclass
from importlib import metadata
from pathlib import Path

from bench.cores import layout

__all__ = ["Machine", "describe"]


@dataclass(frozen=True, slots=True)
class Machine:
    """`cores` are those this process may use; `load` is the one-minute average when the run began."""

    cpu: str
    virtual: bool
    cores: int
    proxy_core: tuple[int, ...]
    other_cores: tuple[int, ...]
    memory_mib: int
    kernel: str
    python: str
    uvloop: str
    httptools: str
    load: float

    def as_json(self) -> dict[str, object]:
        """Give the fields by name."""
        return asdict(self)

    def __str__(self) -> str:
        kind = "virtual machine" if self.virtual else "machine"
        size = f"{self.cores} cores, {self.memory_mib} MiB"
        return f"{self.cpu}, {size}, {kind}, Linux {self.kernel}, Python {self.python}"


def describe() -> Machine:
    """Look at this machine."""
    cpuinfo = _read("/proc/cpuinfo")
    where = layout()
    return Machine(
        cpu=_field(cpuinfo, "model name") or platform.machine(),
        virtual=" hypervisor" in _field(cpuinfo, "flags"),
        cores=len(os.sched_getaffinity(0)),
        proxy_core=tuple(sorted(where.proxy)),
        other_cores=tuple(sorted(where.rest)),
        memory_mib=int(_field(_read("/proc/meminfo"), "MemTotal").split()[0]) // 1024,
        kernel=platform.release(),
        python=platform.python_version(),
        uvloop=_installed("uvloop"),
        httptools=_installed("httptools"),
        load=round(os.getloadavg()[0], 2),
    )


def _read(path: str) -> str:
    return Path(path).read_text(errors="replace")


def _field(text: str, name: str) -> str:
    """Return the value of the first `name : value` line, empty where there is none (as on ARM)."""
    lines = (line.partition(":") for line in text.splitlines())
    return next((value.strip() for key, _, value in lines if key.strip() == name), "")


def _installed(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return "none"
