"""`DELETE /cache`: forget stored answers, those of one route or all."""

from sidecar.control.admin.endpoint import Call, Changed, Control
from sidecar.control.admin.names import route_named
from sidecar.telemetry.snapshot import cache_json

__all__ = ["clear"]


async def clear(control: Control, call: Call) -> Changed:
    """Drop them, and tell how many those were."""
    said = call.one("route")
    route = None if said is None else route_named(control.live, said)
    before = _entries(control)
    dropped = control.actions.clear_cache(route)
    after = _entries(control)
    return Changed(route or "all", before, after, {"route": route, "dropped": dropped})


def _entries(control: Control) -> dict[str, int]:
    cache = cache_json(control.live)
    return {"entries": 0 if cache is None else cache["entries"]}
