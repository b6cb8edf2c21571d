"""`sidecar schema`: the JSON Schema of the configuration, for editors."""

import json

import click

from sidecar.cli import say
from sidecar.cli.epilog import epilog

__all__ = ["command"]


@click.command(
    "schema", epilog=epilog("sidecar schema > sidecar.schema.json", failure="the output cannot be written")
)
def command() -> None:
    """Print the JSON Schema of the file.

    An editor with a YAML language server completes keys and marks mistakes with it, once this is the first
    line of the file:

    \b
    # yaml-language-server: $schema=sidecar.schema.json
    """  # noqa: D301 -- click's mark is the character that `\b` stands for
    from sidecar.config.schema import json_schema

    say.out(json.dumps(json_schema(), indent=2))
