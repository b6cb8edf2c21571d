"""`sidecar top`: the state of a running sidecar in a terminal, renewed until somebody has seen enough.

The terminal gives keys one by one while it runs, and is as it was before whatever ends it: a key, a signal, or a fault.
A sidecar that does not answer is told of, over its last picture, and asked again.
"""

import os
import select
import signal
import sys
import termios
import time
import tty
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click

from sidecar.cli import say
from sidecar.cli.admin_client import DEFAULT_URL, Admin, AdminFailed, admin_of, token_option
from sidecar.cli.epilog import epilog

__all__ = ["command"]

_TIMEOUT = 2.0  # seconds for an answer: as long as a key may have to wait
_WIDE = 160  # columns where nobody says how many there are: into a file, a pipe
_QUIT = set(b"qQ\x04")
_ALONE = {b"\x1b"}  # it also begins what arrows and the like send


class _Interval(click.ParamType[float]):
    name = "interval"

    def convert(self, value: str | float, param: click.Parameter | None, ctx: click.Context | None) -> float:
        if isinstance(value, float):
            return value
        from sidecar.config.units import parse_duration

        try:
            seconds = parse_duration(value)
        except ValueError as exc:
            self.fail(str(exc), param, ctx)
        if not 0.1 <= seconds <= 3600:
            self.fail("must be from 100ms to 1h", param, ctx)
        return seconds


@click.command(
    "top",
    epilog=epilog(
        "sidecar top",
        "sidecar top --admin http://127.0.0.1:9901 --interval 500ms",
        "sidecar top --once",
        failure="with --once, not healthy; or the sidecar does not answer",
    ),
)
@click.option("--admin", "url", default=DEFAULT_URL, show_default=True, metavar="URL", help="Whom to ask.")
@token_option
@click.option("--once", is_flag=True, help="Print one picture, with every row, and end.")
@click.option(
    "--interval",
    type=_Interval(),
    default="1s",
    show_default=True,
    metavar="TIME",
    help="From one picture to the next.",
)
@click.pass_context
def command(ctx: click.Context, *, url: str, token_file: Path | None, once: bool, interval: float) -> None:
    """Watch a running sidecar in the terminal.

    Its breakers, routes, bulkheads, upstreams and the last requests that did not end well, the worst first. q or
    Ctrl-C ends it. With --once the exit code is 0 if the sidecar is healthy, and 1 if it is degraded, unhealthy or
    does not answer.
    """
    admin = admin_of(url, token_file, _TIMEOUT)
    if once:
        ctx.exit(_once(admin))
    if not (sys.stdin.isatty() and sys.stdout.isatty()):
        raise click.UsageError("Without a terminal there is --once alone.", ctx)
    ctx.exit(_watch(admin, interval))


def _once(admin: Admin) -> int:
    from rich.console import Console

    from sidecar.cli.top_view import picture

    try:
        state = admin.get("/state")
    except AdminFailed as exc:
        say.problems([f"sidecar: {exc}"])
        return 1
    terminal = sys.stdout.isatty()
    width = None if terminal or os.environ.get("COLUMNS") else _WIDE
    console = Console(width=width, highlight=False, markup=False)
    with console.capture() as captured:
        console.print(picture(state))
    say.out("\n".join(line.rstrip() for line in captured.get().rstrip("\n").split("\n")))
    return 0 if state["status"] == "healthy" else 1


def _watch(admin: Admin, interval: float) -> int:
    from rich.console import Console
    from rich.live import Live
    from rich.text import Text

    from sidecar.cli.top_view import picture

    console = Console(highlight=False, markup=False)
    state: Any = None
    with (
        _ended_by_signals(),
        _keys_one_by_one(),
        Live(console=console, screen=True, auto_refresh=False) as live,
    ):
        try:
            while True:
                note, began = "", time.monotonic()
                try:
                    state = admin.get("/state")
                except AdminFailed as exc:
                    note = f"{exc}; asking again"
                if state is None:
                    shown: Any = Text(note)
                else:
                    shown = picture(state, height=console.height, note=note)
                live.update(shown, refresh=True)
                if _told_to_end_within(began + interval - time.monotonic()):
                    return 0
        except KeyboardInterrupt:
            return 0


def _told_to_end_within(seconds: float) -> bool:
    """Wait so long for a key that ends it."""
    until = time.monotonic() + max(0.0, seconds)
    while True:
        ready, _, _ = select.select([sys.stdin], [], [], max(0.0, until - time.monotonic()))
        if not ready:
            return False
        try:
            keys = os.read(sys.stdin.fileno(), 64)
        except OSError:
            keys = b""
        if not keys or keys in _ALONE or _QUIT & set(keys):  # no keys at all: the terminal is gone
            return True


@contextmanager
def _keys_one_by_one() -> Iterator[None]:
    """Let the terminal give each key at once, and not show it. Ctrl-C stays the signal that it is."""
    terminal = sys.stdin.fileno()
    before = termios.tcgetattr(terminal)
    try:
        tty.setcbreak(terminal)
        yield
    finally:
        termios.tcsetattr(terminal, termios.TCSADRAIN, before)


@contextmanager
def _ended_by_signals() -> Iterator[None]:
    """Make SIGTERM and SIGHUP end the block as an exception does, so that the terminal is given back."""

    def end(number: int, _: object) -> None:
        raise SystemExit(128 + number)

    before: dict[int, Callable[..., Any] | int | None] = {
        number: signal.signal(number, end) for number in (signal.SIGTERM, signal.SIGHUP)
    }
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
