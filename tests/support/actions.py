"""Changes to a program without a process around it: they do to a `Live` what the runtime would, and are remembered.

    actions = RecordingActions(live)
    actions.maintain("orders", 30.0)
    assert actions.done == [("maintain", "orders", 30.0)]

`reloads` are the answers that `reload` gives, one after the other; without one it changes nothing, and says so.
"""

import asyncio
from typing import Any

from sidecar.control.actions import LogLevel, Reloaded
from sidecar.policy.cache import prefix_of
from sidecar.telemetry.live import Live, Maintained

__all__ = ["RecordingActions"]


class RecordingActions:
    """Keeps the promises of `sidecar.control.actions.Actions`. `gate` holds reloads back while it is not set."""

    def __init__(self, live: Live) -> None:
        self._live = live
        self._level: LogLevel = "info"
        self.done: list[tuple[Any, ...]] = []
        self.reloads: list[Reloaded] = []
        self.gate = asyncio.Event()
        self.gate.set()

    async def reload(self) -> Reloaded:
        """Give the next answer, when the gate is open."""
        self.done.append(("reload",))
        await self.gate.wait()
        self.done.append(("reloaded",))
        return self.reloads.pop(0) if self.reloads else Reloaded(ok=True)

    def maintain(self, route: str | None, retry_after: float) -> None:
        """Put a route, or all, under maintenance."""
        self.done.append(("maintain", route, retry_after))
        for name in self._names(route):
            self._live.maintenance[name] = Maintained(self._live.wall(), retry_after)

    def end_maintenance(self, route: str | None) -> None:
        """End it."""
        self.done.append(("end_maintenance", route))
        for name in self._names(route):
            self._live.maintenance.pop(name, None)

    def set_log_level(self, level: LogLevel) -> None:
        """Remember the level."""
        self.done.append(("set_log_level", level))
        self._level = level

    def log_level(self) -> LogLevel:
        """Tell it."""
        return self._level

    def clear_cache(self, route: str | None) -> int:
        """Drop what the store has."""
        self.done.append(("clear_cache", route))
        store = self._live.guards.store
        return (
            0 if store is None else store.forget(b"" if route is None else prefix_of(route), self._live.now())
        )

    def _names(self, route: str | None) -> list[str]:
        return [pipeline.route for pipeline in self._live.pipelines if route in {None, pipeline.route}]
