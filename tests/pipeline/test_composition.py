"""Every stage alone, every two together, all but one, and all: whatever the others do, each keeps its own promise.

What a chain owes follows from the stages that are in it, and is written down once, in `expected`. A new stage joins
`MAKERS`, at its place in the order of `pipeline/assemble.py`, and says in `expected` what it changes.
"""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import combinations

import pytest

from sidecar.counts import Histogram
from sidecar.errors import ConnectFailed, Disconnected, RequestError
from sidecar.message import Body
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
from sidecar.pipeline.stages.invalidate import InvalidateStage
from sidecar.pipeline.stages.ladder import Ladder
from sidecar.pipeline.stages.rate_limit import RateLimitStage
from sidecar.pipeline.stages.record import RecordStage
from sidecar.pipeline.stages.retry import RetryStage
from sidecar.policy.breaker import Breaker, BreakerSettings
from sidecar.policy.bulkhead import Bulkhead, BulkheadSettings
from sidecar.policy.cache import CacheSettings
from sidecar.policy.fallback import Static
from sidecar.policy.fault import FaultSettings
from sidecar.policy.rate_key import key_function
from sidecar.policy.ratelimit import RateLimiter, RateLimitSettings
from sidecar.policy.retry import RetrySettings
from sidecar.policy.store import Store
from tests.support.caches import fresh
from tests.support.exchanges import a_request, a_route, an_exchange, some_parts
from tests.support.upstream import Step, Upstream, answer, fail, hang, stream
from tests.support.virtual_time import VirtualTimeLoop, in_virtual_time, now, run

# Seconds. The client leaves when not even two attempts that time out have ended it.
TOTAL, ATTEMPT, BACKOFF, DELAY, LEAVES = 15.0, 10.0, 2.0, 0.5, 30.0
HEAD, PIECE = 1.0, 20.0  # the upstream's head, and from it to a body that streams: later than every deadline
INSTEAD = 203  # the status of the fallback


class Fault(Exception):
    """An exception that nobody foresaw."""


class World:
    """What the stages of one chain share, and all that a request can take from them."""

    def __init__(self) -> None:
        self.loop = asyncio.get_running_loop()
        self.parts = some_parts(on_fault=lambda *_: None)
        self.limiter = RateLimiter(RateLimitSettings(limit=1000, per=1000.0))
        self.store = Store(1 << 20, 100)
        self.breaker = Breaker("a-breaker", BreakerSettings(consecutive_failures=1000), lambda: 0.5)
        self.bulkhead = Bulkhead("a-bulkhead", BulkheadSettings(max_concurrent=1, max_queue=0))

    def held(self) -> dict[str, int]:
        """Give what is not given back, without the zeros."""
        assert isinstance(self.loop, VirtualTimeLoop)
        taken = {
            "slots": self.bulkhead.in_use,
            "queue": self.bulkhead.queued,
            "trials": self.breaker.view(now()).trials,
            "memory": self.store.claimed,
            "timers": self.loop.timers,
        }
        return {name: number for name, number in taken.items() if number}


def _fallback(world: World) -> Stage:
    ladder = Ladder("a-route", world.loop, world.loop.time)
    return FallbackStage((Static(status=INSTEAD, body=b"instead"),), ladder, world.parts.on_fault)


def _cache(world: World) -> Stage:
    parts = world.parts
    return CacheStage(
        world.store, CacheSettings(), "a-route", world.loop, spawn=parts.spawn, wall=parts.wall, total=TOTAL
    )


def _retry(world: World) -> Stage:
    settings = RetrySettings(retries=1, strategy="fixed", base=BACKOFF, max=BACKOFF, jitter="none")
    return RetryStage(settings, None, world.loop, world.parts.chance, world.parts.wall)


def _attempt(world: World) -> Stage:
    loop = world.loop
    return AttemptStage(loop, loop.time, upstream="an-upstream", timeout=ATTEMPT, seconds=Histogram())


# In the order in which they are assembled.
MAKERS: dict[str, Callable[[World], Stage]] = {
    "record": lambda world: RecordStage(world.parts.answers, world.parts.on_fault),
    "rate limit": lambda world: RateLimitStage(world.limiter, world.loop, route="a-route", key="route"),
    "bounds": lambda _: Bounds(idle=60, lifetime=None, max_body=10),
    "invalidate": lambda world: InvalidateStage(world.store, ["a-route"], world.loop),
    "fallback": _fallback,
    "cache": _cache,
    "total": lambda world: TotalDeadline(world.loop, TOTAL),
    "retry": _retry,
    "gate": lambda world: BreakerGate(world.breaker, world.loop),
    "bulkhead": lambda world: BulkheadStage(world.bulkhead, world.loop),
    "permit": lambda world: BreakerPermit(world.breaker, world.loop),
    "attempt": _attempt,
    "fault": lambda world: FaultStage(FaultSettings(delay=DELAY), world.loop, world.parts.chance),
}

EVENTS: dict[str, Callable[[], Step]] = {
    "answers": lambda: answer(200, b"hello", headers=fresh(10_000), after=HEAD),
    "answers 503": lambda: answer(503, b"sorry", after=HEAD),
    "streams": lambda: stream([(PIECE, b"piece")], headers=fresh(10_000), after=HEAD),
    "streams a 503": lambda: stream([(PIECE, b"piece")], status=503, after=HEAD),
    "breaks": lambda: stream([(PIECE, b"piece")], after=HEAD, breaks=Disconnected(head_seen=True)),
    "fails": lambda: fail(ConnectFailed(), after=HEAD),
    "faults": lambda: fail(Fault(), after=HEAD),
    "hangs": hang,
    "is well, but the quota is used up": lambda: answer(200, b"hello", after=HEAD),
    "is well, but the breaker is open": lambda: answer(200, b"hello", after=HEAD),
    "is well, but the bulkhead is full": lambda: answer(200, b"hello", after=HEAD),
}

ALL = tuple(MAKERS)
CHAINS = [
    *((name,) for name in ALL),
    *combinations(ALL, 2),
    *(tuple(name for name in ALL if name != without) for without in ALL),
    ALL,
]


@dataclass(slots=True)
class Outcome:
    """What came out of a chain: a status, the name of an exception, or `left`; when; and how often the upstream was
    asked for it. `ended` is when the body had ended, and `held` what was still taken long after that.
    """

    what: int | str
    at: float
    asked: int
    body: bytes = b""
    ended: float = 0.0
    held: dict[str, int] = field(default_factory=dict)


_STATUS = {
    "ConnectFailed": 502,
    "AttemptTimeout": 504,
    "TotalTimeout": 504,
    "Fault": 500,
    "RateLimited": 429,
    "BreakerOpen": 503,
    "BulkheadFull": 503,
}


def expected(chain: Sequence[str], event: str) -> Outcome:
    """Say what a chain of these stages owes."""
    what, at, asked = _reached(chain, event)
    said = isinstance(what, str)
    if "fallback" in chain and what not in ("Fault", "RateLimited", 200):
        what, said = INSTEAD, False
    if at > LEAVES:
        return Outcome("left", LEAVES, asked, ended=LEAVES)
    if said and "record" in chain:
        what = _STATUS[str(what)]
    body = b""
    ended = at
    if not said:
        streams = what != INSTEAD and event in ("streams", "streams a 503", "breaks")
        body = (
            b"instead" if what == INSTEAD else b"piece" if streams else b"hello" if what == 200 else b"sorry"
        )
        ended = at + PIECE * streams
    return Outcome(what, at, asked, body, ended)


def _reached(chain: Sequence[str], event: str) -> tuple[int | str, float, int]:
    """Give what comes to the fallback: a status or an error, when, and how often the upstream was asked for it."""
    refusals = {
        "is well, but the quota is used up": ("RateLimited", {"rate limit"}),
        "is well, but the breaker is open": ("BreakerOpen", {"gate", "permit"}),
        "is well, but the bulkhead is full": ("BulkheadFull", {"bulkhead"}),
    }
    error, by = refusals.get(event, ("", set()))
    if by & set(chain):
        return error, 0.0, 0
    takes = HEAD + DELAY * ("fault" in chain)
    what: int | str = {"fails": "ConnectFailed", "faults": "Fault"}.get(event, 503 if "503" in event else 200)
    if event == "hangs":
        what, takes = ("AttemptTimeout", ATTEMPT) if "attempt" in chain else ("Nothing", 1000.0)
    at, asked = takes, 1
    if "retry" in chain and what in (503, "ConnectFailed", "AttemptTimeout"):
        at, asked = takes + BACKOFF + takes, 2
    if "total" in chain and at > TOTAL:
        return "TotalTimeout", TOTAL, asked
    return what, at, asked


async def ask(call: Call, exchange: Exchange) -> Outcome:
    """Ask, drain the body, close the reply, and tell what came."""
    body, end = b"", None
    try:
        reply = await call(exchange)
    except asyncio.CancelledError:
        return Outcome("left", now(), 0, ended=now())
    except (RequestError, Fault) as error:
        return Outcome(type(error).__name__, now(), 0, ended=now())
    at = now()
    if isinstance(reply.body, Body):
        try:
            while piece := await reply.body.read():
                body += piece
        except Disconnected as error:
            end = error
    elif reply.status in (200, 503, INSTEAD) and b"problem" not in (
        reply.fields.first(b"content-type") or b""
    ):
        body = reply.body or b""  # what our own errors say is said elsewhere
    reply.close(end)
    return Outcome(reply.status, at, 0, body, now())


async def keeps(chain: Sequence[str], event: str) -> Outcome:
    """Let one event befall a request, and give what came of it."""
    world = World()
    upstream = Upstream(then=EVENTS[event]())
    if event.endswith("quota is used up"):
        key = key_function("route", "a-route")(a_request())
        while world.limiter.decide(key, now())[0]:
            pass
    elif event.endswith("breaker is open"):
        world.breaker.force_open(now(), None)
    elif event.endswith("bulkhead is full"):
        assert world.bulkhead.enter()
    told: list[Exchange] = []
    call = compose([MAKERS[name](world) for name in chain], upstream)
    task = world.loop.create_task(ask(call, an_exchange(sink=told.append)))
    world.loop.call_at(LEAVES, _leave, task)

    outcome = await task
    if event.endswith("bulkhead is full"):
        world.bulkhead.leave(0, now())
    await asyncio.sleep(1000)  # whatever was forgotten has the time to show

    assert len(told) == ("record" in chain)
    assert upstream.under_way == 0
    assert all(len(arrival.closed) <= 1 for arrival in upstream.arrivals)
    assert task.cancelling() == (outcome.what == "left")
    outcome.asked = len(upstream.arrivals)
    outcome.held = world.held()
    return outcome


def _leave(task: "asyncio.Task[Outcome]") -> None:
    task.cancel()


@pytest.mark.parametrize("chain", CHAINS, ids="+".join)
def test_a_chain_keeps_the_promise_of_each_of_its_stages(chain: tuple[str, ...]) -> None:
    came = {event: run(keeps(chain, event)) for event in EVENTS}

    assert came == {event: expected(chain, event) for event in EVENTS}


# --- what only some of them promise together ---


def test_the_makers_stand_in_the_order_that_is_assembled() -> None:
    async def both() -> tuple[list[type[Stage]], list[type[Stage]]]:
        world = World()
        route = a_route(
            Upstream(),
            attempt=ATTEMPT,
            total=TOTAL,
            idle=60,
            rate_limit=world.limiter,
            fallback=(Static(),),
            cache=CacheSettings(),
            store=world.store,
            invalidates=("a-route",),
            retry=RetrySettings(),
            breaker=world.breaker,
            bulkhead=world.bulkhead,
            fault=FaultSettings(delay=DELAY),
        )
        made = [type(MAKERS[name](world)) for name in ALL]
        return made, [type(stage) for stage in route.pipeline.stages]

    made, assembled = run(both())

    assert made == assembled


@pytest.mark.parametrize("other", [name for name in ALL if name != "cache"])
@in_virtual_time
async def test_a_copy_costs_nothing_that_is_inside_the_cache(other: str) -> None:
    """No attempt, no slot, no permit, no time; and what is outside of it is asked first."""
    world = World()
    chain = [name for name in ALL if name in ("cache", other)]
    upstream = Upstream(EVENTS["answers"]())
    call = compose([MAKERS[name](world) for name in chain], upstream)
    first = await ask(call, an_exchange())
    world.breaker.force_open(now(), None)
    assert world.bulkhead.enter()
    began = now()

    second = await ask(call, an_exchange())

    assert (first.what, second.what, second.body) == (200, 200, b"hello")
    assert (second.at - began, len(upstream.arrivals)) == (0, 1)
    world.bulkhead.leave(0, now())
    await asyncio.sleep(1000)
    assert (world.bulkhead.admitted, world.breaker.rejected) == (2 if other == "bulkhead" else 1, 0)


@in_virtual_time
async def test_no_slot_and_no_permit_is_held_between_two_attempts() -> None:
    world = World()
    held: list[tuple[float, int]] = []
    names = ("record", "retry", "gate", "bulkhead", "permit", "attempt")
    call = compose([MAKERS[name](world) for name in names], Upstream(then=EVENTS["answers 503"]()))
    for when in (0.5, 1.5, 2.5, 3.5):
        world.loop.call_at(when, partial(_note, world, held, when))

    outcome = await ask(call, an_exchange())

    assert (outcome.what, outcome.at) == (503, 4)
    assert held == [(0.5, 1), (1.5, 0), (2.5, 0), (3.5, 1)]


def _note(world: World, held: list[tuple[float, int]], when: float) -> None:
    held.append((when, world.bulkhead.in_use))


@in_virtual_time
async def test_an_open_breaker_ends_the_retries_at_once() -> None:
    """The one that the attempt itself has opened: nothing is waited for twice, and the upstream is left alone."""
    world = World()
    world.breaker = Breaker("a-breaker", BreakerSettings(consecutive_failures=1), lambda: 0.5)
    upstream = Upstream(then=EVENTS["answers 503"]())
    exchange = an_exchange()
    names = ("record", "retry", "gate", "bulkhead", "permit", "attempt")

    outcome = await ask(compose([MAKERS[name](world) for name in names], upstream), exchange)

    assert (outcome.what, outcome.body, outcome.at, len(upstream.arrivals)) == (
        503,
        b"sorry",
        HEAD + BACKOFF,
        1,
    )
    assert (str(exchange.fate), str(exchange.why_not_retried)) == ("upstream_status", "breaker_open")
    await asyncio.sleep(1000)
    assert world.held() == {}


@in_virtual_time
async def test_nobody_queues_for_an_upstream_that_is_given_time_to_recover() -> None:
    world = World()
    world.bulkhead = Bulkhead("a-bulkhead", BulkheadSettings(max_concurrent=1, max_queue=10, queue_timeout=5))
    assert world.bulkhead.enter()
    world.breaker.force_open(now(), 60)
    call = compose([MAKERS[name](world) for name in ("record", "gate", "bulkhead", "permit")], Upstream())

    outcome = await ask(call, an_exchange())

    assert (outcome.what, outcome.at, world.bulkhead.queued, sum(world.bulkhead.waits.counts)) == (
        503,
        0,
        0,
        0,
    )


@in_virtual_time
async def test_who_queued_while_the_breaker_opened_is_refused_and_gives_the_slot_back() -> None:
    world = World()
    world.bulkhead = Bulkhead("a-bulkhead", BulkheadSettings(max_concurrent=1, max_queue=10, queue_timeout=5))
    assert world.bulkhead.enter()
    exchange = an_exchange()
    call = compose([MAKERS[name](world) for name in ("record", "gate", "bulkhead", "permit")], Upstream())
    task = world.loop.create_task(ask(call, exchange))
    await asyncio.sleep(2)
    world.breaker.force_open(now(), 60)
    world.bulkhead.leave(0, now())

    outcome = await task

    assert (outcome.what, outcome.at, str(exchange.fate)) == (503, 2, "rejected_breaker_open")
    await asyncio.sleep(100)
    assert world.held() == {}


@in_virtual_time
async def test_time_in_the_queue_is_no_part_of_the_attempt() -> None:
    """Neither of its timeout nor of what the breaker takes for slowness."""
    world = World()
    settings = BreakerSettings(slow_duration=ATTEMPT - 1, slow_rate=0.1, min_requests=1)
    world.breaker = Breaker("a-breaker", settings, lambda: 0.5)
    world.bulkhead = Bulkhead("a-bulkhead", BulkheadSettings(max_concurrent=1, max_queue=1, queue_timeout=60))
    assert world.bulkhead.enter()
    world.loop.call_at(12, world.bulkhead.leave, 0, 12)
    exchange = an_exchange()
    names = ("record", "gate", "bulkhead", "permit", "attempt")
    call = compose([MAKERS[name](world) for name in names], Upstream(answer(after=ATTEMPT - 2)))

    outcome = await ask(call, exchange)

    assert (outcome.what, outcome.at, exchange.queued, exchange.attempts) == (200, 20, 12, (("ok", 8.0),))
    assert world.breaker.view(now()).state == "CLOSED"


@in_virtual_time
async def test_the_fallback_hides_no_failure_from_the_breaker() -> None:
    world = World()
    world.breaker = Breaker("a-breaker", BreakerSettings(consecutive_failures=3), lambda: 0.5)
    names = ("record", "fallback", "gate", "permit", "attempt")
    upstream = Upstream(then=EVENTS["answers 503"]())
    call = compose([MAKERS[name](world) for name in names], upstream)

    outcomes = [await ask(call, an_exchange()) for _ in range(5)]

    assert [outcome.what for outcome in outcomes] == [INSTEAD] * 5
    assert (len(upstream.arrivals), str(world.breaker.state)) == (3, "OPEN")


@in_virtual_time
async def test_an_injected_fault_looks_to_everything_outside_like_the_upstreams() -> None:
    world = World()
    world.breaker = Breaker("a-breaker", BreakerSettings(consecutive_failures=2), lambda: 0.5)
    names = ("record", "retry", "gate", "bulkhead", "permit", "attempt")
    stages = [MAKERS[name](world) for name in names]
    fault = FaultStage(FaultSettings(reset=True), world.loop, world.parts.chance)
    exchange = an_exchange()

    outcome = await ask(compose([*stages, fault], Upstream()), exchange)

    assert (outcome.what, str(exchange.fate)) == (502, "upstream_disconnected")
    assert [str(result) for result, _ in exchange.attempts] == ["upstream_disconnected"] * 2
    assert str(world.breaker.state) == "OPEN"
    assert fault.injected["reset"] == 2


@in_virtual_time
async def test_when_both_end_in_the_same_tick_the_total_deadline_has_the_word() -> None:
    loop = asyncio.get_running_loop()
    world = World()
    stages = [
        MAKERS["record"](world),
        TotalDeadline(loop, 10),
        AttemptStage(loop, loop.time, upstream="an-upstream", timeout=10, seconds=Histogram()),
    ]
    told: list[Exchange] = []
    exchange = an_exchange(sink=told.append)

    outcome = await ask(compose(stages, Upstream(hang())), exchange)

    assert (outcome.what, outcome.at) == (504, 10)
    assert [str(one.fate) for one in told] == ["timeout_total"]
    task = asyncio.current_task()
    assert task is not None
    assert task.cancelling() == 0
