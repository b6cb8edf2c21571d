"""Which failure is replaced by what, how such an answer is marked, and what becomes of the failure."""

import asyncio
import gc
import weakref

import pytest

from sidecar.errors import (
    AttemptTimeout,
    BadResponse,
    BodyTooLarge,
    BreakerOpen,
    BulkheadFull,
    ConnectFailed,
    Disconnected,
    Internal,
    Maintenance,
    NoRoute,
    Overloaded,
    QueueTimeout,
    RateLimited,
    RequestError,
    TotalTimeout,
    UpstreamIdle,
)
from sidecar.message import Body, Fields, Reply
from sidecar.pipeline.exchange import Exchange
from sidecar.policy.breaker import Breaker
from sidecar.policy.breaker_settings import BreakerSettings
from sidecar.policy.bulkhead import Bulkhead, BulkheadSettings
from sidecar.policy.fallback import Mock, Redirect, Stale, Static, Upstream
from sidecar.policy.ratelimit import RateLimiter, RateLimitSettings
from sidecar.policy.retry import RetrySettings
from sidecar.policy.store import Store
from tests.support.exchanges import a_request, some_parts
from tests.support.ladders import a_ladder, fallback_of, marks, source, used
from tests.support.upstream import Arrival, Step, answer, fail, hang, stream
from tests.support.upstream import Upstream as Script
from tests.support.virtual_time import in_virtual_time, now

SORRY = Static(body=b"sorry")

FAILURES: list[tuple[RequestError, str, bytes]] = [
    (
        BreakerOpen(),
        "breaker_open",
        b'sidecar; error=destination_unavailable; details="rejected_breaker_open"',
    ),
    (AttemptTimeout(), "timeout", b'sidecar; error=http_response_timeout; details="timeout_attempt"'),
    (TotalTimeout(), "timeout", b'sidecar; error=http_response_timeout; details="timeout_total"'),
    (UpstreamIdle(), "timeout", b'sidecar; error=connection_read_timeout; details="timeout_idle"'),
    (ConnectFailed(), "connect_error", b'sidecar; error=connection_refused; details="upstream_connect"'),
    (
        ConnectFailed(token="connection_timeout"),
        "connect_error",
        b'sidecar; error=connection_timeout; details="upstream_connect"',
    ),
    (
        Disconnected(),
        "disconnected",
        b'sidecar; error=connection_terminated; details="upstream_disconnected"',
    ),
    (
        BadResponse(),
        "disconnected",
        b'sidecar; error=http_protocol_error; details="upstream_bad_response"',
    ),
    (
        BulkheadFull(),
        "bulkhead_full",
        b'sidecar; error=connection_limit_reached; details="rejected_bulkhead_full"',
    ),
    (
        QueueTimeout(),
        "bulkhead_full",
        b'sidecar; error=connection_limit_reached; details="rejected_queue_timeout"',
    ),
    (Overloaded(), "overload", b'sidecar; error=connection_limit_reached; details="rejected_overload"'),
]


@pytest.mark.parametrize(("error", "cause", "proxy_status"), FAILURES)
@in_virtual_time
async def test_a_failure_is_answered_and_the_answer_says_why(
    error: RequestError, cause: str, proxy_status: bytes
) -> None:
    route = a_ladder(Script(fail(error)), SORRY)

    got = await route.get()

    assert (got.status, got.body) == (200, b"sorry")
    assert marks(got) == {
        b"x-system-degraded": b"true",
        b"x-fallback-source": b"static",
        b"proxy-status": proxy_status,
        b"cache-control": b"no-store",
        b"x-request-id": b"test-000001",
    }
    assert got.header(b"retry-after") is None
    assert used(route) == {("static", cause): 1}
    assert route.fates == ["fallback_static"]
    assert route.done[0].error is error


@pytest.mark.parametrize("status", [500, 502, 503, 599])
@in_virtual_time
async def test_a_server_error_of_the_upstream_is_replaced(status: int) -> None:
    upstream = Script(answer(status, b"a stack trace", headers=[(b"Retry-After", b"7")]))
    route = a_ladder(upstream, SORRY)

    got = await route.get()

    assert (got.status, got.body) == (200, b"sorry")
    assert got.header(b"proxy-status") == b'sidecar; received-status=%d; details="upstream_status"' % status
    assert got.header(b"retry-after") is None
    assert used(route) == {("static", "5xx"): 1}
    assert (route.fates, route.done[0].error) == (["fallback_static"], None)
    assert upstream.arrivals[0].closed == [None]


@pytest.mark.parametrize("status", [200, 204, 304, 404, 429, 499])
@in_virtual_time
async def test_what_is_no_server_error_passes_as_it_is(status: int) -> None:
    route = a_ladder(Script(answer(status, b"mine")), SORRY)

    got = await route.get()

    assert (got.status, source(got), used(route), route.fates) == (status, None, {}, ["ok"])


@pytest.mark.parametrize(
    "error", [NoRoute(), BodyTooLarge(), RateLimited(retry_after=3), Maintenance(), Internal()]
)
@in_virtual_time
async def test_the_clients_own_excess_and_faults_of_ours_are_not_hidden(error: RequestError) -> None:
    route = a_ladder(Script(fail(error)), SORRY)

    got = await route.get()

    assert (got.status, source(got), route.fates, used(route)) == (error.status, None, [str(error.fate)], {})


@in_virtual_time
async def test_a_fault_that_nobody_foresaw_is_not_hidden() -> None:
    route = a_ladder(Script(fail(KeyError())), SORRY, parts=some_parts(on_fault=lambda *_: None))

    got = await route.get()

    assert (got.status, source(got), route.fates) == (500, None, ["internal"])


@in_virtual_time
async def test_the_total_deadline_is_a_cause_too() -> None:
    upstream = Script(hang())
    route = a_ladder(upstream, SORRY, total=15)

    got = await route.get()

    assert (got.status, got.at, source(got), used(route)) == (200, 15, b"static", {("static", "timeout"): 1})
    assert upstream.arrivals[0].ended == "cancelled"
    assert isinstance(route.done[0].error, TotalTimeout)


# --- which step ---


@in_virtual_time
async def test_the_first_step_that_is_meant_for_the_cause_counts() -> None:
    route = a_ladder(
        Script(fail(BulkheadFull()), fail(Disconnected()), fail(BreakerOpen())),
        Static(body=b"busy", when=frozenset({"bulkhead_full", "overload"})),
        Mock(body=b"{}", when=frozenset({"breaker_open", "5xx"})),
        Static(body=b"down"),
    )

    got = [await route.get() for _ in range(3)]

    assert [(one.body, source(one)) for one in got] == [
        (b"busy", b"static"),
        (b"down", b"static"),
        (b"{}", b"mock"),
    ]
    assert used(route) == {
        ("static", "bulkhead_full"): 1,
        ("static", "disconnected"): 1,
        ("mock", "breaker_open"): 1,
    }


@in_virtual_time
async def test_every_use_that_may_come_is_counted_from_zero() -> None:
    route = a_ladder(
        Script(),
        Static(when=frozenset({"5xx", "timeout"})),
        Redirect(b"/sorry", when=frozenset({"overload"})),
    )

    assert fallback_of(route).used == {
        ("static", "timeout"): 0,
        ("static", "5xx"): 0,
        ("redirect", "overload"): 0,
    }


@in_virtual_time
async def test_a_failed_post_does_not_look_done() -> None:
    """A configured answer to a POST that came to nothing would say that the order was placed."""
    route = a_ladder(Script(fail(Disconnected()), answer(503)), SORRY, Mock(), Redirect(b"/sorry"))

    got = [await route.ask(a_request("POST", body=b"order")) for _ in range(2)]

    assert [(one.status, source(one)) for one in got] == [(502, None), (503, None)]
    assert route.fates == ["upstream_disconnected", "upstream_status"]


@in_virtual_time
async def test_a_step_that_names_the_method_answers_a_post() -> None:
    route = a_ladder(Script(fail(Disconnected())), Static(202, methods=frozenset({b"POST"})))

    got = await route.ask(a_request("POST", body=b"a metric"))

    assert (got.status, source(got)) == (202, b"static")


@in_virtual_time
async def test_where_no_step_delivers_the_reply_goes_on_unchanged() -> None:
    upstream = Script(stream([(1, b"why"), (2, b" not")], status=503, headers=[(b"Retry-After", b"7")]))
    route = a_ladder(
        upstream, Static(when=frozenset({"timeout"})), Upstream("b"), ask={"b": Script(answer(500))}
    )

    got = await route.get()

    assert (got.status, got.body, source(got), route.fates) == (503, b"why not", None, ["upstream_status"])
    assert got.headers == [(b"Retry-After", b"7"), (b"X-Request-ID", b"test-000001")]
    assert upstream.arrivals[0].closed == [None]
    assert not upstream.arrivals[0].dropped
    assert route.done[0].upstream == "an-upstream"


@in_virtual_time
async def test_where_no_step_delivers_the_error_goes_on_unchanged() -> None:
    error = Disconnected("mine")
    route = a_ladder(Script(fail(error)), Upstream("b"), ask={"b": Script(fail(ConnectFailed()))})

    got = await route.get()

    assert (got.status, source(got), route.fates) == (502, None, ["upstream_disconnected"])
    assert route.done[0].error is error


# --- faults in a step ---


@in_virtual_time
async def test_a_step_that_breaks_costs_nothing_but_the_step() -> None:
    """The fault is told to whoever mends it; the client gets the next step, or the failure that there was."""
    faults: list[tuple[str, Exception]] = []
    parts = some_parts(on_fault=lambda exchange, fault: faults.append((exchange.route, fault)))
    broken = Script(fail(KeyError("mine")), fail(KeyError("mine")))
    down = Disconnected()
    one = a_ladder(Script(fail(down)), Upstream("b"), SORRY, ask={"b": broken}, parts=parts)
    other = a_ladder(Script(fail(down)), Upstream("b"), ask={"b": broken}, parts=parts)

    got, without = await one.get(), await other.get()

    assert (got.status, source(got), one.done[0].error) == (200, b"static", down)
    assert (without.status, source(without), other.done[0].error) == (502, None, down)
    assert [(route, type(fault)) for route, fault in faults] == [("a-route", KeyError)] * 2


@in_virtual_time
async def test_a_failed_reply_that_cannot_be_closed_costs_the_client_nothing() -> None:
    """Whatever fails while its slot is given back: the answer that stands in for it is there."""
    faults: list[Exception] = []
    parts = some_parts(on_fault=lambda _, fault: faults.append(fault))

    def broken(_: BaseException | None) -> None:
        raise KeyError

    async def upstream(exchange: Exchange) -> Reply:
        reply = Reply(503, Fields([]), b"")
        reply.on_close(broken)
        return reply

    route = a_ladder(upstream, SORRY, parts=parts)

    got = await route.get()

    assert (got.status, source(got), route.fates) == (200, b"static", ["fallback_static"])
    assert [type(fault) for fault in faults] == [KeyError]


# --- what is held meanwhile ---


@pytest.mark.parametrize(
    "failed",
    [answer(503, b"x"), stream([(0, b"x"), (1, b"y")], status=503), stream([(9, b"x")], status=500)],
)
@in_virtual_time
async def test_a_reply_that_is_replaced_is_closed_at_once(failed: Step) -> None:
    upstream = Script(failed)
    route = a_ladder(upstream, Upstream("b"), ask={"b": Script(stream([(100, b"late")]))})

    task = route.start()
    await asyncio.sleep(0.5)
    closed = [*upstream.arrivals[0].closed]
    got = await task

    assert closed == [None]
    assert (got.body, upstream.arrivals[0].closed, upstream.under_way) == (b"late", [None], 0)


@in_virtual_time
async def test_a_client_that_leaves_meanwhile_leaves_nothing_behind() -> None:
    upstream, other = Script(stream([(1000, b"x")], status=503)), Script(hang())
    route = a_ladder(upstream, Upstream("b", timeout=60), SORRY, ask={"b": other})
    task = route.start()
    await asyncio.sleep(1)
    assert (upstream.under_way, other.under_way) == (1, 1)

    task.cancel()
    await asyncio.wait([task])

    assert (upstream.under_way, other.under_way) == (0, 0)
    assert upstream.arrivals[0].closed == [None]
    assert other.arrivals == [Arrival(0, b"GET", b"/", "cancelled", 1)]
    assert (route.fates, used(route)) == (["client_gone"], {})


@in_virtual_time
async def test_a_client_that_left_gets_no_fallback() -> None:
    route = a_ladder(Script(hang()), SORRY)
    task = route.start()
    await asyncio.sleep(1)

    task.cancel()
    await asyncio.wait([task])

    assert (route.fates, used(route)) == (["client_gone"], {})


@in_virtual_time
async def test_a_failure_that_was_answered_leaves_nothing_for_the_garbage_collector() -> None:
    """An open breaker makes thousands of them a second."""
    route = a_ladder(Script(fail(BreakerOpen())), SORRY)

    def sink(_: Exchange) -> None:
        """Nobody else has it: it goes when the exchange goes."""

    exchange = Exchange(a_request(), "a-route", now, sink)
    gone = weakref.ref(sink)
    del sink
    gc.disable()
    try:
        (await route.pipeline.call(exchange)).close()
        del exchange
        left = gone()
    finally:
        gc.enable()

    assert left is None


# --- the request's body ---


@in_virtual_time
async def test_a_body_is_not_kept_once_there_is_an_answer() -> None:
    """A megabyte for each of ten thousand requests would be memory for nothing."""
    route = a_ladder(Script(answer(201)), Upstream("b"), ask={"b": Script()})
    request = a_request("PUT", body=b"x")

    await route.ask(request)

    assert request.body is not None
    assert not request.body.rewind()


@pytest.mark.parametrize(("method", "kept"), [("PUT", True), ("POST", False)])
@in_virtual_time
async def test_a_body_is_kept_only_for_a_step_that_may_send_it(method: str, kept: bool) -> None:
    seen: list[bool] = []

    async def upstream(exchange: Exchange) -> Reply:
        assert isinstance(exchange.request.body, Body)
        seen.append(exchange.request.body.rewind())
        return Reply(200, Fields([]), b"")

    for steps in [(SORRY,), (SORRY, Upstream("b"))]:
        await a_ladder(upstream, *steps, ask={"b": Script()}).ask(a_request(method, body=b"x"))

    assert seen == [False, kept]


# --- with the other stages ---


@in_virtual_time
async def test_a_fallback_hides_nothing_from_retry_and_breaker() -> None:
    """Where the fallback sits on the breaker, or inside the retry, both are dead: they see nothing but successes."""
    upstream = Script(then=answer(503))
    breaker = Breaker("b", BreakerSettings(consecutive_failures=6), lambda: 0.5)
    route = a_ladder(upstream, SORRY, retry=RetrySettings(retries=2), breaker=breaker)

    got = [await route.get() for _ in range(3)]

    assert [(one.status, source(one), one.header(b"x-upstream-attempts")) for one in got] == [
        (200, b"static", b"3"),
        (200, b"static", b"3"),
        (200, b"static", None),
    ]
    assert (len(upstream.arrivals), breaker.state) == (6, "OPEN")
    assert used(route) == {("static", "5xx"): 2, ("static", "breaker_open"): 1}


@in_virtual_time
async def test_a_fallback_waits_until_the_retries_are_spent() -> None:
    upstream = Script(fail(Disconnected()), fail(Disconnected()), answer(200, b"at last"))
    route = a_ladder(upstream, SORRY, retry=RetrySettings(retries=2))

    got = await route.get()

    assert (got.body, source(got), route.fates) == (b"at last", None, ["ok_after_retry"])


@in_virtual_time
async def test_another_upstream_gets_the_body_though_retries_had_it_before() -> None:
    bodies: list[bytes | None] = []
    numbers: list[bytes | None] = []

    async def takes(exchange: Exchange) -> Reply:
        body = exchange.request.body
        bodies.append(body.take_whole() if body is not None else None)
        numbers.append(dict(exchange.request.extra).get(b"X-Retry-Attempt"))
        return Reply(503 if len(bodies) < 4 else 201, Fields([]), b"")

    route = a_ladder(takes, Upstream("b"), ask={"b": takes}, retry=RetrySettings(retries=2))

    got = await route.ask(a_request("PUT", body=b"order"))

    assert (got.status, source(got), got.header(b"x-upstream-attempts")) == (201, b"upstream", b"3")
    assert (bodies, numbers) == ([b"order"] * 4, [None, b"1", b"2", None])


@in_virtual_time
async def test_a_replaced_reply_frees_its_slot_though_its_client_still_reads() -> None:
    bulkhead = Bulkhead("b", BulkheadSettings(max_concurrent=1, max_queue=0))
    first = Script(stream([(1000, b"x")], status=503), then=answer(body=b"well again"))
    route = a_ladder(first, Upstream("b"), ask={"b": Script(stream([(100, b"late")]))}, bulkhead=bulkhead)
    slow = route.start()
    await asyncio.sleep(1)

    got = await route.get()

    assert (got.status, got.body, source(got)) == (200, b"well again", None)
    assert (await slow).body == b"late"
    assert bulkhead.in_use == 0


@in_virtual_time
async def test_whoever_finds_the_bulkhead_full_is_answered_at_once() -> None:
    bulkhead = Bulkhead("b", BulkheadSettings(max_concurrent=1, max_queue=0))
    route = a_ladder(Script(answer(after=5)), SORRY, bulkhead=bulkhead)
    first = route.start()
    await asyncio.sleep(1)

    got = await route.get()

    assert (got.status, got.at, source(got), used(route)) == (
        200,
        1,
        b"static",
        {("static", "bulkhead_full"): 1},
    )
    assert source(await first) is None


@in_virtual_time
async def test_a_caller_over_its_quota_gets_no_free_answer() -> None:
    limiter = RateLimiter(RateLimitSettings(limit=1, per=60))
    route = a_ladder(Script(answer()), SORRY, rate_limit=limiter)

    got = [await route.get() for _ in range(2)]

    assert [(one.status, source(one)) for one in got] == [(200, None), (429, None)]


@in_virtual_time
async def test_explain_shows_the_steps_in_their_order() -> None:
    route = a_ladder(
        Script(),
        Stale(max_age=90),
        Static(503),
        Mock(),
        Upstream("other", timeout=2.5),
        Redirect(b"/sorry", 307),
        ask={"other": Script()},
        store=Store(1 << 20, 100),
    )

    assert fallback_of(route).describe() == (
        "fallback stale up to 90s → static 503 → mock 200 → upstream other within 2.5s → redirect 307"
    )
