"""Names that somebody sent, and those that there are."""

from sidecar.control.admin.problem import unknown
from sidecar.telemetry.live import Live

__all__ = ["route_named"]


def route_named(live: Live, name: str) -> str:
    """Give the name, if a route has it.

    Raises:
        Problem: 404, none has.

    """
    names = [pipeline.route for pipeline in live.pipelines]
    if name not in names:
        raise unknown("route", name, names)
    return name
