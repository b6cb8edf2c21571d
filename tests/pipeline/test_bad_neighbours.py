"""What a hostile or unlucky client could do to everybody else through the policies, and cannot."""

import asyncio

from sidecar.errors import ConnectFailed
from sidecar.message import Body
from sidecar.pipeline.stages.breaker import BreakerPermit
from sidecar.policy.breaker import Breaker, BreakerSettings, State
from sidecar.policy.budget import BudgetSettings, RetryBudget
from sidecar.policy.bulkhead import Bulkhead, BulkheadSettings
from sidecar.policy.cache import CacheSettings
from sidecar.policy.retry import RetrySettings
from sidecar.policy.store import Store
from tests.support.exchanges import Route, a_request, a_route, an_exchange
from tests.support.upstream import Upstream, answer, fail, hang
from tests.support.virtual_time import in_virtual_time, now


def an_open_breaker(successes: int = 1) -> Breaker:
    """Make one that will be HALF_OPEN after 5 s."""
    breaker = Breaker("db", BreakerSettings(open_for=5.0, open_jitter=0.0, successes=successes), lambda: 0.5)
    breaker.force_open(now(), 5.0)
    return breaker


def an_upload() -> Body:
    """Begin a body that is still coming in."""
    loop = asyncio.get_running_loop()
    body = Body(loop.time)
    body.feed(b"x" * 1000)
    return body


@in_virtual_time
async def test_an_upload_that_is_still_coming_in_is_no_trial() -> None:
    breaker = an_open_breaker()
    upstream = Upstream(then=answer(200))
    route = a_route(upstream, breaker=breaker)
    await asyncio.sleep(6)

    slow = await route.ask(a_request("POST", body=an_upload()))

    assert (slow.status, slow.header(b"retry-after"), upstream.arrivals) == (503, b"1", [])
    assert (await route.get()).status == 200
    assert breaker.view(now()).state == State.CLOSED


@in_virtual_time
async def test_a_body_that_is_all_there_may_be_a_trial() -> None:
    breaker = an_open_breaker()
    route = a_route(Upstream(then=answer(200)), breaker=breaker)
    await asyncio.sleep(6)

    assert (await route.ask(a_request("POST", body=b"whole"))).status == 200
    assert breaker.view(now()).state == State.CLOSED


@in_virtual_time
async def test_while_it_is_closed_or_forced_closed_uploads_pass() -> None:
    breaker = an_open_breaker()
    breaker.reset(now())
    route = a_route(Upstream(then=answer(200)), breaker=breaker)

    assert (await route.ask(a_request("POST", body=an_upload()))).status == 200
    breaker.force_closed(now(), None)
    assert (await route.ask(a_request("POST", body=an_upload()))).status == 200


@in_virtual_time
async def test_in_shadow_an_upload_passes_and_is_no_trial_either() -> None:
    breaker = an_open_breaker()
    route = a_route(Upstream(then=answer(200)), breaker=breaker, shadow=frozenset({"breaker"}))
    await asyncio.sleep(6)

    got = await route.ask(a_request("POST", body=an_upload()))

    permit = route.pipeline.find(BreakerPermit)
    assert permit is not None
    assert (got.status, route.done[0].would) == (200, ("breaker",))
    assert breaker.view(now()).trials == 0
    assert breaker.view(now()).state == State.HALF_OPEN


def in_need(upstream: Upstream, slots: int) -> tuple[Route, RetryBudget]:
    """Make a route with few slots and a budget without a floor."""
    budget = RetryBudget(BudgetSettings(ratio=0.2, min_per_second=0.0, window=10.0), now())
    route = a_route(
        upstream,
        retry=RetrySettings(base=0.01, jitter="none"),
        budget=budget,
        bulkhead=Bulkhead("b", BulkheadSettings(max_concurrent=slots, max_queue=0)),
    )
    return route, budget


@in_virtual_time
async def test_requests_that_never_reach_the_upstream_pay_for_no_retries() -> None:
    upstream = Upstream(then=answer(503, after=0.1))
    route, budget = in_need(upstream, slots=5)

    for _ in range(50):
        await asyncio.gather(*[route.get() for _ in range(40)])

    refused = route.fates.count("rejected_bulkhead_full")
    made = len(route.done) - refused
    assert refused > 1000
    assert len(upstream.arrivals) <= made * 1.2 + 1
    assert budget.balance(now()) <= 0.2 * made


@in_virtual_time
async def test_what_goes_on_behind_an_answer_takes_a_free_slot_or_none() -> None:
    bulkhead = Bulkhead("b", BulkheadSettings(max_concurrent=1, max_queue=10))
    route = a_route(Upstream(hang(), then=answer(200)), bulkhead=bulkhead)
    waits = route.start()
    await asyncio.sleep(1)
    exchange = an_exchange()
    exchange.behind = True

    reply = await route.pipeline.call(exchange)
    reply.close()

    assert (reply.status, bulkhead.queued, bulkhead.in_use) == (503, 0, 1)
    waits.cancel()
    await asyncio.wait([waits])
    assert bulkhead.in_use == 0


@in_virtual_time
async def test_a_failure_before_the_upstream_was_reached_still_counts_as_an_attempt_of_ours() -> None:
    """A connection that was refused is an attempt: those who cannot connect must not retry for nothing either."""
    upstream = Upstream(then=fail(ConnectFailed()))
    route, _ = in_need(upstream, slots=100)
    for _ in range(100):
        await route.get()

    assert len(upstream.arrivals) == 100 + 20


@in_virtual_time
async def test_stale_hits_put_nobody_into_the_queue() -> None:
    bulkhead = Bulkhead("b", BulkheadSettings(max_concurrent=1, max_queue=10, queue_timeout=60.0))
    route = a_route(
        Upstream(answer(200, b"hello"), hang()),
        bulkhead=bulkhead,
        cache=CacheSettings(fresh_for=1.0, stale_while_revalidate=600.0),
        store=Store(1 << 20, 100),
    )
    await route.get("/copy")
    await asyncio.sleep(5)
    busy = route.start(a_request(target="/slow"))
    await asyncio.sleep(1)

    got = [await route.get("/copy") for _ in range(50)]

    assert {one.status for one in got} == {200}
    assert (bulkhead.in_use, bulkhead.queued) == (1, 0)
    busy.cancel()
    await asyncio.wait([busy])
