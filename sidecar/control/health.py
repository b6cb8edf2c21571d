"""The health of the sidecar and of what it guards, as JSON: what `/health`, `/api/health` and `/health/detailed` answer.

    {"status": "degraded", "message": "Degraded: breaker database is OPEN.", "timestamp": "2031-05-06T07:08:09.123Z",
     "version": …, "uptime": seconds, "ready": true, "reason": null,
     "services": {"database": {"kind": "breaker", "status": "unhealthy", "state": "OPEN", …},
                  "orders": {"kind": "upstream", "status": "degraded", "state": "UP", …}},
     "fallbackData": {"list-orders": {"available": true, "age": 12.3, …}}}

A breaker's `status` is `healthy` when CLOSED, `degraded` when HALF_OPEN, `unhealthy` when OPEN, and in shadow always
`healthy`. Its `failures` and `successes` are of its window, while OPEN those at the moment of the trip; `latency` is that
of the upstream, if its routes go to one only.

An upstream is `unhealthy` and DOWN when it is unusable (the rule is in `telemetry/condition.py`), `degraded` when one of
its own breakers is not CLOSED; it is UP, or UNKNOWN when it has not been probed nor asked for anything yet. `failures`
and `successes` count its attempts since the start, those that say something of it. `latency` is that of its last good
probe; without probes it is the mean of all attempts so far.

`failureRate` is in percent, of `failures` and `successes`; `latency` in milliseconds; null is what is not known.

Where a breaker and an upstream have the same name, the upstream is in the breaker's `upstream`.

A fallback's data is `available` if one of its steps could deliver: a configured answer always can, another upstream while
it is usable, a copy if there is one of any request that is young enough. `age` and `oldest` are the seconds since its
newest and its oldest copy were stored (null: there is none). Copies are counted at most once a second, a few at a time.

Anybody on the network may read this: there are names of the configuration in it, numbers and closed sets of words, and no
address, no path and no text of an error.
"""

import asyncio
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from sidecar.pipeline.stages.fallback import FallbackStage
from sidecar.policy.breaker import Breaker, State
from sidecar.policy.evidence import percent
from sidecar.policy.fallback import Stale, Upstream
from sidecar.policy.store import Stock, Store
from sidecar.telemetry.condition import condition, not_ready, plan_of, state_of, unusable
from sidecar.telemetry.live import Live
from sidecar.telemetry.rates import attempts_by_upstream, judged
from sidecar.telemetry.system import SYSTEM, Disk, System
from sidecar.version import VERSION

__all__ = ["Copies", "detailed_json", "health_json", "iso"]

Json = dict[str, Any]

_BREAKER_STATUS = {State.CLOSED: "healthy", State.HALF_OPEN: "degraded", State.OPEN: "unhealthy"}


class Copies:
    """What the store holds, by route, as it was at most `keep` seconds ago."""

    def __init__(self, live: Live, keep: float = 1.0) -> None:
        self._live = live
        self._keep = keep
        self._counted: Mapping[str, Stock] = {}
        self._of: Store | None = None
        self._at = 0.0
        self._lock = asyncio.Lock()

    async def stocks(self) -> Mapping[str, Stock]:
        """Give what there is, after counting if need be; the loop gets its turn in between."""
        async with self._lock:
            live, store = self._live, self._live.guards.store
            if store is None:
                return {}
            if store is not self._of or live.now() - self._at >= self._keep:
                for stocks in store.survey(live.now()):
                    self._counted = stocks
                    await asyncio.sleep(0)
                self._of, self._at = store, live.now()
            return self._counted


async def health_json(live: Live, copies: Copies) -> Json:
    """Give everything that `/health` tells."""
    stocks = await copies.stocks()
    told = condition(live)
    reason = not_ready(live)
    return {
        "status": told.status,
        "message": told.message,
        "timestamp": iso(live.wall()),
        "version": VERSION,
        "uptime": round(live.wall() - live.started_at, 3),
        "ready": reason is None,
        "reason": reason,
        "services": _services(live),
        "fallbackData": _fallback_data(live, stocks),
    }


async def detailed_json(live: Live, copies: Copies, system: System = SYSTEM) -> Json:
    """Give that, and how the process and its machine are. Memory and disks in bytes, CPU in percent."""
    usage = system.usage()
    lag = live.lag
    return {
        **await health_json(live, copies),
        "system": {
            "cpu": {
                "process": round(usage.cpu, 1),
                "machine": round(usage.machine_cpu, 1),
                "cores": usage.cores,
                "seconds": round(usage.seconds, 1),
            },
            "memory": {
                "process": usage.memory,
                "limit": usage.limit,
                "machine": usage.machine_memory,
                "machine_free": usage.machine_free,
            },
            "disk": {name: _disk(disk) for name, disk in system.disks().items()},
            "event_loop": None if lag is None else {"lag_ms": _ms(lag.last), "worst_ms": _ms(lag.worst)},
            "connections": live.connections(),
            "tasks": live.tasks(),
            "log_dropped": live.log_dropped(),
        },
    }


def iso(at: float) -> str:
    """Write Unix time as ISO 8601 does, in UTC, to the millisecond."""
    return datetime.fromtimestamp(at, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


# --- services ---


def _services(live: Live) -> Json:
    upstreams = _upstreams(live)
    services: Json = {
        name: _breaker(live, name, each, upstreams) for name, each in live.guards.breakers.items()
    }
    for name, upstream in upstreams.items():
        if name in services:
            services[name]["upstream"] = upstream
        else:
            services[name] = upstream
    return services


def _breaker(live: Live, name: str, breaker: Breaker, upstreams: Mapping[str, Json]) -> Json:
    view = breaker.view(live.now())
    plan = plan_of(live.loaded)
    behind = plan.reaches.get(name, ())
    shadow = plan.modes.get(name) == "shadow"
    return {
        "kind": "breaker",
        "status": "healthy" if shadow else _BREAKER_STATUS[view.state],
        "state": str(view.state),
        "failures": view.failures,
        "successes": view.successes,
        "failureRate": view.failure_rate,
        "latency": upstreams[behind[0]]["latency"] if len(behind) == 1 else None,
        "mode": "shadow" if shadow else "enforce",
        "forced": view.forced,
        "retry_after": None if view.retry_after is None else round(view.retry_after, 3),
        "trips": view.trips,
        "rejected": view.rejected,
        "routes": list(plan.users.get(name, ())),
    }


def _upstreams(live: Live) -> Json:
    attempts = attempts_by_upstream(live)
    upstreams: Json = {}
    for name in live.upstreams:
        counted = [judged(counts) for counts in attempts.get(name, ())]
        total, failed = sum(said for said, _ in counted), sum(bad for _, bad in counted)
        upstreams[name] = _upstream(live, name, total, failed)
    return upstreams


def _upstream(live: Live, name: str, total: int, failed: int) -> Json:
    health = live.health.get(name)
    return {
        "kind": "upstream",
        **_standing(live, name, known=total > 0),
        "failures": failed,
        "successes": total - failed,
        "failureRate": percent(failed, total),
        "latency": _latency(live, name),
        "connections": live.upstreams[name].open(),
        "probe": None
        if health is None
        else {"healthy": health.healthy, "passes": health.passes, "failures": health.failures},
    }


def _standing(live: Live, name: str, *, known: bool) -> Json:
    """Give the status and the state of an upstream; `known`: it has been asked for something."""
    if unusable(live, name):
        return {"status": "unhealthy", "state": "DOWN"}
    breakers, now = live.guards.breakers, live.now()
    own = [breakers[each] for each in plan_of(live.loaded).own.get(name, ()) if each in breakers]
    closed = all(state_of(breaker, now) is State.CLOSED for breaker in own)
    health = live.health.get(name)
    probed = health is not None and health.healthy is not None
    return {"status": "healthy" if closed else "degraded", "state": "UP" if probed or known else "UNKNOWN"}


def _latency(live: Live, name: str) -> float | None:
    health = live.health.get(name)
    if health is not None:
        return None if health.latency is None else _ms(health.latency)
    seconds = live.upstreams[name].seconds
    number = sum(seconds.counts)
    return _ms(seconds.total / number) if number else None


# --- fallbacks ---


def _fallback_data(live: Live, stocks: Mapping[str, Stock]) -> Json:
    found: Json = {}
    for pipeline in live.pipelines:
        stage = pipeline.find(FallbackStage)
        if stage is not None:
            found[pipeline.route] = _data_of(live, stage, stocks.get(pipeline.route, Stock()))
    return found


def _data_of(live: Live, stage: FallbackStage, stock: Stock) -> Json:
    now = live.now()
    steps = [step.settings for step in stage.steps]
    return {
        "available": any(_delivers(live, step, stock, now) for step in steps),
        "steps": [step.source for step in steps],
        "entries": stock.entries,
        "age": round(now - stock.newest, 3) if stock.entries else None,
        "oldest": round(now - stock.oldest, 3) if stock.entries else None,
    }


def _delivers(live: Live, step: object, stock: Stock, now: float) -> bool:
    match step:
        case Stale():
            stored = stock.forced_from if step.override_origin else stock.usable_from
            return now - stored <= step.max_age
        case Upstream():
            return not unusable(live, step.name)
        case _:
            return True


def _disk(disk: Disk) -> Json:
    used = disk.total - disk.free
    return {"total": disk.total, "free": disk.free, "percent": percent(used, disk.total)}


def _ms(seconds: float) -> float:
    return round(seconds * 1000, 3)
