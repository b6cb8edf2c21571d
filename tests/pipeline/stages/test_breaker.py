"""The breaker around attempts: what counts, what does not, what a refusal says, and that nothing is ever kept."""

import asyncio
from typing import Any

import pytest

from sidecar.counts import Histogram
from sidecar.errors import (
    AttemptTimeout,
    BadResponse,
    BodyTooLarge,
    BreakerOpen,
    BulkheadFull,
    ClientGone,
    ClientStalled,
    ConnectFailed,
    Disconnected,
    Overloaded,
    QueueTimeout,
    RateLimited,
    RequestBodyTimeout,
    RequestError,
    UpstreamIdle,
)
from sidecar.message import NO_FIELDS, Body, Reply
from sidecar.pipeline.assemble import Pipeline
from sidecar.pipeline.exchange import Exchange
from sidecar.pipeline.stage import Call, Stage, compose
from sidecar.pipeline.stages.attempt import AttemptStage
from sidecar.pipeline.stages.breaker import BreakerGate, BreakerPermit
from sidecar.pipeline.stages.deadline import TotalDeadline
from sidecar.pipeline.stages.record import RecordStage
from sidecar.policy.breaker import REFUSED, Breaker, BreakerSettings, BreakerView, State
from sidecar.policy.trip import Attempt
from tests.support.exchanges import Got, Route, a_body, a_request, an_exchange, some_parts
from tests.support.upstream import Upstream, answer, fail, hang, stream
from tests.support.virtual_time import in_virtual_time, now

CLOSED, OPEN, HALF_OPEN = State.CLOSED, State.OPEN, State.HALF_OPEN


def a_breaker(**settings: Any) -> Breaker:
    """A breaker without jitter."""
    return Breaker("db", BreakerSettings(open_jitter=0.0, **settings), lambda: 0.5)


def forgive(exchange: Exchange, fault: Exception) -> None:
    """Take a fault without a word."""


class Guarded(Route):
    """A route with a breaker, and how that looks now."""

    breaker: Breaker
    gate: BreakerGate
    permit: BreakerPermit

    @property
    def view(self) -> BreakerView:
        """The breaker at this moment."""
        return self.breaker.view(now())

    @property
    def counted(self) -> tuple[int, int, int]:
        """Successes, failures, and failures in a row."""
        return self.view.successes, self.view.failures, self.view.run


def guarded(
    upstream: Call,
    *,
    total: float | None = None,
    attempt: float | None = None,
    shadow: bool = False,
    breaker: Breaker | None = None,
    between: Stage | None = None,
    **settings: Any,
) -> Guarded:
    """Make a route of everything that matters to a breaker. `between` stands where the bulkhead would."""
    parts = some_parts(on_fault=forgive)
    breaker = breaker or a_breaker(**settings)
    gate = BreakerGate(breaker, parts.loop, shadow=shadow)
    permit = BreakerPermit(breaker, parts.loop, timed=attempt is not None, shadow=shadow)
    one = AttemptStage(parts.loop, parts.clock, upstream="an-upstream", timeout=attempt, seconds=Histogram())
    stages: list[Stage] = [RecordStage(parts.answers, parts.on_fault)]
    if total is not None:
        stages.append(TotalDeadline(parts.loop, total))
    stages += [gate, *([between] if between else []), permit, one]
    pipeline = Pipeline(route="a-route", call=compose(stages, upstream), stages=tuple(stages))
    route = Guarded(pipeline)
    route.breaker, route.gate, route.permit = breaker, gate, permit
    return route


async def leave(route: Route, after: float, request: Any = None) -> None:
    """Ask, and leave some seconds later."""
    task = route.start(request)
    await asyncio.sleep(after)
    task.cancel()
    await asyncio.wait([task])


class Delay(Stage):
    """Holds every request for some seconds, as a queue does."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds

    async def __call__(self, exchange: Exchange) -> Reply:
        await asyncio.sleep(self.seconds)
        return await self.next(exchange)


# --- what counts ---


@pytest.mark.parametrize("status", [200, 204, 302, 404, 499, 501, 505, 599])
@in_virtual_time
async def test_a_status_that_is_not_listed_is_a_success(status: int) -> None:
    route = guarded(Upstream(answer(status)))
    await route.get()

    assert route.counted == (1, 0, 0)


@pytest.mark.parametrize("status", [500, 502, 503, 504])
@in_virtual_time
async def test_a_listed_status_is_a_failure_and_is_passed_on(status: int) -> None:
    route = guarded(Upstream(answer(status, b"page")))
    got = await route.get()

    assert (got.status, got.body) == (status, b"page")
    assert route.counted == (0, 1, 1)


@in_virtual_time
async def test_429_says_nothing_about_the_upstream() -> None:
    route = guarded(Upstream(then=answer(429)))
    for _ in range(100):
        assert (await route.get()).status == 429

    assert (route.counted, route.view.state) == ((0, 0, 0), CLOSED)


@in_virtual_time
async def test_429_counts_where_it_is_listed() -> None:
    route = guarded(Upstream(then=answer(429)), count=frozenset({429}))
    for _ in range(5):
        await route.get()

    assert route.view.state is OPEN


@in_virtual_time
async def test_the_list_of_statuses_is_the_whole_list() -> None:
    route = guarded(Upstream(answer(500), answer(501), answer(404)), count=frozenset({404, 501}))
    for _ in range(3):
        await route.get()

    assert route.counted == (1, 2, 2)


@pytest.mark.parametrize(
    "error", [ConnectFailed(), AttemptTimeout(), Disconnected(), BadResponse(), UpstreamIdle()]
)
@in_virtual_time
async def test_an_upstream_that_gives_no_usable_answer_fails(error: RequestError) -> None:
    route = guarded(Upstream(then=fail(error, after=0.5)))
    for _ in range(5):
        await route.get()

    assert route.view.state is OPEN
    assert route.view.last_trip is not None
    assert route.view.last_trip.first_error == error.fate.value
    assert route.view.last_trip.attempts == tuple(
        Attempt(age, error.fate.value, 0.5) for age in (2.0, 1.5, 1.0, 0.5, 0.0)
    )


@pytest.mark.parametrize(
    "error",
    [
        BulkheadFull(),
        QueueTimeout(),
        Overloaded(),
        RateLimited(),
        BodyTooLarge(),
        RequestBodyTimeout(),
        ClientGone(),
        KeyError("a fault of ours"),
    ],
)
@in_virtual_time
async def test_what_is_not_the_upstreams_doing_never_counts(error: Exception) -> None:
    route = guarded(Upstream(then=fail(error)))
    for _ in range(100):
        await route.get()

    assert (route.counted, route.view.state) == ((0, 0, 0), CLOSED)


@in_virtual_time
async def test_an_upstream_that_only_fails_is_asked_no_more_often_than_the_threshold() -> None:
    upstream = Upstream(then=answer(503))
    route = guarded(upstream)
    for _ in range(100):
        await route.get()

    assert len(upstream.arrivals) == 5
    assert (route.breaker.rejected, route.view.rejected) == (95, 95)


@in_virtual_time
async def test_an_attempt_is_as_slow_as_its_head() -> None:
    route = guarded(
        Upstream(answer(after=2), stream([(50, b"x")], after=2), answer(after=2.5), answer(after=2.5)),
        slow_duration=2.0,
        slow_rate=0.5,
        min_requests=4,
        window=100.0,
    )
    for _ in range(4):
        await route.get()

    assert route.view.last_trip is not None
    assert route.view.last_trip.cause == "slow_call_rate"
    assert [(one.what, one.seconds) for one in route.view.last_trip.attempts] == [
        ("ok", 2),
        ("ok", 2),
        ("ok", 2.5),
        ("ok", 2.5),
    ]


@in_virtual_time
async def test_a_trip_tells_apart_what_the_attempts_came_to() -> None:
    route = guarded(
        Upstream(answer(204), answer(302), answer(404), answer(429), answer(503)),
        failures_in_window=1,
        min_requests=4,
    )
    for _ in range(5):
        await route.get()

    assert route.view.last_trip is not None
    assert [one.what for one in route.view.last_trip.attempts] == ["ok", "ok", "404", "503"]


# --- bodies ---


@in_virtual_time
async def test_a_whole_answer_ends_the_run_at_once() -> None:
    route = guarded(Upstream(answer(503), answer(200, b"x"), answer(503), answer(204)))
    runs = []
    for _ in range(4):
        await route.get()
        runs.append(route.view.run)

    assert runs == [1, 0, 1, 0]


@in_virtual_time
async def test_a_long_answer_ends_the_run_when_it_has_come_whole() -> None:
    route = guarded(Upstream(answer(503), stream([(1, b"a"), (20, b"b")])))
    await route.get()
    task = route.start()
    await asyncio.sleep(19)
    meanwhile = route.counted
    got: Got = await task

    assert (meanwhile, route.counted) == ((1, 1, 1), (1, 1, 0))
    assert got.body == b"ab"


@in_virtual_time
async def test_a_body_that_the_upstream_breaks_is_one_more_failure() -> None:
    route = guarded(
        Upstream(then=stream([(1, b"half")], breaks=Disconnected(head_seen=True))), consecutive_failures=3
    )
    for _ in range(3):
        got = await route.get()
        assert isinstance(got.error, Disconnected)

    assert route.view.state is OPEN
    assert route.view.last_trip is not None
    assert route.view.last_trip.attempts[-2:] == (
        Attempt(1, "ok", 0),
        Attempt(0, "upstream_disconnected", None),
    )


@in_virtual_time
async def test_a_client_that_leaves_in_the_middle_of_a_body_is_neither() -> None:
    route = guarded(Upstream(answer(503), then=stream([(1, b"half"), (100, b"rest")])))
    await route.get()
    for _ in range(20):
        await leave(route, 5)

    view = route.view
    assert (view.run, view.failures, view.state) == (1, 0, CLOSED)


def a_long_answer() -> Reply:
    """A reply whose body is under way."""
    return Reply(200, NO_FIELDS, Body(lambda: 0.0))


async def opened(breaker: Breaker) -> tuple[Reply, Body]:
    """Take a reply through the permit; its body is under way, and the run is 1."""

    async def upstream(exchange: Exchange) -> Reply:
        return a_long_answer()

    permit = BreakerPermit(breaker, asyncio.get_running_loop())
    permit.next = fail_once
    with pytest.raises(Disconnected):
        await permit(an_exchange())
    permit.next = upstream
    reply = await permit(an_exchange())
    assert isinstance(reply.body, Body)
    assert breaker.view(now()).run == 1
    return reply, reply.body


async def fail_once(exchange: Exchange) -> Reply:
    """An upstream that breaks."""
    raise Disconnected


@pytest.mark.parametrize(
    ("error", "run"),
    [
        (None, 1),
        (ClientGone(), 1),
        (ClientStalled(), 1),
        (Overloaded(), 1),
        (Disconnected(), 2),
        (UpstreamIdle(), 2),
        (BadResponse(), 2),
    ],
)
@in_virtual_time
async def test_a_body_that_has_not_come_whole_counts_only_if_the_upstream_broke_it(
    error: BaseException | None, run: int
) -> None:
    breaker = a_breaker()
    reply, _ = await opened(breaker)

    reply.close(error)

    assert breaker.view(now()).run == run


@pytest.mark.parametrize("error", [None, ClientGone(), ClientStalled(), UpstreamIdle()])
@in_virtual_time
async def test_a_body_that_came_whole_ends_the_run_whatever_the_client_does_with_it(
    error: BaseException | None,
) -> None:
    breaker = a_breaker()
    reply, body = await opened(breaker)
    body.finish()

    reply.close(error)

    assert breaker.view(now()).run == 0


@pytest.mark.parametrize(("error", "run"), [(UpstreamIdle(), 1), (Disconnected(), 2)])
@in_virtual_time
async def test_time_that_runs_out_while_the_client_is_slow_to_read_is_not_the_upstreams_doing(
    error: BaseException, run: int
) -> None:
    breaker = a_breaker()
    reply, body = await opened(breaker)
    body.hold()

    reply.close(error)

    assert breaker.view(now()).run == run


@pytest.mark.parametrize("status", [429, 503])
@in_virtual_time
async def test_a_whole_error_page_is_no_sign_of_health(status: int) -> None:
    upstream = Upstream(answer(503), stream([(1, b"page")], status=status), answer(status, b"page"))
    route = guarded(upstream)
    for _ in range(3):
        await route.get()

    assert route.view.run == (3 if status == 503 else 1)


@in_virtual_time
async def test_a_broken_error_page_is_not_counted_twice() -> None:
    route = guarded(Upstream(stream([(1, b"page")], status=503, breaks=Disconnected(head_seen=True))))
    await route.get()

    assert route.counted == (0, 1, 1)


@in_virtual_time
async def test_a_switch_of_protocols_is_a_success_at_its_head() -> None:
    async def switch(exchange: Exchange) -> Reply:
        reply = Reply(101, NO_FIELDS)
        reply.tunnel = object()
        return reply

    breaker = a_breaker()
    permit = BreakerPermit(breaker, asyncio.get_running_loop())
    permit.next = fail_once
    with pytest.raises(Disconnected):
        await permit(an_exchange())
    permit.next = switch
    reply = await permit(an_exchange())
    view = breaker.view(now())
    reply.close(UpstreamIdle("the tunnel stood still"))

    assert (view.successes, view.run) == (1, 0)
    assert breaker.view(now()) == view


# --- clients that leave, and deadlines ---


@in_virtual_time
async def test_clients_that_leave_do_not_trip_and_nothing_is_kept() -> None:
    upstream = Upstream(then=hang())
    route = guarded(upstream, attempt=10.0, total=15.0)

    await asyncio.gather(*(leave(route, 1) for _ in range(200)))

    assert (route.counted, route.view.state) == ((0, 0, 0), CLOSED)
    assert {arrival.ended for arrival in upstream.arrivals} == {"cancelled"}
    assert upstream.under_way == 0


@in_virtual_time
async def test_a_client_that_left_after_waiting_longer_than_the_attempt_timeout_counts() -> None:
    route = guarded(Upstream(then=hang()), attempt=10.0)
    await asyncio.gather(*(leave(route, 10.5) for _ in range(5)))

    assert route.view.state is OPEN
    assert route.view.last_trip is not None
    assert route.view.last_trip.first_error == "timeout_attempt"


@in_virtual_time
async def test_an_upstream_that_hangs_trips_where_only_the_total_deadline_can_tell() -> None:
    route = guarded(Upstream(then=hang()), total=15.0)
    await asyncio.gather(*(route.get() for _ in range(5)))

    assert set(route.fates) == {"timeout_total"}
    assert route.view.last_trip is not None
    assert route.view.last_trip.first_error == "timeout_total"


@in_virtual_time
async def test_a_client_that_leaves_before_the_total_deadline_does_not_count() -> None:
    route = guarded(Upstream(then=hang()), total=15.0)
    await asyncio.gather(*(leave(route, 14.9) for _ in range(20)))

    assert route.counted == (0, 0, 0)


@pytest.mark.parametrize(("queued", "failures"), [(7.5, 1), (7.6, 0), (14.0, 0)])
@in_virtual_time
async def test_an_attempt_that_began_too_late_is_not_blamed_for_the_total_deadline(
    queued: float, failures: int
) -> None:
    route = guarded(Upstream(hang()), total=15.0, between=Delay(queued))
    got = await route.get()

    assert (got.status, got.at, route.counted) == (504, 15, (0, failures, failures))


@in_virtual_time
async def test_an_attempt_within_its_own_time_is_not_blamed_for_the_total_deadline() -> None:
    route = guarded(Upstream(hang()), total=12.0, attempt=10.0, between=Delay(3))
    got = await route.get()

    assert (got.status, got.at, route.counted) == (504, 12, (0, 0, 0))


@pytest.mark.parametrize("bounds", [{"attempt": 10.0}, {"total": 10.0}])
@in_virtual_time
async def test_slow_uploads_cannot_open_a_breaker(bounds: dict[str, Any]) -> None:
    upstream = Upstream(then=hang())
    route = guarded(upstream, **bounds)

    for _ in range(10):
        body = Body(asyncio.get_running_loop().time)
        body.feed(b"a")
        got = await route.ask(a_request("POST", body=body))
        assert got.status == 504

    assert (route.counted, len(upstream.arrivals)) == ((0, 0, 0), 10)


@pytest.mark.parametrize("bounds", [{"attempt": 10.0}, {"total": 10.0}])
@pytest.mark.parametrize("how", ["finished", "paused"])
@in_virtual_time
async def test_an_upstream_that_hangs_on_a_whole_upload_or_stops_reading_one_fails(
    bounds: dict[str, Any], how: str
) -> None:
    route = guarded(Upstream(hang()), **bounds)
    body = a_body(b"a")
    if how == "paused":
        body = Body(asyncio.get_running_loop().time)
        body.feed(b"a")
        body.hold()

    await route.ask(a_request("POST", body=body))

    assert route.counted == (0, 1, 1)


@in_virtual_time
async def test_an_upload_that_is_cut_off_by_a_broken_upstream_is_a_failure() -> None:
    route = guarded(Upstream(fail(Disconnected())))

    await route.ask(a_request("POST", body=Body(asyncio.get_running_loop().time)))

    assert route.counted == (0, 1, 1)


# --- refusals ---


@in_virtual_time
async def test_a_refusal_says_for_how_long_honestly() -> None:
    upstream = Upstream(*[fail(ConnectFailed())] * 5, then=answer(200))
    route = guarded(upstream)
    for _ in range(5):
        await route.get()
    await asyncio.sleep(10.5)

    got = await route.get()

    assert (got.status, route.fates[-1]) == (503, "rejected_breaker_open")
    assert got.header(b"retry-after") == b"20"
    await asyncio.sleep(20)
    assert (await route.get()).status == 200


@in_virtual_time
async def test_the_gate_refuses_before_anything_is_waited_for() -> None:
    route = guarded(Upstream(), between=Delay(5))
    route.breaker.force_open(0, 60)

    got = await route.get()

    assert (got.status, got.at, got.header(b"retry-after")) == (503, 0, b"60")
    assert isinstance(route.done[0].error, BreakerOpen)
    assert str(route.done[0].error) == "breaker db"
    assert route.breaker.rejected == 1


@in_virtual_time
async def test_who_queued_while_it_tripped_is_refused_after_the_queue() -> None:
    upstream = Upstream(answer())
    route = guarded(upstream, between=Delay(5))
    task = route.start()
    await asyncio.sleep(1)
    route.breaker.force_open(1, 60)

    got = await task

    assert (got.status, got.at, got.header(b"retry-after"), upstream.arrivals) == (503, 5, b"56", [])
    assert route.breaker.rejected == 1


@pytest.mark.parametrize("trials", [1, 4])
@in_virtual_time
async def test_a_thousand_requests_at_the_moment_of_half_open_reach_the_upstream_as_so_many_trials(
    trials: int,
) -> None:
    upstream = Upstream(*[answer(503)] * 5, then=answer(200, after=2))
    route = guarded(upstream, max_trials=trials, successes=trials, between=Delay(0.001))
    for _ in range(5):
        await route.get()
    await asyncio.sleep(30)

    got = await asyncio.gather(*(route.get() for _ in range(1000)))

    assert len(upstream.arrivals) == 5 + trials
    assert sorted(one.status for one in got) == [200] * trials + [503] * (1000 - trials)
    assert {one.header(b"retry-after") for one in got if one.status == 503} == {b"1"}
    assert route.view.state is CLOSED


@in_virtual_time
async def test_a_trial_that_is_cancelled_gives_its_place_back() -> None:
    upstream = Upstream(*[answer(503)] * 5, *[hang()] * 1000, then=answer())
    route = guarded(upstream, max_wait=3600.0)
    for _ in range(5):
        await route.get()
    await asyncio.sleep(30)
    for _ in range(1000):
        await leave(route, 0.01)
        assert (route.view.state, route.view.trials) == (HALF_OPEN, 0)

    assert [(await route.get()).status for _ in range(2)] == [200, 200]
    assert route.view.state is CLOSED


@in_virtual_time
async def test_a_trial_that_is_answered_with_429_gives_its_place_back() -> None:
    route = guarded(Upstream(*[answer(503)] * 5, answer(429), then=answer()))
    for _ in range(5):
        await route.get()
    await asyncio.sleep(30)
    await route.get()

    assert (route.view.state, route.view.trials, route.view.retry_after) == (HALF_OPEN, 0, None)


@in_virtual_time
async def test_a_trial_that_nobody_decides_does_not_hold_its_place_for_ever() -> None:
    upstream = Upstream(*[answer(503)] * 5, hang(), then=answer())
    route = guarded(upstream, max_wait=20.0)
    for _ in range(5):
        await route.get()
    await asyncio.sleep(30)
    task = route.start()
    await asyncio.sleep(20)

    assert (route.view.state, route.view.retry_after) == (OPEN, 45)
    task.cancel()
    await asyncio.wait([task])
    assert (route.view.state, route.view.late) == (OPEN, 1)


@in_virtual_time
async def test_a_slow_answer_from_before_the_trip_changes_nothing_when_it_comes() -> None:
    upstream = Upstream(answer(200, after=10), *[answer(503)] * 5)
    route = guarded(upstream)
    slow = route.start()
    await asyncio.sleep(1)
    for _ in range(5):
        await route.get()
    got = await slow

    assert (got.status, got.at) == (200, 10)
    assert (route.view.state, route.view.late, route.view.retry_after) == (OPEN, 1, 21)


@in_virtual_time
async def test_a_breaker_is_shared_by_the_routes_that_name_it() -> None:
    one = guarded(Upstream(then=answer(503)))
    other = guarded(Upstream(), breaker=one.breaker)
    for _ in range(5):
        await one.get()

    assert (await other.get()).status == 503
    assert other.fates == ["rejected_breaker_open"]


# --- shadow ---


@in_virtual_time
async def test_in_shadow_nothing_is_refused_and_what_would_have_been_is_counted() -> None:
    upstream = Upstream(then=answer(503, b"page", after=1))
    route = guarded(upstream, shadow=True)
    got = [await route.get() for _ in range(8)]

    assert [(one.status, one.body, one.header(b"retry-after")) for one in got] == [(503, b"page", None)] * 8
    assert [one.at for one in got] == [1, 2, 3, 4, 5, 6, 7, 8]
    assert [exchange.would for exchange in route.done] == [()] * 5 + [("breaker",)] * 3
    assert (route.gate.would_reject, route.permit.would_reject, route.breaker.rejected) == (3, 0, 0)
    assert (route.view.state, route.view.late) == (OPEN, 0)


@in_virtual_time
async def test_in_shadow_who_would_have_been_refused_after_the_queue_is_counted_there() -> None:
    upstream = Upstream(answer())
    route = guarded(upstream, shadow=True, between=Delay(5))
    task = route.start()
    await asyncio.sleep(1)
    route.breaker.force_open(1, 60)

    got = await task

    assert (got.status, route.done[0].would) == (200, ("breaker",))
    assert (route.gate.would_reject, route.permit.would_reject) == (0, 1)


@in_virtual_time
async def test_in_shadow_the_breaker_recovers_by_its_trials_as_it_would() -> None:
    upstream = Upstream(*[answer(503)] * 5, then=answer())
    route = guarded(upstream, shadow=True)
    for _ in range(5):
        await route.get()
    await asyncio.sleep(29)
    await route.get()
    before = route.view.state
    await asyncio.sleep(1)
    await route.get()
    await route.get()

    assert (before, route.view.state) == (OPEN, CLOSED)


@in_virtual_time
async def test_what_other_shadows_would_have_done_is_kept() -> None:
    breaker = a_breaker()
    breaker.force_open(0, None)
    gate = BreakerGate(breaker, asyncio.get_running_loop(), shadow=True)
    gate.next = Upstream(answer())
    exchange = an_exchange()
    exchange.would += ("rate_limit",)

    await gate(exchange)

    assert exchange.would == ("rate_limit", "breaker")


# --- the stages themselves ---


@in_virtual_time
async def test_the_stages_name_themselves_and_their_breaker() -> None:
    loop = asyncio.get_running_loop()

    assert [
        BreakerGate(a_breaker(), loop).describe(),
        BreakerPermit(a_breaker(), loop).describe(),
        BreakerPermit(a_breaker(), loop, shadow=True).describe(),
    ] == ["breaker gate db", "breaker permit db", "breaker permit db (shadow)"]


@in_virtual_time
async def test_the_gate_takes_no_permit() -> None:
    breaker = a_breaker(successes=1)
    for _ in range(5):
        breaker.settle(breaker.enter(0), 1, 0, 0.1, "503")
    gate = BreakerGate(breaker, asyncio.get_running_loop())
    gate.next = Upstream(then=answer())
    await asyncio.sleep(30)
    for _ in range(10):
        await gate(an_exchange())

    assert breaker.view(now()).trials == 0
    assert breaker.enter(now()) != REFUSED


@in_virtual_time
async def test_attempts_are_taken_to_have_a_timeout_of_their_own_unless_told() -> None:
    breaker = a_breaker()
    permit = BreakerPermit(breaker, asyncio.get_running_loop())
    deadline = TotalDeadline(asyncio.get_running_loop(), 15)
    call = compose([deadline, permit], Upstream(hang()))
    with pytest.raises(RequestError):
        await call(an_exchange())

    assert breaker.view(now()).failures == 0
