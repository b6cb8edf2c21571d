"""Explaining a request: what is said is what would happen, since those are asked who would do it."""

import asyncio
import json
import socket
from collections.abc import Mapping, Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.config.load import Loaded, load_text
from sidecar.config.units import parse_duration
from sidecar.control.explain import LISTED, explain_json
from sidecar.message import Reply
from sidecar.pipeline.exchange import Exchange
from sidecar.pipeline.stages.attempt import AttemptStage
from sidecar.pipeline.stages.breaker import BreakerGate
from sidecar.pipeline.stages.bulkhead import BulkheadStage
from sidecar.pipeline.stages.deadline import TotalDeadline
from sidecar.pipeline.stages.retry import RetryStage
from sidecar.policy.cache_settings import CacheSettings
from sidecar.policy.retry import RetrySettings
from sidecar.policy.store import Store
from sidecar.runtime.engine import Engine, build
from sidecar.telemetry.ids import traceparent
from sidecar.wire.inbound import ForwardRules
from sidecar.wire.server import Limits, Server
from tests.support.exchanges import Route, a_body, a_request, a_route
from tests.support.live import engine_from
from tests.support.upstream import Arrival, Step, Upstream, answer
from tests.support.virtual_time import run

Headers = Sequence[tuple[str, str]]

SHOP = """\
version: 1
upstreams:
  shop: {url: http://127.0.0.1:9, connect_timeout: 1s}
breakers:
  database: {consecutive_failures: 3, open_for: 15s}
defaults:
  timeout: {attempt: 5s}
routes:
  - name: admin
    match: {path: /admin/**, host: admin.example, methods: [POST]}
    upstream: shop
  - name: orders
    match: {path: /orders/**, methods: [GET, POST]}
    upstream: shop
    breaker: database
    retry: {retries: 1}
    max_body: 1KiB
    rate_limit: {limit: 10/1s, key: "header:X-Caller"}
    cache: {preset: seed-frontend}
    fallback: [stale]
  - name: keyed
    match: {headers: {X-Api-Key: "${API_KEY}"}}
    upstream: shop
  - name: canary
    match: {path: /, headers: {X-Canary: "1"}}
    upstream: shop
"""


def of(engine: Engine, method: str, url: str, headers: Headers = ()) -> dict[str, Any]:
    return explain_json(engine.loaded, engine.router, engine.dispatcher.pipelines, method, url, headers)


def shop(method: str, url: str, headers: Headers = ()) -> dict[str, Any]:
    async def told() -> dict[str, Any]:
        loop = asyncio.get_running_loop()
        loaded = load_text(SHOP, name="shop.yaml", env={"API_KEY": "open-sesame"})
        return of(engine_from_loaded(loaded, loop), method, url, headers)

    return run(told())


def engine_from_loaded(loaded: Loaded, loop: asyncio.AbstractEventLoop) -> Engine:
    return build(loaded, loop, line=lambda _: None, on_fault=lambda _, __: None)


def value(told: Mapping[str, Any], key: str) -> tuple[str, str]:
    (entry,) = [each for each in told["values"] if each["key"] == key]
    return entry["value"], entry["origin"]


def word(told: Mapping[str, Any], about: str) -> tuple[bool, str]:
    (entry,) = [each for each in told["words"] if each["about"] == about]
    return entry["could"], entry["text"]


# The route, and those passed over


def test_it_tells_the_route_and_why_others_were_passed_over_each_with_its_line() -> None:
    told = shop("GET", "http://shop.example/orders/7?page=2")

    assert told["request"] == {
        "method": "GET",
        "target": "/orders/7?page=2",
        "host": "shop.example",
        "host_assumed": False,
        "matched_as": None,
        "body": None,
        "ignored": [],
    }
    assert (told["route"], told["at"], told["not_asked"]) == ("orders", "shop.yaml:12", 2)
    assert told["upstream"] == {"name": "shop", "url": "http://127.0.0.1:9", "at": "shop.yaml:3"}
    assert told["passed_over"] == [
        {"route": "admin", "why": "path is not /admin/**", "at": "shop.yaml:10"},
    ]
    assert (told["answer"], told["why"]) == (None, None)


def test_it_names_the_first_thing_that_does_not_fit() -> None:
    by_host = shop("POST", "http://other.example/admin/x")["passed_over"][0]
    by_method = shop("GET", "http://admin.example/admin/x")["passed_over"][0]
    by_field = shop("GET", "/")["passed_over"][3]

    assert by_host == {"route": "admin", "why": "host is not admin.example", "at": "shop.yaml:10"}
    assert by_method == {"route": "admin", "why": "method is not POST", "at": "shop.yaml:10"}
    assert by_field == {"route": "canary", "why": 'header X-Canary is not "1"', "at": "shop.yaml:25"}


def test_without_a_route_it_tells_the_404_and_every_reason() -> None:
    told = shop("PUT", "/orders/7")

    assert (told["route"], told["answer"], told["why"]) == (
        None,
        "404 no_route",
        "No route matches this request.",
    )
    assert [(each["route"], each["why"]) for each in told["passed_over"]] == [
        ("admin", "path is not /admin/**"),
        ("orders", "method is not GET or POST"),
        ("keyed", 'header X-Api-Key is not "***"'),
        ("canary", "path is not /"),
    ]
    assert (told["stages"], told["values"], told["upstream"], told["words"]) == ([], [], None, [])


def test_no_secret_is_told() -> None:
    passed_over = shop("PUT", "/x")
    taken = shop("GET", "/x", [("X-Api-Key", "open-sesame")])

    assert taken["route"] == "keyed"
    assert "open-sesame" not in json.dumps([passed_over, taken])


def test_a_path_is_matched_as_the_router_sees_it_and_a_fragment_stays_with_the_client() -> None:
    told = shop("GET", "/x/%2E%2E/orders/7#top")

    assert told["route"] == "orders"
    assert (told["request"]["target"], told["request"]["matched_as"]) == ("/x/%2E%2E/orders/7", "/orders/7")


def test_a_host_field_goes_before_the_urls_and_localhost_stands_in_for_none() -> None:
    field = shop("POST", "http://other.example/admin/", [("host", "admin.example")])
    none = shop("GET", "/orders/")

    assert (field["route"], field["request"]["host"]) == ("admin", "admin.example")
    assert (none["request"]["host"], none["request"]["host_assumed"]) == ("localhost", True)


def test_fields_that_no_route_would_see_are_named() -> None:
    told = shop("GET", "/orders/", [("X-Forwarded-Proto", "https"), ("TE", "trailers"), ("X-Own", "1")])

    assert told["request"]["ignored"] == ["x-forwarded-proto", "te"]


def test_max_forwards_ends_here() -> None:
    told = shop("TRACE", "/orders/", [("Max-Forwards", "0")])

    assert (told["route"], told["answer"]) == (None, "200 ok")


PATHS = ["/", "/a", "/a/", "/a/b", "/a/b/c", "/c", "/a/%62", "/c/../a"]
PATTERNS = ["/**", "/a", "/a/**", "/a/*", "/{x}/b", "/c/**"]
MATCHES = st.fixed_dictionaries(
    {},
    optional={
        "path": st.sampled_from(PATTERNS),
        "host": st.sampled_from(["a.example", "*.example", "[::1]"]),
        "methods": st.sampled_from([["GET"], ["POST", "PUT"], ["BREW"]]),
        "headers": st.sampled_from([{"X-A": "1"}, {"X-A": "*", "X-B": "2"}]),
    },
)
FIELDS = st.lists(st.sampled_from([("X-A", "1"), ("x-a", "2"), ("X-B", "2"), ("X-C", "")]), max_size=3)


@given(
    tables=st.lists(MATCHES, min_size=1, max_size=6),
    method=st.sampled_from(["GET", "POST", "PUT", "BREW", "get"]),
    host=st.sampled_from(["a.example", "A.Example:80", "b.example", "example", "[::1]:8080", "localhost"]),
    target=st.builds(str.__add__, st.sampled_from(PATHS), st.sampled_from(["", "?x=/a"])),
    fields=FIELDS,
)
def test_the_route_that_is_told_is_the_one_that_is_taken(
    tables: list[dict[str, Any]], method: str, host: str, target: str, fields: Headers
) -> None:
    routes = [
        {"name": f"route-{number}", "match": match, "upstream": "app", "fault": {"abort": 418}}
        for number, match in enumerate(tables)
    ]
    text = json.dumps(
        {
            "version": 1,
            "profile": "testing",
            "upstreams": {"app": {"url": "http://127.0.0.1:9"}},
            "routes": [{key: each for key, each in route.items() if each != {}} for route in routes],
        }
    )

    async def both() -> tuple[dict[str, Any], str, Engine]:
        engine = engine_from(text)
        told = of(engine, method, f"http://{host}{target}", fields)
        pairs = [(b"Host", host.encode()), *((name.encode(), each.encode()) for name, each in fields)]
        reply = await engine.dispatcher(a_request(method, target, pairs, host=host.encode()))
        reply.close()
        return told, engine.recorder.records()[0].route, engine

    told, taken, engine = run(both())

    assert (told["route"] or "_none") == taken
    assert [each.describe() for each in engine.dispatcher.pipelines if each.route == taken] == [
        told["stages"]
    ] * (taken != "_none")
    asked = len(told["passed_over"]) + (told["route"] is not None)
    assert asked + told["not_asked"] == len(routes)


def test_of_many_routes_those_are_listed_that_nearly_fitted() -> None:
    routes = [{"name": f"other-{n}", "match": {"path": f"/other/{n}"}, "upstream": "app"} for n in range(150)]
    near = {"name": "near", "match": {"path": "/x", "methods": ["POST"]}, "upstream": "app"}
    text = json.dumps(
        {"version": 1, "upstreams": {"app": {"url": "http://127.0.0.1:9"}}, "routes": [*routes, near]}
    )

    async def told() -> dict[str, Any]:
        return of(engine_from(text), "GET", "/x")

    explained = run(told())

    assert (len(explained["passed_over"]), explained["not_listed"]) == (LISTED + 1, 50)
    assert explained["passed_over"][-1]["why"] == "method is not POST"


# Malformed requests


@pytest.mark.parametrize(
    ("method", "url", "headers"),
    [
        ("GET", "/orders/", [("Host", "a b")]),
        ("GET", "/orders/", [("Host", "a"), ("Host", "b")]),
        ("GET", "/orders/", [("Host", "")]),
        ("GET", "http://user@host/orders/", []),
        ("GET", "http:///orders/", []),
        ("GET", "orders", []),
        ("GET", "*", []),
        ("GET", "", []),
        ("G T", "/orders/", []),
        ("GÈT", "/orders/", []),
        ("", "/orders/", []),
        ("CONNECT", "shop.example:443", []),
        ("GET", "/orders/ü", []),
        ("GET", "/orders/" + "x" * 9000, []),
        ("GET", "/orders/", [("X-Long", "x" * 40_000)]),
        ("GET", "/orders/", [(f"X-{n}", "1") for n in range(101)]),
        ("GET", "/orders/", [("Bad Name", "1")]),
        ("GET", "/orders/", [("X-Control", "a\x01b")]),
        ("POST", "/orders/", [("Content-Length", "ten")]),
        ("POST", "/orders/", [("Content-Length", "1"), ("Transfer-Encoding", "chunked")]),
        ("POST", "/orders/", [("Transfer-Encoding", "gzip")]),
        ("POST", "/orders/", [("Content-Length", "2000")]),
        ("TRACE", "/orders/", [("Max-Forwards", "few")]),
        ("PUT", "/orders/", []),
        ("OPTIONS", "*", []),
    ],
)
async def test_a_request_that_is_answered_here_gets_the_status_that_is_told(
    method: str, url: str, headers: Headers
) -> None:
    loop = asyncio.get_running_loop()
    engine = engine_from_loaded(load_text(SHOP, env={"API_KEY": "open-sesame"}), loop)
    told = of(engine, method, url, headers)
    host = [] if any(name == "Host" for name, _ in headers) else [("Host", "localhost")]
    lines = [f"{method} {url} HTTP/1.1", *(f"{name}: {each}" for name, each in [*host, *headers])]

    status = await status_of(engine, "\r\n".join([*lines, "", ""]).encode())

    assert told["answer"] is not None
    assert told["answer"].split()[0] == status
    assert told["why"]


async def status_of(engine: Engine, head: bytes) -> str:
    """Send bytes to the real wire before the engine, and give the status of its answer."""
    loop = asyncio.get_running_loop()
    limits = engine.loaded.config.limits
    rules = ForwardRules(
        name=b"test", max_target=limits.target, new_id=engine.new_id, new_traceparent=traceparent
    )
    server = Server(loop, engine.dispatcher, rules, Limits(head=limits.head))
    listening = await loop.create_server(server, "127.0.0.1", 0)
    reader, writer = await asyncio.open_connection(*listening.sockets[0].getsockname())
    try:
        writer.write(head)
        line = await asyncio.wait_for(reader.readline(), 10)
        return line.split()[1].decode()
    finally:
        writer.close()
        server.abort()
        engine.abort()
        listening.close()
        await asyncio.sleep(0)


@pytest.mark.parametrize("text", ["a\r\nHost: other", "a\nb", "a\0b"], ids=["CRLF", "LF", "NUL"])
@pytest.mark.parametrize("where", ["method", "url", "name", "value"])
def test_a_line_break_brings_no_field_of_its_own(text: str, where: str) -> None:
    parts = {"method": "GET", "url": "/", "name": "X", "value": "1"} | {where: text}

    told = shop(parts["method"], parts["url"], [(parts["name"], parts["value"])])

    assert (told["request"], told["answer"]) == (None, "400 bad_request")


@given(st.text(), st.text(), st.lists(st.tuples(st.text(), st.text()), max_size=3))
def test_no_text_is_too_strange_to_be_explained(method: str, url: str, headers: Headers) -> None:
    told = shop(method, url, headers)

    assert (told["route"] is None) == (told["answer"] is not None)
    assert json.dumps(told)


# Values


def test_every_value_says_where_it_comes_from() -> None:
    told = shop("GET", "/orders/")

    assert value(told, "routes.orders.timeout.attempt") == ("5s", "shop.yaml:7")
    assert value(told, "routes.orders.timeout.total") == ("15s", "default")
    assert value(told, "routes.orders.retry.retries") == ("1", "shop.yaml:16")
    assert value(told, "routes.orders.breaker") == ("database", "shop.yaml:15")
    assert value(told, "breakers.database.open_for") == ("15s", "shop.yaml:5")
    assert value(told, "breakers.database.half_open.successes") == ("2", "default")
    assert value(told, "routes.orders.rate_limit.limit") == ("10/1s", "shop.yaml:18")
    assert value(told, "routes.orders.cache.fresh_for") == ("1m", "preset seed-frontend")
    assert value(told, "routes.orders.fallback[0].stale.max_age") == ("5m", "default")
    assert value(told, "upstreams.shop.connect_timeout") == ("1s", "shop.yaml:3")
    assert {each["key"].split(".")[1] for each in told["values"]} == {"orders", "database", "shop"}


def test_a_profile_is_told_as_one() -> None:
    async def told() -> dict[str, Any]:
        text = SHOP.replace("version: 1", "version: 1\nprofile: testing")
        return of(
            engine_from_loaded(load_text(text, env={"API_KEY": "k"}), asyncio.get_running_loop()),
            "GET",
            "/orders/",
        )

    assert value(run(told()), "routes.orders.timeout.total") == ("5s", "profile testing")


MILLISECONDS = st.integers(1, 60_000)
POLICIES = st.fixed_dictionaries(
    {
        "attempt": MILLISECONDS,
        "total": MILLISECONDS,
        "retries": st.integers(1, 10),
        "base": MILLISECONDS,
        "failures": st.integers(1, 100),
        "open_for": st.integers(10, 60_000),
        "slots": st.integers(1, 1000),
    }
)


@given(POLICIES, st.booleans(), st.booleans())
def test_the_values_that_are_told_are_those_that_act(
    said: dict[str, int], named: bool, inherited: bool
) -> None:
    breaker = {"consecutive_failures": said["failures"], "open_for": f"{said['open_for']}ms"}
    policies = {
        "timeout": {"attempt": f"{said['attempt']}ms", "total": f"{said['total']}ms"},
        "retry": {"retries": said["retries"], "base": f"{said['base']}ms"},
        "breaker": "shared" if named else breaker,
        "bulkhead": {"max_concurrent": said["slots"]},
    }
    route = {"name": "all", "upstream": "app"}
    text = json.dumps(
        {
            "version": 1,
            "upstreams": {"app": {"url": "http://127.0.0.1:9"}},
            **({"breakers": {"shared": breaker}} if named else {}),
            **({"defaults": policies} if inherited else {}),
            "routes": [route if inherited else route | policies],
        }
    )

    async def both() -> tuple[dict[str, Any], Engine]:
        engine = engine_from(text)
        return of(engine, "GET", "/"), engine

    told, engine = run(both())
    (pipeline,) = engine.dispatcher.pipelines
    deadline, attempt = pipeline.find(TotalDeadline), pipeline.find(AttemptStage)
    retry, gate, bulkhead = (
        pipeline.find(RetryStage),
        pipeline.find(BreakerGate),
        pipeline.find(BulkheadStage),
    )
    assert deadline is not None
    assert attempt is not None
    assert attempt._lane is not None
    assert retry is not None
    assert gate is not None
    assert bulkhead is not None
    key = "breakers.shared" if named else "routes.all.breaker"
    shown = {
        "attempt": attempt._lane.delay,
        "total": deadline._lane.delay,
        "base": retry.policy.settings.base,
        "open_for": gate.breaker.settings.open_for,
    }
    assert {
        "attempt": parse_duration(value(told, "routes.all.timeout.attempt")[0]),
        "total": parse_duration(value(told, "routes.all.timeout.total")[0]),
        "base": parse_duration(value(told, "routes.all.retry.base")[0]),
        "open_for": parse_duration(value(told, f"{key}.open_for")[0]),
    } == shown
    assert int(value(told, "routes.all.retry.retries")[0]) == retry.policy.settings.retries
    assert int(value(told, f"{key}.consecutive_failures")[0]) == gate.breaker.settings.consecutive_failures
    assert int(value(told, "routes.all.bulkhead.max_concurrent")[0]) == bulkhead.bulkhead.limit


# What the policies would make of it


def words_of(route: Route, method: str, fields: Headers) -> dict[str, Any]:
    """Explain by a pipeline that is given, in the place of the only route's."""
    engine = engine_from()
    return explain_json(
        engine.loaded, engine.router, [route.pipeline], method, "http://shop.example/x", fields
    )


def pairs_of(fields: Headers) -> list[tuple[bytes, bytes]]:
    return [(b"Host", b"shop.example"), *((name.encode(), each.encode()) for name, each in fields)]


CACHE_FIELDS = st.lists(
    st.sampled_from(
        [
            ("Cookie", "id=1"),
            ("Authorization", "Bearer x"),
            ("X-Api-Key", "k"),
            ("Range", "bytes=0-1"),
            ("If-Match", '"a"'),
            ("X-HTTP-Method-Override", "PUT"),
            ("Cache-Control", "no-store"),
            ("Cache-Control", "no-cache"),
            ("Cache-Control", "only-if-cached"),
            ("Accept", "text/html"),
            ("X-Own", "1"),
        ]
    ),
    max_size=3,
)


@given(
    st.sampled_from(["GET", "HEAD", "POST", "DELETE"]),
    CACHE_FIELDS,
    st.booleans(),
    st.booleans(),
    st.booleans(),
)
def test_the_cache_answers_exactly_those_requests_of_which_it_is_told(
    method: str, fields: Headers, public: bool, body: bool, upgrade: bool
) -> None:
    fields = [*fields, *([("Content-Length", "2")] if body else [])]
    fields = [*fields, *([("Connection", "upgrade"), ("Upgrade", "other")] if upgrade else [])]

    async def both() -> tuple[tuple[bool, str], bool]:
        control = b"public, max-age=60" if public else b"max-age=60"
        upstream = Upstream(then=answer(200, b"hello", headers=[(b"Cache-Control", control)]))
        settings = CacheSettings(fresh_for=60.0, coalesce=False, keep_for=0.0, serve_fresh=True, max_body=100)
        route = a_route(upstream, name="all", cache=settings, store=Store(1 << 20, 10))
        await route.ask(a_request("GET", "/x", pairs_of([]), host=b"shop.example"))
        told = word(words_of(route, method, fields), "cache")
        request = a_request(
            method, "/x", pairs_of(fields), body=b"ab" if body else None, host=b"shop.example"
        )
        request.upgrade = b"other" if upgrade else None
        got = await route.ask(request)
        return told, got.status == 200 and len(upstream.arrivals) == 1

    (could, text), answered = run(both())

    personal = text.startswith("only by a copy that says `public`")
    assert answered == (could and (public or not personal)), text


def test_a_cookie_is_named_as_what_keeps_a_request_from_other_peoples_copies() -> None:
    told = shop("GET", "/orders/", [("Cookie", "id=1"), ("X-Caller", "me")])

    assert word(told, "cache") == (
        True,
        "only by a copy that says `public`: `Cookie` may tell whose request it is",
    )


@given(
    method=st.sampled_from(["GET", "PUT", "POST", "BREW"]),
    methods=st.sampled_from([frozenset({b"GET", b"PUT"}), frozenset({b"POST"}), None]),
    require=st.sampled_from([None, b"idempotency-key"]),
    keyed=st.booleans(),
    size=st.sampled_from([None, 5, 50]),
)
def test_a_request_is_sent_again_exactly_if_that_is_told(
    method: str, methods: frozenset[bytes] | None, require: bytes | None, keyed: bool, size: int | None
) -> None:
    fields = [("Idempotency-Key", "1")] if keyed else []
    sized = [("Content-Length", str(size))] if size is not None else []
    settings = RetrySettings(retries=1, methods=methods, require=require, body_buffer=10)

    async def both() -> tuple[bool, bool]:
        upstream = Upstream(taking(answer(503)), then=taking(answer(200)))
        route = a_route(upstream, name="all", retry=settings)
        could, _ = word(words_of(route, method, [*fields, *sized]), "retry")
        body = None if size is None else a_body(b"x" * size)
        await route.ask(a_request(method, "/x", pairs_of([*fields, *sized]), body=body, length=size))
        return could, len(upstream.arrivals) == 2

    could, again = run(both())

    assert again == could


def taking(step: Step) -> Step:
    """Make a step that takes the request's body first, as an upstream does."""

    async def take(exchange: Exchange, arrival: Arrival) -> Reply:
        body = exchange.request.body
        if body is not None:
            while await body.read():
                pass
        return await step(exchange, arrival)

    return take


def test_why_not_again_is_told_in_words() -> None:
    unsent = shop("POST", "/orders/")
    none = shop("GET", "/orders/")

    assert word(unsent, "retry") == (
        False,
        "only where nothing of it was sent: POST is not among the route's `retry.methods`",
    )
    assert word(none, "retry") == (
        True,
        "yes, once more, on attempt_timeout, connect_error, reset, 502, 503, 504",
    )


@pytest.mark.parametrize(
    ("headers", "text"),
    [
        ([("X-Caller", "me")], "counted by the value of `X-Caller`"),
        ([], "counted together with all that have no `X-Caller`, an empty one or several"),
        (
            [("X-Caller", "a"), ("X-Caller", "b")],
            "counted together with all that have no `X-Caller`, an empty one or several",
        ),
    ],
    ids=["one", "none", "two"],
)
def test_whose_quota_it_uses_is_told(headers: Headers, text: str) -> None:
    assert word(shop("GET", "/orders/", headers), "rate limit") == (True, text)


def test_the_steps_that_could_stand_in_are_told() -> None:
    assert word(shop("GET", "/orders/"), "fallback") == (True, "stale on any failure")
    assert word(shop("POST", "/orders/"), "fallback") == (False, "none of its steps is for POST")


def test_nothing_is_sent_and_nothing_counted() -> None:
    async def told() -> tuple[Any, ...]:
        engine = engine_from_loaded(load_text(SHOP, env={"API_KEY": "k"}), asyncio.get_running_loop())
        before = counted(engine)
        of(engine, "GET", "/orders/", [("X-Caller", "me")])
        return before, counted(engine)

    before, after = run(told())

    assert before == after


def counted(engine: Engine) -> tuple[Any, ...]:
    numbers = [
        (type(stage).__name__, name, str(getattr(stage, name)))
        for pipeline in engine.dispatcher.pipelines
        for stage in pipeline.stages
        for name in stage.counters
    ]
    pools = [(pool.open, pool.idle) for pool in engine.pools.values()]
    return numbers, pools, engine.recorder.records(), engine.guards.limiters["orders"].keys


def test_sockets_are_not_needed(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise AssertionError("a connection")

    monkeypatch.setattr(socket.socket, "connect", refuse)

    assert shop("GET", "/orders/")["route"] == "orders"
