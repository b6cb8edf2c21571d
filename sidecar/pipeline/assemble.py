"""THE order of the stages. It is fixed, and `explain` prints it from here.

    record → bounds → total deadline ⟨ attempt timeout → upstream ⟩

| Choice | Why |
|---|---|
| record outermost | whatever happens inside, there is one answer and one fate |
| bounds before anything waits | what is too large is refused at once; the wire holds bodies to the rest |
| total around everything that waits | our own waiting must not outlive the caller's patience |
| attempt innermost | it bounds the upstream alone: our own queueing must not look like its slowness |
| a stage that is not configured is not in the chain | it costs nothing |
| nor is a bound that another always reaches first | with one attempt and no queue, `total` and `attempt` begin together |
"""

import asyncio
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from random import random  # the one place that takes it; everything inside is given it
from typing import Any

from sidecar.counts import Histogram
from sidecar.message import Reply
from sidecar.pipeline.answers import Answers
from sidecar.pipeline.exchange import Exchange
from sidecar.pipeline.stage import Call, Stage, compose
from sidecar.pipeline.stages.attempt import AttemptStage
from sidecar.pipeline.stages.bounds import Bounds
from sidecar.pipeline.stages.deadline import TotalDeadline
from sidecar.pipeline.stages.record import RecordStage

__all__ = ["Parts", "Pipeline", "Policy", "answer_only", "assemble"]


@dataclass(frozen=True, slots=True)
class Policy:
    """What one route asks for; None where it asks for no bound. Times in seconds, sizes in bytes."""

    route: str
    upstream: str
    attempt: float | None = 10.0
    total: float | None = 15.0
    idle: float | None = 60.0
    body: float | None = None
    max_body: int | None = None


def _no_background(work: Coroutine[Any, Any, None]) -> None:
    work.close()


@dataclass(frozen=True, slots=True)
class Parts:
    """What the stages of every route share. `spawn` runs what goes on after the answer, in a task that somebody owns."""

    loop: asyncio.AbstractEventLoop
    clock: Callable[[], float]
    answers: Answers
    on_fault: Callable[[Exchange, Exception], None]
    spawn: Callable[[Coroutine[Any, Any, None]], None] = _no_background
    chance: Callable[[], float] = random  # in [0, 1): jitter, and the share of requests that a fault hits


@dataclass(frozen=True, slots=True)
class Pipeline:
    """A route, ready to run."""

    route: str
    call: Call
    stages: tuple[Stage, ...]
    attempts: AttemptStage | None

    def describe(self) -> list[str]:
        """Give the stages in their order, outermost first."""
        return [stage.describe() for stage in self.stages]


def assemble(policy: Policy, parts: Parts, seconds: Histogram, upstream: Call) -> Pipeline:
    """Build the pipeline of one route around `upstream`, which is a pool in life and a script in tests."""
    total, one = _tighter(policy.total, policy.attempt)
    attempt = AttemptStage(parts.loop, parts.clock, upstream=policy.upstream, timeout=one, seconds=seconds)
    stages: list[Stage] = [RecordStage(parts.answers, parts.on_fault)]
    if policy.idle is not None or policy.body is not None or policy.max_body is not None:
        stages.append(Bounds(idle=policy.idle, lifetime=policy.body, max_body=policy.max_body))
    if total is not None:
        stages.append(TotalDeadline(parts.loop, total))
    stages.append(attempt)
    return Pipeline(policy.route, compose(stages, upstream), tuple(stages), attempt)


def _tighter(total: float | None, attempt: float | None) -> tuple[float | None, float | None]:
    """Give the bounds that can be reached, of two that begin together. Of equal ones `total`: it is the caller's word."""
    if total is None or attempt is None:
        return total, attempt
    return (None, attempt) if attempt < total else (total, None)


def answer_only(route: str, parts: Parts, answer: Callable[[Exchange], Reply]) -> Pipeline:
    """Build a pipeline that asks no upstream: `answer` replies, or raises."""

    async def terminal(exchange: Exchange) -> Reply:
        return answer(exchange)

    stage = RecordStage(parts.answers, parts.on_fault)
    return Pipeline(route, compose([stage], terminal), (stage,), None)
