"""Warnings: each rule speaks up where it should, points there, and is silent where it should be."""

import pytest

from sidecar.config.lint import RULES, Lint
from sidecar.config.load import load_text

UPSTREAM = "version: 1\nupstreams: {a: {url: http://127.0.0.1:9000}}\n"


def warnings(text: str) -> list[str]:
    return [str(each) for each in load_text(text, name="f", env={}).warnings]


def routes(*matches: str) -> str:
    lines = [f"  - {{name: r{n}, upstream: a, match: {{{match}}}}}" for n, match in enumerate(matches)]
    return UPSTREAM + "routes:\n" + "\n".join(lines)


def test_a_warning_is_one_line_with_its_place_and_its_id() -> None:
    lint = Lint("some-rule", "f.yaml:3:5", "routes[0].match", "two\nlines")

    assert str(lint) == "f.yaml:3:5: routes[0].match: warning[some-rule]: two\\nlines"


def test_every_rule_says_why_it_is_there() -> None:
    assert {rule.id: bool(rule.why) for rule in RULES.values()} == dict.fromkeys(
        [
            "attempt-exceeds-total",
            "backoff-exceeds-total",
            "burst-without-bucket",
            "fallback-not-json",
            "fallback-to-itself",
            "get-without-head",
            "grpc-port",
            "idle-admin",
            "idle-header",
            "idle-queue",
            "idle-retry",
            "idle-sample",
            "logged-query",
            "loops-to-itself",
            "no-answer-timeout",
            "no-idle-timeout",
            "no-retry-budget",
            "nothing-to-cache",
            "one-client",
            "overrides-origin",
            "pool-smaller-than-bulkhead",
            "queue-exceeds-total",
            "queue-never-turns",
            "quick-probe",
            "readiness-upstream",
            "repeats-what-is-not-idempotent",
            "retries-trip-breaker",
            "secret-in-file",
            "shadowed-route",
            "slow-call-never",
            "small-store",
            "step-out-of-reach",
            "target-exceeds-head",
            "telemetry-off",
            "trials-beyond-need",
            "trigger-out-of-reach",
            "trusts-everyone",
            "unused-breaker",
            "unused-bulkhead",
            "unused-upstream",
            "unverified-upstream",
        ],
        True,
    )


def test_warnings_come_in_the_order_of_the_file() -> None:
    text = """\
version: 1
trusted_proxies: [10.0.0.0/8, 0.0.0.0/0, "::/0"]
limits: {target: 64KiB}
upstreams:
  a: {url: https://127.0.0.1, tls: {verify: false}}
  b: {url: http://127.0.0.1:9001}
routes:
  - {name: r, upstream: a, timeout: {attempt: 20s}}
  - {name: s, upstream: a, timeout: {attempt: off, total: off, idle: off}}
"""

    assert warnings(text) == [
        (
            "f:2:31: trusted_proxies[1]: warning[trusts-everyone]: "
            "`0.0.0.0/0` trusts what anyone says about client addresses"
        ),
        (
            "f:2:42: trusted_proxies[2]: warning[trusts-everyone]: "
            "`::/0` trusts what anyone says about client addresses"
        ),
        (
            "f:3:18: limits.target: warning[target-exceeds-head]: "
            "`target` is larger than `head`, which holds it, and is never reached"
        ),
        (
            "f:5:45: upstreams.a.tls.verify: warning[unverified-upstream]: "
            "with `verify: false`, the upstream may be anyone; `ca` trusts a private authority"
        ),
        "f:6:3: upstreams.b: warning[unused-upstream]: no route names this upstream",
        (
            "f:8:47: routes[0].timeout.attempt: warning[attempt-exceeds-total]: "
            "`attempt` (20s) is longer than `total` (15s), which ends every attempt first"
        ),
        "f:9:5: routes[1]: warning[shadowed-route]: never matches: `r`, above it, takes all its requests",
        (
            "f:9:47: routes[1].timeout.attempt: warning[no-answer-timeout]: "
            "with `attempt` and `total` off, an upstream that never answers is waited for without end"
        ),
        (
            "f:9:70: routes[1].timeout.idle: warning[no-idle-timeout]: "
            "with `idle` off, a body that stands still is waited for without end"
        ),
    ]


def test_what_routes_inherit_is_warned_of_once_and_where_it_is_written() -> None:
    text = (
        UPSTREAM
        + "defaults: {timeout: {attempt: 20s, idle: off}}\nroutes:\n"
        + "  - {name: r, upstream: a, match: {path: /a}}\n  - {name: s, upstream: a}\n"
    )

    assert warnings(text) == [
        (
            "f:3:31: defaults.timeout.attempt: warning[attempt-exceeds-total]: "
            "`attempt` (20s) is longer than `total` (15s), which ends every attempt first"
        ),
        (
            "f:3:42: defaults.timeout.idle: warning[no-idle-timeout]: "
            "with `idle` off, a body that stands still is waited for without end"
        ),
    ]


def test_a_warning_about_two_values_points_at_the_one_that_is_written() -> None:
    """`attempt` is a default here; it is `total` that someone can change."""
    assert warnings(UPSTREAM + "routes: [{name: r, upstream: a, timeout: {total: 5s}}]\n") == [
        (
            "f:3:50: routes[0].timeout.total: warning[attempt-exceeds-total]: "
            "`attempt` (10s) is longer than `total` (5s), which ends every attempt first"
        )
    ]


def test_a_smaller_head_than_target_is_pointed_at_where_it_is_written() -> None:
    assert warnings(UPSTREAM + "routes: [{name: r, upstream: a}]\nlimits: {head: 1KiB}\n") == [
        (
            "f:4:16: limits.head: warning[target-exceeds-head]: "
            "`target` is larger than `head`, which holds it, and is never reached"
        )
    ]


@pytest.mark.parametrize(
    "timeout",
    [
        "attempt: 15s",  # as long as total: it may still be the one that is told of
        "attempt: off",
        "attempt: 99s, total: off",
        "total: off",
    ],
)
def test_limits_that_make_sense_are_not_warned_of(timeout: str) -> None:
    assert warnings(UPSTREAM + f"routes: [{{name: r, upstream: a, timeout: {{{timeout}}}}}]\n") == []


@pytest.mark.parametrize(
    ("above", "below"),
    [
        ("path: /**", "path: /a"),
        ("path: /a/**", "path: /a/b"),
        ("path: /a", "path: /a"),
        ("path: /*/b", "path: /a/b"),
        ("path: /*/**", "path: /*"),
        ("path: /**", "path_regex: /a+"),
        ("path_regex: /a+", "path: /aa"),
        ("path_regex: /a+", "path_regex: /a+"),
        ("path: /a", "path: /a, methods: [GET]"),
        ("path: /a, methods: [GET, HEAD]", "path: /a, methods: [HEAD]"),
        ("path: /a", "path: /a, host: b.example"),
        ("path: /a, host: '*.example'", "path: /a, host: [a.example, b.example]"),
        ("path: /a", "path: /a, headers: {X-A: b}"),
        ("path: /a, headers: {X-A: b}", "path: /a, headers: {x-a: b, X-B: c}"),
        ("path: /a, headers: {X-A: '*'}", "path: /a, headers: {X-A: b}"),
    ],
)
def test_a_route_that_can_never_match_is_found(above: str, below: str) -> None:
    assert [each.id for each in load_text(routes(above, below), env={}).warnings] == ["shadowed-route"]


@pytest.mark.parametrize(
    ("above", "below"),
    [
        ("path: /a", "path: /**"),
        ("path: /a", "path: /a/"),
        ("path: /a/b", "path: /*/b"),
        ("path: /a/**", "path: /b"),
        ("path: /a, methods: [GET]", "path: /a"),
        ("path: /a, methods: [GET]", "path: /a, methods: [GET, HEAD]"),
        ("path: /a, host: a.example", "path: /a"),
        ("path: /a, host: a.example", "path: /a, host: [a.example, b.example]"),
        ("path: /a, headers: {X-A: b}", "path: /a"),
        ("path: /a, headers: {X-A: b}", "path: /a, headers: {X-A: c}"),
        ("path: /a, headers: {X-A: b}", "path: /a, headers: {X-A: '*'}"),
        ("path: /a, headers: {X-A: '*'}", "path: /a, headers: {X-B: b}"),
    ],
)
def test_a_route_that_can_match_is_not_called_shadowed(above: str, below: str) -> None:
    assert warnings(routes(above, below)) == []


def test_a_shadowed_route_is_told_of_once_with_the_first_that_covers_it() -> None:
    (warning,) = warnings(routes("path: /b", "path: /a/**", "path: /a/*", "path: /c"))

    assert warning == (
        "f:6:5: routes[2]: warning[shadowed-route]: never matches: `r1`, above it, takes all its requests"
    )


TWO = "version: 1\nupstreams: {a: {url: http://127.0.0.1:9000}, b: {url: http://127.0.0.1:9001}}\n"


def of_two(*routes: str) -> list[str]:
    """Return the warnings about routes, each of them `upstream, match`, that are called r0, r1, …"""
    lines = []
    for number, route in enumerate(routes):
        upstream, _, match = route.partition(", ")
        lines.append(f"  - {{name: r{number}, upstream: {upstream}, match: {{{match}}}}}")
    return warnings(TWO + "routes:\n" + "\n".join(lines) + "\n")


HEAD_IS_TAKEN = (
    "f:4:61: routes[0].match.methods: warning[get-without-head]: "
    "HEAD is not among them, so `r1` takes it, and `b` answers it"
)


@pytest.mark.parametrize(
    "below",
    [
        "b, path: /**",
        "b, path: /search",
        "b, path: '/*'",
        "b, path: /**, methods: [GET, HEAD]",
        "b, path_regex: /s.*",
    ],
)
def test_a_route_for_get_whose_head_another_upstream_answers_is_found(below: str) -> None:
    assert of_two("a, path: /search, methods: [GET]", below) == [HEAD_IS_TAKEN]


def test_the_first_route_that_takes_head_is_the_one_that_is_told_of() -> None:
    assert of_two(
        "a, path: /search, methods: [GET]",
        "b, path: /search, methods: [POST, HEAD, GET], host: x.example",
        "b, path: /search",
        "a, path: /**",
    ) == [HEAD_IS_TAKEN.replace("`r1`", "`r2`")]
    assert (
        of_two("a, path: /search, methods: [GET]", "b, path: /orders", "a, path: '/*'", "b, path: /**") == []
    )
    assert of_two("a, path: /search, methods: [GET]", "a, path: /search", "b, path: /**") == []


@pytest.mark.parametrize(
    "routes",
    [
        ("a, path: /search, methods: [GET, HEAD]", "b, path: /**"),
        ("a, path: /search", "b, path: /**"),
        ("a, path: /search, methods: [POST]", "b, path: /**"),
        ("a, path: /search, methods: [GET]", "a, path: /**", "b, path: /**, host: x.example"),
        ("a, path: /search, methods: [GET]", "b, path: /**, methods: [HEAD]"),  # it is meant to
        ("a, path: /search, methods: [HEAD]", "b, path: /search, methods: [GET]"),
        ("a, path: /search, methods: [GET]", "b, path: /orders"),  # nobody takes it
        ("a, path: /search, methods: [GET]", "b, path: /**, methods: [POST]"),
        ("a, path: /search, methods: [GET]", "b, path: /**, headers: {X-A: b}"),
    ],
)
def test_head_that_goes_where_it_should_is_not_warned_of(routes: tuple[str, ...]) -> None:
    assert [each for each in of_two(*routes) if "get-without-head" in each] == []


def test_of_a_route_that_never_matches_only_that_is_told() -> None:
    assert of_two("b, path: /**", "a, path: /search, methods: [GET]") == [
        "f:5:5: routes[1]: warning[shadowed-route]: never matches: `r0`, above it, takes all its requests"
    ]


def looping(listen: str, url: str) -> list[str]:
    text = f"version: 1\nlisten: {{{listen}}}\nupstreams: {{a: {{url: {url!r}}}}}\nroutes: [{{name: r, upstream: a}}]\n"
    return warnings(text)


def test_an_upstream_that_is_an_own_listener_is_found() -> None:
    assert looping("traffic: 127.0.0.1:8080", "http://127.0.0.1:8080") == [
        (
            "f:3:22: upstreams.a.url: warning[loops-to-itself]: this is `listen.traffic` (`127.0.0.1:8080`): "
            "every request would come back, and be answered with 508"
        )
    ]
    assert looping("ops: 127.0.0.1:9909", "http://127.0.0.1:9909") == [
        (
            "f:3:22: upstreams.a.url: warning[loops-to-itself]: this is `listen.ops` (`127.0.0.1:9909`): "
            "it has health and metrics, and no service"
        )
    ]
    assert looping("admin: 127.0.0.1:9909", "http://localhost:9909") == [
        (
            "f:3:22: upstreams.a.url: warning[loops-to-itself]: this is `listen.admin` (`127.0.0.1:9909`): "
            "it has the sidecar's own state, and no service"
        )
    ]
    assert looping("admin: off", "http://localhost:9901") == []


@pytest.mark.parametrize(
    ("traffic", "url"),
    [
        ("0.0.0.0:80", "http://127.0.0.1"),
        ("0.0.0.0:8080", "http://127.0.0.2:8080"),
        ("0.0.0.0:8080", "http://localhost:8080"),
        ("0.0.0.0:8080", "http://0.0.0.0:8080"),
        (":8080", "http://[::1]:8080"),
        ("[::]:8080", "http://[::1]:8080"),
        ("127.0.0.1:8080", "http://LOCALHOST:8080"),
        ("localhost:8080", "http://127.0.0.1:8080"),
        ("App.example:8080", "http://app.example:8080"),
        ("unix:///run/a.sock", "unix:///run/a.sock"),
    ],
)
def test_a_listener_is_known_by_all_its_names(traffic: str, url: str) -> None:
    assert len(looping(f"traffic: '{traffic}'", url)) == 1


@pytest.mark.parametrize(
    ("traffic", "url"),
    [
        ("127.0.0.1:8080", "http://127.0.0.1:8081"),
        ("127.0.0.1:8080", "http://127.0.0.2:8080"),
        ("0.0.0.0:8080", "http://[::1]:8080"),
        ("[::]:8080", "http://127.0.0.1:8080"),
        ("0.0.0.0:8080", "http://app:8080"),  # another container, most often
        ("0.0.0.0:8080", "http://10.0.0.1:8080"),
        ("127.0.0.1:0", "http://127.0.0.1:8080"),
        ("unix:///run/a.sock", "unix:///run/b.sock"),
        ("unix:///run/a.sock", "http://127.0.0.1:8080"),
        ("127.0.0.1:8080", "unix:///run/a.sock"),
    ],
)
def test_other_addresses_are_not_called_loops(traffic: str, url: str) -> None:
    assert looping(f"traffic: '{traffic}'", url) == []
