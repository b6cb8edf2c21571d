"""Four stages in one frame do what the four do one inside the other: the same answers, times, counts and verdicts."""

import asyncio
from dataclasses import dataclass
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sidecar.counts import Histogram
from sidecar.errors import BadResponse, ClientError, ConnectFailed, Disconnected, Overloaded, RequestError
from sidecar.message import Body
from sidecar.pipeline.stage import Call, Stage, compose
from sidecar.pipeline.stages.attempt import AttemptStage
from sidecar.pipeline.stages.breaker import BreakerGate, BreakerPermit
from sidecar.pipeline.stages.bulkhead import BulkheadStage
from sidecar.pipeline.stages.deadline import TotalDeadline
from sidecar.pipeline.stages.guarded import Guarded
from sidecar.policy.breaker import Breaker, BreakerSettings
from sidecar.policy.bulkhead import Bulkhead, BulkheadSettings
from tests.support.exchanges import a_request, an_exchange
from tests.support.upstream import Step, Upstream, answer, fail, hang, stream
from tests.support.virtual_time import now, run

ATTEMPT, TOTAL = 10.0, 12.0

STEPS: dict[str, Step] = {
    "answers": answer(200, b"hello", after=1),
    "answers slowly": answer(200, after=9),
    "answers 503": answer(503, after=1),
    "answers 500": answer(500, after=1),
    "answers 429": answer(429),
    "streams": stream([(1, b"a"), (2, b"b")], after=1),
    "streams and breaks": stream([(1, b"a")], breaks=Disconnected(head_seen=True)),
    "cannot be reached": fail(ConnectFailed(), after=0.5),
    "talks nonsense": fail(BadResponse(), after=1),
    "has no connection left": fail(Overloaded()),
    "refuses": fail(ClientError()),
    "fails as nobody foresaw": fail(ZeroDivisionError()),
    "hangs": hang(),
}


@dataclass(slots=True)
class Stand:
    """The four stages around a script, in one frame or not."""

    call: Call
    breaker: Breaker
    bulkhead: Bulkhead
    attempt: AttemptStage
    gate: BreakerGate
    permit: BreakerPermit


def a_stand(upstream: Upstream, *, in_one: bool, shadow: bool, timed: bool) -> Stand:
    loop = asyncio.get_running_loop()
    breaker = Breaker("db", BreakerSettings(consecutive_failures=3, open_for=5.0, successes=1), lambda: 0.5)
    bulkhead = Bulkhead("pool", BulkheadSettings(max_concurrent=2, max_queue=1, adaptive=None))
    gate = BreakerGate(breaker, loop, shadow=shadow)
    pool = BulkheadStage(bulkhead, loop, shadow=shadow)
    permit = BreakerPermit(breaker, loop, timed=timed, shadow=shadow)
    timeout = ATTEMPT if timed else None
    attempt = AttemptStage(loop, loop.time, upstream="an-upstream", timeout=timeout, seconds=Histogram())
    inner: list[Stage] = [gate, pool, permit, attempt]
    call = compose(inner, upstream)
    if in_one:
        guarded = Guarded(pool, permit, attempt, call)
        guarded.next = attempt.next
        call = guarded.__call__
    return Stand(compose([TotalDeadline(loop, TOTAL)], call), breaker, bulkhead, attempt, gate, permit)


async def ask(call: Call, patience: float | None) -> tuple[Any, ...]:
    """Ask once, drain, and tell what came of it; a client without patience leaves."""

    async def go() -> tuple[Any, ...]:
        exchange = an_exchange(a_request(task=asyncio.current_task()))
        try:
            reply = await call(exchange)
        except (RequestError, ZeroDivisionError) as failure:
            return (type(failure).__name__, now(), exchange.attempts, exchange.would)
        error: BaseException | None = None
        if isinstance(reply.body, Body):
            try:
                while await reply.body.read():
                    pass
            except RequestError as broke:
                error = broke
        reply.close(error)
        return (reply.status, type(error).__name__, now(), exchange.attempts, exchange.would)

    task = asyncio.get_running_loop().create_task(go())
    done, _ = await asyncio.wait([task], timeout=patience)
    if not done:
        task.cancel()
        await asyncio.wait([task])
        return ("left", now())
    return task.result()


async def told(
    script: list[tuple[str, float, float | None]], *, in_one: bool, shadow: bool, timed: bool
) -> list[object]:
    """Play a script of (what the upstream does, pause before, how long the client waits), and tell everything."""
    upstream = Upstream(*[STEPS[name] for name, _, _ in script], then=answer(200))
    stand = a_stand(upstream, in_one=in_one, shadow=shadow, timed=timed)
    loop = asyncio.get_running_loop()
    tasks = []
    for _, pause, patience in script:
        await asyncio.sleep(pause)
        tasks.append(loop.create_task(ask(stand.call, patience)))
    outcomes = [await task for task in tasks]
    await asyncio.sleep(100)
    bulkhead, breaker = stand.bulkhead, stand.breaker
    return [
        outcomes,
        breaker.view(now()),
        dict(breaker.transitions),
        (
            bulkhead.in_use,
            bulkhead.queued,
            bulkhead.admitted,
            bulkhead.rejected_full,
            bulkhead.rejected_timeout,
        ),
        stand.attempt.counts,
        stand.attempt.seconds.counts,
        (stand.gate.would_reject, stand.permit.would_reject),
        [(arrival.at, arrival.ended) for arrival in upstream.arrivals],
    ]


scripts = st.lists(
    st.tuples(
        st.sampled_from(sorted(STEPS)),
        st.sampled_from([0.0, 0.25, 1.0, 3.0, 8.0]),
        st.sampled_from([None, None, None, 0.125, 2.0]),
    ),
    min_size=1,
    max_size=12,
)


@settings(max_examples=150, deadline=None)
@given(script=scripts, shadow=st.booleans(), timed=st.booleans())
def test_it_does_what_the_four_do(
    script: list[tuple[str, float, float | None]], shadow: bool, timed: bool
) -> None:
    one, four = (run(told(script, in_one=in_one, shadow=shadow, timed=timed)) for in_one in (True, False))

    assert one == four


@pytest.mark.parametrize("name", sorted(STEPS))
@pytest.mark.parametrize("timed", [True, False])
def test_each_way_of_ending_leaves_nothing_behind(name: str, timed: bool) -> None:
    what = run(told([(name, 0.0, None)] * 3, in_one=True, shadow=False, timed=timed))

    assert isinstance(what[3], tuple)
    assert what[3][:2] == (0, 0)
