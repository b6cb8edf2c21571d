"""The rate limit of a route: a true 429, fields that tell the quota, and shadow that does neither."""

import asyncio
import math
import tracemalloc
from typing import Any

import pytest

from sidecar.errors import RateLimited
from sidecar.message import Reply, Request
from sidecar.pipeline.assemble import Pipeline
from sidecar.pipeline.exchange import Exchange
from sidecar.pipeline.stage import compose
from sidecar.pipeline.stages.rate_limit import RateLimitStage
from sidecar.pipeline.stages.record import RecordStage
from sidecar.policy.ratelimit import Algorithm, RateLimiter, RateLimitSettings
from tests.support.exchanges import Got, Route, a_request, an_exchange, some_parts
from tests.support.upstream import Upstream, answer, hang
from tests.support.virtual_time import in_virtual_time, now

ALGORITHMS: list[Algorithm] = ["token_bucket", "sliding_window"]


def a_stage(limiter: RateLimiter | None = None, **settings: Any) -> RateLimitStage:
    """Make a stage; by default two requests of a client in a minute."""
    limiter = limiter or RateLimiter(RateLimitSettings(2, 60.0))
    return RateLimitStage(limiter, asyncio.get_running_loop(), **({"route": "a-route"} | settings))


def a_route(stage: RateLimitStage, upstream: Upstream | None = None) -> Route:
    """Make a route of `stage` and the stage that answers its errors."""
    parts = some_parts()
    stages = (RecordStage(parts.answers, parts.on_fault), stage)
    call = compose(stages, upstream or Upstream(then=answer(200, b"hello")))
    return Route(Pipeline("a-route", call, stages))


def by(client: str = "10.0.0.1", **more: Any) -> Request:
    """Make a request of a client."""
    return a_request(client=client, **more)


def counts(stage: RateLimitStage) -> tuple[int, int, int]:
    return stage.allowed, stage.rejected, stage.would_reject


def quota(got: Got) -> list[tuple[bytes, bytes]]:
    """Give the fields of an answer that tell of its quota."""
    return [pair for pair in got.headers if b"ratelimit" in pair[0].lower()]


@in_virtual_time
async def test_who_is_over_his_quota_is_refused_before_the_upstream_is_asked() -> None:
    stage = a_stage()
    upstream = Upstream(then=answer(200, b"hello"))
    route = a_route(stage, upstream)

    got = [await route.ask(by()) for _ in range(3)]

    assert [one.status for one in got] == [200, 200, 429]
    assert route.fates == ["ok", "ok", "rejected_rate_limit"]
    assert len(upstream.arrivals) == 2
    assert counts(stage) == (2, 1, 0)


@in_virtual_time
async def test_a_refusal_is_429_and_says_how_long_to_wait() -> None:
    """nginx answers 503 there, and neither nginx nor older Envoys say for how long."""
    route = a_route(a_stage())
    for _ in range(2):
        await route.ask(by())
    await asyncio.sleep(9.5)

    got = await route.ask(by())

    assert (got.status, got.header(b"retry-after")) == (429, b"21")
    error = route.done[-1].error
    assert isinstance(error, RateLimited)
    assert error.retry_after == 20.5


@pytest.mark.parametrize("algorithm", ALGORITHMS)
@pytest.mark.parametrize("pause", [0.0, 0.3, 1.01])
@in_virtual_time
async def test_a_client_that_waits_as_told_gets_through_and_one_that_does_not_does_not(
    algorithm: Algorithm, pause: float
) -> None:
    route = a_route(a_stage(RateLimiter(RateLimitSettings(7, 60.0, algorithm))))
    await asyncio.sleep(pause)
    for _ in range(7):
        assert (await route.ask(by())).status == 200
        await asyncio.sleep(pause)
    refused = await route.ask(by())
    assert refused.status == 429
    wait = int(refused.header(b"retry-after") or 0)

    await asyncio.sleep(wait - 1.001)
    assert (await route.ask(by())).status == 429
    await asyncio.sleep(1.001)
    assert (await route.ask(by())).status == 200


@in_virtual_time
async def test_answers_tell_the_quota_in_the_fields_of_the_draft_and_in_the_old_ones() -> None:
    route = a_route(a_stage(RateLimiter(RateLimitSettings(100, 60.0, "sliding_window")), route="api.v1"))

    await route.ask(by())
    await asyncio.sleep(12.5)
    got = await route.ask(by())

    assert quota(got) == [
        (b"RateLimit-Policy", b'"api.v1";q=100;w=60'),
        (b"RateLimit", b'"api.v1";r=98;t=48'),
        (b"X-RateLimit-Limit", b"100"),
        (b"X-RateLimit-Remaining", b"98"),
        (b"X-RateLimit-Reset", b"48"),
    ]
    assert got.header(b"retry-after") is None


@pytest.mark.parametrize("algorithm", ALGORITHMS)
@in_virtual_time
async def test_a_refusal_tells_the_same_time_in_all_its_fields(algorithm: Algorithm) -> None:
    """The draft: Retry-After must not be earlier than `t`."""
    route = a_route(a_stage(RateLimiter(RateLimitSettings(1, 45.0, algorithm))))
    await route.ask(by())
    await asyncio.sleep(4.25)

    got = await route.ask(by())

    assert quota(got) == [
        (b"RateLimit-Policy", b'"a-route";q=1;w=45'),
        (b"RateLimit", b'"a-route";r=0;t=41'),
        (b"X-RateLimit-Limit", b"1"),
        (b"X-RateLimit-Remaining", b"0"),
        (b"X-RateLimit-Reset", b"41"),
    ]
    assert got.header(b"retry-after") == b"41"


@pytest.mark.parametrize(
    ("fields", "names"),
    [
        (
            "both",
            [
                "RateLimit-Policy",
                "RateLimit",
                "X-RateLimit-Limit",
                "X-RateLimit-Remaining",
                "X-RateLimit-Reset",
            ],
        ),
        ("standard", ["RateLimit-Policy", "RateLimit"]),
        ("legacy", ["X-RateLimit-Limit", "X-RateLimit-Remaining", "X-RateLimit-Reset"]),
        ("off", []),
    ],
)
@in_virtual_time
async def test_the_language_of_the_fields_is_chosen(fields: str, names: list[str]) -> None:
    route = a_route(a_stage(fields=fields))

    got = [await route.ask(by()) for _ in range(3)]

    assert [[name.decode() for name, _ in quota(one)] for one in got] == [names] * 3
    assert [one.header(b"retry-after") for one in got] == [None, None, b"30"]


@pytest.mark.parametrize(
    ("chosen", "policy", "limit"),
    [
        (RateLimitSettings(100, 60.0), b'"a-route";q=100;w=60', b"100"),
        (RateLimitSettings(100, 60.0, burst=200), b'"a-route";q=100;w=60;sidecar-burst=200', b"200"),
        (RateLimitSettings(100, 60.0, burst=10), b'"a-route";q=100;w=60;sidecar-burst=10', b"10"),
        (RateLimitSettings(100, 0.5), b'"a-route";q=100', b"100"),
        (RateLimitSettings(100, 1.5), b'"a-route";q=100', b"100"),
        (RateLimitSettings(1, 86_400.0, "sliding_window"), b'"a-route";q=1;w=86400', b"1"),
    ],
)
@in_virtual_time
async def test_the_policy_is_told_as_it_is(chosen: RateLimitSettings, policy: bytes, limit: bytes) -> None:
    got = await a_route(a_stage(RateLimiter(chosen))).ask(by())

    assert got.header(b"ratelimit-policy") == policy
    assert got.header(b"x-ratelimit-limit") == limit
    assert got.header(b"x-ratelimit-remaining") == b"%d" % (chosen.capacity - 1)


@in_virtual_time
async def test_the_numbers_stay_right_however_many_were_told_before() -> None:
    route = a_route(a_stage(RateLimiter(RateLimitSettings(3000, 60.0, "sliding_window"))))

    told = [(await route.ask(by())).header(b"x-ratelimit-remaining") for _ in range(3000)]

    assert told == [b"%d" % left for left in range(2999, -1, -1)]


@in_virtual_time
async def test_what_was_told_is_not_kept_for_ever() -> None:
    stage = a_stage(RateLimiter(RateLimitSettings(15_000, 60.0)))
    given: asyncio.Future[Reply] = asyncio.get_running_loop().create_future()

    def following(_: Exchange) -> "asyncio.Future[Reply]":
        return given

    stage.next = following
    tracemalloc.start()
    try:
        for _ in range(15_000):
            assert stage(an_exchange(by())) is given
        grown, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()

    assert stage.allowed == 15_000
    assert grown < 1_500_000


@in_virtual_time
async def test_in_shadow_nothing_is_refused_and_nothing_told_but_counted() -> None:
    stage = a_stage(shadow=True)
    route = a_route(stage)

    got = [await route.ask(by()) for _ in range(5)]

    plain = Route(
        Pipeline("a-route", compose([route.pipeline.stages[0]], Upstream(then=answer(200, b"hello"))), ())
    )
    assert got == [await plain.ask(by())] * 5
    assert [exchange.would for exchange in route.done] == [(), (), *[("rate_limit",)] * 3]
    assert counts(stage) == (2, 0, 3)
    assert now() == 0


@in_virtual_time
async def test_shadow_decides_as_enforcing_would() -> None:
    enforced, shadow = a_stage(), a_stage(shadow=True)
    routes = a_route(enforced), a_route(shadow)
    for pause in (0, 1, 1, 40, 0, 0, 100, 0, 3, 27):
        await asyncio.sleep(pause)
        for route in routes:
            await route.ask(by())

    refused = [exchange.fate == "rejected_rate_limit" for exchange in routes[0].done]
    assert refused == [exchange.would == ("rate_limit",) for exchange in routes[1].done]
    assert True in refused
    assert counts(enforced) == (shadow.allowed, shadow.would_reject, 0)
    assert (enforced.shadow, shadow.shadow) == (False, True)


@in_virtual_time
async def test_each_client_has_a_quota_of_his_own() -> None:
    route = a_route(a_stage())

    clients = ["10.0.0.1", "10.0.0.2", "2001:db8::1", "2001:db8::2", "2001:db8:0:1::1", "", ""]
    statuses = {client: [(await route.ask(by(client))).status for _ in range(2)] for client in clients}

    assert statuses == {
        "10.0.0.1": [200, 200],
        "10.0.0.2": [200, 200],
        "2001:db8::1": [200, 200],
        "2001:db8::2": [429, 429],
        "2001:db8:0:1::1": [200, 200],
        "": [429, 429],
    }


@in_virtual_time
async def test_what_a_client_says_of_itself_in_x_forwarded_for_is_nothing_to_the_limit() -> None:
    """Whom to believe is the wire's decision; its word is `request.client`."""
    route = a_route(a_stage())

    got = [await route.ask(by(headers=[(b"X-Forwarded-For", b"10.9.9.%d" % n)])) for n in range(3)]

    assert [one.status for one in got] == [200, 200, 429]


@in_virtual_time
async def test_by_header_each_value_has_a_quota_and_all_without_share_one() -> None:
    route = a_route(a_stage(key="header:X-Api-Key"))
    alike = [[], [(b"X-Other", b"1")], [(b"x-api-key", b"a"), (b"X-Api-Key", b"b")]]
    got = {
        value: [(await route.ask(by(headers=[(b"X-API-KEY", value)]))).status for _ in range(3)]
        for value in (b"a", b"b")
    }

    assert got == {b"a": [200, 200, 429], b"b": [200, 200, 429]}
    assert [(await route.ask(by(headers=headers))).status for headers in alike] == [200, 200, 429]


@pytest.mark.parametrize("key", ["route", "global"])
@in_virtual_time
async def test_by_route_and_globally_all_clients_share_one_quota(key: str) -> None:
    route = a_route(a_stage(key=key))

    assert [(await route.ask(by(f"10.0.0.{n}"))).status for n in range(3)] == [200, 200, 429]


@in_virtual_time
async def test_routes_that_share_a_limiter_share_the_global_quota_and_not_the_one_by_route() -> None:
    limiter = RateLimiter(RateLimitSettings(2, 60.0))
    everywhere = [a_route(a_stage(limiter, key="global", route=name)) for name in ("one", "two", "three")]
    apart = [a_route(a_stage(limiter, key="route", route=name)) for name in ("one", "two", "three")]

    assert [(await route.ask(by())).status for route in everywhere] == [200, 200, 429]
    assert [(await route.ask(by())).status for route in apart] == [200, 200, 200]


@in_virtual_time
async def test_a_new_stage_around_the_same_limiter_refills_no_quota() -> None:
    """As a reload does where the limit is unchanged."""
    before = a_stage()
    for _ in range(2):
        await a_route(before).ask(by())

    after = a_stage(before.limiter, fields="off")

    assert before.limiter.settings == RateLimitSettings(2, 60.0)
    assert (await a_route(after).ask(by())).status == 429
    assert counts(after) == (0, 1, 0)


@in_virtual_time
async def test_the_keys_appear_in_no_answer_and_no_description() -> None:
    stage = a_stage(key="header:X-Api-Key")
    route = a_route(stage)

    got = [await route.ask(by("10.7.7.7", headers=[(b"X-Api-Key", b"a-secret")])) for _ in range(3)]

    said = repr(got) + stage.describe() + repr(stage.limiter) + repr(route.done[-1].error)
    assert "a-secret" not in said
    assert "10.7.7.7" not in said


@in_virtual_time
async def test_a_passing_request_pays_no_frame_of_its_own() -> None:
    """The stage hands on what the next one gives: there is nothing to await in it."""
    stage = a_stage()
    given = asyncio.get_running_loop().create_future()
    given.cancel()

    def following(_: Exchange) -> "asyncio.Future[Reply]":
        return given

    stage.next = following
    assert stage(Exchange(by(), "a-route", now, lambda _: None)) is given


@in_virtual_time
async def test_a_client_that_leaves_has_used_up_what_it_asked_for() -> None:
    stage = a_stage()
    route = a_route(stage, Upstream(then=hang()))
    for _ in range(2):
        task = route.start(by())
        await asyncio.sleep(1)
        task.cancel()
        await asyncio.wait([task])

    assert (await route.ask(by())).status == 429


@pytest.mark.parametrize(
    ("chosen", "settings", "text"),
    [
        (
            RateLimitSettings(100, 60.0),
            {},
            "rate limit 100 per 60s by client_ip, token_bucket, fields both",
        ),
        (
            RateLimitSettings(100, 0.5, burst=7),
            {"shadow": True, "key": "header:X-Api-Key", "fields": "legacy"},
            "rate limit 100 per 0.5s by header:X-Api-Key, token_bucket, burst 7, fields legacy, shadow",
        ),
        (
            RateLimitSettings(5, 1.0, "sliding_window"),
            {"key": "global", "fields": "off"},
            "rate limit 5 per 1s by global, sliding_window, fields off",
        ),
    ],
)
@in_virtual_time
async def test_it_describes_itself(chosen: RateLimitSettings, settings: dict[str, Any], text: str) -> None:
    assert a_stage(RateLimiter(chosen), **settings).describe() == text


@in_virtual_time
async def test_a_steady_client_below_the_rate_is_never_refused() -> None:
    stage = a_stage(RateLimiter(RateLimitSettings(10, 1.0, burst=1)))
    route = a_route(stage)
    for _ in range(100):
        await route.ask(by())
        await asyncio.sleep(0.1)

    assert counts(stage) == (100, 0, 0)
    assert math.isclose(now(), 10.0)
