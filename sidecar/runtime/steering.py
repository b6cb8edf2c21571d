"""What may be changed while the sidecar runs: maintenance, log level, copies, and the whole configuration.

Reloading. The file is read and checked in a thread, so that traffic goes on; then everything new is built, and in one
turn of the event loop it takes the place of the old. If anything on the way fails, nothing has changed: the old
configuration goes on, the lines that say why are in the log, and `config_last_reload_successful` is 0 until a reload
succeeds. Reloads wait for each other. What is made once, at the start, cannot be changed: where to listen (but the
certificates with which), the form of the log, and where traces and reports go. That is said, rather than ignored.

Maintenance outlives a reload: of a route as long as there is one of its name, of all routes for those that are new too.
"""

import asyncio
from collections.abc import Callable
from typing import Any, Literal, cast

from sidecar.config.changes import changes
from sidecar.config.load import Loaded
from sidecar.config.model import Listen
from sidecar.config.observing import TelemetryConfig
from sidecar.control.actions import LogLevel, Reloaded
from sidecar.errors import ConfigError, StartFailed
from sidecar.policy.cache import prefix_of
from sidecar.runtime.engine import Engine
from sidecar.telemetry.live import Live, Maintained
from sidecar.telemetry.logs import LogControl

__all__ = ["Asker", "Steering"]

Asker = Literal["admin", "SIGHUP", "watch"]
"""Who asks for a reload."""


class Steering:
    """Keeps the promises of `sidecar.control.actions.Actions`.

    `load` reads the configuration again, None: there is no file. `become` puts a configuration in force, or raises
    StartFailed and has changed nothing.
    """

    def __init__(
        self,
        live: Live,
        log: Any,
        level: LogControl,
        load: Callable[[], Loaded] | None,
        become: "Callable[[Loaded], Any]",
    ) -> None:
        self._live = live
        self._log = log
        self._level = level
        self._load = load
        self._become = become
        self._one = asyncio.Lock()
        self._everything: Maintained | None = None
        self._known: frozenset[str] = frozenset()  # the routes that there were before the last reload
        self.engine: Engine | None = None

    # --- the configuration ---

    async def reload(self, by: Asker = "admin") -> Reloaded:
        """Read the file again and put it in force, whole, or not at all. Who asks for it is told."""
        async with self._one:
            return await self._try(by)

    async def _try(self, by: Asker) -> Reloaded:
        if self._load is None:
            return self._refused(by, ("there is no file to read again: this runs with --upstream",))
        if (reason := self._not_now()) is not None:
            return self._refused(by, (reason,))
        before = self._live.loaded
        try:
            loaded, changed = await asyncio.get_running_loop().run_in_executor(
                None, _read, self._load, before
            )
            if (reason := self._not_now()) is not None:  # it may have begun to drain while the file was read
                return self._refused(by, (reason,))
            if lines := _for_a_restart(before, loaded):
                return self._refused(by, lines)
            await self._become(loaded)
        except ConfigError as error:
            return self._refused(by, tuple(error.problems))
        except StartFailed as error:
            return self._refused(by, (str(error),))
        return self._done(by, loaded, changed)

    def _not_now(self) -> str | None:
        """Say why nothing else can be put in force; None: it can."""
        reason = self._live.not_ready
        return None if reason is None else f"the sidecar is {reason}"

    def _done(self, by: Asker, loaded: Loaded, changed: list[str]) -> Reloaded:
        self._live.reload_ok = True
        self._live.reloads["ok"] += 1
        self._live.reload_lines = ()
        for warning in loaded.warnings:
            self._log.warning("config.warning", warning=str(warning))
        self._log.info(
            "config.reloaded",
            by=by,
            source=loaded.source,
            hash=loaded.digest,
            changed=bool(changed),
            changes=changed,
        )
        told = {"ok": True, "changed": bool(changed), "changes": changed, "lines": [], "hash": loaded.digest}
        self._live.hub.publish("reload", {"by": by, **told})
        return Reloaded(ok=True, changed=bool(changed))

    def _refused(self, by: Asker, lines: tuple[str, ...]) -> Reloaded:
        self._live.reload_ok = False
        self._live.reloads["refused"] += 1
        self._live.reload_lines = lines
        self._log.error("config.reload_refused", by=by, problems=list(lines))
        digest = self._live.loaded.digest
        told = {"ok": False, "changed": False, "changes": [], "lines": list(lines), "hash": digest}
        self._live.hub.publish("reload", {"by": by, **told})
        return Reloaded(ok=False, lines=lines)

    # --- maintenance ---

    def maintain(self, route: str | None, retry_after: float) -> None:
        """Answer the requests of `route`, or of all, with 503 from now on."""
        maintained = Maintained(self._live.wall(), retry_after)
        if route is None:
            self._everything = maintained
            names = [pipeline.route for pipeline in self._live.pipelines]
        else:
            names = [route]
        for name in names:
            self._live.maintenance[name] = maintained
        self._put_up()
        self._tell(names, retry_after, on=True)

    def end_maintenance(self, route: str | None) -> None:
        """Let the requests of `route`, or of all, through again."""
        names = [name for name in self._live.maintenance if route in (None, name)]
        for name in names:
            del self._live.maintenance[name]
        if not self._live.maintenance:
            self._everything = None
        self._put_up()
        self._tell(names, None, on=False)

    def keep_up(self, engine: Engine) -> None:
        """Put `engine` under the maintenance that there is."""
        self.engine = engine
        there = frozenset(pipeline.route for pipeline in engine.dispatcher.pipelines)
        maintenance = self._live.maintenance
        for name in [name for name in maintenance if name not in there]:
            del maintenance[name]
        if self._everything is not None:
            for name in there - self._known:
                maintenance[name] = self._everything
        self._known = there
        self._put_up()

    def _put_up(self) -> None:
        if self.engine is not None:
            waits = {name: each.retry_after for name, each in self._live.maintenance.items()}
            self.engine.dispatcher.maintain(waits)

    def _tell(self, names: list[str], retry_after: float | None, *, on: bool) -> None:
        if names:
            self._live.hub.publish("maintenance", {"routes": names, "on": on, "retry_after": retry_after})

    # --- the rest ---

    def set_log_level(self, level: LogLevel) -> None:
        """Write events of this level and above, until the next reload or start."""
        self._level.set(level)
        self._live.hub.publish("log_level", {"level": level})

    def log_level(self) -> LogLevel:
        """Tell the level in force."""
        return cast("LogLevel", self._level.level)

    def clear_cache(self, route: str | None) -> int:
        """Drop stored answers, and tell how many."""
        store = self._live.guards.store
        if store is None:
            return 0
        dropped = store.forget(b"" if route is None else prefix_of(route), self._live.now())
        self._live.hub.publish("cache", {"route": route, "dropped": dropped})
        return dropped


def _read(load: Callable[[], Loaded], before: Loaded) -> tuple[Loaded, list[str]]:
    """Read the file, and find out what is another now: with hundreds of routes that takes tens of milliseconds."""
    loaded = load()
    same = loaded.digest == before.digest
    return loaded, [] if same else changes(before.config, loaded.config)


def _for_a_restart(before: Loaded, after: Loaded) -> tuple[str, ...]:
    """Say what is another now that is made once, at the start. Other certificates need no restart."""
    old, new = before.config, after.config
    keys: list[tuple[str, str]] = []
    for key in Listen.model_fields:
        mine, theirs = getattr(old.listen, key), getattr(new.listen, key)
        same = (mine is None) == (theirs is None) if key == "tls" else mine == theirs
        keys += [] if same else [("listen", key)]
    for key in TelemetryConfig.model_fields:
        if getattr(old.telemetry, key, None) != getattr(new.telemetry, key, None):
            keys.append(("telemetry", key))
    if old.log.format != new.log.format:
        keys.append(("log", "format"))
    return tuple(
        f"{_place(after, key)}: {'.'.join(key)}: cannot change while the sidecar runs: restart it"
        for key in keys
    )


def _place(loaded: Loaded, key: tuple[str, str]) -> str:
    """Give where a key stands, or what belongs to it."""
    for path, origin in loaded.origins.items():
        if path[:2] == key and origin.written:
            return f"{loaded.source}:{origin.mark.line}:{origin.mark.column}"
    return loaded.source
