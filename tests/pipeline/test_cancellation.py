"""The client leaves, at every await there is: one fate, everything given back once, and the cancellation goes on.

Between two awaits nothing can happen, so leaving after each turn of the loop, at each moment of the script, is leaving
everywhere. With all the policies on, `Leaving` counts the awaits and leaves at each of them, once as the wait begins and
once in the moment in which what was waited for has come.
"""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Generator
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import pytest

from sidecar.counts import Histogram
from sidecar.errors import ClientGone, ConnectFailed, Disconnected
from sidecar.message import Body, Reply, Request
from sidecar.pipeline.exchange import Exchange
from sidecar.pipeline.stages.cache import CacheStage
from sidecar.pipeline.stages.fallback import FallbackStage
from sidecar.pipeline.stages.ladder import Other, OtherStep
from sidecar.policy.breaker import Breaker, BreakerSettings
from sidecar.policy.bulkhead import Bulkhead, BulkheadSettings
from sidecar.policy.cache import CacheSettings
from sidecar.policy.fallback import Static
from sidecar.policy.fallback import Upstream as Elsewhere
from sidecar.policy.fault import FaultSettings
from sidecar.policy.ratelimit import RateLimiter, RateLimitSettings
from sidecar.policy.retry import RetrySettings
from sidecar.policy.store import Store
from tests.support.caches import fresh
from tests.support.exchanges import Got, Route, Settings, a_body, a_request, a_route
from tests.support.upstream import Arrival, Step, Upstream, answer, fail, hang, stream
from tests.support.virtual_time import VirtualTimeLoop, in_virtual_time, now, run

ALL: Settings = {"attempt": 10.0, "total": 15.0, "idle": 60.0, "max_body": 1000}
TURNS = 6

SCRIPTS: dict[str, Callable[[], Step]] = {
    "at once": answer,
    "waiting for the head": lambda: answer(after=3),
    "a hang": hang,
    "an error": lambda: fail(Disconnected(), after=3),
    "a body": lambda: stream([(1, b"a"), (2, b"b")], after=1),
    "a body that breaks": lambda: stream([(1, b"a")], after=2, breaks=Disconnected(head_seen=True)),
}


@dataclass(slots=True)
class Slots:
    """What a stage with something to give back would hold: a slot from its call to the end of its reply."""

    upstream: Upstream
    taken: int = 0
    given: int = 0

    async def __call__(self, exchange: Exchange) -> Reply:
        self.taken += 1
        try:
            reply = await self.upstream(exchange)
        except BaseException:
            self.given += 1
            raise
        reply.on_close(self._give)
        return reply

    def _give(self, error: BaseException | None) -> None:
        self.given += 1


async def leave(route: Route, at: float, turns: int) -> "asyncio.Task[object]":
    """Ask, and leave at a time, after so many more turns of the loop."""
    task = route.start(a_request("PUT", body=a_body(b"payload")))
    if at:
        await asyncio.sleep(at)
    for _ in range(turns):
        await asyncio.sleep(0)
    task.cancel()
    await asyncio.wait([task])
    return task


@pytest.mark.parametrize("turns", range(TURNS))
@pytest.mark.parametrize("at", [0, 1, 2, 3, 10])
@pytest.mark.parametrize("script", SCRIPTS)
@in_virtual_time
async def test_leaving_at_any_time_gives_everything_back_exactly_once(
    script: str, at: float, turns: int
) -> None:
    upstream = Upstream(SCRIPTS[script](), answer(after=9))
    slots = Slots(upstream)
    route = a_route(slots, **ALL)

    task = await leave(route, at, turns)

    assert slots.taken == slots.given <= 1
    assert len(route.done) == slots.taken
    assert upstream.under_way == 0
    assert sum(route.counts.values()) == slots.taken
    if task.cancelled() and slots.taken:
        assert route.fates == ["client_gone"]
        assert isinstance(route.done[0].error, ClientGone)
    elif not task.cancelled():
        assert task.exception() is None
    # A timer that was left behind would end this one, or the sleep after it.
    if slots.taken:
        assert (await route.get()).status == 200
    await asyncio.sleep(1000)
    assert slots.taken == slots.given


@in_virtual_time
async def test_leaving_in_the_body_drops_it_and_tells_the_upstream_why() -> None:
    upstream = Upstream(stream([(1, b"a"), (100, b"b")], after=1))
    route = a_route(upstream, **ALL)

    task = await leave(route, 5, 0)

    assert task.cancelled()
    (arrival,) = upstream.arrivals
    assert arrival.dropped
    assert [type(error) for error in arrival.closed] == [ClientGone]
    assert (route.fates, route.done[0].status, route.done[0].finished_at) == (["client_gone"], 200, 5)


@pytest.mark.parametrize("bound", ["attempt", "total"])
@in_virtual_time
async def test_leaving_in_the_tick_of_a_timeout_is_leaving(bound: str) -> None:
    upstream = Upstream(hang())
    bounds: Settings = {"attempt": 10.0} if bound == "attempt" else {"total": 10.0}
    route = a_route(upstream, **bounds)
    task = route.start()
    loop = asyncio.get_running_loop()
    loop.call_at(10, task.cancel)

    await asyncio.wait([task])

    assert (task.cancelled(), now(), route.fates) == (True, 10, ["client_gone"])
    assert upstream.under_way == 0


@in_virtual_time
async def test_leaving_twice_is_leaving_once() -> None:
    upstream = Upstream(hang())
    route = a_route(upstream, **ALL)
    task = route.start()
    await asyncio.sleep(1)

    task.cancel()
    task.cancel()
    await asyncio.wait([task])

    assert (task.cancelled(), route.fates, upstream.under_way) == (True, ["client_gone"], 0)


# --- with all the policies ---


class World:
    """A route with every policy, its two upstreams, and everything that a request can take."""

    def __init__(self, scene: "Scene", *, total: float = 12.0, attempt: float = 5.0) -> None:
        self.upstream = Upstream(*map(_taking, scene.upstream()), then=_taking(answer(after=1)))
        self.standby = Upstream(*map(_taking, scene.standby()), then=fail(ConnectFailed(), after=1))
        self.store = Store(1 << 20, 100)
        self.bulkhead = Bulkhead(
            "a-bulkhead", BulkheadSettings(max_concurrent=1, max_queue=10, queue_timeout=6)
        )
        self.breaker = Breaker("a-breaker", BreakerSettings(consecutive_failures=100), lambda: 0.5)
        self.route = a_route(
            self.upstream,
            attempt=attempt,
            total=total,
            idle=60.0,
            max_body=1000,
            rate_limit=RateLimiter(RateLimitSettings(limit=10_000, per=1.0)),
            fallback=(Elsewhere(name="standby", timeout=5.0),) if scene.falls_back else (Static(status=503),),
            others={"standby": Other(self.standby, Histogram())},
            cache=CacheSettings(stale_while_revalidate=100.0),
            store=self.store,
            invalidates=("a-route",),
            retry=RetrySettings(retries=2, strategy="fixed", base=1.0, jitter="none"),
            breaker=self.breaker,
            bulkhead=self.bulkhead,
            fault=FaultSettings(delay=0.5),
        )
        self.requests: list[Request] = []
        self.companions: list[asyncio.Task[Got]] = []

    def ask(self, request: Request) -> Coroutine[Any, Any, Got]:
        """Ask, and remember what."""
        self.requests.append(request)
        return self.route.ask(request)

    def accompany(self, request: Request) -> None:
        """Let somebody else ask, who stays."""
        self.companions.append(asyncio.get_running_loop().create_task(self.ask(request)))

    def held(self) -> dict[str, object]:
        """Give what is not given back, without what is nothing."""
        loop = asyncio.get_running_loop()
        assert isinstance(loop, VirtualTimeLoop)
        cache = self.route.pipeline.find(CacheStage)
        fallback = self.route.pipeline.find(FallbackStage)
        assert cache is not None
        assert fallback is not None
        elsewhere = sum(step.busy for step in fallback.steps if isinstance(step, OtherStep))
        taken = {
            "slots": self.bulkhead.in_use,
            "queue": self.bulkhead.queued,
            "trials": self.breaker.view(now()).trials,
            "flights": len(cache._flights),
            "captures": len(cache._keeper._captures),
            "memory": self.store.claimed,
            "kept bodies": [
                one for one in self.requests if one.body is not None and one.body._kept is not None
            ],
            "upstream": self.upstream.under_way,
            "standby": self.standby.under_way + elsewhere,
            "tasks": len(asyncio.all_tasks()) - 1,
            "timers": loop.timers,
            "without an end": len(self.requests) - len(self.route.done),
            "with two": len(self.route.done) - len({id(one) for one in self.route.done}),
            "without a fate": [one for one in self.route.done if one.fate is None],
            "closed twice": [
                one for one in [*self.upstream.arrivals, *self.standby.arrivals] if len(one.closed) > 1
            ],
        }
        return {name: what for name, what in taken.items() if what}

    async def settle(self) -> None:
        """See to it that in the end nothing is held, and that the route is as good as new."""
        await asyncio.sleep(1000)
        assert self.held() == {}
        self.upstream._script.clear()
        assert (await self.ask(a_request(target="/after"))).status == 200
        await asyncio.sleep(1000)
        assert self.held() == {}


async def _nobody(_: World) -> None:
    """Begin with nothing."""


class Scene(NamedTuple):
    """What happens to one request. `before` may let others ask first; `falls_back`: on the other upstream."""

    upstream: Callable[[], tuple[Step, ...]]
    request: Callable[[], Request] = a_request
    before: Callable[[World], Awaitable[None]] = _nobody
    standby: Callable[[], tuple[Step, ...]] = tuple
    falls_back: bool = True


def _taking(step: Step) -> Step:
    """Do as `step`, once the request's body is here, whole and right."""

    async def taken(exchange: Exchange, arrival: Arrival) -> Reply:
        body = exchange.request.body
        if body is not None:
            whole = b""
            while piece := await body.read():
                whole += piece
            assert whole == b"payload"
        return await step(exchange, arrival)

    return taken


def _upload() -> Request:
    """Make a request whose body comes in while it is answered."""
    loop = asyncio.get_running_loop()
    body = Body(loop.time)
    loop.call_later(0.5, body.feed, b"pay")
    loop.call_later(2, body.feed, b"load")
    loop.call_later(2.25, body.finish)
    return a_request("PUT", body=body)


def _streamed(status: int = 200, **more: Any) -> Step:
    return stream([(1, b"a"), (2, b"b")], status=status, after=1, **more)


async def _one_before(world: World, target: str) -> None:
    world.accompany(a_request(target=target))
    await asyncio.sleep(0.25)


async def _one_after(world: World, target: str) -> None:
    loop = asyncio.get_running_loop()
    loop.call_later(0.25, lambda: world.accompany(a_request(target=target)))


async def _one_who_leaves(world: World) -> None:
    loop = asyncio.get_running_loop()
    loop.call_later(2, loop.create_task(world.ask(a_request())).cancel)
    await asyncio.sleep(0.25)
    loop.call_later(0.25, lambda: world.accompany(a_request()))


async def _stale(world: World, seconds: float) -> None:
    await world.ask(a_request())
    await asyncio.sleep(seconds)


async def _half_open(world: World) -> None:
    world.breaker.force_open(now(), 1.0)
    await asyncio.sleep(1)


_TAG = {"etag": '"one"'}

SCENES = {
    "a good answer": Scene(lambda: (answer(after=1),)),
    "an error of the client": Scene(lambda: (answer(404, b"no", after=1),)),
    "a body": Scene(lambda: (_streamed(),)),
    "a body that is kept": Scene(lambda: (_streamed(headers=fresh(60)),)),
    "a body that breaks": Scene(lambda: (_streamed(breaks=Disconnected(head_seen=True)),)),
    "an upload": Scene(lambda: (_streamed(),), _upload),
    "a queue": Scene(lambda: (_streamed(), answer(after=1)), before=partial(_one_before, target="/other")),
    "retries": Scene(
        lambda: (fail(Disconnected()), _streamed(503), answer(after=1)),
        lambda: a_request("PUT", body=b"payload"),
    ),
    "retries of an upload": Scene(
        lambda: (answer(503), answer(503, b"sorry", after=1), _streamed()), _upload
    ),
    "retries of an upload that is kept for them alone": Scene(
        lambda: (answer(503), _streamed(503), _streamed()), _upload, falls_back=False
    ),
    "a hang": Scene(lambda: (hang(), answer(after=1))),
    "somewhere else": Scene(
        lambda: (fail(ConnectFailed(), after=1),) * 3,
        lambda: a_request("PUT", body=b"payload"),
        standby=lambda: (_streamed(),),
    ),
    "somewhere else instead of a failure that streams": Scene(
        lambda: (answer(503), answer(503), _streamed(503)), standby=lambda: (answer(after=1),)
    ),
    "nowhere": Scene(
        lambda: (answer(503), answer(503), _streamed(503)),
        lambda: a_request("PUT", body=b"payload"),
        standby=lambda: (_streamed(503),),
    ),
    "a follower": Scene(lambda: (_streamed(headers=fresh(60)),), before=partial(_one_before, target="/")),
    "a follower of what is not for sharing": Scene(
        lambda: (answer(headers=[(b"Cache-Control", b"private")], after=1), _streamed()),
        before=partial(_one_before, target="/"),
    ),
    "a follower of one that breaks": Scene(
        lambda: (_streamed(headers=fresh(60), breaks=Disconnected(head_seen=True)), answer(after=1)),
        before=partial(_one_before, target="/"),
    ),
    "a leader": Scene(
        lambda: (_streamed(headers=fresh(60)), _streamed(headers=fresh(60))),
        before=partial(_one_after, target="/"),
    ),
    "a follower of one who leaves": Scene(
        lambda: (hang(), _streamed(headers=fresh(60))), before=_one_who_leaves
    ),
    "asking if a copy is still good": Scene(
        lambda: (
            answer(body=b"one", headers=fresh(1, **_TAG)),
            answer(304, headers=fresh(60, **_TAG), after=1),
        ),
        before=partial(_stale, seconds=200),
    ),
    "a copy that is fetched again behind its answer": Scene(
        lambda: (answer(body=b"one", headers=fresh(1)), _streamed(headers=fresh(60))),
        before=partial(_stale, seconds=5),
    ),
    "a trial": Scene(lambda: (_streamed(),), before=_half_open),
    "a trial that fails": Scene(lambda: (answer(503, after=1),), before=_half_open),
}


class Leaving:
    """Awaits `work`, and cancels the task at its wait number `at`: as it begins, or (`late`) as it has just ended."""

    def __init__(self, work: Coroutine[Any, Any, Got], at: int, *, late: bool) -> None:
        self.work = work
        self.at = at
        self.late = late
        self.waits = 0

    def __await__(self) -> Generator[Any, Any, Got]:
        raised: BaseException | None = None
        while True:
            try:
                waited = self.work.send(None) if raised is None else self.work.throw(raised)
            except StopIteration as end:
                got: Got = end.value
                return got
            self.waits += 1
            if self.waits == self.at:
                self._leave(waited)
            raised = None
            try:
                yield waited
            except BaseException as error:  # noqa: BLE001 -- it goes on into `work`
                raised = error

    def _leave(self, waited: "asyncio.Future[Any] | None") -> None:
        loop, task = asyncio.get_running_loop(), asyncio.current_task()
        assert task is not None
        if self.late and waited is not None:
            waited.add_done_callback(lambda _: task.cancel())
        else:
            loop.call_soon(task.cancel)


async def _leave_at(scene: Scene, at: int, *, late: bool) -> bool:
    """Play a scene whose client leaves at its wait number `at`. False: there are not so many."""
    world = World(scene)
    await scene.before(world)
    leaving = Leaving(world.ask(scene.request()), at, late=late)
    left = world.requests[-1]

    async def client() -> Got:
        return await leaving

    task = asyncio.get_running_loop().create_task(client())
    await asyncio.wait([task])

    assert task.cancelled() == (leaving.waits >= at)
    if not task.cancelled():
        task.result()
    else:
        (exchange,) = [one for one in world.route.done if one.request is left]
        assert str(exchange.fate) == "client_gone"
        assert isinstance(exchange.error, ClientGone)
    await world.settle()
    others = [await companion for companion in world.companions]
    assert all(got.status == 200 for got in others)
    return task.cancelled()


@pytest.mark.parametrize("late", [False, True], ids=["as a wait begins", "as a wait ends"])
@pytest.mark.parametrize("scene", SCENES)
def test_with_every_policy_leaving_at_any_await_gives_everything_back(scene: str, *, late: bool) -> None:
    """And whoever else was there is served: whom the one who left has led, too."""
    at = 1
    while run(_leave_at(SCENES[scene], at, late=late)):
        at += 1

    assert at > 1 or "behind" in scene  # nobody waits for a copy that is at hand


async def _bounded(scene: Scene, **bound: float) -> str:
    """Play a scene with other timeouts, and give what came of it."""
    world = World(scene, **bound)
    await scene.before(world)
    request = scene.request()
    await world.ask(request)
    await asyncio.wait(world.companions or [asyncio.get_running_loop().create_task(asyncio.sleep(0))])
    (exchange,) = [one for one in world.route.done if one.request is request]
    await asyncio.sleep(1000)
    assert world.held() == {}
    return str(exchange.fate)


QUARTERS = [number / 4 for number in range(1, 49)]  # seconds: every scripted moment, and between every two


@pytest.mark.parametrize("scene", SCENES)
def test_with_every_policy_the_total_deadline_at_any_time_gives_everything_back(scene: str) -> None:
    fates = [run(_bounded(SCENES[scene], total=total)) for total in QUARTERS]

    assert set(fates) <= ENDS
    if (
        scene not in ("somewhere else", "somewhere else instead of a failure that streams")
        and "copy" not in scene
    ):
        assert fates[0] == "timeout_total"


@pytest.mark.parametrize("scene", SCENES)
def test_with_every_policy_the_timeout_of_an_attempt_at_any_time_gives_everything_back(scene: str) -> None:
    fates = [run(_bounded(SCENES[scene], attempt=attempt)) for attempt in QUARTERS]

    assert set(fates) <= ENDS


ENDS = {
    "ok",
    "ok_after_retry",
    "cache_stale",
    "coalesced",
    "fallback_upstream",
    "upstream_status",
    "upstream_disconnected",
    "rejected_queue_timeout",
    "rejected_bulkhead_full",
    "rejected_breaker_open",
    "timeout_attempt",
    "timeout_total",
}


@in_virtual_time
async def test_a_thousand_trials_whose_clients_leave_leave_no_breaker_half_open() -> None:
    world = World(Scene(lambda: (hang(),) * 1000))
    await _half_open(world)
    for _ in range(1000):
        task = asyncio.get_running_loop().create_task(world.ask(a_request(target="/trial")))
        await asyncio.sleep(1)
        assert world.breaker.view(now()).trials == 1
        task.cancel()
        await asyncio.wait([task])

    got = [await world.ask(a_request(target=f"/{number}")) for number in range(2)]

    assert [one.status for one in got] == [200, 200]
    assert world.breaker.view(now()).state == "CLOSED"
    assert len(world.upstream.arrivals) == 1002
    await world.settle()


@in_virtual_time
async def test_two_hundred_clients_who_leave_open_no_breaker_and_hold_no_slot() -> None:
    world = World(Scene(lambda: (hang(),) * 200))
    world.bulkhead.limit = 150
    world.bulkhead.settings = BulkheadSettings(max_concurrent=150, max_queue=100, queue_timeout=60)
    loop = asyncio.get_running_loop()
    tasks = [loop.create_task(world.ask(a_request(target=f"/{number}"))) for number in range(200)]
    await asyncio.sleep(1)
    taken = (world.bulkhead.in_use, world.bulkhead.queued)
    for task in tasks:
        task.cancel()
    await asyncio.wait(tasks)

    assert taken == (150, 50)
    assert world.route.fates == ["client_gone"] * 200
    assert [arrival.ended for arrival in world.upstream.arrivals] == ["cancelled"] * 150
    assert world.breaker.view(now()).state == "CLOSED"
    await world.settle()
