"""With every stage there is: a fault is one request's, and an upstream that hangs is one route's."""

import asyncio
from collections.abc import Awaitable
from dataclasses import dataclass, replace
from typing import Any, cast

import pytest

from sidecar.counts import Histogram
from sidecar.errors import Disconnected, NoRoute
from sidecar.message import Reply
from sidecar.pipeline.assemble import Parts, answer_only
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
from sidecar.pipeline.stages.headers import HideStage, ShowStage
from sidecar.pipeline.stages.invalidate import InvalidateStage
from sidecar.pipeline.stages.ladder import Ladder
from sidecar.pipeline.stages.rate_limit import RateLimitStage
from sidecar.pipeline.stages.record import RecordStage
from sidecar.pipeline.stages.retry import RetryStage
from sidecar.pipeline.stages.trace import TraceStage
from sidecar.policy.breaker import Breaker
from sidecar.policy.breaker_settings import BreakerSettings
from sidecar.policy.budget import BudgetSettings, RetryBudget
from sidecar.policy.bulkhead import Bulkhead, BulkheadSettings
from sidecar.policy.cache_settings import CacheSettings
from sidecar.policy.fallback import Stale
from sidecar.policy.fault import FaultSettings
from sidecar.policy.ratelimit import RateLimiter, RateLimitSettings
from sidecar.policy.retry import RetrySettings
from sidecar.policy.store import Store
from tests.support.exchanges import Got, Route, a_request, some_parts
from tests.support.upstream import Arrival, Step, Upstream, answer, fail, hang, stream
from tests.support.virtual_time import in_virtual_time, now, run

SLOTS = 4


class Fault(Exception):
    """What nobody foresaw."""


class Flaky:
    """A loop that fails at its first use by one task, the victim, and serves all others."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self.victim: asyncio.Task[Any] | None = None

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._loop, name)

        def call(*args: Any) -> Any:
            self.check()
            return found(*args)

        return call

    def check(self) -> None:
        if self.victim is not None and asyncio.current_task() is self.victim:
            raise Fault

    def chance(self) -> float:
        self.check()
        return 0.5

    @property
    def loop(self) -> asyncio.AbstractEventLoop:
        return cast("asyncio.AbstractEventLoop", self)


@dataclass(slots=True)
class Whole:
    """A route with all the stages, each with a loop of its own that can be made to fail."""

    route: Route
    loops: dict[str, Flaky]
    breaker: Breaker
    bulkhead: Bulkhead
    faults: list[Exception]

    def at_rest(self) -> bool:
        """Whether nothing is held any more."""
        trials = self.breaker.view(now()).trials
        return (self.bulkhead.in_use, self.bulkhead.queued, trials) == (0, 0, 0)


PLACES = (
    "rate limit",
    "fallback",
    "invalidate",
    "cache",
    "total",
    "retry",
    "gate",
    "bulkhead",
    "permit",
    "attempt",
    "fault",
)


def a_whole_route(upstream: Call, name: str = "a-route") -> Whole:
    """Make a route on which everything is on. Nothing of it is shared with another route."""
    faults: list[Exception] = []
    parts: Parts = some_parts(on_fault=lambda _, fault: faults.append(fault))
    loops = {place: Flaky(parts.loop) for place in PLACES}
    breaker = Breaker(name, BreakerSettings(), parts.chance)
    bulkhead = Bulkhead(name, BulkheadSettings(max_concurrent=SLOTS, max_queue=500, queue_timeout=30))
    budget = RetryBudget(BudgetSettings(), now())
    limiter = RateLimiter(RateLimitSettings(limit=100_000, per=60))
    store = Store(1 << 20, 100)
    ladder = Ladder(name, loops["fallback"].loop, now, store)
    attempt = loops["attempt"]
    stages: list[Stage] = [
        ShowStage(parts.loop, parts.on_fault, breaker, "X-State", everything=True),
        RecordStage(parts.answers, parts.on_fault),
        RateLimitStage(limiter, loops["rate limit"].loop, route=name),
        Bounds(idle=60, lifetime=None, max_body=1000),
        FallbackStage([Stale()], ladder, parts.on_fault),
        InvalidateStage(store, [name], loops["invalidate"].loop),
        CacheStage(
            store, CacheSettings(), name, loops["cache"].loop, spawn=parts.spawn, wall=parts.wall, total=30
        ),
        TotalDeadline(loops["total"].loop, 30),
        RetryStage(RetrySettings(), budget, loops["retry"].loop, loops["retry"].chance, parts.wall),
        BreakerGate(breaker, loops["gate"].loop),
        BulkheadStage(bulkhead, loops["bulkhead"].loop),
        BreakerPermit(breaker, loops["permit"].loop),
        AttemptStage(
            attempt.loop, attempt.loop.time, upstream="an-upstream", timeout=10, seconds=Histogram()
        ),
        FaultStage(FaultSettings(reset=True, percent=1), loops["fault"].loop, loops["fault"].chance),
    ]
    empty = answer_only(name, parts, _nothing)
    pipeline = replace(empty, call=compose(stages, upstream), stages=tuple(stages))
    return Whole(Route(pipeline), loops, breaker, bulkhead, faults)


def _nothing(_: Exchange) -> Reply:
    raise NoRoute


def concrete(kind: type[Stage]) -> set[type[Stage]]:
    """All the stages that there are."""
    below = {stage for sub in kind.__subclasses__() for stage in {sub} | concrete(sub)}
    return {stage for stage in below if stage.__module__.startswith("sidecar.") and stage.__name__[0] != "_"}


@in_virtual_time
async def test_no_stage_is_left_out_here() -> None:
    """A stage that is new joins `a_whole_route`, and the faults below."""
    stages = a_whole_route(Upstream()).route.pipeline.stages

    stand_for_others = {Front, Guarded}
    instead_of_another = {HideStage}
    around_the_pool = {
        TraceStage
    }  # and so in no pipeline; that a fault of it costs a span alone has its own tests
    others = stand_for_others | instead_of_another | around_the_pool
    assert {type(stage) for stage in stages} == concrete(Stage) - others


# --- a fault is one request's ---


def stumble_at(stage: Stage | None) -> None:
    """Have the victim's request fail in the call of a stage that asks nobody anything."""
    assert stage is not None
    real = stage.next

    def call(exchange: Exchange) -> Awaitable[Reply]:
        if exchange.request.target == b"/victim":
            raise Fault
        return real(exchange)

    stage.next = call


@pytest.mark.parametrize(
    "place",
    ["rate limit", "bounds", "total", "retry", "gate", "bulkhead", "permit", "attempt", "fault", "upstream"],
)
@in_virtual_time
async def test_a_fault_at_any_stage_is_one_requests_500_and_nobody_elses(place: str) -> None:
    """Others are under way in every state meanwhile: waiting for a head, in the middle of a body, in the queue."""

    async def upstream(exchange: Exchange) -> Reply:
        if exchange.request.target == b"/victim":
            raise Fault
        return await script(exchange)

    # All the slots are taken when the victim comes, so that it stands in the queue too, and others behind it.
    script = Upstream(*[stream([(1, b"piece")], after=1)] * SLOTS, then=answer(body=b"later", after=1))
    whole = a_whole_route(upstream)
    if place == "bounds":
        stumble_at(whole.route.pipeline.find(Bounds))
    before = [whole.route.start(a_request(target=f"/{n}")) for n in range(SLOTS)]
    await asyncio.sleep(0.5)
    victim = whole.route.start(a_request("PUT", body=b"x", target="/victim"))
    if place in whole.loops:
        whole.loops[place].victim = victim
    await asyncio.sleep(0)
    behind = [whole.route.start(a_request(target=f"/behind/{n}")) for n in range(SLOTS)]

    got = await victim
    others = [*await asyncio.gather(*before), *await asyncio.gather(*behind)]
    after = await whole.route.get()

    assert (got.status, got.header(b"proxy-status")) == (
        500,
        b'sidecar; error=proxy_internal_error; details="internal"',
    )
    assert [(one.status, one.body) for one in others] == [(200, b"piece")] * SLOTS + [(200, b"later")] * SLOTS
    assert [one.ended_at for one in others] == [2.0] * SLOTS + [3.0] * SLOTS
    assert (after.status, after.body) == (200, b"later")
    assert [type(fault) for fault in whole.faults] == [Fault]
    assert sorted(whole.route.fates) == ["internal"] + ["ok"] * (2 * SLOTS + 1)
    assert (whole.at_rest(), script.under_way, whole.breaker.view(now()).failures) == (True, 0, 0)


@pytest.mark.parametrize(("place", "method"), [("cache", "GET"), ("invalidate", "PUT")])
@in_virtual_time
async def test_a_fault_in_the_cache_fails_no_request_at_all(place: str, method: str) -> None:
    upstream = Upstream(then=answer(body=b"live"))
    whole = a_whole_route(upstream)
    victim = whole.route.start(a_request(method))
    whole.loops[place].victim = victim

    got, other = await victim, await whole.route.get()

    assert [(one.status, one.body) for one in (got, other)] == [(200, b"live")] * 2
    assert (whole.route.fates, whole.faults, whole.at_rest()) == (["ok", "ok"], [], True)


@in_virtual_time
async def test_a_fault_in_the_fallback_leaves_the_failure_as_it_was() -> None:
    whole = a_whole_route(Upstream(then=fail(Disconnected())))
    victim = whole.route.start()
    whole.loops["fallback"].victim = victim

    got = await victim

    assert (got.status, whole.route.fates) == (502, ["upstream_disconnected"])
    assert ([type(fault) for fault in whole.faults], whole.at_rest()) == ([Fault], True)


# --- an upstream that hangs is one route's ---

REQUESTS = 1000
GAP = 0.01  # seconds from one request to the next


def after_a_while() -> Step:
    """Answer after 1 to 8 ms, which depends on how many requests came before."""
    times = iter(range(10**6))

    async def step(exchange: Exchange, arrival: Arrival) -> Reply:
        return await answer(after=0.001 * (1 + next(times) * 7 % 8))(exchange, arrival)

    return step


async def ask_often(whole: Whole) -> list[Got]:
    """Send requests at a steady pace, as clients do who do not wait for each other."""
    tasks = []
    for number in range(REQUESTS):
        tasks.append(whole.route.start(a_request(target=f"/{number}")))
        await asyncio.sleep(GAP)
    return await asyncio.gather(*tasks)


def times_of(answers: list[Got]) -> list[tuple[int, float]]:
    return [(got.status, round(got.ended_at, 6)) for got in answers]


def p99(answers: list[Got]) -> float:
    """The time that all but 1 % of the answers stay below; each request began at its place in the order."""
    taken = sorted(got.ended_at - number * GAP for number, got in enumerate(answers))
    return taken[len(taken) * 99 // 100 - 1]


def test_an_upstream_that_hangs_moves_no_other_routes_p99() -> None:
    """In virtual time nothing else can move it either: not a single one of the 1000 answers comes at another time."""

    async def alone() -> list[Got]:
        return await ask_often(a_whole_route(Upstream(then=after_a_while()), "well"))

    async def beside_one_that_hangs() -> tuple[list[Got], list[Got], Whole]:
        well = a_whole_route(Upstream(then=after_a_while()), "well")
        stuck = a_whole_route(Upstream(then=hang()), "stuck")
        answers, refusals = await asyncio.gather(ask_often(well), ask_often(stuck))
        return answers, refusals, stuck

    quiet = run(alone())
    answers, refusals, stuck = run(beside_one_that_hangs())

    assert {got.status for got in quiet} == {200}
    assert times_of(answers) == times_of(quiet)
    assert round(p99(answers), 6) == round(p99(quiet), 6) == 0.008
    assert {got.status for got in refusals} == {503, 504}
    assert stuck.bulkhead.in_use == stuck.bulkhead.queued == 0


@in_virtual_time
async def test_an_upstream_that_fails_opens_no_other_routes_breaker() -> None:
    failing = a_whole_route(Upstream(then=answer(503)), "failing")
    well = a_whole_route(Upstream(then=answer()), "well")

    for _ in range(20):
        await failing.route.get()
        assert (await well.route.get()).status == 200

    assert (str(failing.breaker.state), str(well.breaker.state)) == ("OPEN", "CLOSED")
    assert set(well.route.fates) == {"ok"}


@in_virtual_time
async def test_a_fault_on_one_route_is_not_held_against_another() -> None:
    faulty = a_whole_route(Upstream(then=fail(Fault())), "faulty")
    well = a_whole_route(Upstream(then=answer()), "well")

    got = [((await faulty.route.get()).status, (await well.route.get()).status) for _ in range(20)]

    assert got == [(500, 200)] * 20
    assert (str(faulty.breaker.state), len(faulty.faults), well.faults) == ("CLOSED", 20, [])
