"""Fetching a copy again behind the answer that was made of it."""

import asyncio
from dataclasses import replace

import pytest

from sidecar.errors import Disconnected
from sidecar.message import Fields, Request
from sidecar.pipeline.stages.refetch import request_behind
from sidecar.policy.store import Entry, Key, Store
from tests.support.caches import a_cache, a_copy, control, expecting, fresh, results, status
from tests.support.exchanges import Route, a_request, some_parts
from tests.support.upstream import Arrival, Step, Upstream, answer, fail, hang, stream
from tests.support.virtual_time import in_virtual_time, now

MEANWHILE = 1000.0


async def stale(
    *again: Step,
    headers: str = "max-age=60",
    total: float | None = 15.0,
    store: Store | None = None,
    **more: str,
) -> tuple[Route, Upstream]:
    """Make a route that has a stale copy `one`, was just asked for it, and plays `again` behind it."""
    upstream = Upstream(answer(200, b"one", headers=control(headers, **more)), *again)
    route = a_cache(upstream, total=total, store=store, stale_while_revalidate=MEANWHILE)
    await route.get()
    await asyncio.sleep(100)
    got = await route.get()
    assert (got.body, got.at) == (b"one", 100)
    return route, upstream


def test_it_asks_as_the_client_did_without_what_only_that_client_wants_to_know() -> None:
    request = a_request(
        "HEAD",
        "/x?y",
        [(b"Accept", b"a"), (b"Cache-Control", b"max-stale"), (b"If-None-Match", b'"0"')],
        host=b"h",
        tail=b"Via: 1.1 me\r\n",
        client="1.2.3.4",
        minor=0,
        request_id="id",
    )
    copy = a_copy(b"r h /", 200, Fields([]), b"", etag=b'"1"', last_modified=b"then")

    behind, plain = request_behind(request, copy), request_behind(request, None)

    assert (behind.method, behind.target, behind.host, behind.minor) == (b"GET", b"/x?y", b"h", 0)
    assert (behind.tail, behind.client, behind.request_id) == (b"Via: 1.1 me\r\n", "1.2.3.4", b"id")
    assert (behind.task, behind.body, behind.extra) == (None, None, ())
    assert behind.fields.pairs == (
        (b"Accept", b"a"),
        (b"If-None-Match", b'"1"'),
        (b"If-Modified-Since", b"then"),
    )
    assert plain.fields.pairs == ((b"Accept", b"a"), (b"If-None-Match", b'"0"'))


@in_virtual_time
async def test_a_copy_that_is_still_good_is_renewed_behind_the_answer() -> None:
    def conditional(request: Request) -> None:
        assert (request.method, request.fields.pairs) == (b"GET", ((b"If-None-Match", b'"1"'),))

    route, upstream = await stale(expecting(answer(304, headers=fresh(60)), conditional), etag='"1"')
    await asyncio.sleep(10)

    got = await route.get()

    assert (got.body, status(got)) == (b"one", b"sidecar; hit; ttl=50")
    assert upstream.arrivals[1].closed == [None]


@in_virtual_time
async def test_a_body_that_is_fetched_behind_is_kept_when_it_is_whole() -> None:
    route, upstream = await stale(stream([(1, b"t"), (2, b"wo")], headers=fresh(60)))
    await asyncio.sleep(1.5)
    before = await route.get()
    await asyncio.sleep(1)

    after = await route.get()

    assert (before.body, after.body, status(after)) == (b"one", b"two", b"sidecar; hit; ttl=58")
    assert (upstream.arrivals[1].closed, upstream.arrivals[1].dropped) == ([None], False)


@in_virtual_time
async def test_a_head_fetches_the_whole_again() -> None:
    def whole(request: Request) -> None:
        assert request.method == b"GET"

    upstream = Upstream(
        answer(200, b"one", headers=fresh(60)), expecting(answer(200, b"two", headers=fresh(60)), whole)
    )
    route = a_cache(upstream, stale_while_revalidate=MEANWHILE)
    await route.get()
    await asyncio.sleep(100)

    await route.ask(a_request("HEAD"))
    await asyncio.sleep(1)

    assert (await route.get()).body == b"two"


@pytest.mark.parametrize(
    "failure",
    [fail(Disconnected()), answer(503), stream([(0.5, b"t")], breaks=Disconnected(), headers=fresh(60))],
)
@in_virtual_time
async def test_where_it_fails_the_next_who_asks_tries_again(failure: Step) -> None:
    route, upstream = await stale(failure, answer(200, b"two", headers=fresh(60)))
    await asyncio.sleep(5)

    again = await route.get()
    await asyncio.sleep(1)
    after = await route.get()

    assert (again.body, after.body, upstream.under_way) == (b"one", b"two", 0)
    assert route.fates == ["ok", "cache_stale", "cache_stale", "cache_fresh"]


@pytest.mark.parametrize(("total", "ends"), [(15.0, 115), (None, 160)])
@pytest.mark.parametrize("hanging", [hang(), stream([(0, b"t"), (500, b"wo")], headers=fresh(60))])
@in_virtual_time
async def test_it_does_not_last_for_ever(total: float | None, ends: float, hanging: Step) -> None:
    route, upstream = await stale(hanging, total=total)

    await asyncio.sleep(ends - now() - 0.1)
    assert upstream.under_way == 1
    await asyncio.sleep(0.2)

    assert upstream.under_way == 0
    assert results(route) == {"miss": 1, "stale": 1}


@pytest.mark.parametrize(
    "step",
    [
        stream([(500, b"x")], headers=control("private")),
        stream([(500, b"x")], headers=fresh(60, content_type="text/event-stream")),
    ],
)
@in_virtual_time
async def test_what_is_not_kept_is_not_waited_for(step: Step) -> None:
    _, upstream = await stale(step)
    await asyncio.sleep(1)

    assert (upstream.under_way, upstream.arrivals[1].dropped) == (0, True)


@in_virtual_time
async def test_what_turns_out_too_large_is_read_no_further_and_not_fetched_behind_again() -> None:
    endless = stream([(0.01 * number, b"x" * 1000) for number in range(100_000)], headers=fresh(60))
    upstream = Upstream(answer(200, b"one", headers=fresh(60)), then=endless)
    route = a_cache(upstream, stale_while_revalidate=MEANWHILE, max_body=10_000)
    await route.get()
    await asyncio.sleep(100)

    await route.get()
    await asyncio.sleep(0.2)
    arrival = upstream.arrivals[1]
    assert (upstream.under_way, arrival.dropped, arrival.closed) == (0, True, [None])
    task = route.start()
    await asyncio.sleep(0.1)
    task.cancel()
    await asyncio.wait([task])

    assert results(route) == {"miss": 2, "stale": 1}


@in_virtual_time
async def test_one_copy_is_fetched_once_whoever_asks_for_it() -> None:
    upstream = Upstream(
        answer(200, b"one", headers=fresh(60)), answer(200, b"two", headers=fresh(60), after=3)
    )
    route = a_cache(upstream, stale_while_revalidate=MEANWHILE)
    await route.get()
    await asyncio.sleep(100)

    for number in range(400):
        got = await route.ask(a_request(headers=[(b"Accept-Language", b"%d" % number)]))
        assert got.body == b"one"
    await asyncio.sleep(5)

    assert (len(upstream.arrivals), (await route.get()).body) == (2, b"two")


@in_virtual_time
async def test_after_a_failure_it_is_not_tried_again_at_once() -> None:
    route, upstream = await stale(fail(Disconnected()), answer(200, b"two", headers=fresh(60)))
    for pause, arrivals in ((0.5, 2), (0.4, 2), (0.1, 3)):
        await asyncio.sleep(pause)
        assert (await route.get()).body == b"one"
        await asyncio.sleep(0)
        assert len(upstream.arrivals) == arrivals


@in_virtual_time
async def test_after_a_body_that_took_long_it_is_not_tried_again_for_a_while() -> None:
    broken = stream([(2, b"t")], breaks=Disconnected(), headers=fresh(60))
    route, upstream = await stale(broken, answer(200, b"two", headers=fresh(60)))
    for pause, arrivals in ((3, 2), (7, 2), (1.1, 3)):
        await asyncio.sleep(pause)
        assert (await route.get()).body == b"one"
        await asyncio.sleep(0)
        assert len(upstream.arrivals) == arrivals


@in_virtual_time
async def test_where_too_much_goes_on_already_the_copy_is_served_all_the_same() -> None:
    dropped = 0

    def spawn(work: object) -> bool:
        nonlocal dropped
        dropped += 1
        work.close()  # type: ignore[attr-defined]  # it is a coroutine
        return False

    parts = replace(some_parts(), spawn=spawn)
    upstream = Upstream(answer(200, b"one", headers=fresh(60)))
    route = a_cache(upstream, stale_while_revalidate=MEANWHILE, parts=parts)
    await route.get()
    await asyncio.sleep(100)

    got = [await route.get()]
    await asyncio.sleep(1)
    got.append(await route.get())

    assert ([each.body for each in got], dropped, len(upstream.arrivals)) == ([b"one", b"one"], 2, 1)


@in_virtual_time
async def test_who_comes_when_the_copy_is_of_no_use_any_more_waits_for_what_is_fetched() -> None:
    upstream = Upstream(
        answer(200, b"one", headers=fresh(60)), answer(200, b"two", headers=fresh(60), after=10)
    )
    route = a_cache(upstream, stale_while_revalidate=10)
    await route.get()
    await asyncio.sleep(69)
    await route.get()
    await asyncio.sleep(5)

    got = await route.get()

    assert (got.body, got.at, status(got)) == (b"two", 79, b"sidecar; fwd=stale; collapsed")
    assert upstream.arrivals[1] == Arrival(69, b"GET", b"/", "answered", 79, [None])


class BrokenStore(Store):
    """A store that keeps one copy and no other."""

    def put(self, entry: Entry, asked_at: float) -> bool:
        if self.entries:
            raise MemoryError
        return super().put(entry, asked_at)

    def touch(self, entry: Entry) -> None:
        pass

    def is_outdated(self, key: Key, asked_at: float) -> bool:
        return False


@in_virtual_time
async def test_a_store_that_fails_behind_an_answer_is_counted_and_hurts_nobody() -> None:
    route, upstream = await stale(answer(200, b"two", headers=fresh(60)), store=BrokenStore(1 << 20, 10))
    await asyncio.sleep(1)

    assert results(route) == {"miss": 1, "stale": 1, "error": 1}
    assert upstream.under_way == 0
