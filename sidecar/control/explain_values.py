"""The values in force for one route, each as it would be written and with the place that it comes from.

Values and origins are those that `sidecar config` prints (`config/show.py`), secrets hidden as there. Those of a breaker
or a bulkhead that has a name of its own, and those of the upstream, stand under their own keys.
"""

from collections.abc import Iterator
from typing import Any

from pydantic import BaseModel

from sidecar.config import show
from sidecar.config.load import Loaded
from sidecar.config.model import Config
from sidecar.config.shape import plain
from sidecar.config.tree import Path
from sidecar.config.words import key_path

__all__ = ["asked_for", "place", "values"]

_LONGEST = 200  # characters of a value: the body of a static answer may be a whole page
_NOT_VALUES = {"name", "match"}


def values(loaded: Loaded, index: int) -> list[dict[str, str]]:
    """Give the values of the route number `index`: `key`, `value` and `origin`, in the order of `sidecar config`."""
    found: list[dict[str, str]] = []
    for path, model in _sections(loaded.config, index):
        body = {key: each for key, each in plain(model).items() if key not in _NOT_VALUES}
        found += [_entry(value, where, loaded) for where, value in _leaves(body, path)]
    return found


def place(loaded: Loaded, *paths: Path) -> str:
    """Give `file:line` of the first of `paths` that is written somewhere, else where the last one comes from."""
    origins = [loaded.origins[path] for path in paths if path in loaded.origins]
    written = [origin for origin in origins if origin.written]
    if written:
        return f"{loaded.source}:{written[0].mark.line}"
    return str(origins[-1]) if origins else loaded.source


def asked_for(loaded: Loaded, path: Path, value: object) -> str:
    """Give a value as it would be written, if it may be shown."""
    return _short(show.leaf(value, path, loaded))


def _sections(config: Config, index: int) -> Iterator[tuple[Path, BaseModel]]:
    route = config.routes[index]
    yield ("routes", index), route
    if isinstance(route.breaker, str):
        yield ("breakers", route.breaker), config.breakers[route.breaker]
    if isinstance(route.bulkhead, str):
        yield ("bulkheads", route.bulkhead), config.bulkheads[route.bulkhead]
    yield ("upstreams", route.upstream), config.upstreams[route.upstream]


def _leaves(value: Any, path: Path) -> Iterator[tuple[Path, Any]]:
    """Yield what has a value of its own: scalars, and lists of them."""
    if isinstance(value, dict) and value:
        for key, each in value.items():
            yield from _leaves(each, (*path, key))
    elif isinstance(value, list) and value and isinstance(value[0], dict):
        for index, each in enumerate(value):
            yield from _leaves(each, (*path, index))
    elif not isinstance(value, dict):
        yield path, value


def _entry(value: object, path: Path, loaded: Loaded) -> dict[str, str]:
    return {
        "key": key_path(_by_name(path, loaded.config)),
        "value": asked_for(loaded, path, value),
        "origin": show.origin(value, path, loaded),
    }


def _by_name(path: Path, config: Config) -> Path:
    """Put the route's name in the place of its number, which changes with every route above it."""
    if path[0] != "routes":
        return path
    return ("routes", config.routes[int(path[1])].name, *path[2:])


def _short(text: str) -> str:
    return text if len(text) <= _LONGEST else text[: _LONGEST - 1] + "…"
