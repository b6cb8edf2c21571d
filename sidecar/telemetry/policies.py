"""The metrics of the policies: breakers, bulkheads, budgets, rate limits, caches, fallbacks, and what shadows would do.

Read from the live objects at scrape time, as in `metrics`. Every series of a configured name is there at 0 from the
first scrape.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from typing import TypeVar

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
from sidecar.policy.breaker import Breaker, State
from sidecar.policy.breaker_settings import BreakerSettings
from sidecar.policy.trip import Cause
from sidecar.telemetry.family import Counted, Family, counter, gauge, histogram
from sidecar.telemetry.live import Live

__all__ = ["Move", "policy_families", "possible_moves"]

S = TypeVar("S", bound=Stage)

_ONE_OF = {state: [int(each is state) for each in State] for state in State}

Move = tuple[State, State, Cause]  # from, to, why: the keys of `Breaker.transitions`


def policy_families(live: Live) -> Iterator[Family]:
    """Give the families of all policies in force."""
    pipelines, guards = live.pipelines, live.guards
    yield from _retries(pipelines, guards, live.now)
    yield from _breakers(pipelines, guards, live.now)
    yield from _bulkheads(guards)
    yield from _rate_limits(pipelines, guards)
    yield from _caches(pipelines, guards)
    yield _by_kind(
        pipelines,
        FallbackStage,
        name="sidecar_fallback",
        text="Answers that took the place of a failure, by where they came from and what had failed.",
        labels=("source", "cause"),
        counts=lambda stage: stage.used,
    )
    yield _by_kind(
        pipelines,
        FaultStage,
        name="sidecar_faults_injected",
        text="Faults injected on purpose.",
        labels=("kind",),
        counts=lambda stage: stage.injected,
    )
    yield _shadows(pipelines)


def _found(pipelines: Sequence[Pipeline], kind: type[S]) -> list[tuple[str, S]]:
    """Give every stage of one kind, with the name of its route."""
    return [
        (pipeline.route, stage)
        for pipeline in pipelines
        for stage in pipeline.stages
        if isinstance(stage, kind)
    ]


def _by_kind(
    pipelines: Sequence[Pipeline],
    kind: type[S],
    *,
    name: str,
    text: str,
    labels: tuple[str, ...],
    counts: Callable[[S], Mapping[str, int] | Mapping[tuple[str, str], int]],
) -> Family:
    """Give the counters that the stages of one kind keep by label. They are all there from the start."""
    parts = (
        Counted(f"{name}_total", ("route", *labels), (route,), counts(stage), words=_words)
        for route, stage in _found(pipelines, kind)
    )
    return Family(name, "counter", text, parts)


def _words(key: str | tuple[str, ...]) -> tuple[str, ...]:
    return (str(key),) if isinstance(key, str) else tuple(map(str, key))


def _retries(pipelines: Sequence[Pipeline], guards: Guards, now: Callable[[], float]) -> Iterator[Family]:
    yield _by_kind(
        pipelines,
        RetryStage,
        name="sidecar_retries",
        text="Retries, by what had failed.",
        labels=("reason",),
        counts=lambda stage: stage.retried,
    )
    yield _by_kind(
        pipelines,
        RetryStage,
        name="sidecar_retry_blocked",
        text="Failures that were not tried again, by why.",
        labels=("reason",),
        counts=lambda stage: stage.blocked,
    )
    budgets = list(guards.budgets.values())
    yield gauge(
        "sidecar_retry_budget_balance",
        "Retries that could be made now.",
        ("upstream",),
        _names(guards.budgets),
        lambda: [budget.balance(now()) for budget in budgets],
    )


def _breakers(pipelines: Sequence[Pipeline], guards: Guards, now: Callable[[], float]) -> Iterator[Family]:
    names = _names(guards.breakers)
    breakers = list(guards.breakers.values())
    yield gauge(
        "sidecar_breaker_state",
        "1 for the state that the breaker is in.",
        ("breaker", "state"),
        [(*name, state) for name in names for state in State],
        partial(_states, breakers, now),
    )
    gates = [stage for kind in (BreakerGate, BreakerPermit) for _, stage in _found(pipelines, kind)]
    shadows = {stage.breaker.name for stage in gates if stage.shadow}
    yield gauge(
        "sidecar_breaker_enforced",
        "1 if the breaker refuses requests while it is OPEN, 0 if it is in shadow and only counts.",
        ("breaker",),
        names,
        lambda: [int(breaker.name not in shadows) for breaker in breakers],
    )
    moves = (
        Counted(
            "sidecar_breaker_transitions_total",
            ("breaker", "from", "to", "cause"),
            (breaker.name,),
            breaker.transitions,
            words=_words,
            known=possible_moves(breaker.settings),
        )
        for breaker in breakers
    )
    yield Family("sidecar_breaker_transitions", "counter", "Changes of state.", moves)
    yield counter(
        "sidecar_breaker_rejected",
        "Attempts that the breaker did not let through.",
        ("breaker",),
        names,
        lambda: [breaker.rejected for breaker in breakers],
    )
    yield counter(
        "sidecar_breaker_open_seconds",
        "Time spent OPEN.",
        ("breaker",),
        names,
        partial(_open_seconds, breakers, now),
    )
    yield histogram(
        "sidecar_breaker_recovery_seconds",
        "From opening to being CLOSED again.",
        ("breaker",),
        [((breaker.name,), breaker.recoveries) for breaker in breakers],
    )


def _states(breakers: Iterable[Breaker], now: Callable[[], float]) -> list[int]:
    at = now()
    numbers = []
    for breaker in breakers:
        breaker.open_seconds(at)  # brings the time, upon which an open one may be HALF_OPEN
        numbers += _ONE_OF[breaker.state]
    return numbers


def _open_seconds(breakers: Iterable[Breaker], now: Callable[[], float]) -> list[float]:
    at = now()
    return [breaker.open_seconds(at) for breaker in breakers]


def possible_moves(settings: BreakerSettings) -> list[Move]:
    """Give the changes of state that a breaker with these settings can make, and why."""
    triggers: dict[Cause, object] = {
        "consecutive_failures": settings.consecutive_failures,
        "failures_in_window": settings.failures_in_window,
        "failure_rate": settings.failure_rate,
        "slow_call_rate": settings.slow_trips or None,
    }
    closed, opened, trying = State.CLOSED, State.OPEN, State.HALF_OPEN
    causes: dict[tuple[State, State], list[Cause]] = {
        (closed, opened): [*[cause for cause, each in triggers.items() if each is not None], "forced"],
        (opened, trying): ["open_time_over", "probe_passed", "force_expired"],
        (opened, closed): ["forced", "reset"],
        (trying, closed): ["trial_succeeded", "forced", "reset"],
        (trying, opened): ["trial_failed", "trial_timed_out", "forced"],
    }
    return [(before, after, cause) for (before, after), found in causes.items() for cause in found]


def _bulkheads(guards: Guards) -> Iterator[Family]:
    names = _names(guards.bulkheads)
    bulkheads = list(guards.bulkheads.values())
    yield gauge(
        "sidecar_bulkhead_in_use",
        "Slots taken.",
        ("bulkhead",),
        names,
        lambda: [each.in_use for each in bulkheads],
    )
    yield gauge(
        "sidecar_bulkhead_limit",
        "Slots there are; moves where the limit is adaptive.",
        ("bulkhead",),
        names,
        lambda: [each.limit for each in bulkheads],
    )
    yield gauge(
        "sidecar_bulkhead_queued",
        "Requests waiting for a slot.",
        ("bulkhead",),
        names,
        lambda: [each.queued for each in bulkheads],
    )
    yield counter(
        "sidecar_bulkhead_admitted",
        "Attempts that got a slot.",
        ("bulkhead",),
        names,
        lambda: [each.admitted for each in bulkheads],
    )
    yield counter(
        "sidecar_bulkhead_rejected",
        "Attempts that got no slot: no place in the queue, or none with a hope in time, or too long a wait.",
        ("bulkhead", "reason"),
        [(*name, reason) for name in names for reason in ("full", "timeout")],
        lambda: [number for each in bulkheads for number in (each.rejected_full, each.rejected_timeout)],
    )
    yield histogram(
        "sidecar_bulkhead_queue_wait_seconds",
        "Time that those who queued have waited.",
        ("bulkhead",),
        [((each.name,), each.waits) for each in bulkheads],
    )


def _rate_limits(pipelines: Sequence[Pipeline], guards: Guards) -> Iterator[Family]:
    stages = _found(pipelines, RateLimitStage)
    yield counter(
        "sidecar_rate_limit_decisions",
        "What the rate limit decided.",
        ("route", "decision"),
        [(route, word) for route, _ in stages for word in ("allowed", "rejected", "would_reject")],
        lambda: [
            number for _, stage in stages for number in (stage.allowed, stage.rejected, stage.would_reject)
        ],
    )
    names = _names(guards.limiters)
    limiters = list(guards.limiters.values())
    yield gauge(
        "sidecar_rate_limit_keys",
        "Callers that are kept count of.",
        ("route",),
        names,
        lambda: [limiter.keys for limiter in limiters],
    )
    yield counter(
        "sidecar_rate_limit_evicted",
        "Callers forgotten to make room for others.",
        ("route",),
        names,
        lambda: [limiter.evicted for limiter in limiters],
    )


def _caches(pipelines: Sequence[Pipeline], guards: Guards) -> Iterator[Family]:
    yield _by_kind(
        pipelines,
        CacheStage,
        name="sidecar_cache_requests",
        text="What the cache made of requests.",
        labels=("result",),
        counts=lambda stage: stage.results,
    )
    store = guards.store
    one = [()]
    yield gauge(
        "sidecar_cache_bytes",
        "Bytes of stored answers.",
        (),
        one,
        lambda: [0 if store is None else store.bytes],
    )
    yield gauge(
        "sidecar_cache_entries", "Stored answers.", (), one, lambda: [0 if store is None else store.entries]
    )
    yield counter(
        "sidecar_cache_evicted",
        "Stored answers dropped to make room for others.",
        (),
        one,
        lambda: [0 if store is None else store.evicted],
    )


def _shadows(pipelines: Sequence[Pipeline]) -> Family:
    """Show what those would have refused that refuse nothing. A policy that several routes share has one number."""
    stages: dict[tuple[str, str], list[RateLimitStage | BulkheadStage | BreakerGate | BreakerPermit]] = {}
    for pipeline in pipelines:
        for stage in pipeline.stages:
            match stage:
                case RateLimitStage(shadow=True):
                    stages.setdefault(("rate_limit", pipeline.route), []).append(stage)
                case BulkheadStage(shadow=True):
                    stages.setdefault(("bulkhead", stage.bulkhead.name), []).append(stage)
                case BreakerGate(shadow=True) | BreakerPermit(shadow=True):
                    stages.setdefault(("breaker", stage.breaker.name), []).append(stage)
                case _:
                    pass
    return counter(
        "sidecar_shadow_would",
        "What policies in `mode: shadow` would have done.",
        ("policy", "name", "action"),
        [(*key, "reject") for key in stages],
        lambda: [sum(stage.would_reject for stage in found) for found in stages.values()],
    )


def _names(mapping: Mapping[str, object]) -> list[tuple[str]]:
    return [(name,) for name in mapping]
