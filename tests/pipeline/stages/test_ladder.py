"""What each step of a fallback delivers, and what it does not."""

import asyncio
import json
from typing import Unpack

import pytest

from sidecar.errors import (
    BreakerOpen,
    BulkheadFull,
    ConnectFailed,
    Disconnected,
    TotalTimeout,
)
from sidecar.message import Body, Fields, Headers, Reply, Request
from sidecar.pipeline.exchange import Exchange
from sidecar.pipeline.stages.ladder import OtherStep
from sidecar.policy.cache_settings import CacheSettings
from sidecar.policy.fallback import FallbackStep, Mock, Redirect, Stale, Static, Upstream
from sidecar.policy.retry import RetrySettings
from sidecar.policy.store import Entry, Key, Store
from tests.support.exchanges import Got, Route, Settings, a_body, a_request, some_parts
from tests.support.ladders import a_ladder, fallback_of, source, used
from tests.support.upstream import Arrival, Step, answer, fail, hang, stream, timetable
from tests.support.upstream import Upstream as Script
from tests.support.virtual_time import in_virtual_time, now

DOWN = Disconnected()


def head_of(got: Got) -> Headers:
    """The fields of an answer, without its date, which is checked to be one."""
    dates = [value for name, value in got.headers if name == b"Date"]
    assert [value[-4:] for value in dates] == [b" GMT"]
    return [field for field in got.headers if field[0] != b"Date"]


def the_other(route: Route) -> OtherStep:
    """The step that asks another upstream."""
    (step,) = (step for step in fallback_of(route).steps if isinstance(step, OtherStep))
    return step


# --- stale ---

MINUTE = [(b"Cache-Control", b"max-age=60")]
FOR_FALLBACK = CacheSettings(keep_for=300, serve_fresh=False)


class BrokenStore(Store):
    """A store that cannot be read any more."""

    __slots__ = ()

    def variants(self, key: Key) -> tuple[Entry, ...]:
        raise MemoryError


def a_stale_ladder(upstream: Script, *steps: FallbackStep, **settings: Unpack[Settings]) -> Route:
    """A route that keeps copies for nothing but its fallback."""
    settings.setdefault("store", Store(1 << 20, 100))
    settings["cache"] = FOR_FALLBACK
    return a_ladder(upstream, *(steps or (Stale(),)), **settings)


@pytest.mark.parametrize(
    ("failed", "after", "cache_status"),
    [
        (fail(DOWN), 100, b"sidecar; fwd=stale; ttl=-40"),
        (fail(DOWN), 30, b"sidecar; fwd=bypass; ttl=30"),
        (answer(503), 100, b"sidecar; fwd=stale; fwd-status=503; ttl=-40"),
        (fail(BulkheadFull()), 100, b"sidecar; hit; ttl=-40"),
        (fail(BreakerOpen()), 30.5, b"sidecar; hit; ttl=30"),
    ],
)
@in_virtual_time
async def test_a_copy_says_how_old_it_is_and_how_it_was_come_by(
    failed: Step, after: float, cache_status: bytes
) -> None:
    """RFC 9211: a hit did not go forward; what did says why, what came of it, and for how long the copy is fresh."""
    upstream = Script(answer(body=b"copy", headers=MINUTE), failed)
    route = a_stale_ladder(upstream)
    await route.get()
    await asyncio.sleep(after)

    got = await route.get()

    assert (got.status, got.body, source(got)) == (200, b"copy", b"stale")
    assert (got.header(b"age"), got.header(b"cache-status")) == (b"%d" % after, cache_status)
    assert got.header(b"cache-control") == b"max-age=60"
    assert got.header(b"proxy-status") is not None
    assert route.fates == ["ok", "fallback_stale"]


@in_virtual_time
async def test_a_dependency_that_is_down_for_30_seconds_is_not_noticed() -> None:
    upstream = Script(
        then=timetable(
            (0, answer(body=b"live")), (60, fail(ConnectFailed())), (90, answer(body=b"live again"))
        )
    )
    route = a_stale_ladder(upstream, retry=RetrySettings(retries=1))
    got = []
    while now() < 120:
        got.append(await route.get())
        await asyncio.sleep(5 - now() % 5)

    assert {one.status for one in got} == {200}
    assert [one.body for one in got] == [b"live"] * 18 + [b"live again"] * 6
    assert [source(one) for one in got] == [None] * 12 + [b"stale"] * 6 + [None] * 6
    assert used(route) == {("stale", "connect_error"): 6}


@in_virtual_time
async def test_a_copy_is_served_for_so_long_after_it_was_stored_and_no_longer() -> None:
    upstream = Script(answer(body=b"copy", headers=[(b"Age", b"1000")]), then=fail(DOWN))
    route = a_stale_ladder(upstream, Stale(max_age=120))
    await route.get()

    seen = []
    for pause in (60, 60, 0.5):
        await asyncio.sleep(pause)
        seen.append((await route.get()).status)

    assert seen == [200, 200, 502]


@pytest.mark.parametrize("said", [b"must-revalidate", b"proxy-revalidate", b"s-maxage=60", b"no-cache"])
@in_virtual_time
async def test_what_its_origin_forbids_to_serve_stale_is_not_unless_the_route_overrides(said: bytes) -> None:
    headers = [(b"Cache-Control", b"max-age=60, " + said)]
    seen = []
    for step in (Stale(), Stale(override_origin=True)):
        route = a_stale_ladder(Script(answer(body=b"copy", headers=headers), fail(DOWN)), step)
        await route.get()
        await asyncio.sleep(100)
        seen.append((await route.get()).status)

    assert seen == [502, 200]


@pytest.mark.parametrize("who", [(b"Authorization", b"Bearer ann"), (b"Cookie", b"user=ann")])
@in_virtual_time
async def test_nobody_ever_receives_another_users_answer(who: tuple[bytes, bytes]) -> None:
    """Neither is a personal answer kept, nor is what was kept given to a request that says whose it is."""
    upstream = Script(
        answer(body=b"of ann"), fail(DOWN), answer(body=b"for all"), fail(DOWN), fail(DOWN), fail(DOWN)
    )
    route = a_stale_ladder(upstream)
    for_ann = a_request(headers=[who])

    got = [
        await route.ask(for_ann),
        await route.get(),
        await route.get(),
        await route.ask(for_ann),
        await route.ask(a_request(headers=[(who[0], b"bob")])),
        await route.get(),
    ]

    assert [(one.status, source(one)) for one in got] == [
        (200, None),
        (502, None),
        (200, None),
        (502, None),
        (502, None),
        (200, b"stale"),
    ]
    assert got[-1].body == b"for all"


@in_virtual_time
async def test_an_answer_that_is_explicitly_public_may_go_to_everybody() -> None:
    public = [(b"Cache-Control", b"public, max-age=1")]
    route = a_stale_ladder(Script(answer(body=b"news", headers=public), fail(DOWN)))

    await route.ask(a_request(headers=[(b"Cookie", b"user=ann")]))
    got = await route.ask(a_request(headers=[(b"Cookie", b"user=bob")]))

    assert (got.status, got.body, source(got)) == (200, b"news", b"stale")


@pytest.mark.parametrize(
    "field", [(b"Set-Cookie", b"user=ann"), (b"Cache-Control", b"private"), (b"Cache-Control", b"no-store")]
)
@in_virtual_time
async def test_an_answer_that_is_for_one_client_is_never_a_fallback(field: tuple[bytes, bytes]) -> None:
    route = a_stale_ladder(Script(answer(headers=[field]), fail(DOWN)))
    await route.get()

    assert (await route.get()).status == 502


@in_virtual_time
async def test_a_copy_stands_in_only_for_what_it_is_the_answer_to() -> None:
    vary = [(b"Vary", b"Accept-Language")]
    upstream = Script(answer(body=b"hello", headers=vary), then=fail(DOWN))
    route = a_stale_ladder(upstream)

    def asking(method: str = "GET", target: str = "/", language: bytes = b"en") -> Request:
        return a_request(method, target, [(b"Accept-Language", language)])

    await route.ask(asking())
    others = [asking(language=b"de"), asking(target="/?a"), asking("POST"), asking("OPTIONS")]
    got = [await route.ask(request) for request in [asking(), asking("HEAD"), *others]]

    assert [(one.status, one.body) for one in got[:2]] == [(200, b"hello"), (200, b"")]
    assert [one.status for one in got[2:]] == [502] * 4


@in_virtual_time
async def test_an_error_that_was_stored_does_not_stand_in_for_another() -> None:
    route = a_stale_ladder(Script(answer(404, headers=MINUTE), fail(DOWN)))
    await route.get()

    assert (await route.get()).status == 502


@in_virtual_time
async def test_without_a_copy_the_next_step_answers() -> None:
    route = a_stale_ladder(Script(fail(DOWN)), Stale(), Static(body=b"[]"))

    got = await route.get()

    assert (got.body, source(got), used(route)) == (b"[]", b"static", {("static", "disconnected"): 1})


@in_virtual_time
async def test_a_store_that_fails_fails_no_request() -> None:
    """The cache layer dies: what is well stays well, and what is not gets the next step."""
    faults: list[Exception] = []
    parts = some_parts(on_fault=lambda _, fault: faults.append(fault))
    store = BrokenStore(1 << 20, 100)
    route = a_ladder(
        Script(answer(body=b"well"), fail(DOWN)), Stale(), Static(body=b"[]"), store=store, parts=parts
    )

    got = [await route.get(), await route.get()]

    assert [(one.status, one.body, source(one)) for one in got] == [
        (200, b"well", None),
        (200, b"[]", b"static"),
    ]
    assert [type(fault) for fault in faults] == [MemoryError]


@in_virtual_time
async def test_a_copy_that_stands_in_is_not_the_first_to_make_room() -> None:
    upstream = Script(answer(body=b"a"), answer(body=b"b"), fail(DOWN), answer(body=b"c"), then=fail(DOWN))
    route = a_stale_ladder(upstream, store=Store(1 << 20, 2))
    await route.get("/a")
    await route.get("/b")
    await route.get("/a")  # from the copy: now the one of /b was used longest ago
    await route.get("/c")

    assert [(await route.get(path)).status for path in ("/a", "/b", "/c")] == [200, 502, 200]


# --- static ---


@in_virtual_time
async def test_a_configured_answer_is_served_as_it_was_configured() -> None:
    step = Static(503, b"text/html", b"<h1>We are down</h1>", ((b"X-Notice", b"1"), (b"X-Notice", b"2")))
    route = a_ladder(Script(fail(DOWN)), step)

    got = await route.get()

    assert (got.status, got.body) == (503, b"<h1>We are down</h1>")
    assert head_of(got) == [
        (b"X-Notice", b"1"),
        (b"X-Notice", b"2"),
        (b"Cache-Control", b"no-store"),
        (b"X-Content-Type-Options", b"nosniff"),
        (b"Content-Type", b"text/html"),
        (b"Content-Length", b"20"),
        (b"X-System-Degraded", b"true"),
        (b"X-Fallback-Source", b"static"),
        (b"Proxy-Status", b'sidecar; error=connection_terminated; details="upstream_disconnected"'),
        (b"X-Request-ID", b"test-000001"),
    ]


@pytest.mark.parametrize("step", [Static(body=b"sorry"), Mock(body=b"sorry"), Redirect(b"/sorry")])
@in_virtual_time
async def test_a_head_request_gets_the_head_of_the_answer_and_no_body(step: FallbackStep) -> None:
    route = a_ladder(Script(fail(DOWN), fail(DOWN)), step)

    got = await route.get()
    reply = await route.pipeline.call(Exchange(a_request("HEAD"), "a-route", now, route.done.append))
    reply.close()

    assert (reply.status, reply.body, reply.length) == (got.status, None, len(got.body))
    assert [*reply.fields.pairs, *reply.extra] == got.headers


@in_virtual_time
async def test_a_204_has_neither_body_nor_length() -> None:
    got = await a_ladder(Script(fail(DOWN)), Static(204)).get()

    assert (got.status, got.body, got.header(b"content-length"), got.header(b"content-type")) == (
        204,
        b"",
        None,
        None,
    )


@pytest.mark.parametrize(
    ("failed", "wait"),
    [
        (fail(BreakerOpen(retry_after=12.3)), b"13"),
        (fail(BulkheadFull()), b"1"),
        (fail(DOWN), None),
        (
            answer(503, headers=[(b"Retry-After", b"Fri, 15 Jan 2027 08:00:00 GMT")]),
            b"Fri, 15 Jan 2027 08:00:00 GMT",
        ),
        (answer(503), None),
    ],
)
@in_virtual_time
async def test_an_error_page_keeps_the_honest_retry_after_and_a_success_has_none(
    failed: Step, wait: bytes | None
) -> None:
    page = await a_ladder(Script(failed), Static(503, body=b"down")).get()
    empty = await a_ladder(Script(failed), Static(200, body=b"[]")).get()
    lost = await a_ladder(Script(failed), Static(400, body=b"[]")).get()

    assert (page.header(b"retry-after"), empty.header(b"retry-after")) == (wait, None)
    assert lost.header(b"retry-after") == wait


# --- mock ---


@in_virtual_time
async def test_a_made_up_answer_speaks_of_the_request() -> None:
    body = b'{"m": "{method}", "p": "{path}", "q": "{query}", "i": "{request_id}", "n": {"a": 1}}'
    route = a_ladder(Script(fail(DOWN)), Mock(fields=((b"X-Made-Up", b"yes"),), body=body))

    got = await route.get('/a/"b"?c=<d>')

    assert json.loads(got.body) == {
        "m": "GET",
        "p": '/a/"b"',
        "q": "?c=<d>",
        "i": "test-000001",
        "n": {"a": 1},
    }
    assert head_of(got) == [
        (b"X-Made-Up", b"yes"),
        (b"Cache-Control", b"no-store"),
        (b"X-Content-Type-Options", b"nosniff"),
        (b"Content-Type", b"application/json"),
        (b"Content-Length", b"%d" % len(got.body)),
        (b"X-System-Degraded", b"true"),
        (b"X-Fallback-Source", b"mock"),
        (b"Proxy-Status", b'sidecar; error=connection_terminated; details="upstream_disconnected"'),
        (b"X-Request-ID", b"test-000001"),
    ]
    assert route.fates == ["fallback_mock"]


@in_virtual_time
async def test_a_page_that_shows_the_path_runs_nothing_of_it() -> None:
    route = a_ladder(Script(fail(DOWN)), Mock(404, b"text/html", b"<p>{path}</p>"))

    got = await route.get("/<script>alert(1)</script>")

    assert (got.status, got.body) == (404, b"<p>/&lt;script&gt;alert(1)&lt;/script&gt;</p>")


@in_virtual_time
async def test_a_made_up_answer_has_the_length_that_it_has() -> None:
    route = a_ladder(Script(fail(DOWN), fail(DOWN)), Mock(body=b"{path}"))

    lengths = [(await route.ask(a_request("HEAD", path))).header(b"content-length") for path in ("/", "/abc")]

    assert lengths == [b"1", b"4"]


# --- redirect ---


@pytest.mark.parametrize(
    ("location", "target", "expected"),
    [
        (
            b"https://backup.example{path}{query}",
            "/a/%2e%2E?b=%20c&d",
            b"https://backup.example/a/%2e%2E?b=%20c&d",
        ),
        (b"https://backup.example{path}{query}", "/a", b"https://backup.example/a"),
        (b"https://backup.example/?from={path}", "/a?b", b"https://backup.example/?from=/a"),
        (b"/sorry", "/a?b", b"/sorry"),
        (b"https://backup.example{path}", "//other.example/x", b"https://backup.example//other.example/x"),
        (b"/sorry{query}", "/?a\r\nSet-Cookie: b=c", b"/sorry?a%0D%0ASet-Cookie:%20b=c"),
    ],
)
@in_virtual_time
async def test_a_redirect_leads_where_its_author_wrote(location: bytes, target: str, expected: bytes) -> None:
    route = a_ladder(Script(fail(DOWN)), Redirect(location, 307))

    got = await route.get(target)

    assert (got.status, got.body) == (307, b"")
    assert head_of(got) == [
        (b"Location", expected),
        (b"Content-Length", b"0"),
        (b"Cache-Control", b"no-store"),
        (b"X-System-Degraded", b"true"),
        (b"X-Fallback-Source", b"redirect"),
        (b"Proxy-Status", b'sidecar; error=connection_terminated; details="upstream_disconnected"'),
        (b"X-Request-ID", b"test-000001"),
    ]
    assert route.fates == ["fallback_redirect"]


@in_virtual_time
async def test_a_target_that_is_no_path_is_not_led_elsewhere() -> None:
    step = Redirect(b"https://backup.example{path}", methods=frozenset({b"OPTIONS"}))
    route = a_ladder(Script(fail(DOWN)), step)

    got = await route.ask(a_request("OPTIONS", "*"))

    assert (got.status, source(got)) == (502, None)


# --- another upstream ---


@pytest.mark.parametrize("status", [200, 204, 302, 404, 499])
@in_virtual_time
async def test_what_another_upstream_answers_is_passed_on_and_marked(status: int) -> None:
    body = b"" if status == 204 else b"from b"
    other = Script(answer(status, body, headers=[(b"Cache-Control", b"max-age=60")], after=1))
    route = a_ladder(Script(fail(DOWN, after=2)), Upstream("b"), ask={"b": other})

    got = await route.get("/a?b")

    assert (got.status, got.body, got.at) == (status, body, 3)
    assert got.headers == [
        (b"Cache-Control", b"max-age=60"),
        (b"Content-Length", b"%d" % len(body)),
        (b"X-System-Degraded", b"true"),
        (b"X-Fallback-Source", b"upstream"),
        (b"Proxy-Status", b'sidecar; error=connection_terminated; details="upstream_disconnected"'),
        (b"X-Request-ID", b"test-000001"),
    ]
    assert [(one.method, one.target) for one in other.arrivals] == [(b"GET", b"/a?b")]
    assert (route.fates, route.done[0].error, used(route)) == (
        ["fallback_upstream"],
        DOWN,
        {("upstream", "disconnected"): 1},
    )


@in_virtual_time
async def test_the_record_shows_which_upstream_answered_and_every_attempt() -> None:
    route = a_ladder(Script(answer(503, after=1)), Upstream("b"), ask={"b": Script(answer(after=2))})

    await route.get()

    (done,) = route.done
    assert (done.upstream, done.attempts) == ("b", (("status_5xx", 1), ("ok", 2)))
    assert {result: count for result, count in the_other(route).attempt.counts.items() if count} == {"ok": 1}


@pytest.mark.parametrize("step", [answer(500), answer(503), fail(ConnectFailed()), fail(Disconnected())])
@in_virtual_time
async def test_another_upstream_that_fails_too_is_not_the_answer(step: Step) -> None:
    other = Script(step)
    route = a_ladder(Script(fail(DOWN)), Upstream("b"), Static(body=b"sorry"), ask={"b": other})

    got = await route.get()

    assert (got.status, source(got), used(route)) == (200, b"static", {("static", "disconnected"): 1})
    assert (the_other(route).busy, other.under_way, route.done[0].upstream) == (0, 0, "an-upstream")


@in_virtual_time
async def test_another_upstream_has_a_timeout_of_its_own() -> None:
    other = Script(hang())
    route = a_ladder(Script(hang()), Upstream("b", timeout=3), total=15, ask={"b": other})

    got = await route.get()

    assert (got.status, got.at, route.fates) == (504, 18, ["timeout_total"])
    assert isinstance(route.done[0].error, TotalTimeout)
    assert other.arrivals == [Arrival(15, b"GET", b"/", "cancelled", 18)]
    assert the_other(route).busy == 0


@in_virtual_time
async def test_no_more_ask_another_upstream_at_once_than_it_is_meant_for() -> None:
    """What broke the first upstream must not break the second one: the rest gets the next step at once."""
    other = Script(answer(after=1), stream([(5, b"x")], after=1), then=answer(body=b"later", after=1))
    route = a_ladder(
        Script(then=fail(DOWN)), Upstream("b", max_concurrent=2), Static(body=b"s"), ask={"b": other}
    )

    tasks = [route.start() for _ in range(4)]
    await asyncio.sleep(0.5)
    assert (the_other(route).busy, len(other.arrivals)) == (2, 2)
    early = [task.result().body for task in tasks if task.done()]
    await asyncio.sleep(1)
    assert the_other(route).busy == 1  # the one whose body still comes
    got = [await task for task in tasks]

    assert early == [b"s", b"s"]
    assert [(one.body, source(one)) for one in got] == [
        (b"", b"upstream"),
        (b"x", b"upstream"),
        (b"s", b"static"),
        (b"s", b"static"),
    ]
    assert the_other(route).busy == 0
    assert (await route.get()).body == b"later"


@in_virtual_time
async def test_a_body_that_the_client_drops_gives_its_place_back() -> None:
    other = Script(stream([(100, b"x")]))
    route = a_ladder(Script(fail(DOWN)), Upstream("b"), ask={"b": other})
    task = route.start()
    await asyncio.sleep(1)
    assert the_other(route).busy == 1

    task.cancel()
    await asyncio.wait([task])

    assert (the_other(route).busy, other.under_way, route.fates) == (0, 0, ["client_gone"])


@in_virtual_time
async def test_a_tunnel_keeps_its_place_until_it_ends() -> None:
    async def other(exchange: Exchange) -> Reply:
        reply = Reply(101, Fields([]))
        reply.tunnel = object()
        return reply

    route = a_ladder(Script(fail(DOWN)), Upstream("b"), ask={"b": other})
    exchange = Exchange(a_request(), "a-route", now, route.done.append)

    reply = await route.pipeline.call(exchange)
    assert the_other(route).busy == 1
    reply.close()

    assert (the_other(route).busy, route.fates) == (0, ["fallback_upstream"])


@in_virtual_time
async def test_the_marks_are_ours_alone() -> None:
    """The other upstream may stand behind such a proxy, and say of itself what it does not say of us."""
    fields = [(b"x-system-degraded", b"false"), (b"X-Fallback-Source", b"stale"), (b"Proxy-Status", b"other")]
    route = a_ladder(Script(fail(DOWN)), Upstream("b"), ask={"b": Script(answer(headers=fields))})

    got = await route.get()

    assert source(got) == b"upstream"
    assert [value for name, value in got.headers if name == b"Proxy-Status"] == [
        b"other",
        b'sidecar; error=connection_terminated; details="upstream_disconnected"',
    ]


class Taker:
    """An upstream that takes the request's body to its end, or as much as has come, and then does what it is told."""

    def __init__(self, step: Step, *, waits: bool = True) -> None:
        self.step = step
        self.waits = waits
        self.got = b""

    async def __call__(self, exchange: Exchange) -> Reply:
        body = exchange.request.body
        assert body is not None
        whole = body.take_whole()
        if whole is not None:
            self.got += whole
        else:
            ended: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            body.pipe(self._take, lambda _: ended.set_result(None))
            if self.waits:
                await ended
        try:
            return await self.step(exchange, Arrival(now(), b"", b""))
        except BaseException:
            body.detach()
            raise

    def _take(self, data: bytes) -> None:
        self.got += data


@pytest.mark.parametrize("failed", [fail(DOWN), answer(503), stream([(1, b"x")], status=503)])
@in_virtual_time
async def test_another_upstream_gets_the_body_from_its_first_byte(failed: Step) -> None:
    first, other = Taker(failed), Taker(answer(201))
    route = a_ladder(first, Upstream("b"), ask={"b": other})

    got = await route.ask(a_request("PUT", body=a_body(b"one", b"two"), length=6))

    assert (got.status, source(got)) == (201, b"upstream")
    assert (first.got, other.got) == (b"onetwo", b"onetwo")


@in_virtual_time
async def test_another_upstream_gets_what_is_still_coming_too() -> None:
    first, other = Taker(fail(DOWN), waits=False), Taker(answer(201))
    route = a_ladder(first, Upstream("b", timeout=60), ask={"b": other})
    body = Body(now)
    body.feed(b"one")
    loop = asyncio.get_running_loop()
    loop.call_later(3, body.feed, b"two")
    loop.call_later(4, body.finish)

    got = await route.ask(a_request("PUT", body=body))

    assert (got.status, got.at, first.got, other.got) == (201, 4, b"one", b"onetwo")


@in_virtual_time
async def test_a_body_that_went_by_unkept_is_not_sent_by_half() -> None:
    other = Taker(answer(201))
    route = a_ladder(Taker(fail(DOWN)), Upstream("b"), ask={"b": other})

    most = b"x" * (1 << 20)

    large = await route.ask(a_request("PUT", body=most + b"y"))
    small = await route.ask(a_request("PUT", body=most))

    assert [(large.status, source(large)), (small.status, source(small))] == [(502, None), (201, b"upstream")]
    assert other.got == most


@in_virtual_time
async def test_a_body_that_the_failed_answer_still_takes_is_not_given_to_another() -> None:
    """Two connections cannot both have it, and the answer that there is may be the only one."""
    other = Taker(answer(201))
    first = Taker(stream([(5, b"why")], status=503), waits=False)
    route = a_ladder(first, Upstream("b"), ask={"b": other})
    body = Body(now)
    body.feed(b"one")

    got = await route.ask(a_request("PUT", body=body))

    assert (got.status, got.body, source(got), other.got) == (503, b"why", None, b"")


# --- building ---


@pytest.mark.parametrize(
    ("step", "missing"),
    [(Upstream("b"), r"^there is no upstream b$"), (Stale(), r"^there is no store for the copies$")],
)
@in_virtual_time
async def test_a_step_without_what_it_needs_is_refused_when_it_is_made(
    step: FallbackStep, missing: str
) -> None:
    with pytest.raises(ValueError, match=missing):
        a_ladder(Script(), step)
