"""The health of the sidecar and of what it guards, as JSON."""

import asyncio
import json
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from sidecar.control.health import Copies, detailed_json, health_json, iso
from sidecar.counts import Histogram
from sidecar.message import Fields
from sidecar.pipeline.stages.attempt import AttemptStage
from sidecar.policy.breaker import FAILURE, SUCCESS
from sidecar.policy.health import Health, HealthSettings
from sidecar.policy.store import Stock, Store
from sidecar.telemetry.lag import LagMeter
from sidecar.telemetry.live import Live
from sidecar.version import VERSION
from tests.support.caches import a_copy
from tests.support.live import live_from
from tests.support.virtual_time import in_virtual_time, now

YAML = """
version: 1
upstreams:
  orders: {url: "http://orders.internal:9000"}
  users: {url: "http://users.internal:9000"}
breakers:
  database: {failures_in_window: 3, min_requests: 3, window: 30s, open_for: 15s, open_jitter: 0%}
  quiet: {consecutive_failures: 1, mode: shadow}
routes:
  - {name: list, match: {path: /orders/**}, upstream: orders, breaker: database, retry: off}
  - {name: users, match: {path: /users/**}, upstream: users, breaker: {}, retry: off}
  - {name: more, match: {path: /more/**}, upstream: orders, breaker: quiet, retry: off}
  - {name: rest, upstream: users, breaker: quiet, retry: off}
"""

FALLBACKS = """
version: 1
upstreams: {a: {url: "http://127.0.0.1:9"}, b: {url: "http://127.0.0.1:9"}}
breakers: {b: {consecutive_failures: 1, open_for: 10s}}
routes:
  - {name: stale, match: {path: /stale/**}, upstream: a, fallback: [{stale: {max_age: 5m}}]}
  - {name: anyway, match: {path: /anyway/**}, upstream: a, fallback: [{stale: {max_age: 5m, override_origin: true}}]}
  - {name: both, match: {path: /both/**}, upstream: a, fallback: [stale, {static: {body: "[]"}}]}
  - {name: other, match: {path: /other/**}, upstream: a, fallback: [{upstream: {name: b}}]}
  - {name: none, match: {path: /none/**}, upstream: b, breaker: b, cache: {}}
"""


async def told(live: Live) -> dict[str, Any]:
    """What is told, as it comes out of JSON."""
    return dict(json.loads(json.dumps(await health_json(live, Copies(live)))))


async def services(live: Live) -> dict[str, Any]:
    return dict((await told(live))["services"])


async def fallbacks(live: Live) -> dict[str, Any]:
    return dict((await told(live))["fallbackData"])


def attempts(live: Live, route: str) -> dict[str, int]:
    (pipeline,) = [each for each in live.pipelines if each.route == route]
    stage = pipeline.find(AttemptStage)
    assert stage is not None
    return stage.counts


def keep(live: Live, route: str, stored_at: float, name: str = "1", **more: Any) -> None:
    store = live.guards.store
    assert store is not None
    assert store.put(
        a_copy(f"{route} h /{name}".encode(), 200, Fields([]), b"", stored_at, **more), stored_at
    )


# --- the whole ---


@in_virtual_time
async def test_it_tells_status_version_time_and_what_it_guards() -> None:
    live = live_from(YAML)
    live.wall = lambda: 1_700_000_012.345678
    live.started_at = 1_700_000_000.0

    found = await told(live)

    services = found.pop("services")
    assert found == {
        "status": "healthy",
        "message": "All is well.",
        "timestamp": "2023-11-14T22:13:32.345Z",
        "version": VERSION,
        "uptime": 12.346,
        "ready": True,
        "reason": None,
        "fallbackData": {},
    }
    assert sorted(services) == ["database", "orders", "quiet", "users"]


@in_virtual_time
async def test_it_says_why_it_is_not_ready() -> None:
    live = live_from(YAML)
    live.not_ready = "draining"

    found = await told(live)

    told_of = {key: found[key] for key in ("status", "message", "ready", "reason")}
    expected = {
        "status": "unhealthy",
        "message": "Not ready: draining.",
        "ready": False,
        "reason": "draining",
    }
    assert told_of == expected


@in_virtual_time
async def test_nothing_in_it_says_where_anything_is() -> None:
    """Anybody on the network may read it."""
    live = live_from(YAML)
    live.reload_ok, live.reload_lines = False, ("sidecar.yaml:1:1: upstreams.x.url: http://me:pw@10.0.0.1",)
    health = Health(HealthSettings(fall=1))
    health.failed(0.0, "http://10.0.0.1:9000/check: refused")
    live.health = {"orders": health}
    breaker = live.guards.breakers["database"]
    for _ in range(3):
        breaker.settle(breaker.enter(0.0), FAILURE, 0.0, 0.1, "http://10.0.0.1")

    text = json.dumps(await detailed_json(live, Copies(live)))

    found = [word for word in ("internal", "10.0.0.1", "9000", "/check", "me:pw", "://") if word in text]
    assert found == []
    assert "OPEN" in text


def test_time_is_written_in_utc() -> None:
    assert [iso(at) for at in (0.0, 1_700_000_000.9996)] == [
        "1970-01-01T00:00:00.000Z",
        "2023-11-14T22:13:20.999Z",
    ]


# --- services ---


@in_virtual_time
async def test_a_breaker_shows_what_it_counts_its_rate_in_percent() -> None:
    """2 failures of 100 are 2.0."""
    live = live_from(YAML.replace("min_requests: 3", "min_requests: 200"))
    breaker = live.guards.breakers["database"]
    for number in range(100):
        breaker.settle(breaker.enter(0.0), FAILURE if number < 2 else SUCCESS, 0.0, 0.1, "")

    assert (await services(live))["database"] == {
        "kind": "breaker",
        "status": "healthy",
        "state": "CLOSED",
        "failures": 2,
        "successes": 98,
        "failureRate": 2.0,
        "latency": None,
        "mode": "enforce",
        "forced": None,
        "retry_after": None,
        "trips": 0,
        "rejected": 0,
        "routes": ["list"],
    }


@in_virtual_time
async def test_an_open_breaker_is_unhealthy_and_tells_when_it_will_try_again() -> None:
    live = live_from(YAML)
    breaker = live.guards.breakers["database"]
    for _ in range(3):
        breaker.settle(breaker.enter(now()), FAILURE, now(), 0.1, "503")
    await asyncio.sleep(5.0)
    opened = (await services(live))["database"]
    await asyncio.sleep(10.0)
    later = (await services(live))["database"]

    shown = ("status", "state", "failures", "successes", "failureRate", "retry_after", "trips")
    assert [opened[key] for key in shown] == ["unhealthy", "OPEN", 3, 0, 100.0, 10.0, 1]
    assert [later[key] for key in shown[:2]] == ["degraded", "HALF_OPEN"]


@in_virtual_time
async def test_a_breaker_in_shadow_is_shown_and_never_unhealthy() -> None:
    live = live_from(YAML)
    live.guards.breakers["quiet"].force_open(now(), None)

    found = await told(live)

    quiet = found["services"]["quiet"]
    assert found["status"] == "healthy"
    assert [quiet[key] for key in ("status", "state", "mode", "forced")] == [
        "healthy",
        "OPEN",
        "shadow",
        "open",
    ]


@in_virtual_time
async def test_an_upstream_shows_what_came_of_its_attempts() -> None:
    """What the client or we ourselves brought about says nothing of it."""
    live = live_from(YAML)
    before = (await services(live))["orders"]
    attempts(live, "list").update(ok=6, status_5xx=1, upstream_connect=1, cancelled=50)
    seconds = Histogram()
    for each in (0.010, 0.030):
        seconds.observe(each)
    live.upstreams = {**live.upstreams, "orders": replace(live.upstreams["orders"], seconds=seconds)}

    found = await services(live)

    assert (before["state"], before["latency"], before["failureRate"]) == ("UNKNOWN", None, 0.0)
    assert found["orders"] == {
        "kind": "upstream",
        "status": "healthy",
        "state": "UP",
        "failures": 2,
        "successes": 6,
        "failureRate": 25.0,
        "latency": 20.0,
        "connections": 0,
        "probe": None,
    }
    assert found["database"]["latency"] == 20.0  # its routes go there, and nowhere else
    assert found["quiet"]["latency"] is None


@in_virtual_time
async def test_an_upstream_with_probes_shows_what_they_found() -> None:
    live = live_from(YAML)
    health = Health(HealthSettings(fall=1, rise=1))
    live.health = {"orders": health}
    seen = []
    for probe in (lambda: None, lambda: health.passed(1.0, 0.0125), lambda: health.failed(2.0, "no")):
        probe()
        orders = (await services(live))["orders"]
        seen.append([orders[key] for key in ("status", "state", "latency", "probe")])

    assert seen == [
        ["healthy", "UNKNOWN", None, {"healthy": None, "passes": 0, "failures": 0}],
        ["healthy", "UP", 12.5, {"healthy": True, "passes": 1, "failures": 0}],
        ["unhealthy", "DOWN", 12.5, {"healthy": False, "passes": 1, "failures": 1}],
    ]


@in_virtual_time
async def test_an_upstream_is_down_while_its_own_breakers_are_open_and_degraded_while_they_try() -> None:
    live = live_from(YAML)
    live.guards.breakers["database"].force_open(now(), 5.0)
    seen = []
    for _ in range(2):
        orders = (await services(live))["orders"]
        seen.append((orders["status"], orders["state"]))
        await asyncio.sleep(5.0)

    assert seen == [("unhealthy", "DOWN"), ("degraded", "UNKNOWN")]


@in_virtual_time
async def test_a_breaker_and_an_upstream_of_one_name_are_both_shown() -> None:
    live = live_from(YAML)

    users = (await services(live))["users"]

    assert (users["kind"], users["routes"]) == ("breaker", ["users"])
    assert (users["upstream"]["kind"], users["upstream"]["state"]) == ("upstream", "UNKNOWN")


# --- fallbacks ---


@in_virtual_time
async def test_each_fallback_tells_whether_it_could_deliver_and_how_old_its_copies_are() -> None:
    live = live_from(FALLBACKS)
    empty = await fallbacks(live)
    await asyncio.sleep(100.0)
    keep(live, "stale", 40.0, "1")
    keep(live, "stale", 90.0, "2")

    found = await fallbacks(live)

    nothing = {"entries": 0, "age": None, "oldest": None}
    assert empty == {
        "stale": {"available": False, "steps": ["stale"], **nothing},
        "anyway": {"available": False, "steps": ["stale"], **nothing},
        "both": {"available": True, "steps": ["stale", "static"], **nothing},
        "other": {"available": True, "steps": ["upstream"], **nothing},
    }
    assert found["stale"] == {
        "available": True,
        "steps": ["stale"],
        "entries": 2,
        "age": 10.0,
        "oldest": 60.0,
    }


@in_virtual_time
async def test_a_copy_that_is_too_old_is_not_available_but_still_there() -> None:
    live = live_from(FALLBACKS)
    keep(live, "stale", 0.0)
    seen = []
    for seconds in (300.0, 1.0):
        await asyncio.sleep(seconds)
        seen.append((await fallbacks(live))["stale"])

    assert [each["available"] for each in seen] == [True, False]
    assert (seen[1]["entries"], seen[1]["age"]) == (1, 301.0)


@in_virtual_time
async def test_what_its_origin_forbids_to_serve_stale_is_available_where_the_route_overrides_it() -> None:
    live = live_from(FALLBACKS)
    for route in ("stale", "anyway"):
        keep(live, route, 0.0, must_revalidate=True, lifetime=5.0)
    await asyncio.sleep(10.0)

    found = await fallbacks(live)

    assert (found["stale"]["available"], found["anyway"]["available"]) == (False, True)


@in_virtual_time
async def test_another_upstream_is_available_while_it_is_usable() -> None:
    live = live_from(FALLBACKS)
    live.guards.breakers["b"].force_open(now(), None)

    assert (await fallbacks(live))["other"]["available"] is False


class Counting(Store):
    """A store that counts how often it is looked through."""

    __slots__ = ("surveys",)

    def __init__(self) -> None:
        super().__init__(1 << 20, 10_000)
        self.surveys = 0

    def survey(self, now: float, at_once: int = 256) -> Iterator[dict[str, Stock]]:
        self.surveys += 1
        return super().survey(now, at_once)


@in_virtual_time
async def test_the_store_is_looked_through_once_a_second_however_many_ask() -> None:
    live = live_from(FALLBACKS)
    store = Counting()
    live.guards = replace(live.guards, store=store)
    copies = Copies(live)
    numbers = []
    for seconds in (0.0, 0.9, 0.1):
        await asyncio.sleep(seconds)
        await asyncio.gather(*[health_json(live, copies) for _ in range(5)])
        numbers.append(store.surveys)

    assert numbers == [1, 1, 2]


@in_virtual_time
async def test_others_have_their_turn_while_copies_are_counted() -> None:
    live = live_from(FALLBACKS)
    for number in range(1000):
        keep(live, "stale", 0.0, str(number))
    turns = 0

    async def others() -> None:
        nonlocal turns
        while True:
            await asyncio.sleep(0)
            turns += 1

    other = asyncio.get_running_loop().create_task(others())
    found = (await Copies(live).stocks())["stale"]
    other.cancel()
    await asyncio.wait([other])

    assert found.entries == 1000
    assert turns >= 4


@in_virtual_time
async def test_a_store_that_took_the_place_of_another_is_looked_at_at_once() -> None:
    live = live_from(FALLBACKS)
    copies = Copies(live)
    keep(live, "stale", 0.0)
    before = (await copies.stocks())["stale"].entries
    live.guards = replace(live.guards, store=Store(1 << 20, 10))
    empty = dict(await copies.stocks())
    live.guards = replace(live.guards, store=None)

    assert (before, empty, await copies.stocks()) == (1, {}, {})


# --- in detail ---


@in_virtual_time
async def test_in_detail_it_also_tells_of_the_process_and_its_machine() -> None:
    live = live_from(YAML)
    live.lag = LagMeter(asyncio.get_running_loop(), clock=now)
    live.lag.last = 0.0015

    found = await detailed_json(live, Copies(live))

    system = found.pop("system")
    shape = {key: sorted(value) if isinstance(value, dict) else value for key, value in system.items()}
    disks = shape.pop("disk")
    assert found.keys() == (await health_json(live, Copies(live))).keys()
    assert shape == {
        "cpu": ["cores", "machine", "process", "seconds"],
        "memory": ["limit", "machine", "machine_free", "process"],
        "event_loop": ["lag_ms", "worst_ms"],
        "connections": 0,
        "tasks": 1,
        "log_dropped": 0,
    }
    assert set(disks) <= {"working", "log"}
    assert system["event_loop"] == {"lag_ms": 1.5, "worst_ms": 0.0}
    assert system["memory"]["process"] > 1 << 20
    json.dumps(system)


@in_virtual_time
async def test_without_a_meter_the_loop_is_not_known() -> None:
    live = live_from(YAML)
    live.lag = None

    assert (await detailed_json(live, Copies(live)))["system"]["event_loop"] is None
