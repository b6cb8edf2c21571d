"""The metrics of the policies: names, labels, and numbers that are those of the live objects."""

import asyncio
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.errors import ConnectFailed, Disconnected
from sidecar.pipeline.assemble import Pipeline
from sidecar.pipeline.guards import Guards
from sidecar.policy.breaker import REFUSED, Breaker, BreakerSettings
from sidecar.policy.budget import BudgetSettings, RetryBudget
from sidecar.policy.bulkhead import Bulkhead, BulkheadSettings
from sidecar.policy.cache import CacheSettings
from sidecar.policy.fallback import Static
from sidecar.policy.fault import FaultSettings
from sidecar.policy.ratelimit import RateLimiter, RateLimitSettings
from sidecar.policy.retry import RetrySettings
from sidecar.policy.store import Store
from sidecar.policy.waitlist import Ticket
from sidecar.telemetry.live import Live
from sidecar.telemetry.policies import possible_moves
from tests.support.exchanges import Route, a_route
from tests.support.live import some_live
from tests.support.scrapes import scrape
from tests.support.scrapes import value as value_of
from tests.support.upstream import Upstream, answer, fail
from tests.support.virtual_time import in_virtual_time


def a_guarded_route(upstream: Upstream, *, shadow: frozenset[str] = frozenset()) -> tuple[Route, Guards]:
    """Make a route with every policy on, and what they share."""
    guards = Guards(
        breakers={"db": Breaker("db", BreakerSettings(consecutive_failures=2, open_jitter=0.0), lambda: 0.5)},
        bulkheads={"pool": Bulkhead("pool", BulkheadSettings(max_concurrent=3))},
        budgets={"an-upstream": RetryBudget(BudgetSettings(), 0.0)},
        limiters={"orders": RateLimiter(RateLimitSettings(limit=5, per=60.0))},
        store=Store(100_000, 10),
    )
    assert guards.store is not None
    route = a_route(
        upstream,
        name="orders",
        total=15.0,
        attempt=10.0,
        rate_limit=guards.limiters["orders"],
        fallback=(Static(when=frozenset({"connect_error"})),),
        cache=CacheSettings(fresh_for=60.0),
        store=guards.store,
        retry=RetrySettings(retries=1, jitter="none"),
        budget=guards.budgets["an-upstream"],
        breaker=guards.breakers["db"],
        bulkhead=guards.bulkheads["pool"],
        fault=FaultSettings(delay=0.001, percent=0.0),
        shadow=shadow,
    )
    return route, guards


def a_live(guards: Guards, *pipelines: Pipeline) -> Live:
    """Make what the metrics read of these."""
    return some_live(pipelines=pipelines, guards=guards, now=asyncio.get_running_loop().time)


@in_virtual_time
async def test_what_the_policies_did_is_counted() -> None:
    route, guards = a_guarded_route(
        Upstream(answer(200, b"hi"), fail(Disconnected()), fail(ConnectFailed()), then=answer(200))
    )
    await route.get("/a")  # a miss, stored
    await route.get("/a")  # a hit
    await route.get("/b")  # fails, is retried, fails; the breaker opens; a fixed answer
    await route.get("/c")  # refused: no fallback for that
    for _ in range(2):
        await route.get("/d")  # the fifth is allowed, the sixth is not

    series = scrape(a_live(guards, route.pipeline))

    def value(name: str, **labels: str) -> float:
        return value_of(series, f"sidecar_{name}", **labels)

    assert value("cache_requests_total", route="orders", result="hit") == 1
    assert value("cache_entries") == 1
    assert value("cache_bytes") > 2
    assert value("retries_total", route="orders", reason="reset") == 1
    assert value("retry_blocked_total", route="orders", reason="retries_spent") == 1
    assert value("fallback_total", route="orders", source="static", cause="connect_error") == 1
    assert value("breaker_state", breaker="db", state="OPEN") == 1
    assert value("breaker_state", breaker="db", state="CLOSED") == 0
    opened = {"breaker": "db", "from": "CLOSED", "to": "OPEN", "cause": "consecutive_failures"}
    assert value("breaker_transitions_total", **opened) == 1
    assert value("breaker_rejected_total", breaker="db") == 2
    assert value("rate_limit_decisions_total", route="orders", decision="allowed") == 5
    assert value("rate_limit_decisions_total", route="orders", decision="rejected") == 1
    assert value("rate_limit_keys", route="orders") == 1
    assert value("bulkhead_in_use", bulkhead="pool") == 0


@in_virtual_time
async def test_the_time_that_a_breaker_is_open_grows_while_it_is() -> None:
    guards = Guards(breakers={"db": Breaker("db", BreakerSettings(), lambda: 0.5)})
    guards.breakers["db"].force_open(0.0, None)

    live = some_live(guards=guards, now=lambda: 7.5)

    assert value_of(scrape(live), "sidecar_breaker_open_seconds_total", breaker="db") == 7.5


@in_virtual_time
async def test_a_breaker_whose_time_is_over_is_shown_as_it_is_now() -> None:
    guards = Guards(breakers={"db": Breaker("db", BreakerSettings(), lambda: 0.5)})
    guards.breakers["db"].force_open(0.0, 10.0)

    def states(at: float) -> dict[str, float]:
        series = scrape(some_live(guards=guards, now=lambda: at))
        return {
            dict(labels)["state"]: number
            for (name, labels), number in series.items()
            if name == "sidecar_breaker_state"
        }

    assert states(9.0) == {"CLOSED": 0, "OPEN": 1, "HALF_OPEN": 0}
    assert states(11.0) == {"CLOSED": 0, "OPEN": 0, "HALF_OPEN": 1}


@in_virtual_time
async def test_what_a_bulkhead_let_in_and_refused_is_counted() -> None:
    bulkhead = Bulkhead("pool", BulkheadSettings(max_concurrent=1, max_queue=1))
    bulkhead.enter()
    waiting = Ticket(0.0)
    bulkhead.join(waiting, 100.0)
    bulkhead.join(Ticket(0.0), 100.0)
    bulkhead.expire(waiting)

    series = scrape(some_live(guards=Guards(bulkheads={"pool": bulkhead})))

    assert value_of(series, "sidecar_bulkhead_admitted_total", bulkhead="pool") == 1
    assert value_of(series, "sidecar_bulkhead_rejected_total", bulkhead="pool", reason="full") == 1
    assert value_of(series, "sidecar_bulkhead_rejected_total", bulkhead="pool", reason="timeout") == 1


@pytest.mark.parametrize("mode", ["enforce", "shadow"])
@in_virtual_time
async def test_a_breaker_in_shadow_is_told_apart_from_one_that_refuses(mode: str) -> None:
    shadow = frozenset({"breaker"}) if mode == "shadow" else frozenset()
    route, guards = a_guarded_route(Upstream(), shadow=shadow)

    series = scrape(a_live(guards, route.pipeline))

    assert value_of(series, "sidecar_breaker_enforced", breaker="db") == (mode == "enforce")


@given(
    settings=st.sampled_from(
        [
            BreakerSettings(consecutive_failures=2),
            BreakerSettings(consecutive_failures=None, failures_in_window=2, min_requests=2),
            BreakerSettings(consecutive_failures=None, failure_rate=0.5, min_requests=2),
            BreakerSettings(consecutive_failures=None, slow_duration=0.1, slow_rate=0.5, min_requests=2),
        ]
    ),
    steps=st.lists(st.tuples(st.integers(0, 6), st.sampled_from([0.0, 0.5, 20.0, 40.0, 400.0])), max_size=30),
)
def test_a_breaker_changes_only_as_was_shown_at_0_from_the_start(
    settings: BreakerSettings, steps: list[tuple[int, float]]
) -> None:
    breaker = Breaker("db", settings, lambda: 0.5)
    at = 0.0
    for step, pause in steps:
        at += pause
        permit = breaker.enter(at)
        if permit != REFUSED:
            breaker.settle(permit, step % 3, at, pause, "x")
        if step == 3:
            breaker.force_open(at, 30.0)
        elif step == 4:
            breaker.force_closed(at, 30.0)
        elif step == 5:
            breaker.reset(at)
        elif step == 6 and permit != REFUSED:
            breaker.body_broke(permit, at, "x")
    breaker.view(at)

    assert breaker.transitions.keys() <= set(possible_moves(settings))


@pytest.mark.parametrize("shared", [1, 2])
@in_virtual_time
async def test_what_a_shadow_would_have_done_is_one_number_for_each_policy(shared: int) -> None:
    """Two routes may share a breaker: their counts are one."""
    route, guards = a_guarded_route(Upstream(then=fail(ConnectFailed())), shadow=frozenset({"breaker"}))
    for target in ("/a", "/b", "/c"):
        await route.get(target)

    series = scrape(a_live(guards, *[replace(route.pipeline, route=f"r{n}") for n in range(shared)]))

    assert {key: number for key, number in series.items() if key[0] == "sidecar_shadow_would_total"} == {
        (
            "sidecar_shadow_would_total",
            frozenset({("action", "reject"), ("name", "db"), ("policy", "breaker")}),
        ): 2 * shared
    }
