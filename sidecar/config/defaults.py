"""What `sidecar run --upstream URL` runs: one upstream, one route for everything, and every default."""

from sidecar.config.environ import escape
from sidecar.config.load import Loaded, load_text
from sidecar.config.yamltext import quoted

__all__ = ["COMMAND_LINE", "for_upstream"]

COMMAND_LINE = "<command line>"


def for_upstream(url: str, listen: str | None = None, ops: str | None = None) -> Loaded:
    """Return the configuration for one upstream at `url`.

    `listen` and `ops` are addresses, None for the default. Nothing is taken from the environment.
    Raises ConfigError where one of the three is not what it should be.
    """
    lines = ["version: 1"]
    listeners = {"traffic": listen, "ops": ops}
    given = [f"  {name}: {quoted(escape(text))}" for name, text in listeners.items() if text is not None]
    lines += ["listen:", *given] if given else []
    lines += [
        "upstreams:",
        "  upstream:",
        f"    url: {quoted(escape(url))}",
        "routes:",
        "  - name: everything",
        "    upstream: upstream",
    ]
    return load_text("\n".join(lines), name=COMMAND_LINE, env={})
