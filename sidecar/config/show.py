"""The configuration in force as YAML, with the origin of each value behind it, as `sidecar config` prints it.

What is printed can be loaded again and means the same, but for what is a secret: the token of the admin interface,
Sentry's DSN and the header fields for a collector, wherever they come from; and any value that comes from a variable,
or stands under a header field, with a name like a password's, token's or key's. Those are `***`.
"""

from collections.abc import Iterator
from typing import Any

from sidecar.config.environ import escape, is_secret_name
from sidecar.config.load import Loaded
from sidecar.config.model import Config
from sidecar.config.observing_kinds import is_hidden
from sidecar.config.shape import plain
from sidecar.config.tree import Path
from sidecar.config.words import one_line
from sidecar.config.yamltext import quoted, scalar

__all__ = ["SECRET", "effective", "is_secret", "leaf", "origin"]

SECRET = "***"  # noqa: S105 -- what stands for one

_COMMENTS_AT = 56  # a longer line has its comment right behind it


def effective(loaded: Loaded) -> str:
    """Return the text, with a newline at its end."""
    lines = list(_mapping(plain(loaded.config), (), "", loaded))
    width = min(_COMMENTS_AT, max(len(text) for text, comment in lines if comment))
    head = [
        f"# in force: {one_line(loaded.source)}, profile {loaded.config.profile}",
        f"# hash: {loaded.digest}",
    ]
    body = [f"{text:<{width}}  # {comment}" if comment else text for text, comment in lines]
    return "\n".join([*head, *body, ""])


def _mapping(value: dict[str, Any], path: Path, indent: str, loaded: Loaded) -> Iterator[tuple[str, str]]:
    """Yield the lines of a mapping, each with its origin, or with "" where it has no value of its own."""
    for key, each in value.items():
        here = (*path, key)
        start = f"{indent}{scalar(key)}:"
        if each == {}:
            yield f"{start} {{}}", ""
        elif isinstance(each, dict):
            yield start, ""
            yield from _mapping(each, here, indent + "  ", loaded)
        elif isinstance(each, list) and each and isinstance(each[0], dict):
            yield start, ""
            yield from _mappings(each, here, indent + "  ", loaded)
        else:
            yield f"{start} {leaf(each, here, loaded)}", origin(each, here, loaded)


def _mappings(
    items: list[dict[str, Any]], path: Path, indent: str, loaded: Loaded
) -> Iterator[tuple[str, str]]:
    """Yield the lines of a list of mappings: a dash before the first line of each."""
    for index, item in enumerate(items):
        lines = list(_mapping(item, (*path, index), indent + "  ", loaded))
        first, comment = lines[0]
        yield f"{indent}- {first.lstrip()}", comment
        yield from lines[1:]


def leaf(value: object, path: Path, loaded: Loaded) -> str:
    """Return the scalar or list at `path` as it would be written, or what stands for a secret."""
    if isinstance(value, list):
        return "[" + ", ".join(leaf(item, (*path, index), loaded) for index, item in enumerate(value)) + "]"
    if is_secret(path, loaded):
        return quoted(SECRET)
    return scalar(escape(value) if isinstance(value, str) else value)


def is_secret(path: Path, loaded: Loaded) -> bool:
    """Tell if what stands at `path` is not to be shown."""
    source = loaded.origins.get(path)
    field = str(path[-1]) if {"headers", "header"} & set(path[-2:-1]) else ""
    return (source is not None and source.secret) or is_secret_name(field) or is_hidden(Config, path)


def origin(value: object, path: Path, loaded: Loaded) -> str:
    """Return the origin of the value at `path`, and for a list also those of its items that differ."""
    items = [(*path, index) for index in range(len(value))] if isinstance(value, list) else []
    origins = (str(loaded.origins[place]) for place in (path, *items) if place in loaded.origins)
    return ", ".join(dict.fromkeys(origins))
