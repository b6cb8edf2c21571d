"""What a new configuration changes, in a few words: for the log line of a reload, and for whoever follows its events.

Names, and no values: those may be secrets, and `sidecar config` and `GET /config` show them as they may be shown.
"""

from collections.abc import Iterator, Mapping
from typing import Any

from sidecar.config.model import Config
from sidecar.config.shape import plain
from sidecar.config.words import key_path

__all__ = ["MOST", "changes"]

MOST = 20

_NAMED = frozenset(
    {"upstreams", "breakers", "bulkheads"}
)  # mappings whose keys are names that somebody chose


def changes(before: Config, after: Config) -> list[str]:
    """Give the keys in force whose values differ: `routes.NAME`, `breakers.NAME` and so on, or a top-level key.

    In the order of the keys, then of the old and the new names; `routes` alone: their order. What `defaults` or a profile
    changes is told of the routes that it holds for as well. At most `MOST`, then one more with how many are left out.
    """
    found = list(_differing(plain(before), plain(after)))
    left_out = len(found) - MOST
    return found if left_out <= 0 else [*found[:MOST], f"and {left_out} more"]


def _differing(old: Mapping[str, Any], new: Mapping[str, Any]) -> Iterator[str]:
    for key in dict.fromkeys([*old, *new]):
        mine, theirs = old.get(key), new.get(key)
        if mine == theirs:
            continue
        if key == "routes":
            mine, theirs = _by_name(mine), _by_name(theirs)
            yield from _names(key, mine, theirs)
            kept = mine.keys() & theirs.keys()
            if [name for name in mine if name in kept] != [name for name in theirs if name in kept]:
                yield key
        elif key in _NAMED:
            yield from _names(key, mine or {}, theirs or {})
        else:
            yield key


def _by_name(routes: Any) -> dict[str, Any]:
    return {route["name"]: route for route in routes or ()}


def _names(key: str, old: Mapping[str, Any], new: Mapping[str, Any]) -> Iterator[str]:
    for name in dict.fromkeys([*old, *new]):
        if old.get(name) != new.get(name):
            yield key_path((key, name))
