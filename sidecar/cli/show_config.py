"""`sidecar config`: the configuration in effect, defaults and profile included."""

from pathlib import Path

import click

from sidecar.cli import say
from sidecar.cli.epilog import epilog

__all__ = ["command"]


@click.command(
    "config",
    epilog=epilog(
        "sidecar config sidecar.yaml",
        "sidecar config sidecar.yaml | grep timeout",
        failure="the configuration is wrong",
    ),
)
@click.argument("file", type=click.Path(path_type=Path))
def command(file: Path) -> None:
    """Print the configuration in effect.

    That is FILE with its profile and all defaults; every value says where it comes from. Secrets are not
    shown.
    """
    from sidecar.config import show
    from sidecar.config.load import load_file

    loaded = load_file(file)
    say.warnings(loaded.warnings)
    say.out(show.effective(loaded).rstrip("\n"))
