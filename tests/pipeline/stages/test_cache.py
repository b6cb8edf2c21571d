"""The cache of a route, as its clients and its upstream see it."""

import asyncio
import math

import pytest

from sidecar.errors import (
    BreakerOpen,
    BulkheadFull,
    ConnectFailed,
    Disconnected,
    RateLimited,
    RequestError,
    TotalTimeout,
)
from sidecar.message import Body, Fields, Headers, Reply, Request
from sidecar.pipeline.exchange import Exchange
from sidecar.pipeline.stages.cache import CacheStage
from sidecar.policy.store import Entry, Key, Store
from tests.support.caches import a_cache, control, expecting, fresh, results, status
from tests.support.exchanges import a_body, a_request, some_parts
from tests.support.upstream import Step, Upstream, answer, fail, hang, stream
from tests.support.virtual_time import in_virtual_time


def get(target: str = "/", method: str = "GET", **fields: str) -> Request:
    """Make a request; `_` in the name of a field stands for `-`."""
    return a_request(
        method, target, [(name.replace("_", "-").encode(), value.encode()) for name, value in fields.items()]
    )


# --- hits ---


@in_virtual_time
async def test_a_fresh_copy_answers_and_the_upstream_is_not_asked() -> None:
    upstream = Upstream(answer(200, b"one", headers=fresh(60, content_type="text/x")))
    route = a_cache(upstream)

    first = await route.get()
    await asyncio.sleep(10)
    second = await route.get()

    assert (first.status, first.body, status(first)) == (200, b"one", b"sidecar; fwd=uri-miss; stored")
    assert (second.status, second.body, status(second)) == (200, b"one", b"sidecar; hit; ttl=50")
    assert (second.header(b"age"), second.header(b"content-type")) == (b"10", b"text/x")
    assert (first.header(b"age"), len(upstream.arrivals)) == (None, 1)
    assert (route.fates, results(route)) == (["ok", "cache_fresh"], {"miss": 1, "hit": 1})


@in_virtual_time
async def test_a_copy_is_fresh_until_its_time_and_not_longer() -> None:
    route = a_cache(Upstream(answer(200, b"one", headers=fresh(60)), answer(200, b"two")))
    await route.get()

    await asyncio.sleep(59.9)
    before = await route.get()
    await asyncio.sleep(0.1)
    after = await route.get()

    assert (before.body, status(before)) == (b"one", b"sidecar; hit; ttl=1")
    assert (after.body, status(after)) == (b"two", b"sidecar; fwd=stale")
    assert results(route) == {"miss": 2, "hit": 1}


@in_virtual_time
async def test_fresh_for_is_for_answers_that_do_not_say_so_themselves() -> None:
    upstream = Upstream(answer(200, b"a"), answer(200, b"b", headers=fresh(5)), answer(200, b"c"))
    route = a_cache(upstream, fresh_for=60)
    await route.get("/a")
    await route.get("/b")

    await asyncio.sleep(10)

    assert (await route.get("/a")).body == b"a"
    assert (await route.get("/b")).body == b"c"


@in_virtual_time
async def test_head_is_answered_from_the_copy_of_a_get() -> None:
    route = a_cache(Upstream(answer(200, b"hello", headers=fresh(60))))
    await route.get()

    got = await route.ask(get(method="HEAD"))

    assert (got.status, got.body, got.header(b"content-length")) == (200, b"", b"5")
    assert (status(got), results(route)) == (b"sidecar; hit; ttl=60", {"miss": 1, "hit": 1})


@in_virtual_time
async def test_the_answer_to_a_head_is_not_kept() -> None:
    upstream = Upstream(answer(200, b"hello", headers=fresh(60)), answer(200, b"hello", headers=fresh(60)))
    route = a_cache(upstream)

    first, second = await route.ask(get(method="HEAD")), await route.get()

    assert (status(first), second.body) == (b"sidecar; fwd=uri-miss", b"hello")


@in_virtual_time
async def test_copies_are_by_host_and_target_and_route() -> None:
    store = Store(1 << 20, 10)
    upstream = Upstream(*[answer(200, b"%d" % number, headers=fresh(60)) for number in range(4)])
    route, other = a_cache(upstream, store=store), a_cache(upstream, store=store, name="another")

    for ask in (route, other):
        await ask.ask(a_request(target="/a", host=b"one"))
    await route.ask(a_request(target="/a", host=b"two"))
    await route.ask(a_request(target="/a?b", host=b"one"))
    got = [
        (await route.ask(a_request(target="/a", host=b"ONE"))).body,
        (await other.ask(a_request(target="/a", host=b"one"))).body,
        (await route.ask(a_request(target="/a", host=b"two"))).body,
        (await route.ask(a_request(target="/a?b", host=b"one"))).body,
    ]

    assert got == [b"0", b"1", b"2", b"3"]


@in_virtual_time
async def test_each_choice_that_vary_makes_has_a_copy_of_its_own() -> None:
    told = fresh(60, vary="Accept-Language")
    upstream = Upstream(answer(200, b"hallo", headers=told), answer(200, b"hello", headers=told))
    route = a_cache(upstream)

    await route.ask(get(accept_language="de"))
    second = await route.ask(get(accept_language="en"))
    german, english = await route.ask(get(accept_language="de")), await route.ask(get(accept_language="en"))

    assert status(second) == b"sidecar; fwd=vary-miss; stored"
    assert (german.body, english.body) == (b"hallo", b"hello")


@in_virtual_time
async def test_what_other_caches_have_said_stays_in_front() -> None:
    told = fresh(60, cache_status="origin; hit")
    route = a_cache(Upstream(answer(200, headers=told)))

    answers = [await route.get(), await route.get()]

    assert [[value for name, value in got.headers if name.lower() == b"cache-status"] for got in answers] == [
        [b"origin; hit", b"sidecar; fwd=uri-miss; stored"],
        [b"origin; hit", b"sidecar; hit; ttl=60"],
    ]


@in_virtual_time
async def test_age_goes_on_from_what_the_answer_came_with() -> None:
    route = a_cache(Upstream(answer(200, headers=fresh(60, age="20"), after=5)))
    first = await route.get()
    await asyncio.sleep(10)
    second = await route.get()

    assert (first.header(b"age"), second.header(b"age")) == (b"20", b"35")
    assert status(second) == b"sidecar; hit; ttl=25"


# --- what is not for a cache ---


@pytest.mark.parametrize(
    ("request_", "said"),
    [
        (a_request("POST"), b"sidecar; fwd=method"),
        (a_request("QUERY"), b"sidecar; fwd=method"),
        (a_request(body=b"x"), b"sidecar; fwd=bypass"),
        (get(range="bytes=0-1"), b"sidecar; fwd=bypass"),
        (get(if_match='"1"'), b"sidecar; fwd=bypass"),
        (get(cache_control="no-store"), b"sidecar; fwd=bypass"),
        (get(authorization="Basic x"), b"sidecar; fwd=bypass"),
        (get(cookie="a=b"), b"sidecar; fwd=bypass"),
        (get(x_api_key="k"), b"sidecar; fwd=bypass"),
    ],
)
@in_virtual_time
async def test_what_is_not_for_a_cache_passes(request_: Request, said: bytes) -> None:
    upstream = Upstream(*[answer(200, headers=fresh(60))] * 3)
    route = a_cache(upstream)
    await route.get()

    got = [await route.ask(request_) for _ in range(2)]

    assert [status(each) for each in got] == [said, said]
    assert (results(route), len(upstream.arrivals)) == ({"miss": 1, "bypass": 2}, 3)


@in_virtual_time
async def test_an_upgrade_passes_untouched() -> None:
    async def tunnel(exchange: Exchange) -> Reply:
        reply = Reply(101, Fields([]))
        reply.tunnel = object()
        return reply

    route = a_cache(tunnel)

    got = await route.ask(a_request(upgrade=b"websocket"))

    assert (status(got), results(route)) == (None, {"bypass": 1})


@pytest.mark.parametrize(
    "told",
    [
        control("private, max-age=60"),
        control("no-store, max-age=60"),
        fresh(60, set_cookie="a=b"),
        fresh(60, vary="*"),
        fresh(60, x_system_degraded="true"),
    ],
)
@in_virtual_time
async def test_nobody_receives_what_was_meant_for_another(told: Headers) -> None:
    upstream = Upstream(answer(200, b"mine", headers=told), answer(200, b"yours", headers=told))
    route = a_cache(upstream, fresh_for=60, override_origin=True)

    first, second = await route.get(), await route.get()

    assert (first.body, status(first), second.body) == (b"mine", b"sidecar; fwd=uri-miss", b"yours")


@pytest.mark.parametrize("told", [fresh(60), control("s-maxage=60"), control("must-revalidate, max-age=60")])
@pytest.mark.parametrize("name", ["authorization", "cookie", "x_api_key"])
@in_virtual_time
async def test_an_answer_to_somebody_is_not_kept_unless_it_is_public(name: str, told: Headers) -> None:
    upstream = Upstream(answer(200, b"mine", headers=told), answer(200, b"yours", headers=told))
    route = a_cache(upstream)

    await route.ask(get(**{name: "secret"}))
    got = await route.get()

    assert (got.body, status(got)) == (b"yours", b"sidecar; fwd=uri-miss; stored")


@in_virtual_time
async def test_what_is_public_is_for_all() -> None:
    route = a_cache(Upstream(answer(200, b"all", headers=control("public, max-age=60"))))

    first = await route.ask(get(authorization="a"))
    got = [await route.ask(get(cookie="b")), await route.get()]

    assert status(first) == b"sidecar; fwd=bypass; stored"
    assert [each.body for each in got] == [b"all", b"all"]
    assert results(route) == {"bypass": 1, "hit": 2}


@in_virtual_time
async def test_an_answer_with_trailers_is_not_kept() -> None:
    async def trailing(exchange: Exchange) -> Reply:
        reply = Reply(200, Fields(fresh(60)), b"x")
        reply.trailers = [(b"X-Sum", b"1")]
        return reply

    route = a_cache(trailing)
    answers = [await route.get(), await route.get()]

    assert [status(got) for got in answers] == [b"sidecar; fwd=uri-miss"] * 2


@pytest.mark.parametrize("code", [302, 401, 403, 500, 502, 503])
@in_virtual_time
async def test_passing_redirects_refusals_and_failures_are_not_kept(code: int) -> None:
    upstream = Upstream(answer(code, headers=fresh(60)), answer(200, b"well"))
    route = a_cache(upstream, fresh_for=60)

    await route.get()

    assert (await route.get()).body == b"well"


@in_virtual_time
async def test_an_error_is_kept_only_on_the_word_of_the_origin() -> None:
    upstream = Upstream(answer(404), answer(404, b"gone", headers=fresh(60)))
    route = a_cache(upstream, fresh_for=60)

    got = [await route.get() for _ in range(3)]

    assert [(each.status, each.body) for each in got] == [(404, b""), (404, b"gone"), (404, b"gone")]


# --- what the request says ---


@pytest.mark.parametrize("wish", ["no-cache", "max-age=5", "min-fresh=55", "max-age=0"])
@in_virtual_time
async def test_a_client_that_wants_a_newer_answer_gets_one(wish: str) -> None:
    route = a_cache(Upstream(answer(200, b"one", headers=fresh(60)), answer(200, b"two", headers=fresh(60))))
    await route.get()
    await asyncio.sleep(10)

    got = await route.ask(get(cache_control=wish))
    after = await route.get()

    assert (got.body, status(got)) == (b"two", b"sidecar; fwd=request; stored")
    assert after.body == b"two"


@pytest.mark.parametrize("wish", ["max-age=10", "min-fresh=50", "max-stale=1", "only-if-cached"])
@in_virtual_time
async def test_a_client_whose_wish_the_copy_fulfils_gets_the_copy(wish: str) -> None:
    route = a_cache(Upstream(answer(200, b"one", headers=fresh(60))))
    await route.get()
    await asyncio.sleep(10)

    got = await route.ask(get(cache_control=wish))

    assert (got.body, status(got)) == (b"one", b"sidecar; hit; ttl=50")


@in_virtual_time
async def test_a_client_that_takes_stale_answers_gets_one() -> None:
    route = a_cache(Upstream(answer(200, b"one", headers=fresh(60)), answer(200, b"two")))
    await route.get()
    await asyncio.sleep(70)

    got = await route.ask(get(cache_control="max-stale=10"))
    await asyncio.sleep(1)
    newer = await route.ask(get(cache_control="max-stale=10"))

    assert (got.body, status(got)) == (b"one", b"sidecar; hit; ttl=-10; detail=max-stale")
    assert newer.body == b"two"
    assert (route.fates, results(route)) == (["ok", "cache_stale", "ok"], {"miss": 2, "stale": 1})


@in_virtual_time
async def test_only_if_cached_is_answered_from_the_cache_or_not_at_all() -> None:
    upstream = Upstream()
    route = a_cache(upstream)

    got = await route.ask(get(cache_control="only-if-cached"))

    assert (got.status, upstream.arrivals) == (504, [])
    assert (route.fates, results(route)) == (["bad_request"], {"miss": 1})


# --- conditional requests of clients ---


@in_virtual_time
async def test_a_client_that_has_the_copy_is_told_so() -> None:
    told = fresh(60, etag='"1"', content_type="text/x", vary="A")
    route = a_cache(Upstream(answer(200, b"hello", headers=told)))
    await route.get()

    got = await route.ask(get(if_none_match='W/"1"'))
    other = await route.ask(get(if_none_match='"2"'))

    assert (got.status, got.body, route.fates[1]) == (304, b"", "cache_fresh")
    assert got.headers == [
        (b"Cache-Control", b"max-age=60"),
        (b"etag", b'"1"'),
        (b"vary", b"A"),
        (b"Age", b"0"),
        (b"Cache-Status", b"sidecar; hit; ttl=60"),
        (b"X-Request-ID", b"test-000001"),
    ]
    assert (other.status, other.body) == (200, b"hello")


@in_virtual_time
async def test_a_clients_condition_goes_on_unchanged_where_there_is_no_copy() -> None:
    def conditional(request: Request) -> None:
        assert request.fields.pairs == ((b"if-none-match", b'"1"'),)

    upstream = Upstream(expecting(answer(304), conditional), answer(200, b"x", headers=fresh(60)))
    route = a_cache(upstream)

    got = await route.ask(get(if_none_match='"1"'))

    assert (got.status, (await route.get()).body) == (304, b"x")


# --- asking whether a copy is still good ---


@in_virtual_time
async def test_a_stale_copy_that_is_still_good_is_renewed() -> None:
    moment = "Thu, 14 Jan 2027 00:00:00 GMT"

    def ours(request: Request) -> None:
        assert request.fields.pairs == (
            (b"accept", b"a/b"),
            (b"If-None-Match", b'"1"'),
            (b"If-Modified-Since", moment.encode()),
        )

    told = fresh(60, etag='"1"', last_modified=moment, x_version="1")
    upstream = Upstream(
        answer(200, b"hello", headers=told),
        expecting(answer(304, headers=fresh(30, x_version="2", etag='"1"')), ours),
    )
    route = a_cache(upstream)
    await route.get()
    await asyncio.sleep(100)
    request = get(accept="a/b", if_none_match='"0"')

    got = await route.ask(request)
    await asyncio.sleep(20)
    hit = await route.get()

    assert (got.status, got.body, status(got)) == (
        200,
        b"hello",
        b"sidecar; fwd=stale; fwd-status=304; stored",
    )
    assert (got.header(b"x-version"), got.header(b"age"), got.header(b"content-length")) == (b"2", b"0", b"5")
    assert request.fields.pairs == ((b"accept", b"a/b"), (b"if-none-match", b'"0"'))
    assert (hit.body, status(hit)) == (b"hello", b"sidecar; hit; ttl=10")
    assert (route.fates, results(route)) == (
        ["ok", "ok", "cache_fresh"],
        {"miss": 1, "revalidated": 1, "hit": 1},
    )
    assert [arrival.closed for arrival in upstream.arrivals] == [[None], [None]]


@in_virtual_time
async def test_a_client_that_has_the_renewed_copy_is_told_so() -> None:
    told = fresh(60, etag='"1"')
    route = a_cache(Upstream(answer(200, b"hello", headers=told), answer(304)))
    await route.get()
    await asyncio.sleep(100)

    got = await route.ask(get(if_none_match='"1"'))

    assert (got.status, status(got)) == (304, b"sidecar; fwd=stale; fwd-status=304; stored")


@in_virtual_time
async def test_a_stale_copy_that_has_changed_is_replaced() -> None:
    upstream = Upstream(
        answer(200, b"one", headers=fresh(60, etag='"1"')), answer(200, b"two", headers=fresh(60, etag='"2"'))
    )
    route = a_cache(upstream)
    await route.get()
    await asyncio.sleep(100)

    got, after = await route.get(), await route.get()

    assert (got.body, status(got), after.body) == (b"two", b"sidecar; fwd=stale; stored", b"two")
    assert results(route) == {"miss": 2, "hit": 1}


@in_virtual_time
async def test_a_304_about_another_copy_is_not_mistaken_for_ours() -> None:
    def unconditional(request: Request) -> None:
        assert request.fields.pairs == ()

    upstream = Upstream(
        answer(200, b"one", headers=fresh(60, etag='"1"')),
        answer(304, headers=fresh(60, etag='"2"')),
        expecting(answer(200, b"two", headers=fresh(60, etag='"2"')), unconditional),
    )
    route = a_cache(upstream)
    await route.get()
    await asyncio.sleep(100)

    got = await route.get()

    assert (got.body, status(got)) == (b"two", b"sidecar; fwd=stale; stored")
    assert [arrival.closed for arrival in upstream.arrivals] == [[None]] * 3


@in_virtual_time
async def test_no_cache_is_kept_but_asked_for_each_time() -> None:
    told = control("no-cache", etag='"1"')
    route = a_cache(Upstream(answer(200, b"one", headers=told), answer(304), answer(304)), fresh_for=60)

    got = [await route.get() for _ in range(3)]

    assert [each.body for each in got] == [b"one"] * 3
    assert results(route) == {"miss": 1, "revalidated": 2}


@in_virtual_time
async def test_what_has_become_private_is_given_once_and_kept_no_longer() -> None:
    store = Store(1 << 20, 10)
    upstream = Upstream(
        answer(200, b"one", headers=fresh(60, etag='"1"')),
        answer(304, headers=control("private", set_cookie="a=b")),
    )
    route = a_cache(upstream, store=store)
    await route.get()
    await asyncio.sleep(100)

    got = await route.get()

    assert (got.body, got.header(b"set-cookie"), store.entries) == (b"one", b"a=b", 0)


# --- stale while it is fetched again ---


@pytest.mark.parametrize("by", ["route", "origin"])
@in_virtual_time
async def test_a_stale_copy_is_served_at_once_while_it_is_fetched_again(by: str) -> None:
    told = fresh(60) if by == "route" else control("max-age=60, stale-while-revalidate=30")
    upstream = Upstream(answer(200, b"one", headers=told), answer(200, b"two", headers=told, after=5))
    route = a_cache(upstream, stale_while_revalidate=30 if by == "route" else 0)
    await route.get()
    await asyncio.sleep(89)

    stale, again = await route.get(), await route.get()
    await asyncio.sleep(6)
    fresh_ = await route.get()

    assert (stale.body, stale.at, again.body) == (b"one", 89, b"one")
    assert (stale.header(b"age"), stale.header(b"x-system-degraded")) == (b"89", None)
    assert status(stale) == b"sidecar; hit; ttl=-29; detail=stale-while-revalidate"
    assert (fresh_.body, fresh_.header(b"age"), len(upstream.arrivals)) == (b"two", b"6", 2)
    assert route.fates == ["ok", "cache_stale", "cache_stale", "cache_fresh"]
    assert results(route) == {"miss": 1, "stale": 2, "hit": 1}


@in_virtual_time
async def test_after_its_time_a_stale_copy_is_not_served_any_more() -> None:
    upstream = Upstream(answer(200, b"one", headers=fresh(60)), answer(200, b"two"))
    route = a_cache(upstream, stale_while_revalidate=30)
    await route.get()
    await asyncio.sleep(90.1)

    assert (await route.get()).body == b"two"


@pytest.mark.parametrize("directive", ["must-revalidate", "proxy-revalidate", "s-maxage=60", "no-cache"])
@in_virtual_time
async def test_what_must_be_revalidated_is_not_served_stale_unless_overridden(directive: str) -> None:
    told = control(f"max-age=60, {directive}, stale-while-revalidate=90, stale-if-error=90")
    for override, served in ((False, [b"two", b""]), (True, [b"one", b"one"])):
        store = Store(1 << 20, 10)
        step = [answer(200, b"one", headers=told)]
        meanwhile = a_cache(
            Upstream(*step, answer(200, b"two")),
            store=store,
            stale_while_revalidate=90,
            override_origin=override,
        )
        instead = a_cache(
            Upstream(*step, answer(503)), store=store, stale_if_error=90, override_origin=override, name="b"
        )
        for route in (meanwhile, instead):
            await route.get()
        await asyncio.sleep(100)

        assert [(await route.get()).body for route in (meanwhile, instead)] == served
        await asyncio.sleep(1)


# --- stale instead of an error ---


@pytest.mark.parametrize(
    ("failure", "code", "word"),
    [
        (fail(Disconnected()), b"", b"upstream_disconnected"),
        (fail(ConnectFailed()), b"", b"upstream_connect"),
        (fail(BreakerOpen(retry_after=5)), b"", b"rejected_breaker_open"),
        (fail(BulkheadFull()), b"", b"rejected_bulkhead_full"),
        (fail(TotalTimeout()), b"", b"timeout_total"),
        (hang(), b"", b"timeout_total"),
        (answer(500), b"; fwd-status=500", b"upstream_status"),
        (answer(502), b"; fwd-status=502", b"upstream_status"),
        (answer(503), b"; fwd-status=503", b"upstream_status"),
        (answer(504), b"; fwd-status=504", b"upstream_status"),
    ],
)
@in_virtual_time
async def test_a_stale_copy_stands_in_for_an_error(failure: Step, code: bytes, word: bytes) -> None:
    upstream = Upstream(answer(200, b"one", headers=fresh(60)), failure)
    route = a_cache(upstream, stale_if_error=100, total=5)
    await route.get()
    await asyncio.sleep(90)

    got = await route.get()

    assert (got.status, got.body) == (200, b"one")
    assert (got.header(b"x-system-degraded"), got.header(b"x-fallback-source")) == (b"true", b"stale")
    assert b'details="%b"' % word in (got.header(b"proxy-status") or b"")
    ttl = 60 - int(got.at)
    assert status(got) == b"sidecar; fwd=stale%b; ttl=%d; detail=stale-if-error" % (code, ttl)
    assert got.header(b"age") == b"%d" % int(got.at)
    assert (route.fates, results(route)) == (["ok", "fallback_stale"], {"miss": 1, "stale": 1})
    assert (route.done[1].error is None) == bool(code)
    assert upstream.under_way == 0


@pytest.mark.parametrize(("late", "served"), [(100, True), (100.1, False)])
@in_virtual_time
async def test_stale_if_error_of_the_origin_has_its_time(late: float, served: bool) -> None:
    told = control("max-age=0, stale-if-error=100", etag='"1"')
    route = a_cache(Upstream(answer(200, b"one", headers=told), fail(Disconnected())))
    await route.get()
    await asyncio.sleep(late)

    got = await route.get()

    assert (got.status == 200) == served
    assert results(route) == ({"miss": 1, "stale": 1} if served else {"miss": 2})


@pytest.mark.parametrize("error", [RateLimited(), KeyError("a fault")])
@in_virtual_time
async def test_what_is_no_failure_of_the_upstream_has_no_stand_in(error: Exception) -> None:
    parts = some_parts(on_fault=lambda *_: None)
    upstream = Upstream(answer(200, b"one", headers=fresh(0, etag='"1"')), fail(error))
    route = a_cache(upstream, stale_if_error=100, parts=parts)
    await route.get()

    got = await route.get()

    assert got.status == (error.status if isinstance(error, RequestError) else 500)


@pytest.mark.parametrize("code", [404, 501, 505])
@in_virtual_time
async def test_other_statuses_are_answers(code: int) -> None:
    upstream = Upstream(answer(200, b"one", headers=fresh(0, etag='"1"')), answer(code))
    route = a_cache(upstream, stale_if_error=100)
    await route.get()

    assert (await route.get()).status == code


# --- copies for the fallback only ---


@in_virtual_time
async def test_copies_for_the_fallback_are_kept_but_answer_nothing() -> None:
    store = Store(1 << 20, 10)
    upstream = Upstream(*[answer(200, b"%d" % number, headers=fresh(60)) for number in range(3)])
    route = a_cache(upstream, store=store, serve_fresh=False, keep_for=300, coalesce=False)

    got = [await route.get() for _ in range(2)]
    cached = await route.ask(get(cache_control="only-if-cached"))

    assert [(each.body, status(each)) for each in [*got, cached]] == [
        (b"0", None),
        (b"1", None),
        (b"2", None),
    ]
    assert (store.entries, store.variants(b"a-route  /")[0].body) == (1, b"2")
    assert results(route) == {"bypass": 3}


@in_virtual_time
async def test_copies_for_the_fallback_need_no_freshness() -> None:
    store = Store(1 << 20, 10)
    route = a_cache(
        Upstream(answer(200, b"x"), answer(404), answer(200, headers=control("no-store"))),
        store=store,
        serve_fresh=False,
        keep_for=300,
    )

    for target in ("/a", "/b", "/c"):
        await route.get(target)

    assert [bool(store.variants(b"a-route  " + path)) for path in (b"/a", b"/b", b"/c")] == [
        True,
        False,
        False,
    ]


# --- bodies that are still coming ---


@in_virtual_time
async def test_a_body_is_kept_while_it_goes_by() -> None:
    pieces = [(0.0, b"one,"), (5.0, b"two,"), (10.0, b"three")]
    upstream = Upstream(stream(pieces, headers=fresh(60)))
    route = a_cache(upstream)

    first, second = await route.get(), await route.get()

    assert (first.body, first.at, first.ended_at) == (b"one,two,three", 0, 10)
    assert status(first) == b"sidecar; fwd=uri-miss; stored"
    assert (second.body, second.header(b"content-length")) == (b"one,two,three", b"13")
    assert status(second) == b"sidecar; hit; ttl=50"
    assert upstream.arrivals[0].closed == [None]


@in_virtual_time
async def test_a_body_that_breaks_is_not_kept() -> None:
    broken = stream([(0, b"one")], headers=fresh(60), breaks=Disconnected(head_seen=True))
    store = Store(1 << 20, 10)
    route = a_cache(Upstream(broken, answer(200, b"whole", headers=fresh(60))), store=store)

    first, second = await route.get(), await route.get()

    assert (first.body, type(first.error), second.body) == (b"one", Disconnected, b"whole")
    assert (store.claimed, route.fates) == (0, ["upstream_disconnected", "ok"])


@pytest.mark.parametrize("known", [True, False])
@in_virtual_time
async def test_a_body_larger_than_allowed_goes_by_and_is_not_kept(known: bool) -> None:
    store = Store(1 << 20, 10)
    pieces = [(1.0 * number, b"x" * 40) for number in range(4)]
    headers = fresh(60, content_length="160") if known else fresh(60)
    big = stream(pieces, headers=headers)

    async def sized(exchange: Exchange) -> Reply:
        reply = await upstream(exchange)
        if known:
            reply.length = 160
        return reply

    upstream = Upstream(big, big)
    route = a_cache(sized, store=store, max_body=100)

    got = [await route.get() for _ in range(2)]

    said = b"sidecar; fwd=uri-miss" if known else b"sidecar; fwd=uri-miss; stored"
    assert [(each.body, status(each)) for each in got] == [(b"x" * 160, said)] * 2
    assert (store.entries, store.claimed) == (0, 0)


@in_virtual_time
async def test_a_whole_body_larger_than_allowed_is_not_kept() -> None:
    upstream = Upstream(
        answer(200, b"x" * 100, headers=fresh(60)), answer(200, b"x" * 101, headers=fresh(60))
    )
    route = a_cache(upstream, max_body=100)

    got = [await route.get("/a"), await route.get("/b")]

    assert [status(each) for each in got] == [b"sidecar; fwd=uri-miss; stored", b"sidecar; fwd=uri-miss"]


@in_virtual_time
async def test_an_event_stream_is_neither_kept_nor_delayed() -> None:
    events = stream([(0, b"a"), (50, b"b")], headers=fresh(60, content_type="text/event-stream"))
    route = a_cache(Upstream(events, events))

    first = route.start()
    await asyncio.sleep(1)
    second = route.start()
    await asyncio.sleep(0)
    got = [await first, await second]

    assert [(each.at, each.ended_at) for each in got] == [(0, 50), (1, 51)]
    assert results(route) == {"miss": 2}


@in_virtual_time
async def test_a_body_that_is_here_already_goes_out_whole() -> None:
    async def whole(exchange: Exchange) -> Reply:
        return Reply(200, Fields(fresh(60)), a_body(b"one", b"two"))

    route = a_cache(whole)
    stage = route.pipeline.find(CacheStage)
    assert stage is not None

    reply = await stage(Exchange(get(), "r", asyncio.get_running_loop().time, lambda _: None))

    assert (reply.body, (await route.get()).body) == (b"onetwo", b"onetwo")


@in_virtual_time
async def test_a_client_that_leaves_in_the_middle_leaves_nothing_behind() -> None:
    store = Store(1 << 20, 10)
    upstream = Upstream(stream([(0, b"one"), (9, b"two")], headers=fresh(60)))
    route = a_cache(upstream, store=store)
    task = route.start()
    await asyncio.sleep(1)
    assert store.claimed == 3

    task.cancel()
    await asyncio.wait([task])

    assert (store.claimed, store.entries, upstream.under_way, route.fates) == (0, 0, 0, ["client_gone"])


# --- one request for many ---


@in_virtual_time
async def test_identical_requests_at_the_same_time_become_one() -> None:
    upstream = Upstream(answer(200, b"one", after=5))
    route = a_cache(upstream)

    tasks = [route.start() for _ in range(1000)]
    got = [await task for task in tasks]

    assert len(upstream.arrivals) == 1
    assert {(each.status, each.body, each.at) for each in got} == {(200, b"one", 5.0)}
    assert [status(each) for each in got[:2]] == [
        b"sidecar; fwd=uri-miss",
        b"sidecar; fwd=uri-miss; collapsed",
    ]
    assert results(route) == {"miss": 1, "coalesced": 999}
    assert sorted(set(route.fates)) == ["coalesced", "ok"]


@in_virtual_time
async def test_one_after_the_other_ask_each_where_nothing_is_stored() -> None:
    upstream = Upstream(answer(200, b"one"), answer(200, b"two"))
    route = a_cache(upstream)

    assert [(await route.get()).body for _ in range(2)] == [b"one", b"two"]


@in_virtual_time
async def test_requests_are_not_joined_where_the_route_does_not_want_it() -> None:
    upstream = Upstream(answer(200, b"one", after=5), answer(200, b"two", after=5))
    route = a_cache(upstream, coalesce=False)

    got = [await task for task in [route.start(), route.start()]]

    assert [each.body for each in got] == [b"one", b"two"]


@pytest.mark.parametrize(
    "others",
    [
        get("/b"),
        get(method="HEAD"),
        get(accept="text/html"),
        get(authorization="x"),
        get(cookie="a=b"),
        get(x_api_key="x"),
        get(range="bytes=0-1"),
        get(cache_control="no-cache"),
        get(cache_control="max-age=60"),
        get(cache_control="min-fresh=0"),
        a_request(host=b"other"),
    ],
)
@in_virtual_time
async def test_requests_that_differ_are_not_joined(others: Request) -> None:
    upstream = Upstream(answer(200, b"one", after=5), answer(200, b"two", after=5))
    route = a_cache(upstream)

    first, second = route.start(), route.start(others)
    await asyncio.wait([first, second])

    assert len(upstream.arrivals) == 2


@in_virtual_time
async def test_those_whose_answers_vary_ask_each_for_themselves() -> None:
    told = fresh(60, vary="X-Tenant")
    upstream = Upstream(answer(200, b"a", headers=told, after=5), answer(200, b"b", headers=told, after=5))
    route = a_cache(upstream)

    tasks = [route.start(get(x_tenant="a")), route.start(get(x_tenant="b")), route.start(get(x_tenant="a"))]
    got = [await task for task in tasks]

    assert [(each.body, each.at) for each in got] == [(b"a", 5), (b"b", 10), (b"a", 5)]


@pytest.mark.parametrize(
    "told",
    [control("private"), control("no-store"), [(b"Set-Cookie", b"a=b")], control("no-cache"), fresh(0)],
)
@in_virtual_time
async def test_an_answer_that_is_not_for_sharing_goes_to_its_leader_only(told: Headers) -> None:
    upstream = Upstream(*[answer(200, b"%d" % number, headers=told, after=5) for number in range(3)])
    route = a_cache(upstream)

    got = [await task for task in [route.start() for _ in range(3)]]

    assert [(each.body, each.at) for each in got] == [(b"0", 5), (b"1", 10), (b"2", 10)]


@in_virtual_time
async def test_nobody_waits_again_for_answers_that_were_not_for_sharing() -> None:
    step = answer(200, headers=control("private"), after=5)
    route = a_cache(Upstream(then=step))
    await route.get()

    got = [await task for task in [route.start(), route.start()]]
    await asyncio.sleep(5)
    later = [await task for task in [route.start(), route.start()]]

    assert [each.at for each in got] == [10, 10]
    assert [each.at for each in later] == [20, 25]


@pytest.mark.parametrize("failure", [fail(Disconnected(), after=5), answer(503, after=5)])
@in_virtual_time
async def test_a_leaders_failure_is_not_shared_blindly(failure: Step) -> None:
    upstream = Upstream(failure, answer(200, b"well", after=1), answer(200, b"well", after=1))
    route = a_cache(upstream)

    got = [await task for task in [route.start() for _ in range(3)]]

    assert [each.status for each in got] == [got[0].status, 200, 200]
    assert [(each.at, each.status >= 500) for each in got] == [(5, True), (6, False), (6, False)]


@in_virtual_time
async def test_a_leader_that_leaves_is_followed_by_the_next() -> None:
    upstream = Upstream(answer(200, b"one", after=5), answer(200, b"two", after=5))
    route = a_cache(upstream)
    leader, *followers = [route.start() for _ in range(3)]
    await asyncio.sleep(2)

    leader.cancel()
    got = [await task for task in followers]

    assert [(each.body, each.at) for each in got] == [(b"two", 7), (b"two", 7)]
    assert [status(each) for each in got] == [b"sidecar; fwd=uri-miss", b"sidecar; fwd=uri-miss; collapsed"]
    assert (len(upstream.arrivals), upstream.under_way) == (2, 0)


@in_virtual_time
async def test_a_leader_that_leaves_in_the_middle_of_the_body_is_followed_by_the_next() -> None:
    body = stream([(0, b"o"), (0.9, b"ne")], headers=fresh(60), after=1)
    upstream = Upstream(body, answer(200, b"two", after=5))
    route = a_cache(upstream)
    leader, follower = route.start(), route.start()
    await asyncio.sleep(1.5)

    leader.cancel()
    got = await follower

    assert (got.body, got.at, status(got)) == (b"two", 6.5, b"sidecar; fwd=uri-miss")


@in_virtual_time
async def test_those_who_wait_get_a_body_when_it_is_whole() -> None:
    route = a_cache(Upstream(stream([(0, b"o"), (0.9, b"ne")], after=1)))

    leader, follower = [await task for task in [route.start(), route.start()]]

    assert (leader.body, leader.at, leader.ended_at) == (b"one", 1, 1.9)
    assert (follower.body, follower.at) == (b"one", 1.9)
    assert status(follower) == b"sidecar; fwd=uri-miss; collapsed"
    assert sorted(exchange.queued for exchange in route.done) == [0, 1.9]


@in_virtual_time
async def test_who_comes_while_the_body_comes_waits_for_it_too_if_it_is_kept() -> None:
    kept = a_cache(Upstream(stream([(0.9, b"x")], headers=fresh(60))))
    unkept = a_cache(Upstream(stream([(0.9, b"x")]), stream([(0.9, b"y")])))
    first = [kept.start(), unkept.start()]
    await asyncio.sleep(0.5)
    second = [kept.start(), unkept.start()]
    got = [await task for task in [*first, *second]]

    assert [(each.body, each.ended_at) for each in got] == [
        (b"x", 0.9),
        (b"x", 0.9),
        (b"x", 0.9),
        (b"y", 1.4),
    ]


@in_virtual_time
async def test_who_waits_and_has_the_answer_already_is_told_so() -> None:
    told = [(b"ETag", b'"1"')]
    route = a_cache(Upstream(answer(200, b"x", headers=told, after=1)))

    got = [await task for task in [route.start(), route.start(get(if_none_match='"1"'))]]

    assert [(each.status, each.at) for each in got] == [(200, 1), (304, 1)]


@in_virtual_time
async def test_nobody_waits_for_an_answer_that_may_be_a_304_to_its_own_client() -> None:
    route = a_cache(Upstream(answer(304, after=1), answer(200, after=1)))

    got = [await task for task in [route.start(get(if_none_match='"1"')), route.start()]]

    assert [(each.status, each.at) for each in got] == [(304, 1), (200, 1)]


@in_virtual_time
async def test_a_body_that_breaks_sends_those_who_wait_on_their_own_way() -> None:
    broken = stream([(1, b"o")], breaks=Disconnected(head_seen=True), after=1)
    upstream = Upstream(broken, answer(200, b"two", after=1), answer(200, b"two", after=1))
    route = a_cache(upstream)

    got = [await task for task in [route.start() for _ in range(3)]]

    assert [(each.body, each.at) for each in got] == [(b"o", 1), (b"two", 3), (b"two", 3)]


@in_virtual_time
async def test_a_slow_client_does_not_hold_back_those_who_wait() -> None:
    """It takes nothing of its body for a minute; they have it when the upstream has said it all."""
    pieces = [(0.1 * number, b"x" * 50_000) for number in range(10)]
    route = a_cache(Upstream(stream(pieces, headers=fresh(60))), store=Store(8 << 20, 10))
    loop = asyncio.get_running_loop()
    reply = await route.pipeline.call(Exchange(get(), "r", loop.time, lambda _: None))
    body = reply.body
    assert isinstance(body, Body)

    follower = route.start()
    got = await follower

    assert len(got.body) == 500_000
    assert got.at == pytest.approx(0.9)
    assert body.waiting < 150_000
    slow = b""
    while piece := await body.read():
        slow += piece
    reply.close()
    assert len(slow) == 500_000


@in_virtual_time
async def test_a_body_that_trickles_does_not_hold_up_those_who_wait() -> None:
    """Alone each of them has its first bytes at once, and so it is when the leader's body takes its time."""
    slow = stream([(0, b"o"), (60, b"ne")], headers=fresh(60), after=0.1)
    route = a_cache(Upstream(then=slow), total=15)

    first = [route.start() for _ in range(3)]
    await asyncio.sleep(5)
    later = [route.start() for _ in range(2)]
    got = [await task for task in [*first, *later]]

    assert [(each.status, round(each.at, 1)) for each in got] == [
        (200, 0.1),
        (200, 1.2),
        (200, 1.2),
        (200, 5.1),
        (200, 5.1),
    ]


@pytest.mark.parametrize(("total", "alone"), [(16, 8), (None, 5)])
@in_virtual_time
async def test_each_who_waits_goes_alone_while_there_is_time_to(total: float | None, alone: float) -> None:
    upstream = Upstream(answer(200, b"one", after=12), then=answer(200, b"two", after=1))
    route = a_cache(upstream, total=total)

    tasks = [route.start(), route.start()]
    await asyncio.sleep(4.5)
    tasks.append(route.start())
    got = [await task for task in tasks]

    last = 12 if total else 10.5
    assert [(each.body, each.at) for each in got] == [
        (b"one", 12),
        (b"two", alone + 1),
        (b"one" if total else b"two", last),
    ]
    assert [round(exchange.queued, 1) for exchange in route.done] == (
        [alone, 0, 7.5] if total else [alone, alone, 0]
    )


@in_virtual_time
async def test_who_has_waited_in_vain_has_only_the_rest_of_its_time() -> None:
    upstream = Upstream(answer(503, after=10), hang())
    route = a_cache(upstream, total=15)

    got = [await task for task in [route.start(), route.start()]]

    assert [(each.status, each.at) for each in got] == [(503, 10), (504, 15)]
    assert (route.fates, results(route)) == (["upstream_status", "timeout_total"], {"miss": 2})
    assert upstream.under_way == 0


@pytest.mark.parametrize("etag", ["", '"1"'])
@pytest.mark.parametrize(
    ("leads", "then", "at"),
    [
        (hang(), hang(), 16),
        (answer(302, after=1), hang(), 16),
        (answer(302, after=1), fail(Disconnected(), after=1), 13),
        (answer(302, after=1), answer(503, after=1), 13),
    ],
)
@in_virtual_time
async def test_who_waits_in_vain_gets_the_copy_that_stands_in(
    leads: Step, then: Step, at: float, etag: str
) -> None:
    told = control("max-age=0, stale-if-error=100", **({"etag": etag} if etag else {}))
    upstream = Upstream(answer(200, b"old", headers=told), leads, then)
    route = a_cache(upstream, total=5)
    await route.get()
    await asyncio.sleep(11)

    leader, follower = route.start(), route.start()
    got = await follower
    await leader

    assert (got.body, got.at, got.header(b"x-fallback-source")) == (b"old", at, b"stale")
    assert upstream.under_way == 0


@in_virtual_time
async def test_a_follower_that_leaves_changes_nothing_for_the_rest() -> None:
    route = a_cache(Upstream(answer(200, b"one", after=5)))
    leader, gone, follower = [route.start() for _ in range(3)]
    await asyncio.sleep(1)

    gone.cancel()
    got = [await leader, await follower]

    assert [(each.body, each.at) for each in got] == [(b"one", 5), (b"one", 5)]
    assert route.fates == ["client_gone", "ok", "coalesced"]


@in_virtual_time
async def test_many_ask_only_once_whether_a_copy_is_still_good() -> None:
    upstream = Upstream(
        answer(200, b"one", headers=fresh(60, etag='"1"')), answer(304, headers=fresh(60), after=5)
    )
    route = a_cache(upstream)
    await route.get()
    await asyncio.sleep(100)

    tasks = [route.start(), route.start(), route.start(get(if_none_match='"1"'))]
    got = [await task for task in tasks]

    assert [(each.status, each.body) for each in got] == [(200, b"one"), (200, b"one"), (304, b"")]
    assert status(got[1]) == b"sidecar; fwd=stale; collapsed"
    assert results(route) == {"miss": 1, "revalidated": 1, "coalesced": 2}


@in_virtual_time
async def test_heads_are_joined_with_heads() -> None:
    upstream = Upstream(answer(200, b"hello", after=5))
    route = a_cache(upstream)

    got = [await task for task in [route.start(get(method="HEAD")) for _ in range(2)]]

    assert [(each.status, each.body, each.header(b"content-length")) for each in got] == [
        (200, b"", b"5")
    ] * 2


@in_virtual_time
async def test_a_304_about_another_copy_gives_no_more_time() -> None:
    upstream = Upstream(
        answer(200, b"one", headers=fresh(60, etag='"1"')),
        answer(304, headers=[(b"ETag", b'"2"')], after=2),
        hang(),
    )
    route = a_cache(upstream, total=3)
    await route.get()
    await asyncio.sleep(100)

    got = await route.get()

    assert (got.status, got.at, route.fates[1]) == (504, 103, "timeout_total")
    assert (results(route), upstream.under_way) == ({"miss": 2}, 0)


@in_virtual_time
async def test_an_older_answer_does_not_take_the_place_of_a_newer_one() -> None:
    upstream = Upstream(
        answer(200, b"old", headers=fresh(60), after=5), answer(200, b"new", headers=fresh(60), after=1)
    )
    route = a_cache(upstream)
    slow = route.start(get(cache_control="no-cache"))
    await asyncio.sleep(1)
    await route.get()
    await slow

    assert (await route.get()).body == b"new"


# --- changes ---


@in_virtual_time
async def test_what_was_asked_for_before_a_change_is_not_kept_nor_shared_after_it() -> None:
    store = Store(1 << 20, 10)
    upstream = Upstream(
        answer(200, b"old", headers=fresh(60), after=5), answer(200), answer(200, b"new", headers=fresh(60))
    )
    route = a_cache(upstream, store=store, invalidates=("a-route",))
    before = route.start()
    await asyncio.sleep(1)
    await route.ask(a_request("POST"))
    await asyncio.sleep(1)
    after = route.start()

    got = [await before, await after]

    assert [(each.body, each.header(b"age")) for each in got] == [(b"old", None), (b"new", None)]
    assert (await route.get()).body == b"new"


# --- a cache that fails ---


class BrokenStore(Store):
    """A store that fails at whatever `broken` names."""

    __slots__ = ("broken",)

    def __init__(self, *broken: str) -> None:
        super().__init__(1 << 20, 10)
        self.broken = frozenset(broken)

    def variants(self, key: Key) -> tuple[Entry, ...]:
        if "variants" in self.broken:
            raise MemoryError
        return super().variants(key)

    def put(self, entry: Entry, asked_at: float) -> bool:
        if "put" in self.broken:
            raise MemoryError
        return super().put(entry, asked_at)


@in_virtual_time
async def test_a_request_survives_a_store_that_cannot_look_up() -> None:
    route = a_cache(Upstream(answer(200, b"one", headers=fresh(60))), store=BrokenStore("variants"))

    got = await route.get()

    assert (got.status, got.body, status(got)) == (200, b"one", None)
    assert results(route) == {"error": 1, "bypass": 1}


@pytest.mark.parametrize(
    "step", [answer(200, b"one", headers=fresh(60)), stream([(1, b"one")], headers=fresh(60))]
)
@in_virtual_time
async def test_a_request_survives_a_store_that_cannot_keep(step: Step) -> None:
    upstream = Upstream(step, answer(200, b"two"))
    route = a_cache(upstream, store=BrokenStore("put"))

    got = [await task for task in [route.start(), route.start()]]

    assert [(each.status, each.body, each.error) for each in got] == [
        (200, b"one", None),
        (200, b"two", None),
    ]
    assert results(route) == {"miss": 2, "error": 1}


@in_virtual_time
async def test_a_request_survives_a_store_that_cannot_renew() -> None:
    store = BrokenStore()
    upstream = Upstream(answer(200, b"one", headers=fresh(0, etag='"1"')), answer(304), answer(200, b"two"))
    route = a_cache(upstream, store=store)
    await route.get()
    store.broken = frozenset({"put"})

    got = await route.get()

    assert (got.status, got.body, results(route)) == (200, b"two", {"miss": 2, "error": 1})


@in_virtual_time
async def test_those_who_wait_survive_a_cache_that_fails() -> None:
    route = a_cache(Upstream(answer(200, b"one", after=5), answer(200, b"two", after=5)))
    stage = route.pipeline.find(CacheStage)
    assert stage is not None
    leader, follower = route.start(), route.start()
    await asyncio.sleep(1)
    (flight,) = stage._flights._waiting
    stage._flights.land(flight, Entry(b"r  /", 200, Fields([]), b"", math.nan))  # nothing can be made of it

    got = [await leader, await follower]

    assert [(each.body, each.at) for each in got] == [(b"one", 5), (b"two", 6)]
    assert results(route) == {"miss": 2, "error": 1}


@in_virtual_time
async def test_who_has_waited_in_vain_asks_only_if_the_copy_is_still_good() -> None:
    upstream = Upstream(
        answer(200, b"one", headers=fresh(60, etag='"1"')),
        fail(Disconnected(), after=5),
        answer(304, headers=fresh(60, age="0")),
        fail(Disconnected()),
    )
    route = a_cache(upstream)
    await route.get()
    await asyncio.sleep(100)

    got = [await task for task in [route.start(), route.start(), route.start()]]

    assert [(each.status, each.at) for each in got] == [(502, 100 + 5), (200, 105), (502, 105)]
    assert (got[1].body, got[1].header(b"age")) == (b"one", b"0")


@in_virtual_time
async def test_a_fault_that_looks_like_a_time_out_is_told_as_what_it_is() -> None:
    faults: list[Exception] = []
    parts = some_parts(on_fault=lambda _, fault: faults.append(fault))
    route = a_cache(Upstream(fail(Disconnected(), after=5), fail(TimeoutError("a fault"))), parts=parts)

    got = [await task for task in [route.start(), route.start()]]

    assert ([each.status for each in got], [str(fault) for fault in faults]) == ([502, 500], ["a fault"])


@in_virtual_time
async def test_a_fault_behind_the_cache_is_that_requests_alone() -> None:
    faults: list[Exception] = []
    parts = some_parts(on_fault=lambda _, fault: faults.append(fault))
    upstream = Upstream(fail(KeyError("a fault"), after=5), answer(200, b"well"))
    route = a_cache(upstream, parts=parts)

    got = [await task for task in [route.start(), route.start()]]

    assert ([each.status for each in got], len(faults)) == ([500, 200], 1)


def test_the_stage_tells_what_it_does() -> None:
    async def describe() -> list[str]:
        routes = [
            a_cache(Upstream()),
            a_cache(Upstream(), fresh_for=60.0, coalesce=False),
            a_cache(Upstream(), serve_fresh=False, keep_for=300.0),
        ]
        return [stage.describe() for route in routes if (stage := route.pipeline.find(CacheStage))]

    assert asyncio.run(describe()) == [
        "cache as the origin says, single-flight",
        "cache fresh for 60s",
        "cache copies for the fallback, 300s",
    ]
