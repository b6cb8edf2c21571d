"""What `sidecar run --upstream URL` runs: one upstream, one route with a breaker and a bulkhead, and every default.

Complaints name the option that is wrong, `--upstream: message`, for there is no file with lines.
"""

import re
from dataclasses import replace
from types import MappingProxyType

from sidecar.config.environ import escape
from sidecar.config.load import Loaded, load_text
from sidecar.config.yamltext import quoted
from sidecar.errors import ConfigError

__all__ = ["COMMAND_LINE", "for_upstream"]

COMMAND_LINE = "<command line>"

_PLACE = re.compile(rf"{COMMAND_LINE}:(\d+):\d+: \S+: ")


def for_upstream(
    url: str, listen: str | None = None, ops: str | None = None, admin: str | None = None
) -> Loaded:
    """Return the configuration for one upstream at `url`.

    `listen`, `ops` and `admin` are addresses, None for the default; `admin` may be `off`. Nothing is taken from the
    environment. Raises ConfigError where one of the four is not what it should be.
    """
    lines = ["version: 1", "listen:"]
    options: dict[int, str] = {}  # by the number of the line that holds its value
    for option, key, address in (
        ("--listen", "traffic", listen),
        ("--ops", "ops", ops),
        ("--admin", "admin", admin),
    ):
        if address is not None:
            lines.append(f"  {key}: {quoted(escape(address))}")
            options[len(lines)] = option
    if not options:
        lines.remove("listen:")
    lines += ["upstreams:", "  upstream:", f"    url: {quoted(escape(url))}"]
    options[len(lines)] = "--upstream"
    lines += [
        "routes:",
        "  - name: everything",
        "    upstream: upstream",
        "    breaker: {}",
        "    bulkhead: {}",
    ]
    try:
        loaded = load_text("\n".join(lines), name=COMMAND_LINE, env={})
    except ConfigError as error:
        raise ConfigError([_by_option(each, options) for each in error.problems]) from error
    warnings = tuple(
        replace(each, where=COMMAND_LINE, path=options[int(each.where.split(":")[1])])
        for each in loaded.warnings
    )
    origins = {
        path: replace(each, kind="option", name=options.get(each.mark.line, "--upstream"))
        if each.kind == "file"
        else each
        for path, each in loaded.origins.items()
    }
    return replace(loaded, warnings=warnings, origins=MappingProxyType(origins))


def _by_option(problem: str, options: dict[int, str]) -> str:
    """Return the complaint with the option in place of line, column and key."""
    return _PLACE.sub(lambda match: f"{options[int(match[1])]}: ", problem, count=1)
