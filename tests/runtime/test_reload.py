"""Another configuration takes the place of the one in force: what is carried over, what begins anew, what is let go."""

import asyncio
from pathlib import Path

import pytest
import trustme
from aiohttp import web
from pytest_aiohttp import AiohttpServer

from sidecar.config.load import load_text
from sidecar.errors import StartFailed
from sidecar.message import Reply
from sidecar.pipeline.stages.attempt import AttemptStage
from sidecar.pipeline.stages.cache import CacheStage
from sidecar.pipeline.stages.rate_limit import RateLimitStage
from sidecar.pipeline.stages.retry import RetryStage
from sidecar.policy.breaker import FAILURE, State
from sidecar.runtime.engine import Engine, build
from sidecar.runtime.live import live_of, put_in_force
from sidecar.telemetry.ids import traceparent
from sidecar.telemetry.record import Silent
from sidecar.wire.inbound import ForwardRules
from sidecar.wire.server import Limits, Server
from tests.support.exchanges import a_request
from tests.support.live import engine_from

TEXT = """
version: 1
upstreams:
  orders: {{url: "{url}"}}
breakers: {{db: {{consecutive_failures: {failures}, open_for: {open_for}}}}}
bulkheads: {{reads: {{max_concurrent: {slots}}}}}
store: {{max_entries: {entries}}}
routes:
  - name: one
    match: {{path: /one/**}}
    upstream: orders
    breaker: db
    bulkhead: reads
    rate_limit: {{limit: {limit}, key: route}}
    cache: {{fresh_for: {fresh_for}}}
    fallback: [{{static: {{body: "[]"}}}}]
  - {{name: two, match: {{path: /two/**}}, upstream: orders, retry: {{retries: {retries}}}}}
"""

SAID = {
    "url": "http://127.0.0.1:9",
    "failures": 5,
    "open_for": "30s",
    "slots": 10,
    "entries": 100,
    "limit": "3/1h",
    "fresh_for": "1h",
    "retries": 2,
}


def said(**others: object) -> str:
    return TEXT.format(**{**SAID, **others})


def again(before: Engine, text: str) -> Engine:
    """Build the engine that takes the place of another."""
    return build(
        load_text(text, env={}),
        asyncio.get_running_loop(),
        line=lambda _: None,
        on_fault=lambda _, __: None,
        before=before,
    )


async def ask(engine: Engine, target: str) -> Reply:
    reply = await engine.dispatcher(a_request(target=target))
    reply.close()
    return reply


@pytest.fixture
async def upstream(aiohttp_server: AiohttpServer) -> str:
    """A service that answers everything, and says how often it was asked."""
    asked = 0

    async def answer(_: web.Request) -> web.Response:
        nonlocal asked
        asked += 1
        return web.Response(text=str(asked))

    app = web.Application()
    app.router.add_route("*", "/{path:.*}", answer)
    server = await aiohttp_server(app)
    return f"http://{server.host}:{server.port}"


def trip(engine: Engine) -> None:
    breaker, now = engine.guards.breakers["db"], asyncio.get_running_loop().time()
    for _ in range(5):
        breaker.settle(breaker.enter(now), FAILURE, now, 0.1, "503")
    assert breaker.state is State.OPEN


async def test_a_breaker_that_is_open_stays_open() -> None:
    before = engine_from(said())
    trip(before)

    after = again(before, said())

    breaker = after.guards.breakers["db"]
    assert breaker is before.guards.breakers["db"]
    assert (await ask(after, "/two/x")).status == 502
    assert (await after.dispatcher(a_request(target="/one/x"))).status == 200  # the fallback's
    assert breaker.rejected == 1


async def test_a_breaker_with_other_settings_stays_open_and_follows_them() -> None:
    before = engine_from(said())
    trip(before)

    after = again(before, said(open_for="5s"))

    view = after.guards.breakers["db"].view(asyncio.get_running_loop().time())
    assert view.state is State.OPEN
    assert view.retry_after is not None
    assert view.retry_after <= 5.5


async def test_a_quota_that_was_spent_is_not_refilled(upstream: str) -> None:
    before = engine_from(said(url=upstream))
    for number in range(3):
        assert (await ask(before, f"/one/{number}")).status == 200

    after = again(before, said(url=upstream, failures=7))

    assert (await ask(after, "/one/4")).status == 429
    stage = after.dispatcher.pipelines[0].find(RateLimitStage)
    assert stage is not None
    assert (stage.allowed, stage.rejected) == (3, 1)


async def test_a_quota_with_another_limit_begins_anew(upstream: str) -> None:
    before = engine_from(said(url=upstream))
    for number in range(3):
        await ask(before, f"/one/{number}")

    after = again(before, said(url=upstream, limit="4/1h"))

    assert (await ask(after, "/one/4")).status == 200


async def test_copies_are_still_there(upstream: str) -> None:
    before = engine_from(said(url=upstream))
    first = await ask(before, "/one/x")

    second = await ask(again(before, said(url=upstream, slots=3)), "/one/x")

    assert (first.body, second.body) == (b"1", b"1")


@pytest.mark.parametrize("change", ["fresh_for", "url"])
async def test_copies_that_were_made_by_other_rules_or_of_another_origin_are_gone(
    upstream: str, change: str
) -> None:
    before = engine_from(said(url=upstream))
    await ask(before, "/one/x")
    other = (
        {"fresh_for": "2h"} if change == "fresh_for" else {"url": upstream.replace("127.0.0.1", "localhost")}
    )

    after = again(before, said(**{"url": upstream, **other}))

    assert after.guards.store is before.guards.store
    assert (await ask(after, "/one/x")).body == b"2"


async def test_a_smaller_store_keeps_what_fits(upstream: str) -> None:
    before = engine_from(said(url=upstream, limit="100/1h"))
    for number in range(5):
        await ask(before, f"/one/{number}")

    after = again(before, said(url=upstream, limit="100/1h", entries=2))

    assert after.guards.store is not None
    assert after.guards.store.entries == 2


async def test_slots_that_are_taken_stay_taken() -> None:
    before = engine_from(said())
    bulkhead = before.guards.bulkheads["reads"]
    for _ in range(5):
        assert bulkhead.enter()

    after = again(before, said(slots=5))

    assert after.guards.bulkheads["reads"] is bulkhead
    assert (bulkhead.limit, bulkhead.in_use, bulkhead.enter()) == (5, 5, False)


async def test_connections_are_kept_while_the_upstream_is_the_same(upstream: str) -> None:
    before = engine_from(said(url=upstream))
    await ask(before, "/two/x")
    pool = before.pools["orders"]
    assert pool.idle == 1

    after = again(before, said(url=upstream, slots=3))

    assert after.pools["orders"] is pool
    assert pool.idle == 1


async def test_of_an_upstream_that_is_another_now_the_connections_are_closed(upstream: str) -> None:
    before = engine_from(said(url=upstream))
    await ask(before, "/two/x")
    old = before.pools["orders"]

    after = again(before, said(url=upstream.replace("127.0.0.1", "localhost")))

    assert after.pools["orders"] is not old
    assert old.idle == 0
    assert after.seconds["orders"] is before.seconds["orders"]


async def test_counters_go_on_and_requests_under_way_count_as_well(upstream: str) -> None:
    before = engine_from(said(url=upstream))
    await ask(before, "/one/x")
    await ask(before, "/one/x")
    after = again(before, said(url=upstream, slots=3))

    await ask(before, "/two/late")  # as one that had begun before
    await ask(after, "/one/x")

    one, two = after.dispatcher.pipelines
    cache, attempts = one.find(CacheStage), two.find(AttemptStage)
    assert cache is not None
    assert attempts is not None
    assert (cache.results["hit"], attempts.counts["ok"]) == (2, 1)
    counted = {name: sum(each.requests.values()) for name, each in after.recorder.by_route.items()}
    assert counted == {"one": 3, "two": 1, "_none": 0}
    assert len(after.recorder.records()) == 4


async def test_reasons_for_retries_that_are_new_are_there_at_zero() -> None:
    before = engine_from(said().replace("retries: 2", "retries: 2, retry_on: [503]"))

    after = again(before, said().replace("retries: 2", "retries: 2, retry_on: [500, 503]"))

    stage = after.dispatcher.pipelines[1].find(RetryStage)
    assert stage is not None
    assert stage.retried == {"500": 0, "503": 0}


async def test_a_request_of_a_route_that_is_gone_ends_as_it_began(upstream: str) -> None:
    before = engine_from(said(url=upstream))
    text = said(url=upstream)

    again(before, text[: text.index("  - {name: two")])

    assert (await ask(before, "/two/x")).status == 200


async def test_what_cannot_be_built_changes_nothing(tmp_path: Path) -> None:
    before = engine_from(said())
    answer = tmp_path / "answer.json"
    answer.write_text("[]")
    loaded = load_text(said(slots=3).replace('body: "[]"', f"file: {answer}"), env={})
    answer.unlink()

    with pytest.raises(StartFailed, match="cannot be read"):
        build(
            loaded,
            asyncio.get_running_loop(),
            line=lambda _: None,
            on_fault=lambda _, __: None,
            before=before,
        )

    assert before.guards.bulkheads["reads"].limit == 10
    assert before.pools["orders"].idle == 0


async def test_a_budget_goes_on_only_under_the_same_settings() -> None:
    before = engine_from(said())

    same = again(before, said(slots=3))
    other = again(
        before,
        said()
        .replace("retries: 2", "retries: 2, budget: {ratio: 50%}")
        .replace("cache:", "retry: off\n    cache:"),
    )

    assert same.guards.budgets["orders"] is before.guards.budgets["orders"]
    assert other.guards.budgets["orders"] is not before.guards.budgets["orders"]


async def test_without_telemetry_nothing_is_counted_recorded_or_told(upstream: str) -> None:
    engine = engine_from(said(url=upstream) + "telemetry: off\n")

    await ask(engine, "/two/x")

    assert isinstance(engine.recorder, Silent)
    assert engine.recorder.records() == []
    assert engine.recorder.by_route["two"].requests == {}


async def test_what_is_in_force_is_seen_by_everybody_at_once() -> None:
    before = engine_from(said())
    loop = asyncio.get_running_loop()
    server = Server(
        loop,
        before.dispatcher,
        ForwardRules(name=b"t", new_id=before.new_id, new_traceparent=traceparent),
        Limits(),
    )
    live = live_of(before, server, lambda: 0)

    after = again(before, said(slots=3))
    put_in_force(live, after)

    assert (live.loaded, live.pipelines, live.guards) == (
        after.loaded,
        after.dispatcher.pipelines,
        after.guards,
    )
    assert live.router is after.router
    assert live.recorder is after.recorder
    assert {name: (view.url, view.max_connections) for name, view in live.upstreams.items()} == {
        "orders": ("http://127.0.0.1:9", 256)
    }


GLOBAL = """
version: 1
upstreams: {{orders: {{url: "http://127.0.0.1:9"}}}}
routes:
{routes}
"""


def with_global(*names: str, key: str = "global") -> str:
    routes = [
        f"  - {{name: {name}, match: {{path: /{name}}}, upstream: orders, rate_limit: {{limit: 3/1h, key: {key}}}}}"
        for name in names
    ]
    return GLOBAL.format(routes="\n".join(routes))


async def test_a_quota_of_all_is_not_refilled_by_a_route_that_comes_before_the_others() -> None:
    before = engine_from(with_global("a", "b"))
    for _ in range(3):
        await ask(before, "/a")

    after = again(before, with_global("z", "a", "b"))

    assert [(await ask(after, path)).status for path in ("/z", "/a", "/b")] == [429, 429, 429]


async def test_quotas_that_are_apart_now_do_not_share_what_was_one() -> None:
    before = engine_from(with_global("a", "b"))
    for _ in range(3):
        await ask(before, "/a")

    after = again(before, with_global("a", "b", key="client_ip"))

    assert after.guards.limiters["a"] is not after.guards.limiters["b"]
    assert [(await ask(after, path)).status for path in ("/a", "/b")] == [502, 502]


async def test_connections_under_tls_are_kept_while_its_files_hold_the_same(tmp_path: Path) -> None:
    ca = tmp_path / "ca.pem"
    ca.write_bytes(trustme.CA().cert_pem.bytes())
    text = f"""
version: 1
upstreams: {{secure: {{url: "https://127.0.0.1:1", tls: {{ca: "{ca}"}}}}}}
routes: [{{name: all, upstream: secure}}]
"""
    before = engine_from(text)
    same = again(before, text)
    assert same.pools["secure"] is before.pools["secure"]

    ca.write_bytes(trustme.CA().cert_pem.bytes())

    assert again(same, text).pools["secure"] is not before.pools["secure"]
