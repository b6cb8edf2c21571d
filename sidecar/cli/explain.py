"""`sidecar explain`: what would become of a request, and why; or what became of one that has been."""

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from sidecar.cli import say
from sidecar.cli.admin_client import DEFAULT_URL, Admin, AdminFailed, admin_of, token_option
from sidecar.cli.epilog import epilog

if TYPE_CHECKING:
    from sidecar.cli.explain_view import Line

__all__ = ["command"]

Fields = Sequence[tuple[str, str]]
Told = tuple[Any, "list[Line]"]  # for programs, and for people


class _Field(click.ParamType[tuple[str, str]]):
    name = "field"

    def convert(
        self, value: str | tuple[str, str], param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[str, str]:
        if isinstance(value, tuple):
            return value
        name, colon, text = value.partition(":")
        if not colon or not name.strip():
            self.fail(f"{value!r} is no header field: write 'Name: value'", param, ctx)
        return name, text.strip()


@click.command(
    "explain",
    epilog=epilog(
        "sidecar explain GET /orders --config sidecar.yaml",
        "sidecar explain POST https://api.example.com/orders -H 'Cookie: id=1' --config sidecar.yaml",
        "sidecar explain GET /orders --admin http://127.0.0.1:9901",
        "sidecar explain --request-id 6f1c2a --admin http://127.0.0.1:9901",
        failure="the configuration is wrong, the sidecar does not answer, or it has no such record",
    ),
)
@click.argument("method", required=False)
@click.argument("url", required=False)
@click.option(
    "-H", "fields", type=_Field(), multiple=True, metavar="'NAME: VALUE'", help="A header field; may repeat."
)
@click.option(
    "--config",
    "file",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="By this file; nothing needs to run.",
)
@click.option(
    "--admin", "url_of_admin", metavar="URL", help=f"By the running sidecar there.  [{DEFAULT_URL}]"
)
@token_option
@click.option("--request-id", metavar="ID", help="Tell of a request that has been, by its X-Request-ID.")
@click.option("--format", "form", type=click.Choice(["text", "json"]), default="text", show_default=True)
@click.pass_context
def command(
    ctx: click.Context,
    *,
    method: str | None,
    url: str | None,
    fields: tuple[tuple[str, str], ...],
    file: Path | None,
    url_of_admin: str | None,
    token_file: Path | None,
    request_id: str | None,
    form: str,
) -> None:
    """Tell what would become of a request, and why.

    Which route takes METHOD URL, which do not and for what reason, the order of its stages, and every value in
    force with the line that it comes from. URL is absolute, or a path. Nothing is sent to any upstream.

    A running sidecar also tells what stands in the way at this moment; and, with --request-id, what happened to
    a request, and why.
    """
    if file is not None and (url_of_admin is not None or request_id is not None):
        raise click.UsageError(
            "--config goes with neither --admin nor --request-id: a file does not run.", ctx
        )
    if request_id is not None and method is not None:
        raise click.UsageError("--request-id tells of a request that has been, without METHOD and URL.", ctx)
    if request_id is None and url is None:
        raise click.UsageError("Name a METHOD and a URL, or a request with --request-id.", ctx)
    admin = admin_of(url_of_admin or DEFAULT_URL, token_file)
    try:
        if request_id is not None:
            told, lines = _past(admin, request_id)
        elif file is not None:
            told, lines = _by_file(file, str(method), str(url), fields)
        else:
            told, lines = _by_running(admin, str(method), str(url), fields)
    except AdminFailed as exc:
        say.problems([f"sidecar: {exc}"])
        ctx.exit(1)
    say.out(json.dumps(told, indent=2) if form == "json" else _painted(lines))


def _by_file(file: Path, method: str, url: str, fields: Fields) -> Told:
    """Build what would run, on a loop that never does, and ask it."""
    import asyncio

    from sidecar.cli.explain_view import explained
    from sidecar.config.load import load_file
    from sidecar.control.explain import explain_json
    from sidecar.errors import ConfigError, StartFailed
    from sidecar.runtime.engine import build

    loaded = load_file(file)
    loop = asyncio.new_event_loop()
    try:
        engine = build(loaded, loop, line=lambda _: None, on_fault=lambda _, __: None)
        told = explain_json(loaded, engine.router, engine.dispatcher.pipelines, method, url, fields)
        return told, explained(told)
    except StartFailed as exc:
        raise ConfigError([str(exc)]) from exc
    finally:
        loop.close()


def _by_running(admin: Admin, method: str, url: str, fields: Fields) -> Told:
    from sidecar.cli.explain_view import explained

    sent = [f"{name}: {value}" for name, value in fields]
    told = admin.get("/explain", method=method, url=url, header=sent)
    return told, explained(told, admin.get("/state"))


def _past(admin: Admin, request_id: str) -> Told:
    from sidecar.cli.explain_story import story

    records = admin.get("/requests", request_id=request_id)
    if not records:
        kept = "only the last are kept (`records`), and of good answers the last 128"
        raise AdminFailed(f"{admin} has no record of {request_id!r}: {kept}")
    state, config = admin.get("/state"), admin.get("/config")
    lines: list[Line] = []
    for record in records:
        lines += [*([()] if lines else []), *story(record, state, config)]
    return records, lines


def _painted(lines: "list[Line]") -> str:
    """Give the lines in colour for a terminal, and else as they are."""
    if not sys.stdout.isatty():
        return "\n".join("".join(text for text, _ in line).rstrip() for line in lines)
    from rich.console import Console
    from rich.text import Text

    console = Console(highlight=False, markup=False)
    with console.capture() as captured:
        for line in lines:
            console.print(Text.assemble(*line), soft_wrap=True)
    return captured.get().rstrip("\n")
