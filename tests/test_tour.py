"""The README's five minutes, run again: each command gives what the README says it gives.

The programs are real, their ports are free ones, and what differs each time (ids, dates, versions) is made the same
on both sides before it is compared.
"""

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import astuple, dataclass
from pathlib import Path
from socket import gethostname
from time import monotonic
from typing import IO

import pytest
from prometheus_client.parser import text_string_to_metric_families

from sidecar.cli.probe import Target, ask
from sidecar.native import COMPILED

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()
OPERATIONS = (ROOT / "docs/operations.md").read_text()
TOUR = README.partition("\n## Five minutes\n")[2].partition("\n## ")[0]
WITHIN = 20.0  # seconds that anything may take on a busy machine

# What asks a default port, which is not the test's to take, is told another one.
ASKING = {
    "sidecar healthcheck": "sidecar healthcheck --url http://127.0.0.1:9900/health/ready",
    "sidecar top": "sidecar top --admin http://127.0.0.1:9901",
    "sidecar explain --request-id": "sidecar explain --admin http://127.0.0.1:9901 --request-id",
}

pytestmark = pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed")


@dataclass(frozen=True)
class Ports:
    """Free ones, in the places of those that the README names."""

    traffic: int = 8080
    ops: int = 9900
    admin: int = 9901
    service: int = 9000

    @classmethod
    def free(cls) -> "Ports":
        with ExitStack() as held:
            found = [held.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in range(4)]
            return cls(*(each.getsockname()[1] for each in found))

    def put_into(self, text: str) -> str:
        for written, real in self._pairs():
            text = text.replace(f":{written}", f":{real}")
        return text

    def taken_from(self, text: str) -> str:
        """Put the README's in the places of these."""
        for written, real in self._pairs():
            text = text.replace(f":{real}", f":{written}")
        return text

    def _pairs(self) -> list[tuple[int, int]]:
        return list(zip(astuple(Ports()), astuple(self), strict=True))


def blocks(language: str, text: str = TOUR) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", text, re.DOTALL | re.MULTILINE)


def steps(text: str = TOUR) -> list[tuple[str, str]]:
    """Each command of the tour with its output."""
    found = []
    for block in blocks("console", text):
        for part in re.split(r"^\$ ", block, flags=re.MULTILINE)[1:]:
            command, _, output = part.partition("\n")
            found.append((command, output))
    return found


def plain(text: str) -> str:
    """What is the same each time."""
    text = text.replace("\r\n", "\n")
    text = re.sub(r"\b[0-9a-f]{16}-[0-9a-f]{6}\b", "ID", text)
    text = re.sub(r"^Date: .*$", "Date: NOW", text, flags=re.MULTILINE)
    text = re.sub(r"^Server: .*$", "Server: SERVICE", text, flags=re.MULTILINE)
    text = re.sub(r"\b[0-9a-f]{64}\b", "HASH", text)
    text = re.sub(r'"since": [\d.]+|\d{4}-\d\d-\d\d \d\d:\d\d:\d\d UTC', "NOW", text)
    text = re.sub(r"^It is [A-Z_]+ now.*$", "It is STATE now", text, flags=re.MULTILINE)
    text = re.sub(r"\b[\d.]+ m?s\b", "TIME", text)
    text = re.sub(r"^(Age|Retry-After|X-RateLimit-Reset): \d+$", r"\1: SECONDS", text, flags=re.MULTILINE)
    text, told = re.subn(r"(; ?t|ttl|\"retry_after\": |for another )(=?)-?\d+", r"\1\2SECONDS", text)
    if told:  # their digits are counted
        text = re.sub(r"^Content-Length: \d+$", "Content-Length: BYTES", text, flags=re.MULTILINE)
    return text.strip("\n")


def plain_picture(text: str) -> list[str]:
    """What is the same each time of what `sidecar top` shows: its lines, without their order and their numbers.

    A figure of the last minute is `-` until it has been measured, which happens every few seconds.
    """
    text = text.replace(f" on {gethostname()} ", " on laptop ")
    return sorted(
        " ".join(re.sub(r"[\d.]+(?:ms|s|%)?(?!\w)|(?<!\S)-(?!\S)", "N", each).split())
        for each in text.splitlines()
    )


def prefix_of_ids(text: str) -> str:
    """Give what all request ids of one run begin with."""
    found = re.search(r"\b([0-9a-f]{16})-[0-9a-f]{6}\b", text)
    assert found is not None
    return found[1]


def plain_line(text: str) -> str:
    """What is the same each time of a line that the log has for people."""
    text = re.sub(r"^[\d:.]+ ", "", text)
    text = re.sub(r"\d+ ms", "N ms", text)
    return re.sub(r"open_for=[\d.]+", "open_for=SECONDS", text)


def wait_until_it_is_up(ports: Ports) -> None:
    """Wait for a moment at which `/flapping` will be up for some seconds, and down ten seconds later."""
    pause = threading.Event()
    deadline = monotonic() + WITHIN
    while monotonic() < deadline:
        said = run("curl -s http://127.0.0.1:9000/flapping", ports, ROOT)
        up = re.fullmatch(r"up for another (\d+) s\n", said)
        if up is not None and int(up[1]) >= 4:
            return
        pause.wait(0.2)
    pytest.fail("the service does not come up")


def run(command: str, ports: Ports, folder: Path) -> str:
    """Run a line in a shell where `sidecar` is the program under test; give stdout and stderr together."""
    # What `top` has no room for it cuts off, and how much room there is depends on how long its figures are.
    wide = {"COLUMNS": "200"} if command.startswith("sidecar top") else {}
    for written, meant in ASKING.items():
        if command.startswith(written):
            command = meant + command.removeprefix(written)
    program = f'sidecar() {{ "{sys.executable}" -m sidecar "$@"; }}'
    quietly = 'curl() { command curl --no-progress-meter "$@"; }'  # as on a terminal, where -i shows none
    shell = f"{program}\n{quietly}\n{ports.put_into(command)}"
    done = subprocess.run(
        ["bash", "-c", shell],
        cwd=folder,
        env=environment() | wide,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=WITHIN,
        check=False,
    )
    return ports.taken_from(done.stdout)


def environment() -> dict[str, str]:
    kept = {key: value for key, value in os.environ.items() if not key.lower().endswith("_proxy")}
    return kept | {"PYTHONPATH": str(ROOT)}


@contextmanager
def started(args: list[str], folder: Path, ops_port: int) -> Iterator[subprocess.Popen[str]]:
    """Run the program until the block ends; it must then end with 0."""
    with subprocess.Popen(
        [sys.executable, "-m", "sidecar", *args],
        cwd=folder,
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            wait_until_ready(process, ops_port)
            yield process
            process.send_signal(signal.SIGINT)
            assert process.wait(WITHIN) == 0
        finally:
            process.kill()


def wait_until_ready(process: subprocess.Popen[str], ops_port: int) -> None:
    pause = threading.Event()
    deadline = monotonic() + WITHIN
    while monotonic() < deadline:
        assert process.poll() is None, process.communicate()
        try:
            if ask(Target("127.0.0.1", ops_port), timeout=1)[0] == 200:
                return
        except OSError:
            pass
        pause.wait(0.05)
    pytest.fail("the program did not become ready")


def line(stream: IO[str] | None) -> str:
    assert stream is not None
    return stream.readline().rstrip("\n")


def test_the_demo_answers_as_the_readme_says(tmp_path: Path) -> None:
    """Parts 1 and 2, in the README's order: the counts in the metrics are of just these requests."""
    ports = Ports.free()
    asked = steps(TOUR.partition("\n### 3.")[0])
    assert len(asked) == 21
    (logged,) = blocks("log")

    got: list[tuple[str, str]] = []
    with demo(ports) as process:
        for written, _ in asked:
            if written == "curl -s http://127.0.0.1:8080/flapping":
                wait_until_it_is_up(ports)
            command = written.replace(prefix_of_ids(TOUR), prefix_of_ids(got[0][1])) if got else written
            got.append((command, run(command, ports, ROOT)))
        _, metrics = ask_whole("/metrics", ports)
        statuses = {path: ask_whole(path, ports)[0] for path in health_paths()}
        process.send_signal(signal.SIGINT)
        log = {plain_line(each) for each in process.communicate(timeout=WITHIN)[0].splitlines()}

    assert list(map(made_plain, got)) == list(map(made_plain, asked))
    assert {plain_line(each) for each in logged.splitlines()} <= log
    assert set(statuses.values()) == {200}
    assert metrics_in(metrics) <= metrics_in_the_docs()


def made_plain(step: tuple[str, str]) -> tuple[str, str | list[str]]:
    command, output = step
    if command.startswith("sidecar top"):
        return plain(command), plain_picture(output)
    return plain(command), plain(output.replace(str(ROOT), "…"))


@contextmanager
def demo(ports: Ports) -> Iterator[subprocess.Popen[str]]:
    options = {
        "--port": ports.traffic,
        "--ops-port": ports.ops,
        "--admin-port": ports.admin,
        "--service-port": ports.service,
    }
    words = [str(word) for pair in options.items() for word in pair]
    with started(["demo", *words], ROOT, ports.ops) as process:
        yield process


def ask_whole(path: str, ports: Ports) -> tuple[int, str]:
    url = f"http://127.0.0.1:{ports.ops}{path}"
    done = subprocess.run(
        ["curl", "-s", "-w", "\n%{http_code}", url],
        capture_output=True,
        text=True,
        timeout=WITHIN,
        check=True,
    )
    body, _, status = done.stdout.rpartition("\n")
    return int(status), body


def health_paths() -> list[str]:
    section = OPERATIONS.partition("\n## Health\n")[2].partition("\n## ")[0]
    rows = re.findall(r"^\| (`/.*?) \|", section, re.MULTILINE)
    return [path for row in rows for path in re.findall(r"`(/[\w/]+)`", row)]


def metrics_in(text: str) -> set[tuple[str, str, frozenset[str]]]:
    """Name, type and labels of each metric of ours."""
    found = set()
    for family in text_string_to_metric_families(text):
        labels = {label for sample in family.samples for label in sample.labels if label != "le"}
        name = family.name + ("_total" if family.type == "counter" else "")
        if name.startswith("sidecar_"):
            found.add((name, family.type, frozenset(labels)))
    return found


def metrics_in_the_docs() -> set[tuple[str, str, frozenset[str]]]:
    section = OPERATIONS.partition("\n## Metrics\n")[2].partition("\n## ")[0]
    rows = re.findall(r"^\| `(sidecar_\w+)` \| (\w+) \| (.*?) \|", section, re.MULTILINE)
    return {(name, kind, frozenset(re.findall(r"`(\w+)`", labels))) for name, kind, labels in rows}


def test_the_broken_file_and_the_mended_one_give_what_the_readme_says(tmp_path: Path) -> None:
    """Part 3. The broken file is the tour's `text` block, the mended one its `yaml` block."""
    (broken,) = blocks("text")
    (mended,) = blocks("yaml")
    (tmp_path / "broken.yaml").write_text(broken)
    (tmp_path / "sidecar.yaml").write_text(mended)
    asked = [step for step in steps() if step[0].startswith(("sidecar check", "sidecar config"))]
    assert len(asked) == 2

    assert [run(command, Ports(), tmp_path) for command, _ in asked] == [output for _, output in asked]
    assert "\n0\n" in "\n" + run("sidecar check sidecar.yaml; echo $?", Ports(), tmp_path)
    assert run("sidecar check broken.yaml > /dev/null 2>&1; echo $?", Ports(), tmp_path) == "1\n"
    schema = run("sidecar schema > sidecar.schema.json; cat sidecar.schema.json", Ports(), tmp_path)
    assert json.loads(schema)["required"] == ["version", "upstreams", "routes"]


def test_a_file_is_run_as_the_readme_says(tmp_path: Path) -> None:
    """Part 4: the line that says ready, but for the ports."""
    ports = Ports.free()
    (mended,) = blocks("yaml")
    listen = f"listen: {{traffic: 0.0.0.0:{ports.traffic}, ops: 0.0.0.0:{ports.ops}, admin: 127.0.0.1:{ports.admin}}}\n"
    (tmp_path / "sidecar.yaml").write_text(mended + listen)
    command, said = next(step for step in steps() if step[0].startswith("sidecar run --config"))

    with started(command.split()[1:], tmp_path, ports.ops) as process:
        ready = event(process.stdout, "sidecar.ready")

    changing = {"time": "", "compiled": COMPILED}
    assert ready | {"time": ""} == json.loads(ports.put_into(said)) | changing


def test_a_service_is_guarded_without_a_file_as_the_readme_says(tmp_path: Path) -> None:
    """Part 4: what goes to stderr, and the log line of a request that found nobody."""
    ports = Ports.free()
    command, said = next(step for step in steps() if step[0].startswith("sidecar run --upstream"))
    (logged,) = blocks("json")

    with started(ports.put_into(command).split()[1:], tmp_path, ports.ops) as process:
        first = line(process.stderr)
        run("curl -s http://127.0.0.1:8080/", ports, tmp_path)
        request = event(process.stdout, "request")

    assert first == said.strip()
    assert without_chance(request) == without_chance(json.loads(logged))


def event(stream: IO[str] | None, name: str) -> dict[str, object]:
    """The next line of the log that is about `name`; lines about the machine's limits may stand before it."""
    while True:
        found: dict[str, object] = json.loads(line(stream))
        if found["event"] == name:
            return found


def without_chance(record: dict[str, object]) -> dict[str, object]:
    text = re.sub(r'("(?:\w+_)?ms"): [\d.]+', r"\1: 0", json.dumps(record))
    kept: dict[str, object] = json.loads(text)
    return kept | {"time": "", "request_id": ""}
