"""Every stage alone and every two together: whatever the others do, each keeps its own promise.

What a chain owes follows from the stages that are in it, and is written down once, in `expected`. A new stage joins
`MAKERS` and says there what it changes.
"""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from itertools import combinations

import pytest

from sidecar.counts import Histogram
from sidecar.errors import ConnectFailed, RequestError
from sidecar.message import Reply
from sidecar.pipeline.exchange import Exchange
from sidecar.pipeline.stage import Stage, compose
from sidecar.pipeline.stages.attempt import AttemptStage
from sidecar.pipeline.stages.bounds import Bounds
from sidecar.pipeline.stages.deadline import TotalDeadline
from sidecar.pipeline.stages.record import RecordStage
from tests.support.exchanges import an_exchange, some_parts
from tests.support.upstream import Step, Upstream, answer, fail, hang, stream
from tests.support.virtual_time import in_virtual_time, now

TOTAL, ATTEMPT, LEAVES = (
    15.0,
    10.0,
    20.0,
)  # seconds; the client leaves when even the deadline has not ended it


class Fault(Exception):
    """An exception that nobody foresaw."""


def _record() -> Stage:
    parts = some_parts(on_fault=lambda *_: None)
    return RecordStage(parts.answers, parts.on_fault)


def _attempt() -> Stage:
    loop = asyncio.get_running_loop()
    return AttemptStage(loop, loop.time, upstream="an-upstream", timeout=ATTEMPT, seconds=Histogram())


MAKERS: dict[str, Callable[[], Stage]] = {
    "record": _record,
    "bounds": lambda: Bounds(idle=60, lifetime=None, max_body=10),
    "total": lambda: TotalDeadline(asyncio.get_running_loop(), TOTAL),
    "attempt": _attempt,
}

EVENTS: dict[str, Callable[[], Step]] = {
    "answers": lambda: answer(200, b"hello", after=1),
    "answers 503": lambda: answer(503, after=1),
    "streams": lambda: stream([(50, b"piece")], after=1),
    "fails": lambda: fail(ConnectFailed(), after=1),
    "faults": lambda: fail(Fault(), after=1),
    "hangs": hang,
}

CHAINS = [(name,) for name in MAKERS] + list(combinations(MAKERS, 2)) + list(combinations(MAKERS, 3))


@dataclass(slots=True)
class Outcome:
    """What came out of a chain: a status, the name of an exception, or `left`; and when."""

    what: int | str
    at: float


def expected(chain: tuple[str, ...], event: str) -> Outcome:
    """Say what a chain of these stages owes."""
    recorded = "record" in chain
    bounds = {"attempt": ATTEMPT, "total": TOTAL}
    bound = min((bounds[name] for name in chain if name in bounds), default=None)
    if event == "hangs":
        if bound is None:
            return Outcome("left", LEAVES)
        name = "AttemptTimeout" if bound == ATTEMPT else "TotalTimeout"
        return Outcome(504 if recorded else name, bound)
    if event == "fails":
        return Outcome(502 if recorded else "ConnectFailed", 1)
    if event == "faults":
        return Outcome(500 if recorded else "Fault", 1)
    return Outcome(503 if event == "answers 503" else 200, 1)


async def ask(call: Callable[[Exchange], object], exchange: Exchange) -> Outcome:
    """Ask, close the reply, and tell what came."""
    try:
        reply = await call(exchange)  # type: ignore[misc]  # a Call; `object` keeps the signature short
    except asyncio.CancelledError:
        return Outcome("left", now())
    except (RequestError, Fault) as error:
        return Outcome(type(error).__name__, now())
    assert isinstance(reply, Reply)
    outcome = Outcome(reply.status, now())
    reply.close()
    return outcome


@pytest.mark.parametrize("event", EVENTS)
@pytest.mark.parametrize("chain", CHAINS, ids="+".join)
@in_virtual_time
async def test_a_chain_keeps_the_promise_of_each_of_its_stages(chain: tuple[str, ...], event: str) -> None:
    upstream = Upstream(EVENTS[event]())
    call = compose([MAKERS[name]() for name in chain], upstream)
    told: list[Exchange] = []
    task = asyncio.get_running_loop().create_task(ask(call, an_exchange(sink=told.append)))
    asyncio.get_running_loop().call_at(LEAVES, task.cancel)

    outcome = await task
    await asyncio.sleep(1000)  # whatever was forgotten has the time to show

    assert outcome == expected(chain, event)
    assert len(told) == ("record" in chain)
    assert upstream.under_way == 0
    (arrival,) = upstream.arrivals
    assert arrival.closed in ([], [None])
    assert task.cancelling() == (outcome.what == "left")


@in_virtual_time
async def test_when_both_end_in_the_same_tick_the_total_deadline_has_the_word() -> None:
    loop = asyncio.get_running_loop()
    stages = [
        _record(),
        TotalDeadline(loop, 10),
        AttemptStage(loop, loop.time, upstream="an-upstream", timeout=10, seconds=Histogram()),
    ]
    told: list[Exchange] = []
    exchange = an_exchange(sink=told.append)

    assert await ask(compose(stages, Upstream(hang())), exchange) == Outcome(504, 10)
    assert [str(one.fate) for one in told] == ["timeout_total"]
    task = asyncio.current_task()
    assert task is not None
    assert task.cancelling() == 0
