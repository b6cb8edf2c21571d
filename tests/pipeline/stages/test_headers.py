"""What answers say of the sidecar in each mode: on the service's answers, on copies, on what stands in, and on errors."""

import asyncio
import re
from collections.abc import Awaitable, Callable
from itertools import count
from pathlib import Path
from typing import Any

import pytest

from sidecar.config.pattern import parse_path
from sidecar.config.router import RouteMatch, Router
from sidecar.counts import Histogram
from sidecar.errors import (
    AttemptTimeout,
    BadResponse,
    BodyTooLarge,
    BreakerOpen,
    BulkheadFull,
    ClientError,
    ConnectFailed,
    Disconnected,
    HeadTooLarge,
    Internal,
    LoopDetected,
    Maintenance,
    NoRoute,
    NotCached,
    Overloaded,
    QueueTimeout,
    RateLimited,
    RequestBodyTimeout,
    RequestError,
    TotalTimeout,
    UpstreamIdle,
    VersionRefused,
)
from sidecar.message import Body, Fields, Headers, Reply
from sidecar.pipeline.answers import HeadersMode
from sidecar.pipeline.assemble import Policy, assemble
from sidecar.pipeline.dispatch import Dispatcher
from sidecar.pipeline.exchange import Exchange
from sidecar.pipeline.stage import compose
from sidecar.pipeline.stages.headers import ShowStage
from sidecar.policy.breaker import FAILURE, Breaker, BreakerSettings
from sidecar.policy.cache import CacheSettings
from sidecar.policy.fallback import Mock, Redirect, Stale, Static
from sidecar.policy.fault import FaultSettings
from sidecar.policy.ratelimit import RateLimiter, RateLimitSettings
from sidecar.policy.retry import RetrySettings
from sidecar.policy.store import Store
from tests.support.exchanges import Got, Route, a_request, a_route, an_exchange, some_parts
from tests.support.upstream import Arrival, Step, Upstream, answer, fail, stream
from tests.support.virtual_time import in_virtual_time

MODES: list[HeadersMode] = ["minimal", "seed", "off"]
OWN = "X-Database-Status"

# Every field by which a sidecar tells of its inside.
INSIDE = {
    "x-system-degraded",
    "x-fallback-source",
    "x-upstream-attempts",
    "x-circuit-breaker",
    "x-database-status",
    "proxy-status",
    "cache-status",
    "ratelimit",
    "ratelimit-policy",
    "x-ratelimit-limit",
    "x-ratelimit-remaining",
    "x-ratelimit-reset",
}


def a_breaker(name: str = "db", **settings: Any) -> Breaker:
    return Breaker(name, BreakerSettings(**settings), lambda: 0.5)


def tripped(**settings: Any) -> Breaker:
    """A breaker that opened at 0 s, for 30 s."""
    breaker = a_breaker(open_jitter=0.0, **settings)
    for _ in range(5):
        breaker.settle(breaker.enter(0.0), FAILURE, 0.0, 0.1, "503")
    return breaker


def routed(upstream: Upstream, mode: HeadersMode, **settings: Any) -> Route:
    return a_route(upstream, parts=some_parts(headers=mode), **settings)


def shown(got: Got) -> dict[str, str]:
    """What the answer says of the sidecar and to browsers; each field once."""
    names = INSIDE | {"x-content-type-options", "x-frame-options"}
    found: dict[str, str] = {}
    for raw, value in got.headers:
        name = raw.decode().lower()
        if name in names:
            assert name not in found, f"{name} stands there twice"
            found[name] = value.decode()
    return found


BROWSERS = {"x-content-type-options": "nosniff", "x-frame-options": "DENY"}


# --- which stage ---


@pytest.mark.parametrize(
    ("mode", "settings", "first"),
    [
        ("minimal", {}, "record"),
        ("minimal", {"breaker": ...}, "record"),
        ("minimal", {"breaker": ..., "breaker_header": OWN}, f"headers {OWN}"),
        ("minimal", {"breaker": ..., "breaker_header": OWN, "shadow": frozenset({"breaker"})}, "record"),
        ("minimal", {"breaker_header": OWN}, "record"),
        ("seed", {}, "headers seed"),
        ("seed", {"breaker": ...}, "headers seed"),
        ("seed", {"breaker": ..., "breaker_header": OWN}, f"headers seed {OWN}"),
        ("off", {}, "headers off"),
        ("off", {"breaker": ..., "breaker_header": OWN}, "headers off"),
    ],
)
@in_virtual_time
async def test_there_is_a_stage_only_where_the_mode_or_a_name_asks_for_one(
    mode: HeadersMode, settings: dict[str, Any], first: str
) -> None:
    given = {name: a_breaker() if value is ... else value for name, value in settings.items()}

    stages = routed(Upstream(), mode, **given).pipeline.describe()

    assert (stages[0], stages.count("record")) == (first, 1)
    assert stages[0] == "record" or stages[1] == "record"


# --- the request's id ---


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("step", [answer(), answer(503), fail(ConnectFailed()), fail(NoRoute())])
@in_virtual_time
async def test_the_id_of_the_request_is_on_everything_in_every_mode(mode: HeadersMode, step: Step) -> None:
    got = await routed(Upstream(step), mode).get()

    assert got.header(b"x-request-id") == b"test-000001"


# --- the service's own answers ---


@pytest.mark.parametrize(
    ("mode", "expected"),
    [
        ("minimal", {}),
        ("seed", {"x-system-degraded": "false", "x-circuit-breaker": "db=CLOSED", **BROWSERS}),
        ("off", {}),
    ],
)
@in_virtual_time
async def test_a_good_answer_says_this(mode: HeadersMode, expected: dict[str, str]) -> None:
    got = await routed(Upstream(answer(200, b"hi")), mode, breaker=a_breaker()).get()

    assert (got.status, got.body, shown(got)) == (200, b"hi", expected)


@in_virtual_time
async def test_a_route_without_a_breaker_names_none() -> None:
    got = await routed(Upstream(answer()), "seed").get()

    assert shown(got) == {"x-system-degraded": "false", **BROWSERS}


@pytest.mark.parametrize(
    ("theirs", "expected"),
    [
        ([(b"X-Frame-Options", b"SAMEORIGIN")], BROWSERS | {"x-frame-options": "SAMEORIGIN"}),
        ([(b"x-content-type-options", b"NOSNIFF")], BROWSERS | {"x-content-type-options": "NOSNIFF"}),
        (
            [(b"Server", b"x"), (b"X-FRAME-OPTIONS", b"SAMEORIGIN"), (b"X-Content-Type-Options", b"a")],
            {"x-frame-options": "SAMEORIGIN", "x-content-type-options": "a"},
        ),
        ([(b"X-Powered-By", b"x-frame-options: no")], BROWSERS),
        ([(b"Cache-Control", b"max-age=60")], BROWSERS),
    ],
)
@in_virtual_time
async def test_what_the_service_says_to_browsers_is_not_said_again(
    theirs: Headers, expected: dict[str, str]
) -> None:
    route = routed(Upstream(then=answer(headers=theirs)), "seed")

    for _ in range(2):  # the second time the section is known
        assert shown(await route.get()) == {"x-system-degraded": "false"} | expected


@in_virtual_time
async def test_sections_that_differ_are_not_taken_for_one_another() -> None:
    one, other = answer(headers=[(b"X-Frame-Options", b"SAMEORIGIN")]), answer(headers=[(b"ETag", b'"a"')])
    route = routed(Upstream(one, other, one, other), "seed")

    said = [shown(await route.get())["x-frame-options"] for _ in range(4)]

    assert said == ["SAMEORIGIN", "DENY"] * 2


@pytest.mark.parametrize("mode", MODES)
@in_virtual_time
async def test_a_head_is_told_the_same_as_a_get(mode: HeadersMode) -> None:
    route = routed(Upstream(then=answer(200, b"hello")), mode, breaker=a_breaker(), breaker_header=OWN)

    get, head = await route.get(), await route.ask(a_request("HEAD"))

    assert (head.body, head.headers) == (b"", get.headers)


@in_virtual_time
async def test_a_stream_says_it_at_its_head_and_comes_whole() -> None:
    got = await routed(Upstream(stream([(1, b"one"), (5, b"two")])), "seed", breaker=a_breaker()).get()

    assert (got.body, got.at, got.ended_at) == (b"onetwo", 0.0, 5.0)
    assert shown(got)["x-circuit-breaker"] == "db=CLOSED"


# --- the breaker ---


@pytest.mark.parametrize("mode", ["seed", "minimal"])
@in_virtual_time
async def test_the_state_is_that_of_the_moment_in_which_the_head_goes_out(mode: HeadersMode) -> None:
    breaker = a_breaker(consecutive_failures=2, open_for=30, open_jitter=0.0, successes=2)
    upstream = Upstream(answer(503), answer(503), then=answer(200))
    route = routed(upstream, mode, breaker=breaker, breaker_header=OWN)

    said = []
    for wait in (0, 1, 1, 40, 1, 1):
        await asyncio.sleep(wait)
        said.append(shown(await route.get()))

    assert [one["x-database-status"] for one in said] == [
        "CLOSED",
        "OPEN",
        "OPEN",
        "HALF_OPEN",
        "CLOSED",
        "CLOSED",
    ]
    if mode == "seed":
        assert [one["x-circuit-breaker"] for one in said] == [
            f"db={one['x-database-status']}" for one in said
        ]
        assert [one["x-system-degraded"] for one in said] == [
            "true",
            "true",
            "true",
            "true",
            "false",
            "false",
        ]
    else:
        assert all("x-circuit-breaker" not in one for one in said)


@in_virtual_time
async def test_an_open_time_that_is_over_is_not_shown_as_open_on_an_answer_that_asked_no_breaker() -> None:
    """A hit of the cache asks no breaker, so nobody has brought it the time."""
    fresh = answer(200, b"copy", headers=[(b"Cache-Control", b"max-age=600")])
    breaker = a_breaker(open_jitter=0.0)
    route = routed(Upstream(fresh), "seed", breaker=breaker, cache=CacheSettings(), store=Store(1 << 20, 10))
    await route.get()
    for _ in range(5):
        breaker.settle(breaker.enter(0.0), FAILURE, 0.0, 0.1, "503")

    said = []
    for wait in (10, 30):
        await asyncio.sleep(wait)
        said.append(shown(await route.get()))

    assert [(one["x-circuit-breaker"], one["x-system-degraded"]) for one in said] == [
        ("db=OPEN", "true"),
        ("db=HALF_OPEN", "true"),
    ]
    assert route.fates == ["ok", "cache_fresh", "cache_fresh"]


@pytest.mark.parametrize("mode", MODES)
@in_virtual_time
async def test_a_breaker_in_shadow_changes_no_byte_of_an_answer(mode: HeadersMode) -> None:
    step = answer(200, b"hi", headers=[(OWN.encode(), b"theirs")])
    plain = await routed(Upstream(step), mode).get()

    in_shadow = await routed(
        Upstream(step), mode, breaker=tripped(), breaker_header=OWN, shadow=frozenset({"breaker"})
    ).get()

    assert in_shadow.headers == plain.headers


@in_virtual_time
async def test_a_forced_breaker_shows_the_state_that_it_was_forced_into() -> None:
    closed, opened = a_breaker(), a_breaker()
    closed.force_closed(0.0, None)
    opened.force_open(0.0, None)

    said = [
        shown(await routed(Upstream(then=answer()), "seed", breaker=each, breaker_header=OWN).get())
        for each in (closed, opened)
    ]

    assert [one["x-database-status"] for one in said] == ["CLOSED", "OPEN"]


@in_virtual_time
async def test_a_name_that_does_not_begin_with_x_is_as_good() -> None:
    route = routed(
        Upstream(then=answer(headers=[(b"db-state", b"theirs"), (b"X-Frame-Options", b"SAMEORIGIN")])),
        "seed",
        breaker=a_breaker(),
        breaker_header="DB-State",
    )

    got = await route.get()

    assert got.header(b"db-state") == b"CLOSED"
    assert got.header(b"x-frame-options") == b"SAMEORIGIN"


# --- errors of ours ---

OF_THE_REQUEST: list[RequestError] = [
    ClientError("bad"),
    BodyTooLarge(),
    RequestBodyTimeout(),
    LoopDetected(),
    VersionRefused(),
    NotCached(),
    NoRoute(),
    RateLimited(retry_after=2.0),
]
OF_THE_SYSTEM: list[RequestError] = [
    BulkheadFull(),
    QueueTimeout(),
    BreakerOpen(retry_after=3.0),
    Overloaded(),
    Maintenance(retry_after=9.0),
    ConnectFailed(),
    AttemptTimeout(),
    Disconnected(),
    BadResponse(),
    UpstreamIdle(),
    TotalTimeout(),
    Internal(),
]


@pytest.mark.parametrize("error", OF_THE_REQUEST + OF_THE_SYSTEM, ids=lambda error: type(error).__name__)
@in_virtual_time
async def test_an_error_of_any_kind_says_in_seed_whether_it_is_the_systems(error: RequestError) -> None:
    got = await routed(Upstream(fail(error)), "seed", breaker=a_breaker(), breaker_header=OWN).get()

    said = shown(got)
    assert said.pop("proxy-status").startswith("sidecar;")
    assert said == {
        "x-system-degraded": "true" if error in OF_THE_SYSTEM else "false",
        "x-circuit-breaker": "db=CLOSED",
        "x-database-status": "CLOSED",
        **BROWSERS,
    }


@pytest.mark.parametrize("error", OF_THE_REQUEST + OF_THE_SYSTEM, ids=lambda error: type(error).__name__)
@in_virtual_time
async def test_an_error_of_any_kind_says_with_off_nothing_of_the_inside(error: RequestError) -> None:
    loud = await routed(Upstream(fail(error)), "minimal", breaker=a_breaker(), breaker_header=OWN).get()
    got = await routed(Upstream(fail(error)), "off", breaker=a_breaker(), breaker_header=OWN).get()

    assert shown(got) == {"x-content-type-options": "nosniff"}
    assert (got.status, got.body) == (loud.status, loud.body)
    assert [pair for pair in loud.headers if pair[0] not in {b"Proxy-Status", OWN.encode()}] == got.headers
    assert got.header(b"retry-after") == loud.header(b"retry-after")


@in_virtual_time
async def test_a_fault_that_nobody_foresaw_is_told_in_the_same_way() -> None:
    faults: list[Exception] = []
    parts = some_parts(on_fault=lambda _, fault: faults.append(fault), headers="seed")

    got = await a_route(Upstream(fail(ZeroDivisionError())), parts=parts).get()

    assert (got.status, shown(got)["x-system-degraded"]) == (500, "true")
    assert [type(fault) for fault in faults] == [ZeroDivisionError]


@in_virtual_time
async def test_a_refusal_by_the_quota_is_a_matter_of_its_caller_until_the_breaker_is_open() -> None:
    breaker = a_breaker()
    limiter = RateLimiter(RateLimitSettings(limit=1, per=60))
    upstream = Upstream(then=answer())
    route = routed(upstream, "seed", breaker=breaker, rate_limit=limiter, rate_limit_key="route")
    await route.get()

    well = await route.get()
    breaker.force_open(0.0, None)
    ill = await route.get()

    assert [(one.status, shown(one)["x-system-degraded"]) for one in (well, ill)] == [
        (429, "false"),
        (429, "true"),
    ]


@pytest.mark.parametrize("status", [500, 502, 503])
@in_virtual_time
async def test_the_services_own_failure_is_one_of_the_system_and_its_refusals_are_not(status: int) -> None:
    route = routed(Upstream(answer(status), answer(404), answer(429)), "seed")

    assert [shown(await route.get())["x-system-degraded"] for _ in range(3)] == ["true", "false", "false"]


# --- what stands in for a failure ---


@pytest.mark.parametrize(
    ("step", "source"),
    [
        (Static(body=b"sorry"), "static"),
        (Mock(body=b"made up"), "mock"),
        (Redirect(b"https://elsewhere.example{path}"), "redirect"),
    ],
)
@in_virtual_time
async def test_what_stands_in_for_a_failure_says_so_once(step: Any, source: str) -> None:
    said = {}
    for mode in MODES:
        route = routed(
            Upstream(fail(ConnectFailed())),
            mode,
            fallback=(step,),
            breaker=a_breaker(),
            breaker_header=OWN,
        )
        got = await route.get()
        assert got.status < 400
        said[mode] = shown(got)
        if mode != "seed":  # a configured body is not guessed at in any mode
            said[mode].pop("x-content-type-options", None)

    why = 'sidecar; error=connection_refused; details="upstream_connect"'
    minimal = {"x-system-degraded": "true", "x-fallback-source": source, "proxy-status": why}
    assert said == {
        "minimal": minimal | {"x-database-status": "CLOSED"},
        "seed": minimal | {"x-circuit-breaker": "db=CLOSED", "x-database-status": "CLOSED"} | BROWSERS,
        "off": {},
    }


@in_virtual_time
async def test_a_fallback_for_the_services_own_503_is_degraded_too() -> None:
    got = await routed(Upstream(answer(503)), "seed", fallback=(Static(body=b"sorry"),)).get()

    assert (got.status, shown(got)["x-system-degraded"]) == (200, "true")


@in_virtual_time
async def test_a_stale_copy_keeps_its_age_in_every_mode_and_tells_the_rest_as_the_mode_says() -> None:
    ages, said = [], {}
    for mode in MODES:
        upstream = Upstream(answer(200, b"old"), then=fail(ConnectFailed()))
        keep = CacheSettings(fresh_for=None, coalesce=False, keep_for=600, serve_fresh=False)
        route = routed(upstream, mode, fallback=(Stale(max_age=600),), cache=keep, store=Store(1 << 20, 10))
        await route.get()
        await asyncio.sleep(7)
        got = await route.get()
        assert got.body == b"old"
        ages.append(got.header(b"age"))
        said[mode] = shown(got)

    assert ages == [b"7"] * 3
    assert (said["minimal"]["x-system-degraded"], said["minimal"]["x-fallback-source"]) == ("true", "stale")
    assert said["seed"] == said["minimal"] | BROWSERS
    assert said["off"] == {}


# --- copies ---


@in_virtual_time
async def test_a_hit_says_what_holds_now_not_what_held_when_it_was_kept() -> None:
    """And nothing that is said on an answer is kept with its copy."""
    breaker = a_breaker()
    upstream = Upstream(answer(200, b"copy", headers=[(b"Cache-Control", b"max-age=600")]))
    route = routed(
        upstream, "seed", breaker=breaker, breaker_header=OWN, cache=CacheSettings(), store=Store(1 << 20, 10)
    )

    miss = await route.get()
    hit = await route.get()
    breaker.force_open(0.0, None)
    later = await route.get()

    assert route.fates == ["ok", "cache_fresh", "cache_fresh"]
    calm = {"x-system-degraded": "false", "x-circuit-breaker": "db=CLOSED", "x-database-status": "CLOSED"}
    ill = {"x-system-degraded": "true", "x-circuit-breaker": "db=OPEN", "x-database-status": "OPEN"}
    statuses = [shown(one).pop("cache-status") for one in (miss, hit, later)]
    assert [status.partition(";")[2].split(";")[0].strip() for status in statuses] == [
        "fwd=uri-miss",
        "hit",
        "hit",
    ]
    for got, expected in ((miss, calm), (hit, calm), (later, ill)):
        assert shown(got) == expected | BROWSERS | {"cache-status": shown(got)["cache-status"]}


@in_virtual_time
async def test_with_off_a_hit_is_told_by_its_age_alone() -> None:
    upstream = Upstream(answer(200, b"copy", headers=[(b"Cache-Control", b"max-age=600")]))
    route = routed(upstream, "off", cache=CacheSettings(), store=Store(1 << 20, 10))
    await route.get()
    await asyncio.sleep(5)

    got = await route.get()

    assert (got.body, got.header(b"age"), shown(got)) == (b"copy", b"5", {})


# --- quotas, attempts, faults ---


@in_virtual_time
async def test_quotas_and_attempts_are_told_but_with_off() -> None:
    names = {}
    for mode in MODES:
        route = routed(
            Upstream(answer(503), answer(200)),
            mode,
            total=60,
            retry=RetrySettings(),
            rate_limit=RateLimiter(RateLimitSettings(limit=10, per=60)),
            rate_limit_key="route",
        )
        got = await route.get()
        assert (got.status, route.fates) == (200, ["ok_after_retry"])
        names[mode] = set(shown(got))

    quota = {name for name in INSIDE if "ratelimit" in name}
    assert names == {
        "minimal": quota | {"x-upstream-attempts"},
        "seed": quota | {"x-upstream-attempts", "x-system-degraded"} | set(BROWSERS),
        "off": set(),
    }


@pytest.mark.parametrize("mode", MODES)
@in_virtual_time
async def test_an_injected_fault_is_told_in_every_mode(mode: HeadersMode) -> None:
    got = await routed(Upstream(), mode, fault=FaultSettings(abort=503, percent=100)).get()

    assert (got.status, got.header(b"x-fault-injected")) == (503, b"abort")


@in_virtual_time
async def test_with_off_a_fallbacks_retry_after_stays() -> None:
    settings = {"breaker": tripped(), "fallback": (Static(status=503, body=b"later"),)}

    got = await routed(Upstream(), "off", **settings).get()

    assert (got.status, got.header(b"retry-after"), shown(got)) == (
        503,
        b"30",
        {"x-content-type-options": "nosniff"},
    )


# --- whose word it is ---

CLAIMS: Headers = [
    (b"X-System-Degraded", b"theirs"),
    (b"x-circuit-breaker", b"theirs"),
    (b"X-Fallback-Source", b"theirs"),
    (b"X-UPSTREAM-ATTEMPTS", b"theirs"),
    (b"x-database-status", b"theirs"),
    (b"Cache-Status", b"theirs"),
    (b"Proxy-Status", b"theirs"),
    (b"X-RateLimit-Limit", b"theirs"),
    (b"ETag", b'"theirs"'),
]


@pytest.mark.parametrize(
    ("mode", "passed"),
    [
        (
            "minimal",
            {"x-system-degraded", "x-circuit-breaker", "x-fallback-source", "x-upstream-attempts"},
        ),
        ("seed", set()),
        ("off", {"x-database-status"}),
    ],
)
@in_virtual_time
async def test_nobody_takes_for_ours_what_the_service_says_under_our_names(
    mode: HeadersMode, passed: set[str]
) -> None:
    """`minimal` says little, and changes nothing else; a name that shows nothing with `off` is the service's own."""
    route = routed(Upstream(then=answer(headers=CLAIMS)), mode, breaker=a_breaker(), breaker_header=OWN)

    for _ in range(2):
        got = await route.get()
        theirs = {name.decode().lower() for name, value in got.headers if b"theirs" in value}
        assert theirs - passed == {"cache-status", "proxy-status", "x-ratelimit-limit", "etag"}
        assert passed <= theirs
        assert (shown(got).get("x-database-status") == "CLOSED") == (mode != "off")


@pytest.mark.parametrize("streamed", [True, False])
@pytest.mark.parametrize(
    ("mode", "passed"),
    [
        ("minimal", {"x-system-degraded", "x-circuit-breaker", "x-fallback-source", "x-upstream-attempts"}),
        ("seed", set()),
        ("off", {"x-database-status"}),
    ],
)
@in_virtual_time
async def test_nor_what_it_says_under_them_in_trailers(
    mode: HeadersMode, passed: set[str], streamed: bool
) -> None:
    body = Body(asyncio.get_running_loop().time)

    async def trailing(exchange: Exchange, arrival: Arrival) -> Reply:
        reply = Reply(200, Fields([]), body if streamed else b"whole")
        reply.trailers = () if streamed else CLAIMS
        return reply

    route = routed(Upstream(trailing), mode, breaker=a_breaker(), breaker_header=OWN)
    request = a_request()
    reply = await route.pipeline.call(
        Exchange(request, "orders", asyncio.get_running_loop().time, lambda _: None)
    )
    if isinstance(reply.body, Body):
        body.feed(b"piece")
        body.finish(list(CLAIMS))
        assert await reply.body.read() == b"piece"
        trailers = reply.body.shown_trailers
    else:
        trailers = list(reply.trailers)
    reply.close()

    names = {name.decode().lower() for name, _ in trailers}
    assert names - passed == {"cache-status", "proxy-status", "x-ratelimit-limit", "etag"}
    assert passed <= names


@in_virtual_time
async def test_a_claim_that_was_kept_with_a_copy_is_not_believed_either() -> None:
    claims = [(b"Cache-Control", b"max-age=600"), (b"X-Circuit-Breaker", b"db=OPEN")]
    route = routed(
        Upstream(answer(headers=claims)),
        "seed",
        breaker=a_breaker(),
        cache=CacheSettings(),
        store=Store(1 << 20, 10),
    )

    said = [shown(await route.get())["x-circuit-breaker"] for _ in range(2)]

    assert (said, route.fates) == (["db=CLOSED"] * 2, ["ok", "cache_fresh"])


@in_virtual_time
async def test_a_section_that_others_have_too_is_left_as_it_is() -> None:
    section = Fields(CLAIMS)
    before = (section.pairs, section.wire)

    async def shared(exchange: Exchange, arrival: Arrival) -> Reply:
        return Reply(200, section, b"")

    await routed(Upstream(shared), "seed").get()

    assert (section.pairs, section.wire) == before


# --- upgrades and interim answers ---


@pytest.mark.parametrize("mode", MODES)
@in_virtual_time
async def test_an_upgrade_is_told_as_any_answer_and_stays_one(mode: HeadersMode) -> None:
    tunnel = object()

    async def upgrade(exchange: Exchange, arrival: Arrival) -> Reply:
        reply = Reply(101, Fields([(b"Sec-WebSocket-Accept", b"abc")]))
        reply.extra = ((b"Connection", b"Upgrade"), (b"Upgrade", b"websocket"))
        reply.tunnel = tunnel
        return reply

    route = routed(Upstream(upgrade), mode, breaker=a_breaker(), breaker_header=OWN)
    reply = await route.pipeline.call(an_exchange())
    reply.close()

    assert (reply.status, reply.tunnel is tunnel) == (101, True)
    assert reply.extra[:3] == (
        (b"Connection", b"Upgrade"),
        (b"Upgrade", b"websocket"),
        (b"X-Request-ID", b"test-000001"),
    )
    assert {name for name, _ in reply.extra[3:]} == {
        "minimal": {OWN.encode()},
        "seed": {
            b"X-System-Degraded",
            b"X-Circuit-Breaker",
            OWN.encode(),
            b"X-Content-Type-Options",
            b"X-Frame-Options",
        },
        "off": set(),
    }[mode]


@pytest.mark.parametrize("mode", MODES)
@in_virtual_time
async def test_interim_answers_pass_as_they_are(mode: HeadersMode) -> None:
    seen: list[tuple[int, bytes, Fields]] = []
    hints = Fields([(b"Link", b"</a.css>")])

    async def with_hints(exchange: Exchange, arrival: Arrival) -> Reply:
        relay = exchange.request.informational
        assert relay is not None
        relay(103, b"Early Hints", hints)
        return Reply(200, Fields([]), b"")

    def relay(status: int, reason: bytes, fields: Fields) -> None:
        seen.append((status, reason, fields))

    await routed(Upstream(with_hints), mode).ask(a_request(informational=relay))

    assert seen == [(103, b"Early Hints", hints)]


# --- what has no route ---


def a_dispatcher(mode: HeadersMode) -> Dispatcher:
    """A dispatcher whose only route is `/there`."""
    parts, ids = some_parts(headers=mode), count(1)
    pipeline = assemble(Policy(route="there", upstream="a"), parts, Histogram(), Upstream(then=answer()))
    router = Router([RouteMatch(parse_path("/there"))])
    return Dispatcher(router, [pipeline], parts, lambda _: None, lambda: b"new-%d" % next(ids))


def told(reply: Reply) -> dict[str, str]:
    reply.close()
    return shown(Got(reply.status, [*reply.fields.pairs, *reply.extra]))


Ask = Callable[[Dispatcher], Awaitable[Reply]]


def under_maintenance(dispatcher: Dispatcher) -> Awaitable[Reply]:
    dispatcher.maintain({"there": 5.0})
    return dispatcher(a_request(target="/there"))


NO_PIPELINE: dict[str, tuple[Ask, int, str]] = {
    "no route": (lambda one: one(a_request(target="/elsewhere")), 404, "false"),
    "maintenance": (under_maintenance, 503, "true"),
    "no further": (lambda one: one(a_request("OPTIONS", "/there", max_forwards=0)), 200, "false"),
}


@pytest.mark.parametrize("case", NO_PIPELINE)
@in_virtual_time
async def test_what_no_upstream_is_asked_for_is_told_in_the_same_way(case: str) -> None:
    ask, status, degraded = NO_PIPELINE[case]
    replies = {mode: await ask(a_dispatcher(mode)) for mode in MODES}

    assert {reply.status for reply in replies.values()} == {status}
    said = {mode: told(reply) for mode, reply in replies.items()}
    for mode in ("minimal", "seed"):
        assert said[mode].pop("proxy-status", "sidecar").startswith("sidecar")
    assert said["seed"] == {"x-system-degraded": degraded, **BROWSERS}
    assert "x-system-degraded" not in said["minimal"]
    assert set(said["off"]) <= {"x-content-type-options"}


@pytest.mark.parametrize(("error", "degraded"), [(HeadTooLarge(), "false"), (Overloaded(), "true")])
@in_virtual_time
async def test_bytes_that_never_became_a_request_are_told_in_the_same_way(
    error: RequestError, degraded: str
) -> None:
    said = {mode: told(a_dispatcher(mode).refuse(error, "127.0.0.1")) for mode in MODES}

    nosniff = {"x-content-type-options": "nosniff"}
    why = {"proxy-status": said["minimal"]["proxy-status"]}
    assert said == {
        "minimal": why | nosniff,
        "seed": why | {"x-system-degraded": degraded, **BROWSERS},
        "off": nosniff,
    }


# --- what people read of it ---


def test_every_field_that_a_mode_adds_or_takes_stands_in_the_readme() -> None:
    text = (Path(__file__).parents[3] / "README.md").read_text()
    _, found, table = text.partition("\nOn answers:\n")
    assert found
    cells = [line.split("|")[1] for line in table.partition("\n## ")[0].splitlines() if line.startswith("|")]

    named = {name.lower() for cell in cells for name in re.findall(r"`([A-Z][\w-]+)`", cell)}

    assert (INSIDE | set(BROWSERS)) - {OWN.lower()} <= named
    assert {"retry-after", "age", "x-fault-injected"} <= named


# --- isolation ---


@in_virtual_time
async def test_a_fault_in_saying_costs_an_answer_its_fields_and_nothing_else() -> None:
    faults: list[Exception] = []

    class Broken(asyncio.SelectorEventLoop):
        def time(self) -> float:
            raise ZeroDivisionError

    loop = Broken()
    loop.close()
    stage = ShowStage(loop, lambda _, fault: faults.append(fault), tripped(), None, everything=True)
    upstream = Upstream(answer(200, b"hi"))
    call = compose([stage], upstream)

    reply = await call(an_exchange())
    reply.close()

    assert (reply.status, reply.body, reply.extra) == (200, b"hi", ())
    assert ([type(fault) for fault in faults], upstream.under_way) == ([ZeroDivisionError], 0)


@in_virtual_time
async def test_whoever_leaves_leaves() -> None:
    route = routed(Upstream(answer(after=10)), "seed")
    task = route.start()
    await asyncio.sleep(1)

    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task

    assert route.fates == ["client_gone"]
