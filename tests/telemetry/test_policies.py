"""The metrics of the policies: names, labels, and numbers that are those of the live objects."""

from collections.abc import Iterable

import pytest
from prometheus_client.metrics_core import Metric

from sidecar.errors import ConnectFailed, Disconnected
from sidecar.pipeline.assemble import Pipeline
from sidecar.pipeline.guards import Guards
from sidecar.policy.breaker import Breaker, BreakerSettings
from sidecar.policy.budget import BudgetSettings, RetryBudget
from sidecar.policy.bulkhead import Bulkhead, BulkheadSettings
from sidecar.policy.cache import CacheSettings
from sidecar.policy.fallback import Static
from sidecar.policy.fault import FaultSettings
from sidecar.policy.ratelimit import RateLimiter, RateLimitSettings
from sidecar.policy.retry import RetrySettings
from sidecar.policy.store import Store
from sidecar.telemetry.policies import policy_metrics
from tests.support.exchanges import Route, a_route
from tests.support.upstream import Upstream, answer, fail
from tests.support.virtual_time import in_virtual_time, now

NAMES = {
    "sidecar_retries_total": "route reason",
    "sidecar_retry_blocked_total": "route reason",
    "sidecar_retry_budget_balance": "upstream",
    "sidecar_breaker_state": "breaker state",
    "sidecar_breaker_rejected_total": "breaker",
    "sidecar_breaker_open_seconds_total": "breaker",
    "sidecar_breaker_recovery_seconds_bucket": "breaker le",
    "sidecar_breaker_recovery_seconds_count": "breaker",
    "sidecar_breaker_recovery_seconds_sum": "breaker",
    "sidecar_bulkhead_in_use": "bulkhead",
    "sidecar_bulkhead_limit": "bulkhead",
    "sidecar_bulkhead_queued": "bulkhead",
    "sidecar_bulkhead_queue_wait_seconds_bucket": "bulkhead le",
    "sidecar_bulkhead_queue_wait_seconds_count": "bulkhead",
    "sidecar_bulkhead_queue_wait_seconds_sum": "bulkhead",
    "sidecar_rate_limit_decisions_total": "route decision",
    "sidecar_rate_limit_keys": "route",
    "sidecar_rate_limit_evicted_total": "route",
    "sidecar_fallback_total": "route source cause",
    "sidecar_faults_injected_total": "route kind",
    "sidecar_cache_requests_total": "route result",
    "sidecar_cache_bytes": "",
    "sidecar_cache_entries": "",
    "sidecar_cache_evicted_total": "",
    "sidecar_shadow_would_total": "policy name action",
}

Series = dict[tuple[str, tuple[tuple[str, str], ...]], float]


def read(families: Iterable[Metric]) -> Series:
    """Give the samples of `families`, by name and labels."""
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in families
        for sample in family.samples
        if not sample.name.endswith("_created")
    }


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


def scrape(pipeline: Pipeline, guards: Guards) -> Series:
    return read(policy_metrics([pipeline], guards, now()))


@in_virtual_time
async def test_the_names_and_labels_are_these_from_the_first_scrape() -> None:
    route, guards = a_guarded_route(Upstream(), shadow=frozenset({"rate_limit", "breaker", "bulkhead"}))

    series = scrape(route.pipeline, guards)

    names: dict[str, set[str]] = {}
    for name, labels in series:
        names.setdefault(name, set()).add(" ".join(key for key, _ in labels))
    assert names == {name: {" ".join(sorted(labels.split()))} for name, labels in NAMES.items()}


@in_virtual_time
async def test_before_the_first_request_everything_is_0_but_what_there_is() -> None:
    route, guards = a_guarded_route(Upstream())

    series = scrape(route.pipeline, guards)

    assert {key: value for key, value in series.items() if value} == {
        ("sidecar_retry_budget_balance", (("upstream", "an-upstream"),)): 10.0,
        ("sidecar_breaker_state", (("breaker", "db"), ("state", "CLOSED"))): 1.0,
        ("sidecar_bulkhead_limit", (("bulkhead", "pool"),)): 3.0,
    }


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

    series = scrape(route.pipeline, guards)

    def value(name: str, **labels: str) -> float:
        return series[f"sidecar_{name}", tuple(sorted(labels.items()))]

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

    series = read(policy_metrics([], guards, 7.5))

    assert series["sidecar_breaker_open_seconds_total", (("breaker", "db"),)] == 7.5


@pytest.mark.parametrize("shared", [1, 2])
@in_virtual_time
async def test_what_a_shadow_would_have_done_is_one_number_for_each_policy(shared: int) -> None:
    """Two routes may share a breaker: their counts are one."""
    route, guards = a_guarded_route(Upstream(then=fail(ConnectFailed())), shadow=frozenset({"breaker"}))
    for target in ("/a", "/b", "/c"):
        await route.get(target)

    series = read(policy_metrics([route.pipeline] * shared, guards, now()))

    assert {key: value for key, value in series.items() if key[0] == "sidecar_shadow_would_total"} == {
        ("sidecar_shadow_would_total", (("action", "reject"), ("name", "db"), ("policy", "breaker"))): 2
        * shared
    }
