"""Injected faults: what is done, and to whom.

A fault is for finding out, before the outage, whether the retries, the breaker and the fallback do what they should.
It hits `percent` of the attempts, of those alone whose request carries the field `header` where one is named: so a
tester can have faults to himself on a service that others use.
"""

from dataclasses import dataclass

from sidecar.message import Request

__all__ = ["KINDS", "FaultSettings", "is_hit"]

KINDS = ("delay", "abort", "reset", "truncate")


@dataclass(frozen=True, slots=True)
class FaultSettings:
    """What happens to an attempt that is hit.

    First a `delay` of so many seconds; then the first one that is set of: `abort`, an answer with that status;
    `reset`, a connection that breaks before the answer; `truncate`, one that breaks after so many bytes of the body.

    `header` is (name in lower case, value), the value None where any will do.
    """

    delay: float | None = None
    abort: int | None = None
    reset: bool = False
    truncate: int | None = None
    percent: float = 100.0
    header: tuple[bytes, bytes | None] | None = None


def is_hit(settings: FaultSettings, request: Request, u: float) -> bool:
    """Tell whether a fault hits this attempt. `u` in [0, 1) is its draw."""
    if u * 100.0 >= settings.percent:
        return False
    if settings.header is None:
        return True
    name, value = settings.header
    values = request.fields.values(name)
    return bool(values) if value is None else value in values
