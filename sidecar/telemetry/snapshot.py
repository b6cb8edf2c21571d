"""What is in force now, as JSON types: the state that the admin interface answers with and the live page draws.

Each part is a function of its own, for whoever asks for that part alone. Times of the day are Unix time in seconds,
rates are per second, latencies in milliseconds, sizes in bytes; `errors` and `availability` are shares from 0 to 1, but
`failureRate` is in percent. `failed`, of a route, are those of its answers with a status of 500 and above, whatever
they came from: to the caller a fallback's 503 is a failure too. What is not known is None. Nothing here waits, and
nothing changes what it looks at, except that a breaker that is looked at takes note of the time.

What only a reload can change (which route names which breaker, what a stage says of itself) is worked out once for each
configuration, since a page that is open asks every second.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from os import sysconf
from pathlib import PurePath
from socket import gethostname
from typing import Any

from sidecar.config.model import Match
from sidecar.pipeline.assemble import Pipeline
from sidecar.pipeline.stages.attempt import AttemptStage
from sidecar.pipeline.stages.breaker import BreakerGate
from sidecar.pipeline.stages.bulkhead import BulkheadStage
from sidecar.pipeline.stages.cache import CacheStage
from sidecar.pipeline.stages.rate_limit import RateLimitStage
from sidecar.policy.breaker import Breaker, Event, Trip
from sidecar.policy.health import Health
from sidecar.telemetry.condition import condition, not_ready, plan_of
from sidecar.telemetry.live import Live
from sidecar.telemetry.rates import Rates, attempts_by_upstream, judged
from sidecar.version import VERSION

__all__ = [
    "REFUSED",
    "breaker_json",
    "breakers_json",
    "budgets_json",
    "bulkheads_json",
    "cache_json",
    "rate_limits_json",
    "routes_json",
    "snapshot",
    "upstreams_json",
]

Json = dict[str, Any]

REFUSED = 20  # records of requests that did not end well, the newest first


@dataclass(frozen=True, slots=True)
class _Layout:
    """What stays the same as long as a configuration is in force. `parts` are those that it was made of."""

    parts: tuple[object, ...]
    routes: Mapping[str, Json]
    bulkheads: Mapping[str, tuple[str, list[str]]]  # mode and routes
    limits: tuple[tuple[str, Json, RateLimitStage], ...]
    caches: tuple[tuple[str, CacheStage], ...]


_latest: _Layout | None = None


def snapshot(live: Live, rates: Rates) -> Json:
    """Give everything."""
    status, reason = condition(live), not_ready(live)
    loaded = live.loaded
    return {
        "at": round(live.wall(), 3),
        "name": PurePath(loaded.source).name,
        "host": gethostname(),
        "listen": str(loaded.config.listen.traffic),
        "version": VERSION,
        "uptime": round(live.wall() - live.started_at, 3),
        "status": status.status,
        "message": status.message,
        "ready": reason is None,
        "reason": reason,
        "profile": loaded.config.profile,
        "config": {
            "source": loaded.source,
            "hash": loaded.digest,
            "loaded_at": round(live.loaded_at, 3),
            "reload_ok": live.reload_ok,
            "reload_lines": list(live.reload_lines),
        },
        "process": _process(live, rates),
        "routes": routes_json(live, rates),
        "upstreams": upstreams_json(live, rates),
        "breakers": breakers_json(live),
        "bulkheads": bulkheads_json(live),
        "budgets": budgets_json(live),
        "rate_limits": rate_limits_json(live),
        "cache": cache_json(live),
        "refused": _refused(live),
    }


def routes_json(live: Live, rates: Rates) -> list[Json]:
    """Give the routes in file order: what they are made of, what came of their requests, and how it goes now."""
    layout = _layout(live)
    now = rates.routes()
    listed = []
    for pipeline in live.pipelines:
        name = pipeline.route
        counts = live.recorder.by_route.get(name)
        fates: dict[str, int] = {}
        failed: dict[str, int] = {}
        if counts is not None:
            for (_, status, fate), number in counts.requests.items():
                fates[fate] = fates.get(fate, 0) + number
                if status >= 500:
                    failed[fate] = failed.get(fate, 0) + number
        rate = now.get(name)
        answers = rate.answers if rate is not None else ()
        maintained = live.maintenance.get(name)
        listed.append(
            {
                **layout.routes[name],
                "requests": sum(fates.values()),
                "fates": fates,
                "failed": failed,
                "last_minute": {
                    "fates": {each.fate: each.number for each in answers},
                    "failed": {each.fate: each.failed for each in answers if each.failed},
                },
                "rate": round(rate.rate, 3) if rate is not None else 0.0,
                "errors": round(rate.errors or 0.0, 4) if rate is not None else 0.0,
                "p50_ms": _ms(rate.p50) if rate is not None else None,
                "p99_ms": _ms(rate.p99) if rate is not None else None,
                "maintenance": None
                if maintained is None
                else {"since": round(maintained.since, 3), "retry_after": maintained.retry_after},
            }
        )
    return listed


def upstreams_json(live: Live, rates: Rates) -> list[Json]:
    """Give the upstreams: their connections, their attempts, and what their probes found."""
    attempts = attempts_by_upstream(live)
    now = rates.upstreams()
    shift = live.shift()
    health = live.health
    listed = []
    for name, view in live.upstreams.items():
        counts = attempts.get(name, ())
        rate = now[name]
        listed.append(
            {
                "name": name,
                "url": view.url,
                "open": view.open(),
                "idle": view.idle(),
                "max_connections": view.max_connections,
                "attempts": sum(sum(each.values()) for each in counts),
                "failures": sum(judged(each)[1] for each in counts),
                "availability": None if rate.errors is None else round(1 - rate.errors, 4),
                "p50_ms": _ms(rate.p50),
                "p99_ms": _ms(rate.p99),
                "health": _health(health[name], shift) if name in health else None,
            }
        )
    return listed


def breakers_json(live: Live) -> list[Json]:
    """Give the breakers as they are now, in the order of their names in the file."""
    return [_breaker(live, name, breaker) for name, breaker in live.guards.breakers.items()]


def breaker_json(live: Live, name: str) -> Json:
    """Give one breaker, with what it did last (`events`, the newest first).

    Raises:
        KeyError: there is no such breaker.

    """
    breaker = live.guards.breakers[name]
    shown = _breaker(live, name, breaker)  # first: it may find out that something is due
    shift = live.shift()
    return {**shown, "events": [_event(event, shift) for event in reversed(breaker.events)]}


def bulkheads_json(live: Live) -> list[Json]:
    """Give the bulkheads: who is in, who waits, and who was sent away."""
    users = _layout(live).bulkheads
    listed = []
    for name, bulkhead in live.guards.bulkheads.items():
        mode, routes = users.get(name, ("enforce", []))
        listed.append(
            {
                "name": name,
                "in_use": bulkhead.in_use,
                "limit": bulkhead.limit,
                "queued": bulkhead.queued,
                "max_queue": bulkhead.settings.max_queue,
                "admitted": bulkhead.admitted,
                "rejected_full": bulkhead.rejected_full,
                "rejected_timeout": bulkhead.rejected_timeout,
                "mode": mode,
                "routes": routes,
            }
        )
    return listed


def budgets_json(live: Live) -> list[Json]:
    """Give the retry budgets: `balance` retries can be made now."""
    now = live.now()
    return [
        {
            "upstream": upstream,
            "balance": round(budget.balance(now), 3),
            "ratio": budget.settings.ratio,
            "min_per_second": budget.settings.min_per_second,
            "window": budget.settings.window,
        }
        for upstream, budget in live.guards.budgets.items()
    ]


def rate_limits_json(live: Live) -> list[Json]:
    """Give the rate limits: `limit` requests in `per` seconds for each of `keys` callers. Which callers is not told."""
    listed = []
    for route, what, stage in _layout(live).limits:
        listed.append(
            {
                "route": route,
                **what,
                "allowed": stage.allowed,
                "rejected": stage.rejected,
                "would_reject": stage.would_reject,
                "keys": stage.limiter.keys,
                "evicted": stage.limiter.evicted,
            }
        )
    return listed


def cache_json(live: Live) -> Json | None:
    """Give the store of answers and what each route made of it; None: there is none."""
    store = live.guards.store
    if store is None:
        return None
    return {
        "bytes": store.bytes,
        "max_bytes": store.max_bytes,
        "entries": store.entries,
        "max_entries": store.max_entries,
        "evicted": store.evicted,
        "routes": [{"route": route, "results": dict(stage.results)} for route, stage in _layout(live).caches],
    }


# --- parts ---


_PAGE = sysconf("SC_PAGE_SIZE")
_TRIAL_CAUSES = ("trial_failed", "trial_timed_out")


def _process(live: Live, rates: Rates) -> Json:
    return {
        "connections": live.connections(),
        "tasks": live.tasks(),
        "loop_lag_ms": None if live.lag is None else _ms(live.lag.last),
        "memory": _memory(),
        "cpu": None if rates.cpu is None else round(rates.cpu, 1),
        "log_dropped": live.log_dropped(),
    }


def _refused(live: Live) -> list[Json]:
    return [record.as_dict() for record in live.recorder.unwell(REFUSED)]


def _breaker(live: Live, name: str, breaker: Breaker) -> Json:
    view = breaker.view(live.now())
    plan = plan_of(live.loaded)
    shift = live.shift()
    return {
        "name": name,
        "state": str(view.state),
        "forced": view.forced,
        "forced_for": _rounded(view.forced_for),
        "mode": plan.modes.get(name, "off"),
        "failures": view.failures,
        "successes": view.successes,
        "failureRate": round(view.failure_rate, 1),
        "retry_after": _rounded(view.retry_after),
        "trials": view.trials,
        "rejected": view.rejected,
        "late": view.late,
        "trips": view.trips,
        "open_seconds": round(view.open_seconds, 3),
        "routes": list(plan.users.get(name, ())),
        "outage": None if view.first_trip is None else _outage(view.first_trip, view.trips, shift),
        "last_trip": None if view.last_trip is None else _trip(view.last_trip, shift),
    }


def _outage(began: Trip, trips: int, shift: float) -> Json:
    """Tell of the outage that a breaker is in: why it opened first, however many trials have failed since."""
    return {
        "since": round(began.at + shift, 3),
        "cause": began.cause,
        "threshold": began.threshold,
        "failures": began.failures,
        "total": began.total,
        "first_error": began.first_error,
        "trials_failed": trips - began.number + (began.cause in _TRIAL_CAUSES),
    }


def _trip(trip: Trip, shift: float) -> Json:
    return {
        "number": trip.number,
        "at": round(trip.at + shift, 3),
        "cause": trip.cause,
        "threshold": trip.threshold,
        "failures": trip.failures,
        "total": trip.total,
        "failureRate": round(trip.failure_rate, 1),
        "first_error": trip.first_error,
        "open_for": round(trip.open_for, 3),
        "attempts": [
            {"what": each.what, "ms": _ms(each.seconds), "age": round(each.age, 3)} for each in trip.attempts
        ],
    }


def _event(event: Event, shift: float) -> Json:
    trip = event.trip
    return {
        "at": round(event.at + shift, 3),
        "from": str(event.before),
        "to": str(event.after),
        "cause": event.cause,
        "forced": event.forced,
        "threshold": None if trip is None else trip.threshold,
        "first_error": None if trip is None else trip.first_error,
    }


def _health(health: Health, shift: float) -> Json:
    """Give what the probes of one upstream found; its times are the loop's."""
    return {
        "healthy": health.healthy,
        "since": None if health.since is None else round(health.since + shift, 3),
        "checked_at": None if health.checked_at is None else round(health.checked_at + shift, 3),
        "latency_ms": _ms(health.latency),
        "why": health.why,
        "passes": health.passes,
        "failures": health.failures,
    }


def _memory() -> int | None:
    """Give the bytes that this process holds, where the system tells (Linux: proc_pid_statm(5))."""
    try:
        with open("/proc/self/statm", "rb") as file:  # noqa: PTH123 -- read every second; a Path costs as much again
            return int(file.read().split()[1]) * _PAGE
    except (OSError, ValueError):
        return None


def _ms(seconds: float | None) -> float | None:
    return None if seconds is None else round(seconds * 1000, 3)


def _rounded(seconds: float | None) -> float | None:
    return None if seconds is None else round(seconds, 3)


# --- what stays the same ---


def _layout(live: Live) -> _Layout:
    global _latest  # noqa: PLW0603 -- a memo of one: there is one configuration in force at a time
    made = _latest
    parts = (live.loaded, live.pipelines, live.guards)
    if made is None or any(old is not new for old, new in zip(made.parts, parts, strict=True)):
        made = _latest = _lay_out(live, parts)
    return made


def _lay_out(live: Live, parts: tuple[object, ...]) -> _Layout:
    config = live.loaded.config
    configured = {route.name: route for route in config.routes}
    routes: dict[str, Json] = {}
    bulkheads: dict[str, tuple[str, list[str]]] = {
        name: (each.mode, []) for name, each in config.bulkheads.items()
    }
    limits: list[tuple[str, Json, RateLimitStage]] = []
    caches: list[tuple[str, CacheStage]] = []
    for pipeline in live.pipelines:
        name = pipeline.route
        gate, bulkhead = pipeline.find(BreakerGate), pipeline.find(BulkheadStage)
        said = configured.get(name)
        routes[name] = _route(
            pipeline,
            "" if said is None else _match(said.match),
            None if gate is None else gate.breaker.name,
            None if bulkhead is None else bulkhead.bulkhead.name,
        )
        if bulkhead is not None:
            _, users = bulkheads.get(bulkhead.bulkhead.name, ("", []))
            bulkheads[bulkhead.bulkhead.name] = (_mode(bulkhead.shadow), [*users, name])
        for stage in pipeline.stages:
            if isinstance(stage, RateLimitStage):
                limits.append((name, _limit(stage), stage))
            elif isinstance(stage, CacheStage):
                caches.append((name, stage))
    return _Layout(parts, routes, bulkheads, tuple(limits), tuple(caches))


def _route(pipeline: Pipeline, match: str, breaker: str | None, bulkhead: str | None) -> Json:
    attempt = pipeline.find(AttemptStage)
    return {
        "name": pipeline.route,
        "upstream": None if attempt is None else attempt.upstream,
        "match": match,
        "breaker": breaker,
        "bulkhead": bulkhead,
        "stages": pipeline.describe(),
    }


def _limit(stage: RateLimitStage) -> Json:
    settings = stage.limiter.settings
    return {
        "limit": settings.limit,
        "per": settings.per,
        "algorithm": settings.algorithm,
        "key": stage.key,
        "mode": _mode(stage.shadow),
    }


def _mode(shadow: bool) -> str:
    return "shadow" if shadow else "enforce"


def _match(match: Match) -> str:
    """Say in one line what a route asks of a request: methods, host and path, and fields."""
    path = f"~ {match.path_regex}" if match.path_regex is not None else match.path or "/**"
    hosts = ", ".join(match.host)
    fields = ", ".join(name if value == "*" else f"{name}: {value}" for name, value in match.headers.items())
    parts = (", ".join(match.methods), hosts, path, f"with {fields}" if fields else "")
    return " ".join(part for part in parts if part)
