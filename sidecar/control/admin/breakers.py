"""Breakers: looking at them, and an operator's hand on them.

`open` and `close` force a state, for `ttl` or until `reset`; `reset` makes a breaker automatic again, CLOSED, with new
counts. A breaker in shadow obeys too: it then says what it would do, and refuses nothing.
"""

from typing import Any

from sidecar.control.admin.asking import seconds
from sidecar.control.admin.endpoint import Call, Changed, Control
from sidecar.control.admin.problem import unknown
from sidecar.policy.breaker import Breaker, State
from sidecar.telemetry.live import Live
from sidecar.telemetry.snapshot import breaker_json, breakers_json

__all__ = ["MOST_TTL", "close", "force_open", "listed", "reset", "reset_all", "shown"]

MOST_TTL = "8760h"  # a year


async def listed(control: Control, _: Call) -> Any:
    """Give all breakers."""
    return breakers_json(control.live)


async def shown(control: Control, call: Call) -> Any:
    """Give one, with its last events."""
    _found(control.live, call.names["name"])
    return breaker_json(control.live, call.names["name"])


async def force_open(control: Control, call: Call) -> Changed:
    """Let nothing pass."""
    live, name = control.live, call.names["name"]
    breaker, ttl = _found(live, name), _ttl(call)
    before = _state(breaker, live)
    breaker.force_open(live.now(), ttl)
    return _changed(live, name, before)


async def close(control: Control, call: Call) -> Changed:
    """Let everything pass."""
    live, name = control.live, call.names["name"]
    breaker, ttl = _found(live, name), _ttl(call)
    before = _state(breaker, live)
    breaker.force_closed(live.now(), ttl)
    return _changed(live, name, before)


async def reset(control: Control, call: Call) -> Changed:
    """Make one automatic again, and CLOSED."""
    live, name = control.live, call.names["name"]
    breaker = _found(live, name)
    before = _state(breaker, live)
    breaker.reset(live.now())
    return _changed(live, name, before)


async def reset_all(control: Control, call: Call) -> Changed:
    """Make all of them automatic again, and CLOSED, or the one that is named."""
    live, name = control.live, call.one("name")
    breakers = live.guards.breakers if name is None else {name: _found(live, name)}
    before = {each: _state(breaker, live) for each, breaker in breakers.items()}
    for breaker in breakers.values():
        breaker.reset(live.now())
    # Of hundreds only those are worth a word in the log that were not as they are now.
    moved = {each: state for each, state in before.items() if state != _AUTOMATIC}
    number = "1 breaker was" if len(breakers) == 1 else f"{len(breakers)} breakers were"
    return Changed(
        target="all" if name is None else name,
        before=moved,
        after=dict.fromkeys(moved, _AUTOMATIC),
        answer={"message": f"{number} reset.", "reset": list(breakers), "changed": list(moved)},
    )


_AUTOMATIC = {"state": str(State.CLOSED), "forced": None, "forced_for": None}


def _found(live: Live, name: str) -> Breaker:
    breakers = live.guards.breakers
    if name not in breakers:
        raise unknown("breaker", name, breakers)
    return breakers[name]


def _ttl(call: Call) -> float | None:
    said = call.one("ttl")
    return None if said is None else seconds(said, "ttl", most=MOST_TTL)


def _state(breaker: Breaker, live: Live) -> dict[str, Any]:
    view = breaker.view(live.now())
    return {
        "state": str(view.state),
        "forced": view.forced,
        "forced_for": None if view.forced_for is None else round(view.forced_for, 3),
    }


def _changed(live: Live, name: str, before: Any) -> Changed:
    after = _state(live.guards.breakers[name], live)
    return Changed(name, before, after, breaker_json(live, name))
