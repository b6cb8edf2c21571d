"""`/log-level`: how much the log says, until the next reload or start."""

from typing import Any

from sidecar.config.words import did_you_mean, listing, shown
from sidecar.control.actions import LOG_LEVELS
from sidecar.control.admin.asking import text
from sidecar.control.admin.endpoint import Call, Changed, Control
from sidecar.control.admin.problem import Problem

__all__ = ["level", "set_level"]


async def level(control: Control, _: Call) -> Any:
    """Give the level in force."""
    return {"level": control.actions.log_level()}


async def set_level(control: Control, call: Call) -> Changed:
    """Put another one in force."""
    said = text(call.body["level"], "level")
    wanted = next((each for each in LOG_LEVELS if each == said), None)
    if wanted is None:
        guess = did_you_mean(said[:100], LOG_LEVELS) or "."
        raise Problem(400, "bad_value", f"`level` must be {listing(LOG_LEVELS)}, and is {shown(said)}{guess}")
    before = control.actions.log_level()
    control.actions.set_log_level(wanted)
    after = control.actions.log_level()
    return Changed("log", before, after, {"level": after})
