"""The snapshot is an interface: the admin answers, the page and the terminal are made of it. So whole values."""

import asyncio
import dataclasses
import json
from functools import partial
from operator import sub
from socket import gethostname
from typing import Any

from sidecar.config.load import load_text
from sidecar.errors import ConnectFailed
from sidecar.policy.breaker import FAILURE
from sidecar.policy.health import Health, HealthSettings
from sidecar.runtime.live import put_in_force
from sidecar.telemetry.live import Live, Maintained
from sidecar.telemetry.rates import Rates
from sidecar.telemetry.snapshot import (
    REFUSED,
    breaker_json,
    breakers_json,
    budgets_json,
    bulkheads_json,
    cache_json,
    rate_limits_json,
    routes_json,
    snapshot,
    upstreams_json,
)
from sidecar.version import VERSION
from tests.support.exchanges import EPOCH, a_request
from tests.support.live import engine_from, live_from
from tests.support.virtual_time import in_virtual_time

YAML = """
version: 1
upstreams: {orders: {url: "http://127.0.0.1:9", max_connections: 7}}
breakers:
  db: {consecutive_failures: 3, open_for: 10s}
  watched: {consecutive_failures: 1, mode: shadow}
  unused: {consecutive_failures: 1}
bulkheads: {reads: {max_concurrent: 10, max_queue: 4}}
routes:
  - name: read
    match: {path: "/orders/{id}", methods: [GET, HEAD], host: api.example.com, headers: {X-Tenant: gold, X-Any: "*"}}
    upstream: orders
    breaker: db
    bulkhead: reads
    rate_limit: {limit: 100/1m, key: "header:X-Tenant"}
    cache: {fresh_for: 1m}
  - {name: write, match: {path: /orders/**}, upstream: orders, breaker: db, bulkhead: {max_concurrent: 2}}
  - {name: rest, match: {path_regex: "/x[0-9]+"}, upstream: orders, breaker: watched}
"""


def a_live(text: str = YAML) -> tuple[Live, Rates]:
    """Give a live view on virtual time that began at `EPOCH`, with rates that run."""
    loop = asyncio.get_running_loop()
    live = dataclasses.replace(
        live_from(text), wall=lambda: EPOCH + loop.time(), started_at=EPOCH, loaded_at=EPOCH
    )
    rates = Rates(live, loop)
    rates.start()
    return live, rates


def trip(live: Live, name: str = "db", times: int = 3) -> None:
    breaker = live.guards.breakers[name]
    for _ in range(times):
        breaker.settle(breaker.enter(live.now()), FAILURE, live.now(), 0.25, "503")


def of(listed: list[dict[str, Any]], name: str) -> dict[str, Any]:
    (found,) = [each for each in listed if each["name"] == name]
    return found


@in_virtual_time
async def test_everything_is_json_and_has_the_promised_keys() -> None:
    live, rates = a_live()
    await asyncio.sleep(5)
    shown = snapshot(live, rates)
    rates.stop()

    assert json.loads(json.dumps(shown, allow_nan=False)) == shown
    assert list(shown) == [
        *(
            "at",
            "name",
            "host",
            "listen",
            "version",
            "uptime",
            "status",
            "message",
            "ready",
            "reason",
            "profile",
            "config",
            "process",
        ),
        *("routes", "upstreams", "breakers", "bulkheads", "budgets", "rate_limits", "cache", "refused"),
    ]
    assert shown["at"] == EPOCH + 5
    assert (shown["name"], shown["host"], shown["listen"]) == ("<text>", gethostname(), "0.0.0.0:8080")
    assert (shown["version"], shown["uptime"]) == (VERSION, 5)
    assert (shown["ready"], shown["reason"], shown["profile"]) == (True, None, "production")
    assert shown["config"] == {
        "source": "<text>",
        "hash": load_text(YAML, env={}).digest,
        "loaded_at": EPOCH,
        "reload_ok": True,
        "reload_lines": [],
    }
    process = shown["process"]
    assert list(process) == ["connections", "tasks", "loop_lag_ms", "memory", "cpu", "log_dropped"]
    assert process["memory"] > 1 << 20
    assert (process["connections"], process["log_dropped"]) == (0, 0)


@in_virtual_time
async def test_a_route_tells_what_it_asks_what_it_is_made_of_and_what_came_of_its_requests() -> None:
    live, rates = a_live()
    counts = live.recorder.by_route["read"]
    counts.requests[b"GET", 200, "ok"] = 6
    counts.requests[b"HEAD", 200, "ok"] = 2
    counts.requests[b"GET", 503, "rejected_breaker_open"] = 1
    counts.requests[b"GET", 503, "fallback_static"] = 1
    for _ in range(10):
        counts.seconds.observe(0.002)
    live.maintenance["read"] = Maintained(since=EPOCH + 1.0, retry_after=60)
    await asyncio.sleep(5)
    shown = of(routes_json(live, rates), "read")
    rates.stop()

    stages = shown.pop("stages")
    assert stages == live.pipelines[0].describe()
    assert 0.001 < shown.pop("p50_ms") / 1000 <= 0.0025
    assert 0.001 < shown.pop("p99_ms") / 1000 <= 0.0025
    assert shown == {
        "name": "read",
        "upstream": "orders",
        "match": "GET, HEAD api.example.com /orders/{id} with X-Tenant: gold, X-Any",
        "requests": 10,
        "fates": {"ok": 8, "rejected_breaker_open": 1, "fallback_static": 1},
        "failed": {"rejected_breaker_open": 1, "fallback_static": 1},
        "last_minute": {
            "fates": {"ok": 8, "rejected_breaker_open": 1, "fallback_static": 1},
            "failed": {"rejected_breaker_open": 1, "fallback_static": 1},
        },
        "rate": 2.0,
        "errors": 0.2,
        "breaker": "db",
        "bulkhead": "reads",
        "maintenance": {"since": EPOCH + 1.0, "retry_after": 60},
    }


@in_virtual_time
async def test_a_fallback_that_is_an_error_itself_is_told_apart_from_one_that_rescues() -> None:
    live, rates = a_live()
    requests = live.recorder.by_route["read"].requests
    requests[b"GET", 200, "fallback_static"] = 2
    requests[b"GET", 503, "fallback_static"] = 6
    await asyncio.sleep(70)
    requests[b"GET", 503, "fallback_static"] += 3
    shown = of(routes_json(live, rates), "read")
    rates.stop()

    assert (shown["fates"], shown["failed"]) == ({"fallback_static": 11}, {"fallback_static": 9})
    assert shown["last_minute"] == {"fates": {"fallback_static": 3}, "failed": {"fallback_static": 3}}
    assert shown["errors"] == 1.0


@in_virtual_time
async def test_routes_stand_in_the_order_of_the_file_and_idle_ones_have_no_latency() -> None:
    live, rates = a_live()
    shown = routes_json(live, rates)
    rates.stop()

    assert [(each["name"], each["match"], each["requests"]) for each in shown][1:] == [
        ("write", "/orders/**", 0),
        ("rest", "~ /x[0-9]+", 0),
    ]
    assert {each["p99_ms"] for each in shown} == {None}
    assert {each["errors"] for each in shown} == {0.0}


@in_virtual_time
async def test_an_open_breaker_says_why_since_when_and_for_how_long() -> None:
    live, rates = a_live()
    rates.stop()
    await asyncio.sleep(100)
    trip(live)
    await asyncio.sleep(4)

    shown = of(breakers_json(live), "db")
    last_trip = shown.pop("last_trip")
    assert shown.pop("outage") == {
        "since": EPOCH + 100,
        "cause": "consecutive_failures",
        "threshold": "3 failures in a row",
        "failures": 3,
        "total": 3,
        "first_error": "503",
        "trials_failed": 0,
    }
    assert shown == {
        "name": "db",
        "state": "OPEN",
        "forced": None,
        "forced_for": None,
        "mode": "enforce",
        "failures": 3,
        "successes": 0,
        "failureRate": 100.0,
        "retry_after": shown["retry_after"],
        "trials": 0,
        "rejected": 0,
        "late": 0,
        "trips": 1,
        "open_seconds": 4.0,
        "routes": ["read", "write"],
    }
    open_for = last_trip.pop("open_for")
    assert 0 < shown["retry_after"] <= open_for - 4 + 0.001
    assert last_trip == {
        "number": 1,
        "at": EPOCH + 100,
        "cause": "consecutive_failures",
        "threshold": last_trip["threshold"],
        "failures": 3,
        "total": 3,
        "failureRate": 100.0,
        "first_error": "503",
        "attempts": [{"what": "503", "ms": 250.0, "age": 0.0}] * 3,
    }
    assert "3" in last_trip["threshold"]


@in_virtual_time
async def test_an_outage_is_told_from_its_beginning_however_many_trials_fail_until_it_is_over() -> None:
    live, rates = a_live()
    rates.stop()
    await asyncio.sleep(100)
    trip(live)
    for _ in range(2):
        await asyncio.sleep(300)
        trip(live, times=1)
    during = of(breakers_json(live), "db")
    live.guards.breakers["db"].reset(live.now())
    after = of(breakers_json(live), "db")

    outage, last = during["outage"], during["last_trip"]
    assert (outage["since"], outage["threshold"], outage["trials_failed"]) == (
        EPOCH + 100,
        "3 failures in a row",
        2,
    )
    assert (last["at"], last["threshold"]) == (EPOCH + 700, "1 failed trial")
    assert (after["outage"], after["last_trip"]) == (None, last)


@in_virtual_time
async def test_a_trial_that_fails_after_an_operator_had_opened_it_is_counted_as_one() -> None:
    live, rates = a_live()
    rates.stop()
    live.guards.breakers["db"].force_open(live.now(), 5)
    await asyncio.sleep(6)
    trip(live, times=1)
    outage = of(breakers_json(live), "db")["outage"]

    assert (outage["since"], outage["cause"], outage["trials_failed"]) == (EPOCH + 6, "trial_failed", 1)


@in_virtual_time
async def test_a_breaker_whose_time_is_over_is_shown_half_open_though_nobody_has_asked() -> None:
    live, rates = a_live()
    rates.stop()
    trip(live)
    await asyncio.sleep(60)
    shown = of(breakers_json(live), "db")

    assert (shown["state"], shown["retry_after"]) == ("HALF_OPEN", None)


@in_virtual_time
async def test_a_forced_breaker_says_how_long() -> None:
    live, rates = a_live()
    rates.stop()
    live.guards.breakers["db"].force_open(live.now(), 30)
    await asyncio.sleep(10)
    shown = of(breakers_json(live), "db")

    assert (shown["state"], shown["forced"], shown["forced_for"]) == ("OPEN", "open", 20)
    assert shown["last_trip"] is None


@in_virtual_time
async def test_one_breaker_alone_tells_its_events_the_newest_first() -> None:
    live, rates = a_live()
    rates.stop()
    await asyncio.sleep(7)
    trip(live)
    live.guards.breakers["db"].reset(live.now())
    shown = breaker_json(live, "db")

    assert shown["events"] == [
        {
            "at": EPOCH + 7,
            "from": "OPEN",
            "to": "CLOSED",
            "cause": "reset",
            "forced": None,
            "threshold": None,
            "first_error": None,
        },
        {
            "at": EPOCH + 7,
            "from": "CLOSED",
            "to": "OPEN",
            "cause": "consecutive_failures",
            "forced": None,
            "threshold": "3 failures in a row",
            "first_error": "503",
        },
    ]


@in_virtual_time
async def test_what_happened_once_has_one_time_whoever_asks_and_when() -> None:
    live, _ = a_live()
    trip(live)
    turn, told = live.now(), set[str]()
    for late in (0.0, 0.0004, 0.0011, 0.0026):  # the loop's time is that of its last turn
        live.now = partial(sub, turn, late)
        told.add(json.dumps([breaker_json(live, "db")[key] for key in ("events", "outage", "last_trip")]))
    live.wall = lambda: EPOCH + 7200.0
    since_the_clock_was_set = breaker_json(live, "db")["last_trip"]["at"]

    assert len(told) == 1
    assert since_the_clock_was_set > json.loads(told.pop())[2]["at"] + 3600


async def test_shadows_say_so_and_what_nobody_uses_is_shown_too() -> None:
    live, rates = a_live()
    rates.stop()
    shown = breakers_json(live)

    assert {each["name"]: (each["mode"], each["routes"]) for each in shown} == {
        "db": ("enforce", ["read", "write"]),
        "watched": ("shadow", ["rest"]),
        "unused": ("enforce", []),
    }


@in_virtual_time
async def test_bulkheads_budgets_and_limits() -> None:
    live, rates = a_live()
    rates.stop()
    live.guards.bulkheads["reads"].enter()
    live.guards.limiters["read"].decide(b"gold", live.now())

    assert bulkheads_json(live) == [
        {
            "name": "reads",
            "in_use": 1,
            "limit": 10,
            "queued": 0,
            "max_queue": 4,
            "admitted": 1,
            "rejected_full": 0,
            "rejected_timeout": 0,
            "mode": "enforce",
            "routes": ["read"],
        },
        {
            "name": "write",
            "in_use": 0,
            "limit": 2,
            "queued": 0,
            "max_queue": 100,
            "admitted": 0,
            "rejected_full": 0,
            "rejected_timeout": 0,
            "mode": "enforce",
            "routes": ["write"],
        },
    ]
    assert budgets_json(live) == [
        {"upstream": "orders", "balance": 10.0, "ratio": 0.2, "min_per_second": 1.0, "window": 10.0}
    ]
    assert rate_limits_json(live) == [
        {
            "route": "read",
            "limit": 100,
            "per": 60.0,
            "algorithm": "token_bucket",
            "key": "header:X-Tenant",
            "mode": "enforce",
            "allowed": 0,
            "rejected": 0,
            "would_reject": 0,
            "keys": 1,
            "evicted": 0,
        }
    ]


@in_virtual_time
async def test_the_cache_by_route_and_none_where_there_is_none() -> None:
    live, rates = a_live()
    rates.stop()
    shown = cache_json(live)

    assert shown is not None
    assert (shown["bytes"], shown["entries"], shown["evicted"]) == (0, 0, 0)
    assert shown["max_bytes"] > 0
    assert [each["route"] for each in shown["routes"]] == ["read"]
    assert shown["routes"][0]["results"]["hit"] == 0
    assert cache_json(live_from()) is None


@in_virtual_time
async def test_an_upstream_tells_its_connections_attempts_and_probes() -> None:
    live, rates = a_live()
    health = Health(HealthSettings(fall=2))
    health.passed(1.0, 0.25)
    health.failed(3.0, "status 503")
    health.failed(4.0, "status 503")
    live.health = {"orders": health}
    stage = live.pipelines[0].stages[-1]
    stage.counts.update({"ok": 3, "status_5xx": 1, "cancelled": 5})  # type: ignore[attr-defined]  # an AttemptStage
    await asyncio.sleep(5)
    (shown,) = upstreams_json(live, rates)
    rates.stop()

    assert shown == {
        "name": "orders",
        "url": "http://127.0.0.1:9",
        "open": 0,
        "idle": 0,
        "max_connections": 7,
        "attempts": 9,
        "failures": 1,
        "availability": 0.75,
        "p50_ms": None,
        "p99_ms": None,
        "health": {
            "healthy": False,
            "since": EPOCH + 4,
            "checked_at": EPOCH + 4,
            "latency_ms": 250.0,
            "why": "status 503",
            "passes": 1,
            "failures": 2,
        },
    }


@in_virtual_time
async def test_an_upstream_that_nobody_asked_has_no_availability_and_no_health() -> None:
    live, rates = a_live()
    (shown,) = upstreams_json(live, rates)
    rates.stop()

    assert (shown["availability"], shown["health"]) == (None, None)


async def test_the_last_refused_requests_are_there_and_the_good_ones_are_not() -> None:
    """Over a real pool, to a port where nobody listens."""
    engine = engine_from()
    live = live_from()
    put_in_force(live, engine)
    for number in range(REFUSED + 5):
        reply = await engine.dispatcher(a_request(target=f"/{number}"))
        reply.close()
    shown = snapshot(live, Rates(live, asyncio.get_running_loop()))["refused"]
    engine.abort()

    assert len(shown) == REFUSED
    assert shown[0]["path"] == f"/{REFUSED + 4}"
    assert shown[0]["fate"] == ConnectFailed.fate


@in_virtual_time
async def test_after_a_reload_the_new_configuration_is_shown() -> None:
    live, rates = a_live()
    routes_json(live, rates)
    put_in_force(live, engine_from(YAML.replace("name: rest", "name: others").replace("db", "database")))
    shown = snapshot(live, rates)
    rates.stop()

    assert [each["name"] for each in shown["routes"]] == ["read", "write", "others"]
    assert [each["name"] for each in shown["breakers"]] == ["database", "watched", "unused"]
    assert of(shown["breakers"], "database")["routes"] == ["read", "write"]


@in_virtual_time
async def test_a_draining_sidecar_says_so() -> None:
    live, rates = a_live()
    live.not_ready = "draining"
    shown = snapshot(live, rates)
    rates.stop()

    assert (shown["ready"], shown["reason"]) == (False, "draining")
