"""How the commands speak: colour only where a person looks, and a full disk is an error, not a traceback."""

import errno
from collections.abc import Iterable

import click

__all__ = ["note", "out", "problems", "warnings"]


def out(text: str, *, color: str | None = None) -> None:
    """Print what was asked for, to stdout."""
    _echo(text, color=color, err=False)


def note(text: str) -> None:
    """Print a line for the person at the terminal, to stderr."""
    _echo(text, color=None, err=True)


def problems(lines: Iterable[str]) -> None:
    """Print errors, one a line, to stderr."""
    for line in lines:
        _echo(line, color="red", err=True)


def warnings(lines: Iterable[object]) -> None:
    """Print warnings, one a line, to stderr."""
    for line in lines:
        _echo(str(line), color="yellow", err=True)


def _echo(text: str, *, color: str | None, err: bool) -> None:
    try:
        click.echo(click.style(text, fg=color) if color else text, err=err)
    except OSError as exc:
        if exc.errno == errno.EPIPE:  # `sidecar config FILE | head -1`: click ends the program quietly
            raise
        raise click.ClickException(f"cannot write the output: {exc.strerror}") from exc
