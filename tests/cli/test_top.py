"""`sidecar top`, as a person has it in the terminal."""

import fcntl
import os
import pty
import select
import signal
import struct
import subprocess
import sys
import termios
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from time import monotonic

import pytest
from click.testing import CliRunner, Result

from sidecar.cli import main
from tests.support.admins import Served, admin

ROOT = Path(__file__).parents[2]
WITHIN = 30.0
SHOP = """\
version: 1
upstreams: {shop: {url: "http://127.0.0.1:9"}}
routes: [{name: orders, upstream: shop, breaker: {}}]
"""


def top(*args: str) -> Result:
    return CliRunner().invoke(main, ["top", *args], prog_name="sidecar")


@pytest.fixture
def served() -> Iterator[Served]:
    with admin(SHOP) as running:
        yield running


# --once


def test_once_prints_one_picture_and_is_0_while_healthy(served: Served) -> None:
    done = top("--once", "--admin", served.url)

    lines = done.stdout.splitlines()
    assert (done.exit_code, done.stderr) == (0, "")
    assert lines[1].startswith("sidecar ● healthy  up ")
    assert "orders  ● CLOSED 0%     0" in lines


def test_once_is_1_when_it_is_not_healthy(served: Served) -> None:
    breaker = served.live.guards.breakers["orders"]
    served.do(lambda: breaker.force_open(served.live.now(), None))

    done = top("--once", "--admin", served.url)

    assert done.exit_code == 1
    assert "orders  ■ OPEN forced 0%     0       until reset" in done.stdout.splitlines()


def test_once_is_1_and_one_line_when_nobody_answers(served: Served) -> None:
    served.run(served.stop())

    done = top("--once", "--admin", served.url)

    assert (done.exit_code, done.stdout) == (1, "")
    assert done.stderr == f"sidecar: {served.url}: Connection refused\n"


@pytest.mark.parametrize(
    "args",
    [["--interval", "1"], ["--interval", "0s"], ["--interval", "2h"], ["--admin", "nowhere"], ["now"], []],
    ids=" ".join,
)
def test_a_wrong_command_line_is_2(args: list[str]) -> None:
    done = top(*args)

    assert (done.exit_code, done.stdout) == (2, "")
    assert "Error: " in done.stderr


# In a terminal


class Terminal:
    """A terminal of 80 columns and 24 lines with the program in it. `seen` is all that was written to it."""

    def __init__(self, ours: int, theirs: int, child: "subprocess.Popen[bytes]") -> None:
        self.ours = ours
        self.theirs = theirs
        self.child = child
        self.before = termios.tcgetattr(theirs)
        self.seen = ""
        self.ends_open: tuple[int, ...] = (ours, theirs)

    def wait_for(self, text: str) -> None:
        """Read until this has come, after what came before."""
        start, until = len(self.seen), monotonic() + WITHIN
        while text not in self.seen[start:]:
            assert monotonic() < until, self.seen
            if select.select([self.ours], [], [], 0.1)[0]:
                self.seen += os.read(self.ours, 65536).decode(errors="replace")

    def type(self, keys: bytes) -> None:
        os.write(self.ours, keys)

    def hang_up(self) -> None:
        """Close both ends. Again is nothing."""
        ends, self.ends_open = self.ends_open, ()
        for end in ends:
            os.close(end)

    def ends(self) -> int:
        """Wait for its end, and check that the terminal is as it was before."""
        status = self.child.wait(WITHIN)
        while select.select([self.ours], [], [], 0.2)[0]:
            self.seen += os.read(self.ours, 65536).decode(errors="replace")
        assert termios.tcgetattr(self.theirs) == self.before
        assert self.seen.count("\x1b[?1049h") == self.seen.count("\x1b[?1049l") == 1
        assert self.seen.rindex("\x1b[?25h") > self.seen.rindex("\x1b[?25l")
        assert "Traceback" not in self.seen
        return status


@contextmanager
def watching(url: str) -> Iterator[Terminal]:
    """Run `sidecar top` in a terminal until its first picture is there."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
    env = {name: each for name, each in os.environ.items() if name not in ("LINES", "COLUMNS")}
    command = [sys.executable, "-m", "sidecar", "top", "--interval", "100ms", "--admin", url]
    with subprocess.Popen(
        command, cwd=ROOT, env=env | {"TERM": "xterm-256color"}, stdin=theirs, stdout=theirs, stderr=theirs
    ) as child:
        terminal = Terminal(ours, theirs, child)
        try:
            yield terminal
        finally:
            child.kill()
            terminal.hang_up()


@pytest.mark.parametrize("keys", [b"q", b"Q", b"\x1b", b"xq"])
def test_q_ends_it_and_the_terminal_is_as_before(served: Served, keys: bytes) -> None:
    with watching(served.url) as terminal:
        terminal.wait_for("ROUTE")
        terminal.type(b"\x1b[A")  # an arrow is no way out
        terminal.wait_for("ROUTE")
        terminal.type(keys)

        assert terminal.ends() == 0


@pytest.mark.parametrize(
    ("number", "status"), [(signal.SIGINT, 0), (signal.SIGTERM, 143), (signal.SIGHUP, 129)]
)
def test_a_signal_ends_it_and_the_terminal_is_as_before(
    served: Served, number: signal.Signals, status: int
) -> None:
    with watching(served.url) as terminal:
        terminal.wait_for("ROUTE")
        terminal.child.send_signal(number)

        assert terminal.ends() == status


def test_a_lost_connection_is_told_and_the_picture_goes_on(served: Served) -> None:
    with watching(served.url) as terminal:
        terminal.wait_for("● healthy")
        served.run(served.stop())
        terminal.wait_for("Connection refused; asking again")
        terminal.wait_for("● healthy")  # the last picture stays, below the word
        served.run(served.listen())
        served.do(lambda: served.live.guards.breakers["orders"].force_open(served.live.now(), None))
        terminal.wait_for("■ OPEN")
        terminal.type(b"q")

        assert terminal.ends() == 0


def test_it_may_be_started_before_the_sidecar(served: Served) -> None:
    served.run(served.stop())
    with watching(served.url) as terminal:
        terminal.wait_for("Connection refused; asking again")
        served.run(served.listen())
        terminal.wait_for("ROUTE")
        terminal.type(b"q")

        assert terminal.ends() == 0


def test_a_change_is_seen(served: Served) -> None:
    breaker = served.live.guards.breakers["orders"]
    with watching(served.url) as terminal:
        terminal.wait_for("● CLOSED")
        served.do(lambda: breaker.force_open(served.live.now(), None))
        terminal.wait_for("■ OPEN forced")
        terminal.type(b"q")

        assert terminal.ends() == 0


def test_a_terminal_that_goes_away_ends_it(served: Served) -> None:
    with watching(served.url) as terminal:
        terminal.wait_for("ROUTE")
        terminal.hang_up()

        assert terminal.child.wait(WITHIN) is not None
