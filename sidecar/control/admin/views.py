"""Looking at what is in force: the whole state and its parts, and the configuration.

The configuration is shown as `sidecar config` shows it: with the origin of each value, and without secrets. Writing out
one of hundreds of routes takes tens of milliseconds, so that is done in a thread, once for each configuration.
"""

import asyncio
import json
from collections.abc import Callable
from typing import Any

from aiohttp import web

from sidecar.config import show
from sidecar.config.load import Loaded
from sidecar.config.shape import plain
from sidecar.config.tree import Path
from sidecar.config.words import key_path
from sidecar.control.admin import slices
from sidecar.control.admin.endpoint import Call, Control
from sidecar.telemetry.snapshot import (
    budgets_json,
    bulkheads_json,
    cache_json,
    rate_limits_json,
    routes_json,
    upstreams_json,
)

__all__ = [
    "YAML",
    "Configuration",
    "budgets",
    "bulkheads",
    "cache",
    "rate_limits",
    "routes",
    "state",
    "upstreams",
]

YAML = ("text/yaml", "application/yaml", "application/x-yaml")
"""Media types by which YAML is asked for; RFC 9512 registered the second one."""


async def state(control: Control, _: Call) -> Any:
    """Give everything that the live page shows."""
    return await slices.state(control.live, control.rates)


async def routes(control: Control, _: Call) -> Any:
    """Give the routes in file order."""
    return routes_json(control.live, control.rates)


async def upstreams(control: Control, _: Call) -> Any:
    """Give the upstreams."""
    return upstreams_json(control.live, control.rates)


async def bulkheads(control: Control, _: Call) -> Any:
    """Give the bulkheads."""
    return bulkheads_json(control.live)


async def rate_limits(control: Control, _: Call) -> Any:
    """Give the rate limits."""
    return rate_limits_json(control.live)


async def cache(control: Control, _: Call) -> Any:
    """Give the cache; null: there is none."""
    return cache_json(control.live)


async def budgets(control: Control, _: Call) -> Any:
    """Give the retry budgets."""
    return budgets_json(control.live)


class Configuration:
    """`GET /config`. What was written out last is kept for as long as its configuration is in force."""

    def __init__(self) -> None:
        self._of: Loaded | None = None
        self._kept: dict[_Write, bytes] = {}
        self._writing = asyncio.Lock()

    async def __call__(self, control: Control, call: Call) -> Any:
        """Give what is in force, as JSON, or as YAML to whoever accepts that."""
        live = control.live
        accepted = call.request.headers.get("Accept", "").lower()
        media = next((each for each in YAML if each in accepted), None)
        body = await self._written(live.loaded, live.loaded_at, _as_json if media is None else _as_yaml)
        charset = None if media is None else "utf-8"  # JSON has none (RFC 8259 §11)
        return web.Response(body=body, content_type=media or "application/json", charset=charset)

    async def _written(self, loaded: Loaded, at: float, write: "_Write") -> bytes:
        async with self._writing:
            if self._of is not loaded:
                self._of = loaded
                self._kept = {}
            if write not in self._kept:
                self._kept[write] = await asyncio.to_thread(write, loaded, at)
            return self._kept[write]


_Write = Callable[[Loaded, float], bytes]


def _as_yaml(loaded: Loaded, _: float) -> bytes:
    return show.effective(loaded).encode()


def _as_json(loaded: Loaded, loaded_at: float) -> bytes:
    shown = {
        "source": loaded.source,
        "profile": loaded.config.profile,
        "hash": loaded.digest,
        "loaded_at": round(loaded_at, 3),
        "config": _without_secrets(plain(loaded.config), (), loaded),
        "origins": {key_path(path): str(origin) for path, origin in loaded.origins.items()},
    }
    return json.dumps(shown).encode() + b"\n"


def _without_secrets(value: Any, path: Path, loaded: Loaded) -> Any:
    if isinstance(value, dict):
        return {key: _without_secrets(each, (*path, key), loaded) for key, each in value.items()}
    if isinstance(value, list):
        return [_without_secrets(each, (*path, index), loaded) for index, each in enumerate(value)]
    return show.SECRET if show.is_secret(path, loaded) else value
