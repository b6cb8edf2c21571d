"""What a right file means, where each value comes from, and how a file that cannot be read is refused."""

import os
from ipaddress import ip_network
from pathlib import Path
from typing import Any, get_args

import pytest
from pydantic import ValidationError

from sidecar import message
from sidecar.config import policies
from sidecar.config.address import Address, Endpoint
from sidecar.config.load import Loaded, load_file, load_text
from sidecar.config.shape import plain
from sidecar.config.units import Rate
from sidecar.errors import ConfigError
from sidecar.policy import fallback
from tests.config.certificates import write_certificates

LEAST = """\
version: 1
upstreams:
  a: {url: http://127.0.0.1:9000}
routes:
  - {name: r, upstream: a}
"""

STAGES = {
    "timeout": {"attempt": "10s", "total": "15s", "idle": "1m", "body": "off"},
    "max_body": "off",
    "retry": {
        "retries": 2,
        "strategy": "exponential",
        "base": "100ms",
        "multiplier": 2,
        "max": "2s",
        "jitter": "full",
        "retry_on": ["connect_error", "reset", "attempt_timeout", 502, 503, 504],
        "methods": "idempotent",
        "body_buffer": "1MiB",
        "retry_after": {"max": "30s"},
        "budget": {"ratio": "20%", "min_per_second": 1, "window": "10s"},
    },
    "breaker": "off",
    "bulkhead": "off",
    "rate_limit": "off",
    "cache": "off",
    "fallback": "off",
    "fault": "off",
}

IN_FORCE = {
    "version": 1,
    "profile": "production",
    "listen": {"traffic": "0.0.0.0:8080", "ops": "0.0.0.0:9900", "admin": "127.0.0.1:9901"},
    "limits": {
        "connections": 10000,
        "head": "32KiB",
        "target": "8KiB",
        "fields": 100,
        "head_timeout": "10s",
        "keepalive_timeout": "75s",
        "half_close_grace": "1s",
    },
    "upstreams": {
        "a": {
            "url": "http://127.0.0.1:9000",
            "connect_timeout": "2s",
            "max_connections": 256,
            "idle_timeout": "1m",
            "health": "off",
        }
    },
    "breakers": {},
    "bulkheads": {},
    "store": {"max_bytes": "64MiB", "max_entries": 10000, "max_body": "1MiB"},
    "defaults": STAGES,
    "routes": [{"name": "r", "match": {"path": "/**"}, "upstream": "a", **STAGES}],
    "errors": {"format": "auto"},
    "headers": "minimal",
    "admin": {"hosts": []},
    "readiness": {"require_upstream": False},
    "telemetry": {"otel": "off", "sentry": "off"},
    "log": {"format": "auto", "level": "info", "sample": "100%", "query": False},
    "access_log": "errors",
    "records": 1000,
    "trusted_proxies": [],
    "reload": {"watch": False},
    "drain_timeout": "30s",
}


def load(text: str, **env: str) -> Loaded:
    return load_text(text, name="f.yaml", env=env)


def problems(text: str, **env: str) -> list[str]:
    with pytest.raises(ConfigError) as refusal:
        load(text, **env)
    return refusal.value.problems


def file_problems(path: str | Path) -> list[str]:
    with pytest.raises(ConfigError) as refusal:
        load_file(path, {})
    return refusal.value.problems


# --- what a file means --------------------------------------------------------------------------------------


def test_the_least_file_has_every_default() -> None:
    assert plain(load(LEAST).config) == IN_FORCE


def test_values_are_what_the_program_works_with(tmp_path: Path) -> None:
    """Seconds, bytes, addresses, networks; None for what is off or left out."""
    write_certificates(tmp_path / "cert.pem", tmp_path / "key.pem", tmp_path / "ca.pem")
    text = """\
version: 1
listen: {traffic: unix:///run/a.sock, ops: "[::1]:0"}
limits: {head: 1.5KiB, half_close_grace: 0s}
upstreams:
  a:
    url: https://api.example
    tls: {ca: ca.pem, server_name: b.example, verify: false}
routes:
  - name: r
    match:
      path_regex: /v[0-9]+
      host: api.example
      methods: [GET, HEAD]
      headers: {X-Tenant: acme, X-Debug: "*"}
    upstream: a
    timeout: {attempt: 500ms, total: off, idle: 0s}
    max_body: 10MB
trusted_proxies: [10.0.0.0/8, 192.0.2.7]
access_log: off
"""

    config = load_text(text, env={}, base=tmp_path).config

    assert (config.listen.traffic, config.listen.ops) == (Address(path="/run/a.sock"), Address("::1", 0))
    assert (config.limits.head, config.limits.half_close_grace) == (1536, 0.0)
    assert config.upstreams["a"].url == Endpoint("https", "api.example", 443)
    tls = config.upstreams["a"].tls
    assert tls is not None
    assert tls.model_dump() == {
        "ca": str(tmp_path / "ca.pem"),
        "certificate": None,
        "key": None,
        "server_name": "b.example",
        "verify": False,
    }
    (route,) = config.routes
    assert route.match.model_dump() == {
        "path": None,
        "path_regex": "/v[0-9]+",
        "host": ("api.example",),
        "methods": ("GET", "HEAD"),
        "headers": {"X-Tenant": "acme", "X-Debug": "*"},
    }
    assert route.timeout.model_dump() == {"attempt": 0.5, "total": None, "idle": None, "body": None}
    assert route.max_body == 10_000_000
    assert config.trusted_proxies == (ip_network("10.0.0.0/8"), ip_network("192.0.2.7"))
    assert config.access_log == "off"


def test_a_configuration_cannot_be_changed() -> None:
    config = load(LEAST).config

    with pytest.raises(ValidationError):
        config.records = 5  # type: ignore[misc] # that is what the test is about


def test_routes_inherit_from_defaults_key_by_key() -> None:
    loaded = load("""\
version: 1
upstreams: {a: {url: http://127.0.0.1:9000}}
defaults: {timeout: {attempt: 1s, body: 1m}, max_body: 1MiB}
routes:
  - {name: r, upstream: a}
  - {name: s, upstream: a, timeout: {attempt: 2s, body: off}, max_body: off}
""")

    first, second = loaded.config.routes

    assert first.timeout.model_dump() == {"attempt": 1.0, "total": 15.0, "idle": 60.0, "body": 60.0}
    assert first.max_body == 1 << 20
    assert second.timeout.model_dump() == {"attempt": 2.0, "total": 15.0, "idle": 60.0, "body": None}
    assert second.max_body is None


def routes_of(text: str) -> list[dict[str, Any]]:
    config = load(f"version: 1\nupstreams: {{a: {{url: http://127.0.0.1:9000}}}}\n{text}").config
    return [plain(route) for route in config.routes]


def test_inheritance_goes_as_deep_as_there_are_keys() -> None:
    first, second = routes_of("""\
defaults:
  retry: {base: 1s, budget: {ratio: 10%}, retry_after: {max: 1s}}
  breaker: {slow_call: {duration: 1s}, half_open: {successes: 4}}
routes:
  - {name: r, upstream: a, retry: {retries: 1}, breaker: {half_open: {max_wait: 1s}, slow_call: {rate: 5%}}}
  - {name: s, upstream: a, retry: {retry_after: {max: 2s}}}
""")

    assert (first["retry"]["retries"], first["retry"]["base"]) == (1, "1s")
    assert first["retry"]["budget"] == {"ratio": "10%", "min_per_second": 1, "window": "10s"}
    assert first["retry"]["retry_after"] == {"max": "1s"}
    assert first["breaker"]["half_open"] == {"max_concurrent": 1, "successes": 4, "max_wait": "1s"}
    assert first["breaker"]["slow_call"] == {"duration": "1s", "rate": "5%"}
    assert (second["retry"]["retries"], second["retry"]["retry_after"]) == (2, {"max": "2s"})
    assert second["breaker"]["half_open"] == {"max_concurrent": 1, "successes": 4, "max_wait": "30s"}


def test_what_one_route_says_is_not_inherited_by_the_next() -> None:
    first, second = routes_of("""\
defaults: {retry: {budget: {}}, cache: {}}
routes:
  - {name: r, upstream: a, retry: {retries: 7}, cache: {fresh_for: 1m}}
  - {name: s, upstream: a}
""")

    assert (first["retry"]["retries"], second["retry"]["retries"]) == (7, 2)
    assert (first["cache"]["fresh_for"], second["cache"]["fresh_for"]) == ("1m", "off")


def test_a_name_a_list_and_off_are_inherited_or_replaced_whole() -> None:
    routes = routes_of("""\
breakers: {x: {}, y: {}}
defaults:
  breaker: x
  bulkhead: {max_concurrent: 5, max_queue: 7}
  fallback: [{static: {body: a}}, stale]
  retry: {retry_on: [503]}
routes:
  - {name: r, upstream: a}
  - {name: s, upstream: a, breaker: {open_for: 9s}, bulkhead: off, fallback: [stale], retry: {retry_on: [502]}}
  - {name: t, upstream: a, breaker: y, fallback: off, retry: off}
""")

    assert [route["breaker"] for route in (routes[0], routes[2])] == ["x", "y"]
    assert (routes[1]["breaker"]["open_for"], routes[1]["breaker"]["consecutive_failures"]) == ("9s", 5)
    assert [
        route["bulkhead"] if route["bulkhead"] == "off" else route["bulkhead"]["max_queue"]
        for route in routes
    ] == [
        7,
        "off",
        7,
    ]
    assert [[next(iter(step)) for step in route["fallback"]] for route in routes[:2]] == [
        ["static", "stale"],
        ["stale"],
    ]
    assert routes[2]["fallback"] == "off"
    assert [
        route["retry"] if route["retry"] == "off" else route["retry"]["retry_on"] for route in routes
    ] == [
        [503],
        [502],
        "off",
    ]


@pytest.mark.parametrize(
    ("breaker", "consecutive"),
    [
        ("{}", 5),
        ("{open_for: 5s}", 5),
        ("{consecutive_failures: 7}", 7),
        ("{failure_rate: 50%}", "off"),
        ("{failures_in_window: 5}", "off"),
        ("{slow_call: {duration: 1s}}", "off"),
        ("{failure_rate: 50%, consecutive_failures: 9}", 9),
        ("{failure_rate: off}", 5),
    ],
)
def test_naming_a_trigger_turns_the_default_one_off(breaker: str, consecutive: int | str) -> None:
    (route,) = routes_of(f"routes: [{{name: r, upstream: a, breaker: {breaker}}}]\n")

    assert route["breaker"]["consecutive_failures"] == consecutive


def test_a_trigger_of_a_route_joins_those_that_it_inherits() -> None:
    first, second = routes_of("""\
defaults: {breaker: {failure_rate: 50%}}
routes:
  - {name: r, upstream: a, breaker: {slow_call: {duration: 1s}}}
  - {name: s, upstream: a, breaker: {consecutive_failures: 3, failure_rate: off}}
""")

    assert (first["breaker"]["failure_rate"], first["breaker"]["consecutive_failures"]) == ("50%", "off")
    assert (second["breaker"]["failure_rate"], second["breaker"]["consecutive_failures"]) == ("off", 3)


def test_of_two_keys_that_bound_each_other_the_one_left_out_follows() -> None:
    """Else a file that is right under one profile would be wrong under another."""
    first, second = routes_of("""\
profile: testing
store: {max_bytes: 512KiB}
routes:
  - {name: r, upstream: a, retry: {base: 5s}, breaker: {open_for: 10m}}
  - {name: s, upstream: a, retry: {max: 5ms}, breaker: {open_max: 500ms}}
""")
    store = load(LEAST + "store: {max_bytes: 512KiB}\n").config.store

    assert [(route["retry"]["base"], route["retry"]["max"]) for route in (first, second)] == [
        ("5s", "5s"),
        ("5ms", "5ms"),
    ]
    assert [(route["breaker"]["open_for"], route["breaker"]["open_max"]) for route in (first, second)] == [
        ("10m", "10m"),
        ("500ms", "500ms"),
    ]
    assert (store.max_bytes, store.max_body) == (512 << 10, 512 << 10)


def test_steps_of_a_fallback_have_short_forms() -> None:
    short, long = routes_of("""\
routes:
  - {name: r, upstream: a, fallback: [stale, {upstream: a, when: [5xx]}, {redirect: /x}]}
  - name: s
    upstream: a
    fallback:
      - stale: {}
      - {upstream: {name: a}, when: [5xx]}
      - redirect: {location: /x}
""")

    assert short["fallback"] == long["fallback"]
    assert [step["methods"] for step in short["fallback"]] == [
        ["GET", "HEAD"],
        ["GET", "HEAD", "OPTIONS", "TRACE", "PUT", "DELETE"],
        ["GET", "HEAD"],
    ]


def test_the_methods_of_another_upstream_are_the_idempotent_ones() -> None:
    assert {method.encode() for method in policies.IDEMPOTENT} == message.IDEMPOTENT


def test_causes_are_those_that_a_fallback_tells_apart() -> None:
    assert get_args(policies.Cause) == fallback.CAUSES


def test_policies_are_what_the_program_works_with() -> None:
    config = load("""\
version: 1
profile: testing
upstreams: {a: {url: http://127.0.0.1:9000}}
breakers: {x: {failure_rate: 12.5%, count: [429, 5xx], open_multiplier: 2, consecutive_failures: off}}
routes:
  - name: r
    upstream: a
    breaker: x
    bulkhead: off
    retry: {retry_on: [reset, 5xx, 429], methods: [GET, POST], budget: off}
    rate_limit: {limit: 10/s, key: "header:X-Api-Key"}
    cache: {fresh_for: off}
    fault: {truncate: 0B, header: {X-Fault: "*"}}
""").config

    breaker = config.breakers["x"]
    (route,) = config.routes
    assert (breaker.consecutive_failures, breaker.failure_rate, breaker.open_multiplier) == (None, 0.125, 2.0)
    assert breaker.failures == {429, *range(500, 600)}
    assert (route.breaker, route.bulkhead) == ("x", None)
    assert route.retry is not None
    assert route.retry.conditions == {"reset"}
    assert route.retry.statuses == {429, *range(500, 600)}
    assert (route.retry.methods, route.retry.budget) == (("GET", "POST"), None)
    assert route.rate_limit is not None
    assert (route.rate_limit.limit, route.rate_limit.burst) == (Rate(10, 1.0), None)
    assert route.cache is not None
    assert route.cache.fresh_for is None
    assert route.fault is not None
    assert (route.fault.truncate, route.fault.delay, route.fault.percent) == (0, None, 1.0)
    assert dict(route.fault.header) == {"X-Fault": "*"}


@pytest.mark.parametrize(
    ("profile", "in_force"),
    [
        ("development", {"breaker": (10, 30.0), "retry": (0.1, 2.0, 30.0), "bulkhead": 1.0}),
        ("testing", {"breaker": (2, 1.0), "retry": (0.01, 0.1, 1.0), "bulkhead": 0.2}),
        ("production", {"breaker": (5, 30.0), "retry": (0.1, 2.0, 30.0), "bulkhead": 1.0}),
    ],
)
@pytest.mark.parametrize(
    "places",
    [
        "routes: [{name: r, upstream: a, breaker: {}, bulkhead: {}}]",
        "defaults: {breaker: {}, bulkhead: {}}\nroutes: [{name: r, upstream: a}]",
        "breakers: {x: {}}\nbulkheads: {x: {}}\nroutes: [{name: r, upstream: a, breaker: x, bulkhead: x}]",
    ],
)
def test_a_profile_changes_the_policies_wherever_they_stand(
    places: str, profile: str, in_force: dict[str, object]
) -> None:
    config = load(
        f"version: 1\nprofile: {profile}\nupstreams: {{a: {{url: http://127.0.0.1:9000}}}}\n{places}\n"
    ).config
    (route,) = config.routes
    breaker = config.breakers[route.breaker] if isinstance(route.breaker, str) else route.breaker
    bulkhead = config.bulkheads[route.bulkhead] if isinstance(route.bulkhead, str) else route.bulkhead
    assert breaker is not None
    assert bulkhead is not None
    assert route.retry is not None

    assert in_force == {
        "breaker": (breaker.consecutive_failures, breaker.open_for),
        "retry": (route.retry.base, route.retry.max, route.retry.retry_after.max),
        "bulkhead": bulkhead.queue_timeout,
    }


def test_under_no_profile_a_named_trigger_brings_a_default_one_with_it() -> None:
    for profile in ("development", "testing", "production"):
        (route,) = routes_of(
            f"profile: {profile}\nroutes: [{{name: r, upstream: a, breaker: {{failure_rate: 1%}}}}]\n"
        )
        assert route["breaker"]["consecutive_failures"] == "off"


@pytest.mark.parametrize(
    ("profile", "in_force"),
    [
        ("development", ("all", 1.0, 2.0, 10.0, 15.0)),
        ("testing", ("errors", 1.0, 1.0, 2.0, 5.0)),
        ("production", ("errors", 30.0, 2.0, 10.0, 15.0)),
    ],
)
def test_a_profile_brings_other_defaults(
    profile: str, in_force: tuple[str, float, float, float, float]
) -> None:
    config = load(f"profile: {profile}\n{LEAST}").config

    timeout = config.routes[0].timeout
    assert (
        config.access_log,
        config.drain_timeout,
        config.upstreams["a"].connect_timeout,
        timeout.attempt,
        timeout.total,
    ) == in_force


def test_what_is_written_goes_before_the_profile() -> None:
    loaded = load(f"profile: testing\ndrain_timeout: 7s\ndefaults: {{timeout: {{total: 9s}}}}\n{LEAST}")

    timeout = loaded.config.routes[0].timeout
    assert (loaded.config.drain_timeout, timeout.attempt, timeout.total) == (7.0, 2.0, 9.0)


def test_words_of_yaml_11_are_what_they_look_like() -> None:
    """PyYAML would make `true`, `false`, 90, 8, a date and None of these."""
    loaded = load("""\
version: 1
upstreams: {on: {url: http://127.0.0.1:9000}, "010": {url: http://127.0.0.1:9001}}
routes:
  - {name: no, upstream: on, match: {headers: {X-A: 1:30, X-B: 2024-01-01, X-C: ~, X-D: yes}}}
  - {name: off, upstream: 010}
""")

    assert [(route.name, route.upstream, dict(route.match.headers)) for route in loaded.config.routes] == [
        ("no", "on", {"X-A": "1:30", "X-B": "2024-01-01", "X-C": "~", "X-D": "yes"}),
        ("off", "010", {}),
    ]


def test_the_shape_of_the_text_does_not_matter() -> None:
    """A byte order mark, CRLF, comments, quotes, block scalars, a leading `---`, a closing `...`."""
    text = """\ufeff# comment
---
version: 1
upstreams:
  'a':
    "url": >-
      http://127.0.0.1:9000
routes:
- name: "r"
  upstream: |-
    a
...
"""

    assert plain(load(text.replace("\n", "\r\n")).config) == IN_FORCE


# --- the environment ----------------------------------------------------------------------------------------


def test_a_variable_means_what_its_text_would_mean() -> None:
    loaded = load(LEAST + "records: ${N}\ndrain_timeout: ${T}\nprofile: ${P:-testing}\n", N="5", T="7s")

    assert (loaded.config.records, loaded.config.drain_timeout, loaded.config.profile) == (5, 7.0, "testing")


def test_a_variable_in_quotes_is_text() -> None:
    text = LEAST.replace("upstream: a}", 'upstream: a, match: {headers: {X-N: "${N}"}}}')

    assert dict(load(text, N="5").config.routes[0].match.headers) == {"X-N": "5"}


def test_a_variable_cannot_bring_structure_into_the_file() -> None:
    assert problems(LEAST + "profile: ${P}\n", P="testing\nrecords: 5") == [
        "f.yaml:6:10: profile: must be `development`, `testing` or `production`, not `testing\\nrecords: 5`"
    ]


def test_the_environment_is_that_of_the_process_unless_given(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SIDECAR_TEST_RECORDS", "7")

    loaded = load_text(LEAST + "records: ${SIDECAR_TEST_RECORDS}\n")

    assert loaded.config.records == 7


OTHER_STAGES: dict[tuple[str | int, ...], str] = {
    **{
        ("retry", key): "default"
        for key in ("retries", "strategy", "multiplier", "jitter", "retry_on", "methods", "body_buffer")
    },
    **{("retry", "retry_on", index): "default" for index in range(6)},
    ("retry", "base"): "profile testing",
    ("retry", "max"): "profile testing",
    ("retry", "retry_after", "max"): "profile testing",
    **{("retry", "budget", key): "default" for key in ("ratio", "min_per_second", "window")},
    **{(stage,): "default" for stage in ("breaker", "bulkhead", "rate_limit", "cache", "fallback", "fault")},
}


# --- origins ------------------------------------------------------------------------------------------------


def test_every_value_in_force_knows_where_it_comes_from() -> None:
    loaded = load(
        """\
version: 1
profile: ${PROFILE}
upstreams:
  a: {url: "http://${HOST}:${PORT:-80}"}
defaults:
  timeout: {idle: 9s}
routes:
  - name: r
    upstream: a
    match: {host: [a.example, "${HOST}"]}
    timeout:
      body: 5s
""",
        PROFILE="testing",
        HOST="b.example",
        PORT="81",
    )

    assert {path: str(origin) for path, origin in loaded.origins.items()} == {
        ("version",): "f.yaml:1",
        ("profile",): "env PROFILE",
        ("listen", "traffic"): "default",
        ("listen", "ops"): "default",
        ("listen", "admin"): "default",
        ("limits", "connections"): "default",
        ("limits", "head"): "default",
        ("limits", "target"): "default",
        ("limits", "fields"): "default",
        ("limits", "head_timeout"): "default",
        ("limits", "keepalive_timeout"): "default",
        ("limits", "half_close_grace"): "default",
        ("upstreams", "a", "url"): "env HOST, PORT",
        ("upstreams", "a", "connect_timeout"): "profile testing",
        ("upstreams", "a", "max_connections"): "default",
        ("upstreams", "a", "idle_timeout"): "default",
        ("upstreams", "a", "health"): "default",
        ("defaults", "timeout", "attempt"): "profile testing",
        ("defaults", "timeout", "total"): "profile testing",
        ("defaults", "timeout", "idle"): "f.yaml:6",
        ("defaults", "timeout", "body"): "default",
        ("defaults", "max_body"): "default",
        **{("defaults", *path): origin for path, origin in OTHER_STAGES.items()},
        ("store", "max_bytes"): "default",
        ("store", "max_entries"): "default",
        ("store", "max_body"): "default",
        ("routes",): "f.yaml:8",
        ("routes", 0, "name"): "f.yaml:8",
        ("routes", 0, "upstream"): "f.yaml:9",
        ("routes", 0, "match", "host"): "f.yaml:10",
        ("routes", 0, "match", "host", 0): "f.yaml:10",
        ("routes", 0, "match", "host", 1): "env HOST",
        ("routes", 0, "match", "path"): "default",
        ("routes", 0, "timeout", "attempt"): "profile testing",
        ("routes", 0, "timeout", "total"): "profile testing",
        ("routes", 0, "timeout", "idle"): "f.yaml:6",
        ("routes", 0, "timeout", "body"): "f.yaml:12",
        ("routes", 0, "max_body"): "default",
        **{("routes", 0, *path): origin for path, origin in OTHER_STAGES.items()},
        ("errors", "format"): "default",
        ("headers",): "default",
        ("admin", "hosts"): "default",
        ("readiness", "require_upstream"): "default",
        ("telemetry", "otel"): "default",
        ("telemetry", "sentry"): "default",
        ("log", "format"): "default",
        ("log", "level"): "default",
        ("log", "sample"): "default",
        ("log", "query"): "default",
        ("access_log",): "profile testing",
        ("records",): "default",
        ("trusted_proxies",): "default",
        ("reload", "watch"): "default",
        ("drain_timeout",): "profile testing",
    }


def test_the_digest_is_of_what_is_in_force_and_not_of_how_it_is_written() -> None:
    written_otherwise = load(LEAST + "drain_timeout: ${T}\nrecords: 1000 # as ever\n", T="30000ms")

    assert written_otherwise.digest == load(LEAST).digest
    assert load(LEAST + "records: 999\n").digest != load(LEAST).digest


# --- files --------------------------------------------------------------------------------------------------


def test_a_file_is_called_what_it_was_called(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "a.yaml").write_text(LEAST)
    monkeypatch.chdir(tmp_path)

    loaded = load_file("sub/a.yaml", {})

    assert (loaded.source, str(loaded.origins[("version",)])) == ("sub/a.yaml", "sub/a.yaml:1")


def test_names_of_files_start_where_the_configuration_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not where the program was started. In force is the absolute name, which holds wherever it is read."""
    (tmp_path / "sub" / "tls").mkdir(parents=True)
    absolute = tmp_path / "sub" / "tls" / "key.pem"
    write_certificates(tmp_path / "sub" / "tls" / "cert.pem", absolute)
    tls = f"listen: {{tls: {{certificate: tls/cert.pem, key: {absolute}}}}}\n"
    (tmp_path / "sub" / "a.yaml").write_text(LEAST + tls)
    monkeypatch.chdir(tmp_path)

    loaded = load_file(Path("sub/a.yaml"), {})

    assert loaded.config.listen.tls is not None
    assert loaded.config.listen.tls.model_dump() == {
        "certificate": str(tmp_path / "sub" / "tls" / "cert.pem"),
        "key": str(absolute),
        "client_ca": None,
    }


def test_a_missing_file_is_one_line(tmp_path: Path) -> None:
    path = tmp_path / "missing.yaml"

    assert file_problems(path) == [f"{path}:1:1: (file): cannot be read: No such file or directory"]


def test_a_directory_is_one_line(tmp_path: Path) -> None:
    assert file_problems(tmp_path) == [f"{tmp_path}:1:1: (file): cannot be read: Is a directory"]


def test_an_impossible_name_is_one_line() -> None:
    (problem,) = file_problems("a\0b")

    assert problem.startswith("a\\x00b:1:1: (file): cannot be read: ")


@pytest.mark.parametrize(("size", "refused"), [(1 << 20, False), ((1 << 20) + 1, True)])
def test_a_file_has_a_largest_size(size: int, *, refused: bool, tmp_path: Path) -> None:
    path = tmp_path / "large.yaml"
    path.write_text(LEAST + "#" * (size - len(LEAST)))

    if refused:
        assert file_problems(path) == [f"{path}:1:1: (file): is larger than 1 MiB"]
    else:
        assert plain(load_file(path, {}).config) == IN_FORCE


def test_a_file_without_end_is_not_read_to_its_end() -> None:
    assert file_problems("/dev/zero") == ["/dev/zero:1:1: (file): is larger than 1 MiB"]


@pytest.mark.parametrize("text", ["[" * 100_000, "{a: " * 100_000, "- " * 100_000, "a:\n" * 5])
def test_endless_nesting_is_refused_at_once(text: str) -> None:
    """PyYAML's composer ends in a RecursionError here, and its scanner takes minutes for the whole of it."""
    assert len(problems(text)) >= 1


def test_a_thousand_routes_are_read_in_less_than_a_long_time() -> None:
    routes = "".join(
        f"  - {{name: r{n}, upstream: a, match: {{path: /s{n}/**}}, timeout: {{attempt: 2s}}}}\n"
        for n in range(1000)
    )

    loaded = load("version: 1\nupstreams: {a: {url: http://127.0.0.1:9000}}\nroutes:\n" + routes)

    assert (len(loaded.config.routes), loaded.warnings) == (1000, ())


def test_a_pipe_in_the_place_of_a_file_is_refused_where_nobody_may_be_waited_for(tmp_path: Path) -> None:
    pipe = tmp_path / "sidecar.yaml"
    os.mkfifo(pipe)

    with pytest.raises(ConfigError) as caught:
        load_file(pipe, regular=True)

    assert caught.value.problems == [f"{pipe}:1:1: (file): is no regular file"]
