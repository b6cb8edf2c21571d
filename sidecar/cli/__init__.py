"""The command line. One file per command; nothing outside this package prints.

Rules of every command:
- What was asked for goes to stdout; complaints and notes go to stderr.
- A mistake of the user ends in a line that says what to do and an exit code that the help names, never in a
  traceback.
- Modules import only click and light parts of the standard library at the top. Whatever is heavy (pydantic,
  aiohttp, the event loop) is imported in the function that needs it, so that `sidecar --help` and
  `sidecar healthcheck` start fast.
"""

from sidecar.cli import check, demo, explain, healthcheck, run, schema, show_config, top
from sidecar.cli.group import sidecar as main

__all__ = ["main"]

for _module in (run, check, show_config, explain, top, schema, demo, healthcheck):
    main.add_command(_module.command)
