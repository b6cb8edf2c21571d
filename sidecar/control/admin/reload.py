"""`POST /config/reload`: read the configuration file again. One that is wrong changes nothing, and says what is."""

from sidecar.control.admin.endpoint import Call, Changed, Control
from sidecar.control.admin.problem import Problem

__all__ = ["reload"]

_MOST_LINES = 200


async def reload(control: Control, _: Call) -> Changed:
    """Put it in force, whole, or not at all."""
    before = control.live.loaded.digest
    reloaded = await control.actions.reload()
    if not reloaded.ok:
        lines = reloaded.lines
        first = lines[0] if lines else "nobody knows why"
        others = f", and {len(lines) - 1} more" if len(lines) > 1 else ""
        raise Problem(
            400,
            "config_refused",
            f"The configuration in force stays: {first}{others}",
            more={"ok": False, "changed": False, "hash": before, "lines": list(lines[:_MOST_LINES])},
        )
    after = control.live.loaded.digest
    return Changed("configuration", before, after, {"ok": True, "changed": reloaded.changed, "hash": after})
