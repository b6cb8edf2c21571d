"""How the sidecar is, in one word: ready or not, healthy, degraded or unhealthy. One rule for all who show it.

**Ready** means that traffic should come here: the configuration is in force, the traffic listener is bound, nothing is
draining. How the upstreams are is no part of it, or an upstream's outage would take every replica out of service at once.
With `readiness.require_upstream` it is: not ready while none of the upstreams that routes go to is usable. (One that only
a fallback asks is no reason to be ready.) An upstream is unusable

- if its probes say that it is failing; one that has not been probed yet is usable;
- if it has no probes: while its own breakers, those that are enforced and guard no route to another upstream, are OPEN,
  all of them, and there is one. When their time is over they are HALF_OPEN and it is usable again: trials need traffic.

**Unhealthy** is what is not ready, and what can answer on no route from an upstream: each route is under maintenance,
or its breaker is OPEN, or the probes of its upstream say that it is failing. That all routes are under maintenance is
said as such: it is meant, and no outage. **Degraded** is what is neither but has a breaker that is not CLOSED, an
upstream whose probes fail, a route under maintenance, or a configuration that was refused when it was to be reloaded. A
breaker in shadow refuses nothing, and says nothing here.

The message names breakers, upstreams and routes as the configuration does, and has no address in it: anybody may read it.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from sidecar.config.load import Loaded
from sidecar.config.model import Config, RouteConfig
from sidecar.config.policies import BreakerConfig
from sidecar.policy.breaker import Breaker, State
from sidecar.telemetry.live import Live

__all__ = ["Condition", "Plan", "condition", "is_failing", "not_ready", "plan_of", "state_of", "unusable"]

Status = Literal["healthy", "degraded", "unhealthy"]

_NAMED = 3  # of one kind, in a message


@dataclass(frozen=True, slots=True)
class Condition:
    """How the sidecar is, and why, in a sentence for people."""

    status: Status
    message: str


@dataclass(frozen=True, slots=True)
class Plan:
    """What depends on what in one configuration.

    `routes` has the name of each route, its upstream, and its breaker if that is enforced. `enforced` are all breakers
    that are, `modes` has the mode of every breaker, `own` for each upstream that routes go to those enforced breakers
    which guard no route to another. `users` has the routes of each breaker, `reaches` the upstreams that they go to.
    """

    routes: tuple[tuple[str, str, str | None], ...]
    enforced: tuple[str, ...]
    modes: Mapping[str, str]
    own: Mapping[str, tuple[str, ...]]
    users: Mapping[str, tuple[str, ...]]
    reaches: Mapping[str, tuple[str, ...]]


def condition(live: Live) -> Condition:
    """Tell how it is now."""
    reason = not_ready(live)
    if reason is not None:
        return Condition("unhealthy", f"Not ready: {reason}.")
    now, plan = live.now(), plan_of(live.loaded)
    breakers = live.guards.breakers
    states = {name: state_of(breakers[name], now) for name in plan.enforced if name in breakers}
    failing = {name: None for name in live.upstreams if is_failing(live, name)}
    troubles = _troubles(live, states, list(failing))
    down = [
        route
        for route, upstream, breaker in plan.routes
        if route in live.maintenance
        or upstream in failing
        or (breaker is not None and states.get(breaker) is State.OPEN)
    ]
    if _all_maintained(live):
        others = _troubles(live, states, list(failing), maintenance=False)
        return Condition("unhealthy", f"{'; '.join(('All routes are under maintenance', *others))}.")
    if down and len(down) == len(plan.routes):
        return Condition("unhealthy", f"No route can be answered by its upstream: {'; '.join(troubles)}.")
    if troubles:
        return Condition("degraded", f"Degraded: {'; '.join(troubles)}.")
    return Condition("healthy", "All is well.")


def not_ready(live: Live) -> str | None:
    """Tell why no traffic should be sent here; None: it should."""
    if live.not_ready is not None or not live.loaded.config.readiness.require_upstream:
        return live.not_ready
    upstreams = plan_of(live.loaded).own
    if all(unusable(live, name) for name in upstreams):
        return "no upstream is usable"
    return None


def unusable(live: Live, upstream: str) -> bool:
    """Tell whether requests to `upstream` are known to be in vain, by its probes, else by its own breakers."""
    health = live.health.get(upstream)
    if health is not None:
        return health.healthy is False
    breakers, now = live.guards.breakers, live.now()
    own = [breakers[name] for name in plan_of(live.loaded).own.get(upstream, ()) if name in breakers]
    return bool(own) and all(state_of(breaker, now) is State.OPEN for breaker in own)


def is_failing(live: Live, upstream: str) -> bool:
    """Tell whether the probes of `upstream` say so."""
    health = live.health.get(upstream)
    return health is not None and health.healthy is False


def state_of(breaker: Breaker, now: float) -> State:
    """Give the state that a breaker is in at `now`, without the picture that its `view` makes."""
    breaker.refusal(now)  # brings it the time: what was due by now has happened
    return breaker.state


def _all_maintained(live: Live) -> bool:
    routes = plan_of(live.loaded).routes
    return bool(routes) and all(name in live.maintenance for name, _, _ in routes)


def _troubles(
    live: Live, states: Mapping[str, State], failing: Sequence[str], *, maintenance: bool = True
) -> list[str]:
    """Say what is not as it should be, the gravest first."""
    said = [
        f"{_list('breaker', names)} {state}"
        for state in (State.OPEN, State.HALF_OPEN)
        if (names := [name for name, each in states.items() if each is state])
    ]
    if failing:
        verb = "fails its probes" if len(failing) == 1 else "fail their probes"
        said.append(f"{_some('upstream', failing)} {verb}")
    if maintenance and live.maintenance:
        said.append(f"{_list('route', list(live.maintenance))} under maintenance")
    if not live.reload_ok:
        said.append("the last configuration was refused, the one before it is in force")
    return said


def _list(what: str, names: Sequence[str]) -> str:
    return f"{_some(what, names)} {'is' if len(names) == 1 else 'are'}"


def _some(what: str, names: Sequence[str]) -> str:
    """Name a few of them, and say how many more there are."""
    more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
    return f"{what}{'s' if len(names) > 1 else ''} {', '.join(names[:_NAMED])}{more}"


# --- what stays the same as long as a configuration is in force ---

_latest: tuple[Loaded, Plan] | None = None


def plan_of(loaded: Loaded) -> Plan:
    """Give what depends on what in this configuration."""
    global _latest  # noqa: PLW0603 -- a memo of one: there is one configuration in force at a time
    if _latest is None or _latest[0] is not loaded:
        _latest = (loaded, _plan(loaded.config))
    return _latest[1]


def _plan(config: Config) -> Plan:
    modes: dict[str, str] = {name: each.mode for name, each in config.breakers.items() if each.mode != "off"}
    for route in config.routes:
        if isinstance(route.breaker, BreakerConfig) and route.breaker.mode != "off":
            modes[route.name] = route.breaker.mode
    users: dict[str, list[str]] = {name: [] for name in modes}
    reached: dict[str, dict[str, None]] = {name: {} for name in modes}
    for route in config.routes:
        name = _breaker_of(route)
        if name in modes:
            users[name].append(route.name)
            reached[name][route.upstream] = None
    enforced = tuple(name for name, mode in modes.items() if mode == "enforce")
    return Plan(
        routes=tuple(
            (route.name, route.upstream, name if modes.get(name := _breaker_of(route)) == "enforce" else None)
            for route in config.routes
        ),
        enforced=enforced,
        modes=modes,
        own={
            upstream: tuple(name for name in enforced if list(reached[name]) == [upstream])
            for upstream in dict.fromkeys(route.upstream for route in config.routes)
        },
        users={name: tuple(routes) for name, routes in users.items()},
        reaches={name: tuple(upstreams) for name, upstreams in reached.items()},
    )


def _breaker_of(route: RouteConfig) -> str:
    """Give the name of a route's breaker; "" is nobody's."""
    if route.breaker is None:
        return ""
    return route.breaker if isinstance(route.breaker, str) else route.name
