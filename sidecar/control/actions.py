"""What the admin interface may have done, as a promise that the runtime keeps."""

from dataclasses import dataclass
from typing import Literal, Protocol

__all__ = ["LOG_LEVELS", "Actions", "LogLevel", "Reloaded"]

LogLevel = Literal["debug", "info", "warning", "error"]
LOG_LEVELS: tuple[LogLevel, ...] = ("debug", "info", "warning", "error")


@dataclass(frozen=True, slots=True)
class Reloaded:
    """What came of a reload. `lines` say why it was refused; `changed` if what is in force is another one now."""

    ok: bool
    changed: bool = False
    lines: tuple[str, ...] = ()


class Actions(Protocol):
    """Changes to the running program, beyond those that a policy object makes itself. None of them raises.

    The caller audits them. A `route` is one that exists; None stands for all. Times in seconds.
    """

    async def reload(self) -> Reloaded:
        """Read the configuration file again and put it in force, whole, or not at all."""

    def maintain(self, route: str | None, retry_after: float) -> None:
        """Answer the requests of `route` with 503 from now on."""

    def end_maintenance(self, route: str | None) -> None:
        """Let them through again."""

    def set_log_level(self, level: LogLevel) -> None:
        """Write events of this level and above, until the next reload or start."""

    def log_level(self) -> LogLevel:
        """Tell the level in force."""

    def clear_cache(self, route: str | None) -> int:
        """Drop stored answers, and tell how many."""
