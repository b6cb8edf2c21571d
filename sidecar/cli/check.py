"""`sidecar check`: every mistake in the files named, at once, for a person or for a program.

The text form is the loader's own lines. The JSON form is one object: `{"ok": bool, "files": [{"file", "ok",
"errors": [finding], "warnings": [finding]}]}`, a finding being `{"line", "column", "key", "message", "id",
"text"}`: `text` is the whole line, `id` names a warning, and what does not apply is null.
"""

import json
import re
from dataclasses import dataclass, field
from pathlib import Path

import click

from sidecar.cli import say
from sidecar.cli.epilog import epilog
from sidecar.errors import ConfigError

__all__ = ["command"]

# What the loader promises after the file's name.
_FINDING = re.compile(
    r"""
    :(?P<line>\d+) :(?P<column>\d+) :[ ]
    (?P<key>(?: [^\s:"] | "(?: [^"\\] | \\. )*" )+) :[ ]
    (?: warning\[ (?P<id>[\w-]+) \]:[ ] )?
    (?P<message>.*)
    """,
    re.VERBOSE | re.DOTALL,
)


@dataclass(frozen=True, slots=True)
class Report:
    """What was found in one file."""

    file: str
    errors: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)

    def ok(self, *, strict: bool) -> bool:
        """Tell whether the file passes; under `strict` a warning fails it."""
        return not self.errors and not (strict and self.warnings)


@click.command(
    "check",
    epilog=epilog(
        "sidecar check sidecar.yaml",
        "sidecar check --strict config/*.yaml",
        "sidecar check --format json sidecar.yaml",
        failure="a file cannot be used, or has warnings under --strict",
    ),
)
@click.argument("files", nargs=-1, required=True, metavar="FILE...")
@click.option("--format", "form", type=click.Choice(["text", "json"]), default="text", show_default=True)
@click.option("--strict", is_flag=True, help="Let warnings fail the check too.")
@click.pass_context
def command(ctx: click.Context, files: tuple[str, ...], form: str, strict: bool) -> None:
    """Find the mistakes in configuration files.

    All of them at once, each with its place: FILE:LINE:COLUMN: KEY: MESSAGE. Nothing is started. The exit
    code is 0 when every file can be used.
    """
    reports = [_check(file) for file in files]
    if form == "json":
        _print_json(reports, strict=strict)
    else:
        _print_text(reports, strict=strict)
    ctx.exit(0 if all(report.ok(strict=strict) for report in reports) else 1)


def _check(file: str) -> Report:
    from sidecar.config.load import load_file

    try:
        loaded = load_file(Path(file))
    except ConfigError as exc:
        return Report(file, errors=list(exc.problems))
    return Report(file, warnings=[str(warning) for warning in loaded.warnings])


def _print_text(reports: list[Report], *, strict: bool) -> None:
    for report in reports:
        say.problems(report.errors)
        say.warnings(report.warnings)
        if report.ok(strict=strict):
            say.out(f"{report.file}: ok", color="green")


def _print_json(reports: list[Report], *, strict: bool) -> None:
    files = [
        {
            "file": report.file,
            "ok": report.ok(strict=strict),
            "errors": [_finding(report.file, line) for line in report.errors],
            "warnings": [_finding(report.file, line) for line in report.warnings],
        }
        for report in reports
    ]
    say.out(json.dumps({"ok": all(entry["ok"] for entry in files), "files": files}, indent=2))


def _finding(file: str, text: str) -> dict[str, str | int | None]:
    found = _FINDING.fullmatch(text.removeprefix(file))
    if found is None:
        return {"line": None, "column": None, "key": None, "message": text, "id": None, "text": text}
    return {
        "line": int(found["line"]),
        "column": int(found["column"]),
        "key": found["key"],
        "message": found["message"],
        "id": found["id"],
        "text": text,
    }
