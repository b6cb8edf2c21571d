"""`/maintenance`: answer the requests of a route, or of all, with an honest 503, and let them through again."""

from typing import Any

from sidecar.control.admin.asking import seconds, text
from sidecar.control.admin.endpoint import Call, Changed, Control
from sidecar.control.admin.names import route_named
from sidecar.telemetry.live import Live

__all__ = ["MOST_RETRY_AFTER", "USUAL_RETRY_AFTER", "begin", "end", "shown"]

USUAL_RETRY_AFTER = "60s"
MOST_RETRY_AFTER = "168h"  # a week


async def shown(control: Control, _: Call) -> Any:
    """Give the routes that are under maintenance."""
    return _routes(control.live)


async def begin(control: Control, call: Call) -> Changed:
    """Begin maintenance, or change what callers are told to wait."""
    said = call.body.get("retry_after")
    retry_after = seconds(USUAL_RETRY_AFTER if said is None else said, "retry_after", most=MOST_RETRY_AFTER)
    route = _route(control.live, call)
    before = _names(control.live)
    control.actions.maintain(route, retry_after)
    return Changed(route or "all", before, _names(control.live), _routes(control.live))


async def end(control: Control, call: Call) -> Changed:
    """End it."""
    route = _route(control.live, call)
    before = _names(control.live)
    control.actions.end_maintenance(route)
    return Changed(route or "all", before, _names(control.live), _routes(control.live))


def _route(live: Live, call: Call) -> str | None:
    said = call.body.get("route")
    return None if said is None else route_named(live, text(said, "route"))


def _names(live: Live) -> dict[str, float]:
    """Give what each route under maintenance tells its callers to wait."""
    return {name: each.retry_after for name, each in live.maintenance.items()}


def _routes(live: Live) -> dict[str, Any]:
    return {
        "routes": [
            {"route": name, "since": round(each.since, 3), "retry_after": each.retry_after}
            for name, each in live.maintenance.items()
        ]
    }
