"""`sidecar run`: the proxy itself, until a signal ends it."""

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import click

from sidecar.cli import say
from sidecar.cli.epilog import epilog

if TYPE_CHECKING:
    from sidecar.config.load import Loaded

__all__ = ["command"]


@click.command(
    "run",
    epilog=epilog(
        "sidecar run sidecar.yaml",
        "sidecar run --config /etc/sidecar/sidecar.yaml",
        "sidecar run --upstream http://127.0.0.1:9000",
        "sidecar run --upstream unix:///run/app.sock --listen 127.0.0.1:8080 --ops 127.0.0.1:9900",
        "sidecar run --upstream http://127.0.0.1:9000 --admin off",
        failure="the configuration is wrong",
        starts=True,
    ),
)
@click.argument("named", type=click.Path(path_type=Path), metavar="[FILE]", required=False)
@click.option("--config", "file", type=click.Path(path_type=Path), metavar="FILE", help="The same as FILE.")
@click.option("--upstream", metavar="URL", help="Without a file: the service to stand in front of.")
@click.option("--listen", metavar="ADDR", help="With --upstream: where callers connect.  [0.0.0.0:8080]")
@click.option("--ops", metavar="ADDR", help="With --upstream: health and metrics.  [0.0.0.0:9900]")
@click.option(
    "--admin", metavar="ADDR", help="With --upstream: state, changes, live page; or off.  [127.0.0.1:9901]"
)
@click.pass_context
def command(
    ctx: click.Context,
    *,
    named: Path | None,
    file: Path | None,
    upstream: str | None,
    listen: str | None,
    ops: str | None,
    admin: str | None,
) -> None:
    """Run the sidecar.

    It takes its configuration from FILE, or stands in front of one URL with safe defaults. It is ready when
    GET /health/ready on the ops address answers 200. SIGTERM and Ctrl-C let the requests under way finish,
    for at most drain_timeout, and end it with 0; a second signal ends it at once.
    """
    if named is not None and file is not None:
        raise click.UsageError("Name one file: FILE and --config FILE are the same.", ctx)
    file = named if file is None else file
    if file is not None and upstream is not None:
        raise click.UsageError("A file and --upstream exclude each other.", ctx)
    if file is not None:
        if listen or ops or admin:
            raise click.UsageError(
                "--listen, --ops and --admin go with --upstream; a file has keys for them.", ctx
            )
        loaded = _from_file(file)
    elif upstream is not None:
        loaded = _from_options(upstream, listen, ops, admin)
    else:
        raise click.UsageError("Name a FILE, or a service with --upstream URL.", ctx)

    from sidecar import runtime

    ctx.exit(runtime.run(loaded, None if file is None else partial(_again, file)))


def _again(file: Path) -> "Loaded":
    from sidecar.config.load import load_file

    return load_file(file, regular=True)


def _from_file(file: Path) -> "Loaded":
    from sidecar.config.load import load_file

    loaded = load_file(file)
    say.warnings(loaded.warnings)
    return loaded


def _from_options(upstream: str, listen: str | None, ops: str | None, admin: str | None) -> "Loaded":
    from sidecar.config import show
    from sidecar.config.defaults import for_upstream

    loaded = for_upstream(upstream, listen, ops, admin)
    say.note("Running without a file. The configuration in effect:\n")
    say.note(show.effective(loaded))
    say.warnings(loaded.warnings)
    return loaded
