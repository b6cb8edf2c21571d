import gc
import itertools
import sys
import tracemalloc
from collections.abc import Sequence
from types import FrameType
from typing import TypeVar

import pytest
from hypothesis import event, given
from hypothesis import strategies as st

from sidecar.config import router as module
from sidecar.config.pattern import PRESENT, parse_host, parse_method, parse_path, parse_regex
from sidecar.config.router import MEMO_HOST_BYTES, MEMO_HOSTS, RouteMatch, Router

Headers = Sequence[tuple[bytes, bytes]]


def route(
    path: str = "/**",
    *,
    regex: str = "",
    hosts: Sequence[str] = (),
    methods: Sequence[str] = (),
    headers: Headers = (),
) -> RouteMatch:
    return RouteMatch(
        parse_regex(regex) if regex else parse_path(path),
        tuple(map(parse_host, hosts)),
        frozenset(map(parse_method, methods)),
        tuple(headers),
    )


def find(
    table: Sequence[RouteMatch],
    path: bytes,
    *,
    method: bytes = b"GET",
    host: bytes = b"example.com",
    headers: Headers = (),
) -> int:
    return Router(table).find(method, host, path, headers)


def test_public_names() -> None:
    """The surface is deliberate."""
    assert sorted(module.__all__) == ["MEMO_HOSTS", "MEMO_HOST_BYTES", "RouteMatch", "Router"]


# --- which route -------------------------------------------------------------------------------------------


def test_without_routes_nothing_matches() -> None:
    assert find([], b"/") == -1


def test_a_route_that_asks_nothing_takes_every_request() -> None:
    paths = [b"/", b"/a/b", b"*", b"", b"//"]

    assert [find([route()], path) for path in paths] == [0, 0, 0, 0, 0]


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        (b"/orders", 1),
        (b"/orders/", 1),
        (b"/orders/new", 0),
        (b"/orders/new/", 1),
        (b"/orders/17", 1),
        (b"/users/me", 3),
        (b"/users/17", 3),
        (b"/users/", -1),
        (b"/users/me/photo", 5),
        (b"/users/17/photo", 5),
        (b"/users/17/photo/", -1),
        (b"/files/a/b", 6),
        (b"/files", -1),
        (b"/orders/../users/%6De", 3),
        (b"/", -1),
        (b"*", -1),
    ],
)
def test_the_first_route_in_file_order_wins_not_the_most_specific(path: bytes, expected: int) -> None:
    table = [
        route("/orders/new"),
        route("/orders/**"),
        route("/orders/17"),
        route("/users/{id}"),
        route("/users/me"),
        route("/users/{id}/photo"),
        route("/files/*/**"),
        route("/users/me/photo"),
    ]

    assert find(table, path) == expected


def test_a_wildcard_is_tried_where_the_literal_leads_nowhere() -> None:
    """And so at each level: the way back is not forgotten."""
    table = [route("/a/b/c/x"), route("/a/*/c/y"), route("/*/b/*/z"), route("/*/*/*/*"), route("/a/b/**")]
    paths = [b"/a/b/c/x", b"/a/b/c/y", b"/a/b/c/z", b"/a/b/c/w", b"/q/b/c/z", b"/a/b", b"/a/b//y", b"/a//c/y"]

    assert [find(table, path) for path in paths] == [0, 1, 2, 3, 2, 4, 4, -1]


def test_an_empty_segment_is_no_wildcards_match_but_a_literal_at_the_end() -> None:
    with_slash = [route("/a/*"), route("/a/")]
    slash_first = [route("/a/", methods=["PUT"]), route("/a/*")]

    assert [find(with_slash, path) for path in (b"/a/", b"/a/b", b"/a//")] == [1, 0, -1]
    assert [find(slash_first, path) for path in (b"/a/", b"/a/b", b"/a//")] == [-1, 1, -1]
    assert find(slash_first, b"/a/", method=b"PUT") == 0


def test_methods_are_exact_and_any_when_none_is_named() -> None:
    table = [route(methods=["GET", "PURGE"]), route(methods=["POST"]), route("/open")]
    methods = [b"GET", b"PURGE", b"POST", b"HEAD", b"get", b"FROBNICATE"]

    assert [find(table, b"/closed", method=method) for method in methods] == [0, 0, 1, -1, -1, -1]
    assert [find(table, b"/open", method=method) for method in methods] == [0, 0, 1, 2, 2, 2]


def test_hosts_are_looked_at_without_case_port_and_dot() -> None:
    table = [
        route("/x"),
        route(hosts=["api.example.com", "[::1]"]),
        route(hosts=["*.example.com"]),
        route(hosts=["*.eu.example.com", "*.org"]),
        route("/late"),
    ]
    hosts = [
        b"API.example.com.:80",
        b"[0::1]:80",
        b"www.example.com",
        b"a.eu.example.com",
        b"b.org",
        b"an-example.com",
    ]

    assert [find(table, b"/", host=host) for host in hosts] == [1, 1, 2, 2, 3, -1]
    assert [find(table, b"/x", host=host) for host in hosts] == [0, 0, 0, 0, 0, 0]
    assert [find(table, b"/late", host=host) for host in hosts] == [1, 1, 2, 2, 3, 4]


def test_headers_all_count_and_one_line_of_each_is_enough() -> None:
    table = [
        route(headers=[(b"x-tenant", b"acme"), (b"x-beta", PRESENT)]),
        route(headers=[(b"x-tenant", b"acme")]),
    ]
    given_headers: list[Headers] = [
        [(b"X-Tenant", b"acme"), (b"x-BETA", b"")],
        [(b"X-Tenant", b"other"), (b"X-Tenant", b" acme\t"), (b"X-Beta", b"no")],
        [(b"X-Tenant", b"acme")],
        [(b"X-Tenant", b"Acme")],
        [(b"X-Tenant", b"acme, other")],
        [],
    ]

    assert [find(table, b"/", headers=headers) for headers in given_headers] == [0, 0, 1, -1, -1, -1]


def test_regular_expressions_keep_their_place_in_the_file() -> None:
    table = [
        route("/a/1"),
        route(regex="/a/[0-9]+"),
        route("/a/{id}"),
        route(regex="/.*", methods=["PUT"]),
        route(regex="/b/.*"),
        route("/b/**"),
    ]
    asked = [
        (b"GET", b"/a/1"),
        (b"GET", b"/a/2"),
        (b"GET", b"/a/x"),
        (b"PUT", b"/a/x/y"),
        (b"GET", b"/b/x"),
        (b"GET", b"/b"),
    ]

    assert [find(table, path, method=method) for method, path in asked] == [0, 1, 2, 3, 4, 5]


def test_a_regular_expression_sees_the_normal_path() -> None:
    assert find([route(regex="/admin")], b"/public/..%2f/../%61dmin") == -1
    assert find([route(regex="/admin")], b"/public/%2e./%61dmin") == 0


# --- the same answer as trying each route ------------------------------------------------------------------

SEGMENTS = st.sampled_from(["a", "b", "ab", "*"])
TEXTS = st.builds(
    lambda segments, ending: "/" + "/".join([*segments, *ending]),
    st.lists(SEGMENTS, max_size=4),
    st.sampled_from([["**"], [""], [], []]),
)
PATTERNS = TEXTS.map(parse_path) | st.sampled_from(["/a/.*", "/[ab]/a", ".*b", "/a|/b"]).map(parse_regex)
HOST_NAMES = ["a.com", "b.a.com", "c.b.a.com", "org", "[::1]"]
HOSTS = st.sampled_from([*HOST_NAMES, "*.a.com", "*.b.a.com", "*.com"]).map(parse_host)
T = TypeVar("T")
CONDITIONS = st.tuples(st.sampled_from([b"x-a", b"x-b"]), st.sampled_from([b"1", b"2", PRESENT]))


def few(values: st.SearchStrategy[T]) -> st.SearchStrategy[list[T]]:
    return st.just([]) | st.lists(values, max_size=2)


ROUTES = st.builds(
    RouteMatch,
    PATTERNS,
    few(HOSTS).map(tuple),
    few(st.sampled_from([b"GET", b"POST"])).map(frozenset),
    few(CONDITIONS).map(tuple),
)
PARTS = st.sampled_from([b"a", b"b", b"ab", b"c", b"", b".", b"..", b"%61", b"%2E%2e", b"%2F", b"%zz"])
PATHS = (
    st.lists(PARTS, min_size=1, max_size=6).map(lambda parts: b"/" + b"/".join(parts))
    | st.just(b"*")
    | st.binary()
)
FIELDS = st.tuples(st.sampled_from([b"X-A", b"x-b", b"Host"]), st.sampled_from([b"1", b" 2 ", b"3"]))
REQUESTS = st.tuples(
    st.sampled_from([b"GET", b"POST", b"HEAD"]),
    st.sampled_from([*(name.encode() for name in HOST_NAMES), b"B.A.com.:80", b"com", b"", b"d.c.b.a.com"]),
    PATHS,
    st.lists(FIELDS, max_size=3),
)
Request = tuple[bytes, bytes, bytes, list[tuple[bytes, bytes]]]


def first_by_trying_each(table: list[RouteMatch], request: Request) -> int:
    method, host, path, headers = request
    present = {(name.lower(), value.strip()) for name, value in headers}
    present |= {(name, PRESENT) for name, _ in present}
    for index, match in enumerate(table):
        if (
            match.path.matches(path)
            and (not match.hosts or any(pattern.matches(host) for pattern in match.hosts))
            and (not match.methods or method in match.methods)
            and present.issuperset(match.headers)
        ):
            return index
    return -1


@given(st.lists(ROUTES, max_size=25), st.lists(REQUESTS, min_size=1, max_size=10))
def test_the_compiled_table_answers_as_trying_each_route_would(
    table: list[RouteMatch], requests: list[Request]
) -> None:
    """For any table and any run of requests: what is remembered of one changes nothing for the next."""
    router = Router(table)

    found = [router.find(*request) for request in requests]

    assert found == [first_by_trying_each(table, request) for request in requests]
    event("something matched" if max(found) > -1 else "nothing matched")


@given(st.lists(TEXTS.map(route), min_size=5, max_size=40), st.lists(PATHS, min_size=1, max_size=20))
def test_so_it_does_for_many_routes_that_differ_by_path_alone(
    table: list[RouteMatch], paths: list[bytes]
) -> None:
    router = Router(table)

    found = [router.find(b"GET", b"", path, []) for path in paths]

    assert found == [first_by_trying_each(table, (b"GET", b"", path, [])) for path in paths]


@given(st.lists(ROUTES, max_size=25), REQUESTS)
def test_the_explanation_ends_where_the_search_does(table: list[RouteMatch], request_: Request) -> None:
    router = Router(table)
    chosen = router.find(*request_)

    told = router.explain(*request_)

    assert [index for index, _ in told] == list(range(len(table) if chosen == -1 else chosen + 1))
    assert [index for index, why in told if why == "chosen"] == ([] if chosen == -1 else [chosen])


def test_the_explanation_names_the_first_thing_that_does_not_fit() -> None:
    router = Router(
        [
            route("/users/**", hosts=["a.example"], methods=["PUT"]),
            route("/orders/**", hosts=["a.example"], methods=["PUT"]),
            route("/orders/**", hosts=["b.example"], methods=["PUT"], headers=[(b"x-tenant", b"acme")]),
            route("/orders/**", headers=[(b"x-request-id", PRESENT), (b"x-tenant", b"acme")]),
            route("/orders/**"),
            route("/**"),
        ]
    )

    told = router.explain(
        b"GET", b"B.example:80", b"/./orders/17", [(b"X-Request-ID", b"1"), (b"X-Tenant", b"other")]
    )

    assert told == [(0, "path"), (1, "host"), (2, "method"), (3, "header X-Tenant"), (4, "chosen")]


def test_the_explanation_of_no_route_names_a_reason_for_each() -> None:
    router = Router([route("/a"), route(methods=["PUT"])])

    assert router.explain(b"GET", b"", b"/b", []) == [(0, "path"), (1, "method")]


# --- what it costs -----------------------------------------------------------------------------------------


def steps(router: Router, path: bytes, *, host: bytes = b"example.com") -> int:
    """Count the lines that one search runs: a measure of its cost that a busy machine does not disturb."""
    count = 0

    def on_line(frame: FrameType, kind: str, _arg: object) -> object:
        nonlocal count
        if not frame.f_code.co_filename.endswith(("router.py", "pattern.py")):
            return None  # whatever the garbage collector finalises meanwhile is not the search
        count += kind == "line"
        return on_line

    before = sys.gettrace()
    sys.settrace(on_line)  # type: ignore[arg-type]  # typeshed's own type of a trace function is recursive
    try:
        router.find(b"GET", host, path, ())
    finally:
        sys.settrace(before)
    return count


def services(number: int) -> list[RouteMatch]:
    shapes = ["/api/v1/s{}/items", "/api/v1/s{}/**", "/api/v1/s{}/{{id}}/items", "/api/v1/s{}/*/**"]
    return [*(route(shapes[i % 4].format(i)) for i in range(number)), route("/**")]


@pytest.mark.parametrize(
    "service", [b"s4/items", b"s5/items/17", b"s6/4711/items", b"s7/x/y/z", b"none/of/them"]
)
def test_more_routes_do_not_make_a_search_longer(service: bytes) -> None:
    path = b"/api/v1/" + service

    assert steps(Router(services(1000)), path) == steps(Router(services(10)), path)


@pytest.mark.parametrize("host", [b"h5.example", b"x.d5.example", b"strange.example"])
def test_more_hosts_do_not_make_a_search_longer(host: bytes) -> None:
    few_hosts, many_hosts = (
        Router([route(hosts=[f"h{i}.example", f"*.d{i}.example"]) for i in range(number)])
        for number in (10, 1000)
    )
    for router in (few_hosts, many_hosts):
        router.find(b"GET", host, b"/", ())  # the tables of a host are selected on its first request

    assert steps(many_hosts, b"/", host=host) == steps(few_hosts, b"/", host=host)


def test_routes_that_can_never_be_reached_cost_nothing() -> None:
    once = Router([route("/a", methods=["PUT"]), route("/a")])
    often = Router([route("/a", methods=["PUT"]), *(route("/a") for _ in range(1000))])

    assert steps(often, b"/a") == steps(once, b"/a")


def test_a_path_deeper_than_the_table_is_not_cut_into_all_its_pieces() -> None:
    router = Router(services(10))
    path = b"/api/v1/s5" + b"/x" * 4000

    tracemalloc.start()
    try:
        assert router.find(b"GET", b"", path, ()) == 5
        _, most = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()

    assert most < 2 * len(path)
    assert steps(router, path) == steps(router, b"/api/v1/s5/x")


def test_a_wildcard_is_not_followed_to_routes_behind_the_one_that_was_found() -> None:
    path = b"/a/b/c/d/e"
    near, far = (Router([route("/a/b/**"), route(f"/a/*/{rest}")]) for rest in ("x", "c/d/e"))

    assert steps(far, path) == steps(near, path)


def test_no_regular_expression_is_tried_behind_the_route_that_was_found() -> None:
    found_first = Router([route("/a/**"), *(route(regex=f"/a/{i}") for i in range(1000))])
    alone = Router([route("/a/**"), route(regex="/a/0")])

    assert steps(found_first, b"/a/1") == steps(alone, b"/a/1")


def test_wildcards_beside_literals_at_every_level_walk_the_tree_once_at_most() -> None:
    """The hardest table: every way is open to the end, and none arrives."""
    levels = 9
    ways = itertools.product("a*", repeat=levels)
    router = Router([route("/" + "/".join(way) + "/end") for way in ways])

    assert steps(router, b"/a" * (levels + 1)) < 40 * 2**levels


# --- what it remembers -------------------------------------------------------------------------------------


def test_made_up_hosts_do_not_fill_the_memory() -> None:
    """The number of hosts remembered is bounded, long ones are not remembered, and the answers stay right."""
    router = Router([route(hosts=["*.example"]), route("/a")])
    remembered = set()

    for number in range(2 * MEMO_HOSTS + 10):
        assert router.find(b"GET", b"h%d.example" % number, b"/a", ()) == 0
        assert router.find(b"GET", b"h%d.org" % number, b"/a", ()) == 1
        remembered.add(repr(router).rpartition(", ")[2])
    long = b"a" * MEMO_HOST_BYTES + b".example"
    before = repr(router)

    assert len(remembered) <= MEMO_HOSTS
    assert router.find(b"GET", long, b"/", ()) == 0
    assert repr(router) == before


def test_a_table_that_names_no_host_remembers_none() -> None:
    router = Router([route("/a"), route()])

    router.find(b"GET", b"example.com", b"/a", ())

    assert repr(router) == "<Router of 2 routes on 0 hosts, 0 remembered>"


def test_a_full_memory_starts_anew() -> None:
    router = Router([route(hosts=["a.example", "*.example"])])

    for number in range(MEMO_HOSTS):
        router.find(b"GET", b"%d.example" % number, b"/", ())
    full = repr(router)
    router.find(b"GET", b"one.more.example", b"/", ())

    assert full == f"<Router of 1 routes on 2 hosts, {MEMO_HOSTS} remembered>"
    assert repr(router) == "<Router of 1 routes on 2 hosts, 1 remembered>"


def test_made_up_paths_leave_nothing_behind() -> None:
    router = Router([route("/a/{id}"), route(regex="/b/.*"), route(hosts=["a.example"])])

    def ask(start: int) -> None:
        for number in range(start, start + 2000):
            router.find(b"GET", b"a.example", b"/a/%d/%d" % (number, number), ())

    ask(0)
    gc.collect()
    tracemalloc.start()
    try:
        ask(2000)
        gc.collect()
        kept, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()

    assert kept < 2000  # less than a byte for each path
