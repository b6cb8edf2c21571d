"""`sidecar demo`, as a person starts and ends it."""

import json
import os
import pty
import re
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from http.client import HTTPConnection
from pathlib import Path

import psutil
import pytest

ROOT = Path(__file__).parents[2]
DEMO = [sys.executable, "-m", "sidecar", "demo"]
OPTIONS = ("--port", "--ops-port", "--service-port", "--admin-port")
ENDS_WITHIN = 15  # seconds

pytestmark = pytest.mark.timeout(30)


@pytest.fixture
def ports() -> list[int]:
    """Ports that nobody has at the moment."""
    with ExitStack() as stack:
        holders = [stack.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in OPTIONS]
        return [holder.getsockname()[1] for holder in holders]


def command(ports: list[int]) -> list[str]:
    return [
        *DEMO,
        *(word for option, port in zip(OPTIONS, ports, strict=True) for word in (option, str(port))),
    ]


@contextmanager
def demo(ports: list[int]) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """Run it until its text is out. Gives the process and the text."""
    process = subprocess.Popen(
        command(ports),
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,  # what a terminal does with a job
    )
    with process:
        try:
            yield process, announced(process)
        finally:
            process.kill()


def announced(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    text = ""
    for line in process.stdout:
        text += line
        if "/drop" in line:
            return text
    raise AssertionError(
        f"it ended before it was ready: {text}{process.stderr.read() if process.stderr else ''}"
    )


def get(url: str) -> tuple[int, dict[str, str], bytes]:
    host, slash, path = url.removeprefix("http://").partition("/")
    connection = HTTPConnection(host, timeout=10)
    try:
        connection.request("GET", slash + path)
        response = connection.getresponse()
        fields = {name.lower(): value for name, value in response.getheaders()}
        return response.status, fields, response.read()
    except TimeoutError as exc:
        raise AssertionError(f"no answer from {url}") from exc
    finally:
        connection.close()


def test_what_it_prints_is_true(ports: list[int]) -> None:
    """The pages are there, and the curl lines show what the text says beside them."""
    with demo(ports) as (_, text):
        pages = [get(url)[0] for url in re.findall(r"^  (http://\S+) ", text, re.MULTILINE)]
        said = dict(re.findall(r"^  curl -i (?:http://[^/]+)/(\w+) +(.+)$", text, re.MULTILINE))
        sidecar = re.findall(r"^  curl -i (http://[^/]+)/", text, re.MULTILINE)[0]
        tried = {path: get(f"{sidecar}/{path}") for path in said}
        again = get(f"{sidecar}/orders")
        down = [get(f"{sidecar}/down") for _ in range(5)]

    assert pages == [200, 200, 200, 200, 200]
    assert list(said) == ["orders", "flaky", "slow", "flapping", "down", "drop"]

    ok, fine, orders = tried["orders"]
    assert (ok, fine["content-type"], len(json.loads(orders))) == (200, "application/json; charset=utf-8", 2)
    assert "x-request-id" in fine
    assert again[1]["cache-status"].startswith("sidecar; hit; ttl=")
    assert again[2] == orders

    assert (tried["flaky"][0], tried["flaky"][1]["x-upstream-attempts"]) == (200, "2")

    late, slow, slow_body = tried["slow"]
    assert (late, slow["content-type"], json.loads(slow_body)["code"]) == (
        504,
        "application/problem+json",
        "timeout_attempt",
    )
    assert 'details="timeout_attempt"' in slow["proxy-status"]

    flapping, fields, _ = tried["flapping"]  # up, or down without a copy to serve
    assert (flapping, "x-system-degraded" in fields) in {(200, False), (503, True)}

    assert [tried["down"][0], *(status for status, _, _ in down)] == [500, 500, 500, 500, 500, 503]
    assert 9 <= int(down[-1][1]["retry-after"]) <= 11
    assert json.loads(down[-1][2])["code"] == "rejected_breaker_open"

    gone, dropped, drop_body = tried["drop"]
    assert (gone, dropped["content-type"], json.loads(drop_body)["code"]) == (
        502,
        "application/problem+json",
        "upstream_disconnected",
    )


@pytest.mark.parametrize(
    "number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP], ids=lambda number: number.name
)
def test_a_signal_ends_it_cleanly_and_leaves_nothing_behind(ports: list[int], number: signal.Signals) -> None:
    with demo(ports) as (process, _):
        children = psutil.Process(process.pid).children(recursive=True)
        os.killpg(process.pid, number)
        _, errors = process.communicate(timeout=ENDS_WITHIN)

        assert (process.returncode, errors) == (0, "")
        assert len(children) == 1
        assert not any(child.is_running() for child in children)


def test_the_service_ends_even_when_the_demo_is_killed(ports: list[int]) -> None:
    with demo(ports) as (process, _):
        children = psutil.Process(process.pid).children(recursive=True)
        process.kill()
        process.wait()

        _, alive = psutil.wait_procs(children, timeout=ENDS_WITHIN)
        assert alive == []


@pytest.mark.skipif(shutil.which("setsid") is None, reason="needs setsid, of util-linux")
def test_it_ends_with_its_terminal(ports: list[int]) -> None:
    ours, theirs = pty.openpty()
    with subprocess.Popen(
        ["setsid", "--ctty", *command(ports)], cwd=ROOT, stdin=theirs, stdout=theirs, stderr=theirs
    ) as process:
        try:
            os.close(theirs)
            seen = b""
            while b"/drop" not in seen:
                seen += os.read(ours, 65536)
            everyone = [psutil.Process(process.pid), *psutil.Process(process.pid).children(recursive=True)]
            os.close(ours)  # the window is closed

            _, alive = psutil.wait_procs(everyone, timeout=ENDS_WITHIN)
            assert (len(everyone), alive) == (2, [])
        finally:
            process.kill()


@pytest.mark.parametrize("taken", range(len(OPTIONS)), ids=OPTIONS)
def test_a_taken_port_is_named_with_the_way_out(ports: list[int], taken: int) -> None:
    with socket.create_server(("127.0.0.1", ports[taken])):
        done = subprocess.run(
            command(ports), cwd=ROOT, capture_output=True, text=True, timeout=ENDS_WITHIN, check=False
        )

    assert done.returncode == 3
    assert "The demo is running" not in done.stdout
    assert f"127.0.0.1:{ports[taken]}" in done.stderr
    assert OPTIONS[taken] in done.stderr
    assert "Traceback" not in done.stderr
