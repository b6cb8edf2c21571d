"""Real processes for the end-to-end tests.

Every process is started with its own pipes, is waited for by what it says or answers (never by a guess at how
long it takes), and is ended by its own pid when its `with` block ends. A sidecar that wrote a traceback, or
logged an error, fails its test whatever the test looked at.
"""

import http.client
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from time import monotonic
from types import TracebackType
from typing import IO, Any, Self, TypeVar

import psutil
import pytest
from prometheus_client.parser import text_string_to_metric_families

ROOT = Path(__file__).parents[2]
WITHIN = 20.0  # seconds that anything may take on a busy machine before a test gives it up

# What `python -m sidecar` does, in an interpreter that cannot import uvloop.
_WITHOUT_UVLOOP = """
import sys
sys.modules["uvloop"] = None
from sidecar.cli import main
main(prog_name="sidecar")
"""

T = TypeVar("T")
_numbers = count(1)


def pause(seconds: float) -> None:
    """Wait for real."""
    threading.Event().wait(seconds)


def until(check: Callable[[], T], what: str, within: float = WITHIN) -> T:
    """Wait until `check` gives something true, and give that; fail the test if it does not."""
    deadline = monotonic() + within
    while not (value := check()):
        if monotonic() > deadline:
            pytest.fail(f"not within {within:g} s: {what}")
        pause(0.01)
    return value


def need(program: str) -> str:
    """Give the path of a program that the test uses, or skip the test."""
    found = shutil.which(program) or shutil.which(program, path="/usr/sbin:/sbin")
    if found is None:
        pytest.skip(f"{program} is not installed")
    return found


def free_port() -> int:
    """Give a port that nobody has at the moment."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port: int = taken.getsockname()[1]
    return port


def lines_of(stream: IO[str], kept: list[str]) -> threading.Thread:
    """Collect a stream's lines for as long as it lasts."""
    thread = threading.Thread(target=lambda: kept.extend(iter(stream.readline, "")), daemon=True)
    thread.start()
    return thread


class Child:
    """A process. `out` and `err` are the lines it has written so far."""

    def __init__(
        self,
        args: Sequence[str],
        *,
        cwd: Path = ROOT,
        env: Mapping[str, str] | None = None,
        read_out: bool = True,
    ) -> None:
        self.args = args
        self.process = subprocess.Popen(
            args,
            cwd=cwd,
            env={**os.environ, **(env or {})},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            errors="replace",
        )
        assert self.process.stdout is not None
        assert self.process.stderr is not None
        self.stdout = self.process.stdout
        self.out: list[str] = []
        self.err: list[str] = []
        self._readers = [lines_of(self.process.stderr, self.err)]
        if read_out:
            self._readers.append(lines_of(self.stdout, self.out))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.collect()

    @property
    def pid(self) -> int:
        return self.process.pid

    @property
    def said(self) -> str:
        """Everything it has written, for messages."""
        return "".join([*self.out, *self.err])

    def send(self, number: signal.Signals) -> None:
        os.kill(self.process.pid, number)

    def exit_status(self, within: float = WITHIN) -> int:
        """Wait for its end; give its exit status, negative for a signal's number."""
        try:
            status = self.process.wait(within)
        except subprocess.TimeoutExpired:
            pytest.fail(f"{self.args} did not end within {within:g} s:\n{self.said}")
        self.collect()
        return status

    def collect(self) -> None:
        """Read what is left of its output."""
        self.process.wait(WITHIN)
        for reader in self._readers:
            reader.join(WITHIN)
        self.stdout.close()
        if self.process.stderr is not None:
            self.process.stderr.close()

    def first_json(self, key: str) -> dict[str, Any]:
        """Wait for the first line that is a JSON object with `key`, and give it."""

        def find() -> dict[str, Any] | None:
            ended = self.process.poll() is not None
            for line in tuple(self.out):
                found = _object(line)
                if key in found:
                    return found
            if ended:
                pytest.fail(f"{self.args} ended with {self.process.returncode}:\n{self.said}")
            return None

        found = until(find, f"a line with {key!r}\n{self.said}")
        assert found is not None
        return found


@dataclass(frozen=True)
class Answer:
    """One response as http.client read it. The names of `fields` are in small letters."""

    status: int
    fields: dict[str, str]
    body: bytes

    def json(self) -> Any:
        return json.loads(self.body)


def ask(
    address: str,
    path: str,
    *,
    method: str = "GET",
    body: bytes | None = None,
    headers: Mapping[str, str] | None = None,
    within: float = WITHIN,
) -> Answer:
    """Ask over a connection of its own."""
    connection = http.client.HTTPConnection(address, timeout=within)
    try:
        connection.request(method, path, body, {"Connection": "close", **(headers or {})})
        response = connection.getresponse()
        fields = {name.lower(): value for name, value in response.getheaders()}
        return Answer(response.status, fields, response.read())
    finally:
        connection.close()


def dial(address: str) -> socket.socket:
    """Open a raw connection."""
    host, _, port = address.rpartition(":")
    return socket.create_connection((host, int(port)), timeout=WITHIN)


def refuses_connections(address: str) -> bool:
    """Tell whether nobody listens there."""
    try:
        dial(address).close()
    except ConnectionRefusedError:
        return True
    return False


class Sidecar(Child):
    """A running sidecar."""

    traffic = ""
    ops = ""
    admin = ""
    expects = frozenset[str]()  # events at the level of errors that the test brings about itself

    @property
    def file(self) -> Path:
        """The configuration that it reads."""
        return Path(self.args[-1])

    @property
    def url(self) -> str:
        return f"http://{self.traffic}"

    def take_addresses(self, ready: Mapping[str, Any]) -> None:
        self.traffic = ready["traffic"][0]
        self.ops = ready["ops"][0]
        self.admin = ready["admin"][0] if "admin" in ready else ""

    def events(self, name: str) -> list[dict[str, Any]]:
        """Give the log lines of one event."""
        return [found for line in tuple(self.out) if (found := _object(line)).get("event") == name]

    def stop(self, number: signal.Signals = signal.SIGTERM) -> int:
        """Tell it to stop, as an operator would, and give its exit status."""
        if self.process.poll() is None:
            self.send(number)
        return self.exit_status()

    def check_output(self) -> None:
        """Fail if it wrote what only a fault writes."""
        errors = [
            line
            for line in self.out
            if (found := _object(line)).get("level") in ("error", "critical")
            and found["event"] not in self.expects
        ]
        assert errors == [], _object(errors[0]).get("exception", errors[0])
        assert "Traceback" not in self.said, self.said

    def metrics(self) -> dict[str, float]:
        """Scrape it: from sample as written, `name{label="value"}` with labels in order, to value."""
        text = ask(self.ops, "/metrics").body.decode()
        return {
            _sample(sample.name, sample.labels): sample.value
            for family in text_string_to_metric_families(text)
            for sample in family.samples
        }

    def busy(self, upstream: str = "app") -> float:
        return self.metrics()[f'sidecar_upstream_connections{{state="busy",upstream="{upstream}"}}']

    def clients(self) -> float:
        return self.metrics()["sidecar_client_connections"]

    def open_files(self) -> int:
        return int(psutil.Process(self.pid).num_fds())

    def rss(self) -> int:
        """Give the memory that it holds, in bytes."""
        return int(psutil.Process(self.pid).memory_info().rss)


def _sample(name: str, labels: Mapping[str, str]) -> str:
    if not labels:
        return name
    listed = ",".join(f'{key}="{labels[key]}"' for key in sorted(labels))
    return f"{name}{{{listed}}}"


def _object(line: str) -> dict[str, Any]:
    try:
        found = json.loads(line)
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


def config(
    url: str,
    *,
    traffic: str = "127.0.0.1:0",
    listen: str = "",
    upstream: str = "",
    route: str = "",
    more: str = "",
) -> str:
    """Write a configuration with one upstream, `app`, and one route, `all`; additions are in flow style."""
    return (
        "version: 1\n"
        f"listen: {{traffic: '{traffic}', ops: 127.0.0.1:0, admin: 127.0.0.1:0, {listen}}}\n"
        f"upstreams: {{app: {{url: '{url}', {upstream}}}}}\n"
        f"routes: [{{name: all, upstream: app, {route}}}]\n"
        f"{more}\n"
    )


def arguments(text: str, folder: Path, *, uvloop: bool = True) -> list[str]:
    """Write the configuration to a file; give the command that runs it."""
    file = folder / f"sidecar-{next(_numbers)}.yaml"
    file.write_text(text)
    program = ["-m", "sidecar"] if uvloop else ["-c", _WITHOUT_UVLOOP]
    return [sys.executable, *program, "run", "--config", str(file)]


@contextmanager
def sidecar(text: str, folder: Path, *, uvloop: bool = True) -> Iterator[Sidecar]:
    """Run a sidecar until the block ends; then it must end with 0, unless the block ended it already."""
    with Sidecar(arguments(text, folder, uvloop=uvloop)) as running:
        running.take_addresses(running.first_json("traffic"))
        assert ask(running.ops, "/health/ready").status == 200
        yield running
        if running.process.poll() is None:
            assert running.stop() == 0, running.said
    running.check_output()


@contextmanager
def application(*options: str) -> Iterator["App"]:
    """Run the upstream of `app.py` as a process of its own."""
    with App([sys.executable, "-m", "e2e.app", *options], cwd=ROOT / "tests") as app:
        app.port = app.first_json("port")["port"]
        yield app


class App(Child):
    """The upstream, and what it noted under a key that a test made up."""

    port = 0

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"

    @property
    def url(self) -> str:
        return f"http://{self.address}"

    def seen(self, key: str) -> dict[str, int]:
        """Give how many requests came, how many were cancelled, and how many bytes they sent or took."""
        noted: dict[str, int] = ask(self.address, f"/seen/{key}").json()
        return noted

    def wait_for(self, key: str, **expected: int) -> None:
        """Wait until all that is expected has been noted."""
        until(lambda: expected.items() <= self.seen(key).items(), f"{expected} in {key}")

    def open(self, key: str) -> None:
        """Let the requests that wait at a gate go on."""
        assert ask(self.address, f"/gate/{key}", method="POST").status == 200
