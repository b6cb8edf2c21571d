"""Which keys of the configuration in force an outcome hangs on, each as in the file, with its value and its origin. Pure.

The configuration is that of `GET /config`: `config`, and `origins` by key path. A key is named where its value stands: of
a breaker or bulkhead that has a name, that is under `breakers` or `bulkheads`, and the origin says in which line.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from sidecar.config.words import Path, key_path
from sidecar.config.yamltext import scalar
from sidecar.fate import Fate

__all__ = ["InForce", "keys"]

OFF = "off"

# Below the route.
_KEYS: Mapping[str, Sequence[Path]] = {
    Fate.REJECTED_RATE_LIMIT: [("rate_limit", "limit")],
    Fate.REJECTED_BULKHEAD_FULL: [("bulkhead", "max_concurrent"), ("bulkhead", "max_queue")],
    Fate.REJECTED_QUEUE_TIMEOUT: [("bulkhead", "queue_timeout"), ("bulkhead", "max_concurrent")],
    Fate.TIMEOUT_ATTEMPT: [("timeout", "attempt")],
    Fate.TIMEOUT_TOTAL: [("timeout", "total")],
    Fate.TIMEOUT_IDLE: [("timeout", "idle")],
}

# Why a breaker opened: the key that says so.
_TRIGGERS = {
    "consecutive_failures": "consecutive_failures",
    "failures_in_window": "failures_in_window",
    "failure_rate": "failure_rate",
    "slow_call_rate": "slow_call",
}


class InForce:
    """A configuration, asked by paths below one route. What is not in it (any more) is None."""

    def __init__(self, shown: Mapping[str, Any], route: str) -> None:
        self.loaded_at: float = shown["loaded_at"]
        self._config: Mapping[str, Any] = shown["config"]
        self._origins: Mapping[str, str] = shown["origins"]
        self._name = route
        names = [each["name"] for each in self._config["routes"]]
        self._index = names.index(route) if route in names else None

    def value(self, path: Path) -> Any:
        """Give the value at `path` of the route."""
        return None if self._index is None else _at(self._config, self._place(path))

    def told(self, path: Path) -> Iterator[str]:
        """Give `key: value (origin)` of what is at `path` of the route, of a mapping all that is in it."""
        value = self.value(path)
        if isinstance(value, Mapping):
            for key in value:
                yield from self.told((*path, key))
        elif value is not None:
            yield self._line(self._place(path), value)

    def _place(self, path: Path) -> Path:
        """Give the whole path: what the route has by name stands elsewhere."""
        here: Path = ("routes", self._index or 0, *path[:1])
        name = _at(self._config, here)
        if path[:1] in {("breaker",), ("bulkhead",)} and isinstance(name, str) and name != OFF:
            return (f"{path[0]}s", name, *path[1:])
        return (*here, *path[1:])

    def _line(self, path: Path, value: Any) -> str:
        named = ("routes", self._name, *path[2:]) if path[0] == "routes" else path
        origin = self._origins.get(key_path(path))
        text = ", ".join(map(scalar, value)) if isinstance(value, list) else scalar(value)
        return f"{key_path(named)}: {text}" + (f" ({origin})" if origin else "")


def keys(config: InForce, fate: str, trip: Mapping[str, Any] | None) -> list[str]:
    """Give the keys that `fate` hangs on, as `InForce.told` has them. `trip` is what opened the route's breaker."""
    paths = list(_KEYS.get(fate, ()))
    if fate == Fate.REJECTED_BREAKER_OPEN:
        paths = [*_triggers(config, None if trip is None else trip["cause"]), ("breaker", "open_for")]
    if config.value(("bulkhead", "adaptive", "max")) is not None:
        slots: Path = ("bulkhead", "max_concurrent")
        paths = [("bulkhead", "adaptive", "max") if path == slots else path for path in paths]
    return [line for path in paths for line in config.told(path)]


def _triggers(config: InForce, cause: str | None) -> list[Path]:
    """Give what opened the breaker; where nobody knows it, what may."""
    if cause in _TRIGGERS:
        return [("breaker", _TRIGGERS[cause])]
    every: list[Path] = [("breaker", key) for key in _TRIGGERS.values()]
    return [path for path in every if config.value(path) not in {None, OFF}]


def _at(value: Any, path: Path) -> Any:
    for step in path:
        if isinstance(value, Mapping):
            value = value.get(step)
        elif isinstance(value, list) and isinstance(step, int) and step < len(value):
            value = value[step]
        else:
            return None
    return value
