"""The program `sidecar` itself: its exit codes, and what becomes of an error that a command let through."""

import os
from typing import Any

import click

from sidecar.cli import say
from sidecar.cli.epilog import epilog
from sidecar.errors import ConfigError, StartFailed
from sidecar.native import COMPILED
from sidecar.version import VERSION

__all__ = ["sidecar"]


class Program(click.Group):
    """The group of all commands. It turns the package's own errors into lines on stderr and an exit code."""

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command that was named.

        A reader that went away (EPIPE) is left to click, which ends quietly, with 1.
        """
        if os.environ.get("NO_COLOR"):  # https://no-color.org: any value but the empty one
            ctx.color = False
        try:
            return super().invoke(ctx)
        except ConfigError as exc:
            say.problems(exc.problems)
            ctx.exit(1)
        except StartFailed as exc:
            say.problems([f"sidecar: {exc}"])
            ctx.exit(3)
        except KeyboardInterrupt:
            ctx.exit(130)  # what a shell reports for a program that Ctrl-C ended


@click.group(
    cls=Program,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110},
    epilog=epilog(
        "sidecar demo                                  look at it, with a service that misbehaves",
        "sidecar run --upstream http://127.0.0.1:9000  in front of your service, with safe defaults",
        "sidecar check sidecar.yaml                    find the mistakes before they run",
        "sidecar run --config sidecar.yaml             the real thing",
        starts=True,
    ),
)
@click.version_option(VERSION, prog_name="sidecar", message=f"%(prog)s %(version)s{', compiled' * COMPILED}")
def sidecar() -> None:
    """Give one HTTP service its resilience from one YAML file."""
