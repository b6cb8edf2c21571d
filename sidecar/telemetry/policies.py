"""The metrics of the policies: breakers, bulkheads, budgets, rate limits, caches, fallbacks, and what shadows would do.

Read from the live objects at scrape time, as in `metrics`. Every series of a configured name is there at 0 from the
first scrape where its labels are known; those that follow from what happened (which fallback for which cause, which
status was retried) appear with their first count.
"""

from collections.abc import Callable, Iterable, Sequence
from typing import TypeVar

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.metrics_core import Metric

from sidecar.pipeline.assemble import Pipeline
from sidecar.pipeline.guards import Guards
from sidecar.pipeline.stage import Stage
from sidecar.pipeline.stages.breaker import BreakerGate, BreakerPermit
from sidecar.pipeline.stages.bulkhead import BulkheadStage
from sidecar.pipeline.stages.cache import CacheStage
from sidecar.pipeline.stages.fallback import FallbackStage
from sidecar.pipeline.stages.fault import FaultStage
from sidecar.pipeline.stages.rate_limit import RateLimitStage
from sidecar.pipeline.stages.retry import RetryStage
from sidecar.policy.breaker import State

__all__ = ["policy_metrics"]

S = TypeVar("S", bound=Stage)


def policy_metrics(pipelines: Sequence[Pipeline], guards: Guards, now: float) -> Iterable[Metric]:
    """Give the families of all policies; `now` is the loop's time."""
    yield from _retries(pipelines, guards, now)
    yield from _breakers(guards, now)
    yield from _bulkheads(guards)
    yield from _rate_limits(pipelines, guards)
    yield from _caches(pipelines, guards)
    yield from _by_kind(
        pipelines,
        FallbackStage,
        CounterMetricFamily(
            "sidecar_fallback",
            "Answers that took the place of a failure, by where they came from and what had failed.",
            labels=["route", "source", "cause"],
        ),
        lambda stage: stage.used.items(),
    )
    yield from _by_kind(
        pipelines,
        FaultStage,
        CounterMetricFamily(
            "sidecar_faults_injected", "Faults injected on purpose.", labels=["route", "kind"]
        ),
        lambda stage: (((kind,), number) for kind, number in stage.injected.items()),
    )
    yield _shadows(pipelines)


def _found(pipelines: Sequence[Pipeline], kind: type[S]) -> Iterable[tuple[str, S]]:
    """Give every stage of one kind, with the name of its route."""
    for pipeline in pipelines:
        for stage in pipeline.stages:
            if isinstance(stage, kind):
                yield pipeline.route, stage


def _by_kind(
    pipelines: Sequence[Pipeline],
    kind: type[S],
    family: CounterMetricFamily,
    counts: Callable[[S], Iterable[tuple[tuple[str, ...], int]]],
) -> Iterable[Metric]:
    """Give `family` with the counters that the stages of one kind keep by label."""
    for route, stage in _found(pipelines, kind):
        for labels, number in counts(stage):
            family.add_metric([route, *map(str, labels)], number)
    yield family


def _retries(pipelines: Sequence[Pipeline], guards: Guards, now: float) -> Iterable[Metric]:
    retried = CounterMetricFamily(
        "sidecar_retries", "Retries, by what had failed.", labels=["route", "reason"]
    )
    blocked = CounterMetricFamily(
        "sidecar_retry_blocked", "Failures that were not tried again, by why.", labels=["route", "reason"]
    )
    for route, stage in _found(pipelines, RetryStage):
        for reason, number in stage.retried.copy().items():
            retried.add_metric([route, reason], number)
        for why, number in stage.blocked.items():
            blocked.add_metric([route, why], number)
    balance = GaugeMetricFamily(
        "sidecar_retry_budget_balance", "Retries that could be made now.", labels=["upstream"]
    )
    for upstream, budget in guards.budgets.items():
        balance.add_metric([upstream], budget.balance(now))
    yield from (retried, blocked, balance)


def _breakers(guards: Guards, now: float) -> Iterable[Metric]:
    state = GaugeMetricFamily(
        "sidecar_breaker_state", "1 for the state that the breaker is in.", labels=["breaker", "state"]
    )
    moves = CounterMetricFamily(
        "sidecar_breaker_transitions", "Changes of state.", labels=["breaker", "from", "to", "cause"]
    )
    rejected = CounterMetricFamily(
        "sidecar_breaker_rejected", "Attempts that the breaker did not let through.", labels=["breaker"]
    )
    open_seconds = CounterMetricFamily("sidecar_breaker_open_seconds", "Time spent OPEN.", labels=["breaker"])
    recovery = HistogramMetricFamily(
        "sidecar_breaker_recovery_seconds", "From opening to being CLOSED again.", labels=["breaker"]
    )
    for name, breaker in guards.breakers.items():
        present = breaker.view(now).state
        for each in State:
            state.add_metric([name, each], int(each == present))
        for (before, after, cause), number in breaker.transitions.copy().items():
            moves.add_metric([name, before, after, cause], number)
        rejected.add_metric([name], breaker.rejected)
        open_seconds.add_metric([name], breaker.open_seconds(now))
        recovery.add_metric([name], breaker.recoveries.cumulative(), breaker.recoveries.total)
    yield from (state, moves, rejected, open_seconds, recovery)


def _bulkheads(guards: Guards) -> Iterable[Metric]:
    gauges = (
        ("in_use", "Slots taken."),
        ("limit", "Slots there are; moves where the limit is adaptive."),
        ("queued", "Requests waiting for a slot."),
    )
    for what, text in gauges:
        gauge = GaugeMetricFamily(f"sidecar_bulkhead_{what}", text, labels=["bulkhead"])
        for name, bulkhead in guards.bulkheads.items():
            gauge.add_metric([name], getattr(bulkhead, what))
        yield gauge
    waits = HistogramMetricFamily(
        "sidecar_bulkhead_queue_wait_seconds", "Time that those who queued have waited.", labels=["bulkhead"]
    )
    for name, bulkhead in guards.bulkheads.items():
        waits.add_metric([name], bulkhead.waits.cumulative(), bulkhead.waits.total)
    yield waits


def _rate_limits(pipelines: Sequence[Pipeline], guards: Guards) -> Iterable[Metric]:
    decisions = CounterMetricFamily(
        "sidecar_rate_limit_decisions", "What the rate limit decided.", labels=["route", "decision"]
    )
    keys = GaugeMetricFamily("sidecar_rate_limit_keys", "Callers that are kept count of.", labels=["route"])
    evicted = CounterMetricFamily(
        "sidecar_rate_limit_evicted", "Callers forgotten to make room for others.", labels=["route"]
    )
    for route, stage in _found(pipelines, RateLimitStage):
        for decision in ("allowed", "rejected", "would_reject"):
            decisions.add_metric([route, decision], getattr(stage, decision))
    for route, limiter in guards.limiters.items():
        keys.add_metric([route], limiter.keys)
        evicted.add_metric([route], limiter.evicted)
    yield from (decisions, keys, evicted)


def _caches(pipelines: Sequence[Pipeline], guards: Guards) -> Iterable[Metric]:
    yield from _by_kind(
        pipelines,
        CacheStage,
        CounterMetricFamily(
            "sidecar_cache_requests", "What the cache made of requests.", labels=["route", "result"]
        ),
        lambda stage: (((result,), number) for result, number in stage.results.items()),
    )
    store = guards.store
    for what, text in (("bytes", "Bytes of stored answers."), ("entries", "Stored answers.")):
        number = getattr(store, what) if store is not None else 0
        yield GaugeMetricFamily(f"sidecar_cache_{what}", text, value=number)
    yield CounterMetricFamily(
        "sidecar_cache_evicted",
        "Stored answers dropped to make room for others.",
        value=store.evicted if store is not None else 0,
    )


def _shadows(pipelines: Sequence[Pipeline]) -> Metric:
    family = CounterMetricFamily(
        "sidecar_shadow_would",
        "What policies in `mode: shadow` would have done.",
        labels=["policy", "name", "action"],
    )
    for pipeline in pipelines:
        for stage in pipeline.stages:
            if isinstance(stage, RateLimitStage) and stage.shadow:
                family.add_metric(["rate_limit", pipeline.route, "reject"], stage.would_reject)
    would: dict[tuple[str, str], int] = {}
    for pipeline in pipelines:
        for stage in pipeline.stages:
            if isinstance(stage, BulkheadStage) and stage.shadow:
                key = ("bulkhead", stage.bulkhead.name)
            elif isinstance(stage, BreakerGate | BreakerPermit) and stage.shadow:
                key = ("breaker", stage.breaker.name)
            else:
                continue
            would[key] = would.get(key, 0) + stage.would_reject
    for (policy, name), number in would.items():
        family.add_metric([policy, name, "reject"], number)
    return family
