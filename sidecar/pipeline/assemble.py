"""THE order of the stages. It is fixed, and `Pipeline.describe` tells it.

    headers → record → rate limit → bounds → invalidate → fallback ⟨ cache ⟨ total deadline ⟨ retry ⟨
        breaker gate → bulkhead → breaker permit → attempt timeout → fault → upstream ⟩⟩⟩⟩

| Choice | Why |
|---|---|
| headers outside record | there every error is an answer, and has its fate |
| record around everything else | whatever happens inside, there is one answer and one fate |
| rate limit before everything else | whoever is over his quota costs nothing more, and gets no free answer |
| bounds before anything waits | what is too large is refused at once; the wire holds bodies to the rest |
| invalidate around everything that answers | a change makes copies worthless, whoever has carried it out |
| fallback around retry and breaker | it sees the final reason, and hides nothing from them |
| cache inside fallback, outside the deadline | a hit costs no attempt; a copy is still there when the upstream is not |
| total around everything that waits | our own waiting must not outlive the caller's patience |
| breaker inside retry | an open breaker ends the retries at once, and it counts attempts |
| a peek before the queue, the permit after it | nobody queues for a dead upstream, and no trial waits in a queue |
| a slot for an attempt, not during back-off | it protects what the upstream really does at once |
| attempt innermost | it bounds the upstream alone: our own queueing must not look like its slowness |
| fault within the attempt | to everything outside it looks like the upstream's |
| a stage that is not configured is not in the chain | it costs nothing |
| nor is a bound that another always reaches first | with one attempt and no queue, `total` and `attempt` begin together |
"""

import asyncio
from collections.abc import Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

from sidecar.counts import Histogram
from sidecar.message import Allowance, Reply
from sidecar.pipeline.answers import Answers
from sidecar.pipeline.exchange import Exchange
from sidecar.pipeline.stage import Call, Stage, compose
from sidecar.pipeline.stages.attempt import AttemptStage
from sidecar.pipeline.stages.bounds import Bounds
from sidecar.pipeline.stages.breaker import BreakerGate, BreakerPermit
from sidecar.pipeline.stages.bulkhead import BulkheadStage
from sidecar.pipeline.stages.cache import CacheStage
from sidecar.pipeline.stages.deadline import TotalDeadline
from sidecar.pipeline.stages.fallback import FallbackStage
from sidecar.pipeline.stages.fault import FaultStage
from sidecar.pipeline.stages.guarded import Front, Guarded
from sidecar.pipeline.stages.headers import headers_stages
from sidecar.pipeline.stages.invalidate import InvalidateStage
from sidecar.pipeline.stages.ladder import Ladder, Other
from sidecar.pipeline.stages.rate_limit import RateFields, RateLimitStage
from sidecar.pipeline.stages.record import RecordStage
from sidecar.pipeline.stages.retry import RetryStage
from sidecar.policy.breaker import Breaker
from sidecar.policy.budget import RetryBudget
from sidecar.policy.bulkhead import Bulkhead
from sidecar.policy.cache import CacheSettings
from sidecar.policy.fallback import FallbackStep
from sidecar.policy.fault import FaultSettings
from sidecar.policy.ratelimit import RateLimiter
from sidecar.policy.retry import RetrySettings
from sidecar.policy.store import Store

__all__ = ["Parts", "Pipeline", "Policy", "answer_only", "assemble"]

S = TypeVar("S", bound=Stage)


@dataclass(frozen=True, slots=True)
class Policy:
    """What one route asks for; None where it does not. Times in seconds, sizes in bytes.

    Breaker, bulkhead, limiter, budget and store are the live objects, which several routes may share. `shadow` names
    those of `rate_limit`, `bulkhead` and `breaker` that only say what they would do. `invalidates` are the routes whose
    copies a change through this one makes worthless; `others` the upstreams that `fallback` may ask. `breaker_header` is
    the field of the answers that shows the state of `breaker`.
    """

    route: str
    upstream: str
    attempt: float | None = 10.0
    total: float | None = 15.0
    idle: float | None = 60.0
    body: float | None = None
    max_body: int | None = None
    rate_limit: RateLimiter | None = None
    rate_limit_key: str = "client_ip"
    rate_limit_fields: RateFields = "both"
    fallback: tuple[FallbackStep, ...] = ()
    others: Mapping[str, Other] = field(default_factory=dict)
    cache: CacheSettings | None = None
    store: Store | None = None
    invalidates: tuple[str, ...] = ()
    retry: RetrySettings | None = None
    budget: RetryBudget | None = None
    breaker: Breaker | None = None
    breaker_header: str | None = None
    bulkhead: Bulkhead | None = None
    fault: FaultSettings | None = None
    shadow: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Parts:
    """What the stages of every route share.

    `clock` measures, `wall` is the time of day (Unix, seconds), `chance` gives numbers in [0, 1), and `spawn` runs what
    goes on after an answer in a task that somebody owns. `kept` bounds the request bodies that are kept, all together.
    """

    loop: asyncio.AbstractEventLoop
    clock: Callable[[], float]
    answers: Answers
    on_fault: Callable[[Exchange, Exception], None]
    spawn: Callable[[Coroutine[Any, Any, None]], bool]
    chance: Callable[[], float]
    wall: Callable[[], float]
    kept: Allowance | None = None


@dataclass(frozen=True, slots=True)
class Pipeline:
    """A route, ready to run."""

    route: str
    call: Call
    stages: tuple[Stage, ...]

    def describe(self) -> list[str]:
        """Give the stages in their order, outermost first."""
        return [stage.describe() for stage in self.stages]

    def find(self, kind: type[S]) -> S | None:
        """Give the stage of this kind, if the route has one."""
        for stage in self.stages:
            if isinstance(stage, kind):
                return stage
        return None

    def count_on(self, before: "Pipeline") -> None:
        """Go on from what another pipeline of the same route has counted."""
        theirs = {type(stage): stage for stage in before.stages}
        for stage in self.stages:
            if (old := theirs.get(type(stage))) is not None:
                stage.count_on(old)


def assemble(policy: Policy, parts: Parts, seconds: Histogram, upstream: Call) -> Pipeline:
    """Build the pipeline of one route around `upstream`, which is a pool in life and a script in tests.

    Raises:
        ValueError: the policy asks for what it does not bring, such as copies without a store.

    """
    outside, around, inner = _outside(policy, parts), _around(policy, parts), _inside(policy, parts, seconds)
    waits = [
        stage for stage in around if isinstance(stage, TotalDeadline | RetryStage)
    ]  # the innermost of `around`
    call = compose(waits, _in_one(inner, compose(inner, upstream)))
    if waits and isinstance(inner[0], BreakerGate) and not inner[0].shadow:
        call = compose([Front(inner[0])], call)
    call = compose([*outside, *around[: len(around) - len(waits)]], call)
    return Pipeline(policy.route, call, (*outside, *around, *inner))


def _outside(policy: Policy, parts: Parts) -> list[Stage]:
    """Give what happens once, before anything waits."""
    shown = policy.breaker if "breaker" not in policy.shadow else None
    stages = headers_stages(parts.answers.headers, parts.loop, parts.on_fault, shown, policy.breaker_header)
    stages.append(RecordStage(parts.answers, parts.on_fault))
    if policy.rate_limit is not None:
        stages.append(
            RateLimitStage(
                policy.rate_limit,
                parts.loop,
                route=policy.route,
                key=policy.rate_limit_key,
                fields=policy.rate_limit_fields,
                shadow="rate_limit" in policy.shadow,
            )
        )
    if policy.idle is not None or policy.body is not None or policy.max_body is not None:
        stages.append(Bounds(idle=policy.idle, lifetime=policy.body, max_body=policy.max_body))
    return stages


def _around(policy: Policy, parts: Parts) -> list[Stage]:
    """Give what bounds, repeats, or takes the place of attempts."""
    stages: list[Stage] = []
    if policy.store is not None and policy.invalidates:
        stages.append(InvalidateStage(policy.store, policy.invalidates, parts.loop))
    if policy.fallback:
        ladder = Ladder(policy.route, parts.loop, parts.clock, policy.store, policy.others)
        kept = policy.retry.body_buffer if policy.retry is not None else RetrySettings().body_buffer
        stages.append(
            FallbackStage(policy.fallback, ladder, parts.on_fault, body_buffer=kept, kept=parts.kept)
        )
    if policy.store is not None and policy.cache is not None:
        stages.append(
            CacheStage(
                policy.store,
                policy.cache,
                policy.route,
                parts.loop,
                spawn=parts.spawn,
                wall=parts.wall,
                total=policy.total,
            )
        )
    total, _ = _bounds(policy)
    if total is not None:
        stages.append(TotalDeadline(parts.loop, total))
    if policy.retry is not None:
        stages.append(
            RetryStage(policy.retry, policy.budget, parts.loop, parts.chance, parts.wall, kept=parts.kept)
        )
    return stages


def _inside(policy: Policy, parts: Parts, seconds: Histogram) -> list[Stage]:
    """Give what every attempt goes through."""
    stages: list[Stage] = []
    _, attempt = _bounds(policy)
    breaker, loop = policy.breaker, parts.loop
    shadow = "breaker" in policy.shadow
    if breaker is not None:
        stages.append(BreakerGate(breaker, loop, shadow=shadow))
    if policy.bulkhead is not None:
        stages.append(BulkheadStage(policy.bulkhead, loop, shadow="bulkhead" in policy.shadow))
    if breaker is not None:
        stages.append(BreakerPermit(breaker, loop, timed=attempt is not None, shadow=shadow))
    stages.append(AttemptStage(loop, parts.clock, upstream=policy.upstream, timeout=attempt, seconds=seconds))
    if policy.fault is not None:
        stages.append(FaultStage(policy.fault, loop, parts.chance))
    return stages


def _in_one(inner: Sequence[Stage], apart: Call) -> Call:
    """Give what does the same as the stages `inner`, composed as `apart`, at less cost where that is possible."""
    match inner:
        case [
            BreakerGate(),
            BulkheadStage() as bulkhead,
            BreakerPermit() as permit,
            AttemptStage() as attempt,
            *_,
        ]:
            guarded = Guarded(bulkhead, permit, attempt, apart)
            guarded.next = attempt.next
            return guarded.__call__
        case _:
            return apart


def _bounds(policy: Policy) -> tuple[float | None, float | None]:
    """Give `total` and `attempt`, without the one that can never be reached.

    Where there is one attempt and no queue they begin together, and the tighter one decides. Of equal ones it is `total`:
    the caller's word.
    """
    total, attempt = policy.total, policy.attempt
    again = policy.retry is not None and policy.retry.retries > 0
    if total is None or attempt is None or again or policy.bulkhead is not None:
        return total, attempt
    return (None, attempt) if attempt < total else (total, None)


def answer_only(route: str, parts: Parts, answer: Callable[[Exchange], Reply]) -> Pipeline:
    """Build a pipeline that asks no upstream: `answer` replies, or raises."""

    async def terminal(exchange: Exchange) -> Reply:
        return answer(exchange)

    stages = headers_stages(parts.answers.headers, parts.loop, parts.on_fault)
    stages.append(RecordStage(parts.answers, parts.on_fault))
    return Pipeline(route, compose(stages, terminal), tuple(stages))
