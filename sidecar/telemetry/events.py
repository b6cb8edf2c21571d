"""What a change of a breaker's state says in the log: one line, with all that made it open."""

from typing import Any

from sidecar.policy.breaker import Event, State

__all__ = ["breaker_line"]

_NAMES = {
    State.OPEN: "breaker.opened",
    State.HALF_OPEN: "breaker.half_open",
    State.CLOSED: "breaker.closed",
}


def breaker_line(event: Event, *, shadow: bool = False) -> tuple[str, dict[str, Any]]:
    """Give the name of the line, and its fields. Times are in seconds, but those of attempts, in milliseconds.

    A breaker in `shadow` refuses nothing: its line must not look like that of one that does.
    """
    fields: dict[str, Any] = {"breaker": event.breaker, "was": str(event.before), "cause": event.cause}
    if shadow:
        fields["mode"] = "shadow"
    if event.forced is not None:
        fields["forced"] = event.forced
    trip = event.trip
    if trip is not None:
        fields |= {
            "threshold": trip.threshold,
            "failures": trip.failures,
            "of": trip.total,
            "first_error": trip.first_error,
            "open_for": round(trip.open_for, 3),
            "last_attempts": ", ".join(
                each.what if each.seconds is None else f"{each.what} {each.seconds * 1000:.0f} ms"
                for each in trip.attempts
            ),
        }
    return _NAMES[event.after], fields
