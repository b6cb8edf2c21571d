"""The JSON Schema accepts what the loader accepts, and refuses what an editor can know to be wrong."""

import json
from pathlib import Path

import pytest
from jsonschema import Draft202012Validator

from sidecar.config.load import load_text
from sidecar.config.reader import read
from sidecar.config.schema import json_schema
from sidecar.config.tree import data
from sidecar.errors import ConfigError

SHIPPED = sorted((Path(__file__).parents[2] / "config").glob("*.yaml"))
UPSTREAM = "upstreams: {a: {url: http://a}}\n"
ROUTE = "routes: [{name: r, upstream: a}]\n"
LEAST = f"version: 1\n{UPSTREAM}{ROUTE}"
VALIDATOR = Draft202012Validator(json_schema())


def as_written(text: str) -> object:
    """What an editor sees: the file without its variables put in."""
    document = read(text.replace("${", "$${"), "f", {})
    assert document.root is not None
    return data(document.root)


def accepted(text: str) -> bool:
    return VALIDATOR.is_valid(as_written(text))


def loadable(text: str) -> bool:
    try:
        load_text(text, env={})
    except ConfigError:
        return False
    return True


def test_the_schema_is_one() -> None:
    Draft202012Validator.check_schema(json_schema())


def test_the_schema_can_be_printed() -> None:
    assert json.loads(json.dumps(json_schema())) == json_schema()


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.name)
def test_shipped_files_are_accepted(path: Path) -> None:
    assert accepted(path.read_text())


def test_a_variable_may_stand_for_any_scalar() -> None:
    assert accepted("""\
version: 1
profile: ${A}
listen: {traffic: "${A}", admin: "${A}"}
limits: {connections: "${A:-5}", head: "${A}", head_timeout: "${A}s"}
upstreams:
  a: {url: "${A}", tls: {verify: "${A}"}, health: {path: "${A}", expect: ["${A}"], method: "${A}"}}
  b: {url: "${A}", health: "${A}"}
defaults: {max_body: "${A}"}
routes:
  - name: "${A}"
    upstream: "${A}"
    match: {path: "${A}", methods: ["${A}"]}
    retry: {retries: "${A}", multiplier: "${A}", retry_on: ["${A}"], methods: "${A}", budget: "${A}", preset: "${A}"}
    breaker: "${A}"
    bulkhead: {max_concurrent: "${A}", order: "${A}", adaptive: "${A}", target: "${A}"}
    rate_limit: {limit: "${A}/s", key: "${A}", burst: "${A}"}
    cache: {fresh_for: "${A}", coalesce: "${A}"}
    fallback: ["${A}", {static: {status: "${A}", content_type: "${A}", file: "${A}", headers: {X-A: "${A}"}}}]
    fault: {percent: "${A}%", abort: "${A}"}
  - name: s
    upstream: a
    retry: "${A}"
    breaker: {consecutive_failures: "${A}", failure_rate: "${A}", count: ["${A}"], slow_call: "${A}"}
    cache: "${A}"
    fallback: [{upstream: "${A}"}, {redirect: "${A}", when: ["${A}"]}]
trusted_proxies: ["${A}"]
headers: "${A}"
admin: {token: "${A}", hosts: ["${A}"]}
readiness: {require_upstream: "${A}"}
telemetry: {otel: {endpoint: "${A}", headers: {X-A: "${A}"}, sample: "${A}"}, sentry: "${A}"}
log: {format: "${A}", sample: "${A}%", query: "${A}"}
reload: {watch: "${A}"}
""")


@pytest.mark.parametrize(
    "change",
    [
        "foo: 1",
        "drain_timeout: 30",
        "drain_timeout: 30 s",
        "drain_timeout: off",
        "records: '5'",
        "records: -1",
        "records: 100001",
        "profile: prod",
        "access_log: false",
        "listen: {trafic: ':80'}",
        "listen: {traffic: 8080}",
        "listen: {traffic: localhost}",
        "limits: {head: 64}",
        "limits: {head: 64k}",
        "defaults: {timeout: 5s}",
        "defaults: {timeout: {connect: 5s}}",
        "defaults: {retry: 3}",
        "breakers: {a: off}",
        "telemetry: on",
        "telemetry: {otel: {}}",
        "telemetry: {otel: {endpoint: 'collector:4318'}}",
        "telemetry: {otel: {endpoint: 'http://c', headers: {}}}",
        "telemetry: {sentry: {dsn: abc, sample: 1}}",
        "headers: all",
        "admin: {token: 5}",
        "admin: {hosts: a.example}",
        "listen: {admin: 9901}",
        "readiness: true",
        "log: {level: loud}",
        "log: {sample: 0.1}",
        "reload: {watch: yes}",
        "breakers: {x: {header: 'A B'}}",
        "trusted_proxies: 10.0.0.0/8",
        "errors: {format: html}",
    ],
)
def test_what_an_editor_can_know_to_be_wrong_is_refused(change: str) -> None:
    text = f"{LEAST}{change}\n"

    assert (loadable(text), accepted(text)) == (False, False)


STAGES_RIGHT = [
    "retry: off",
    "retry: {retries: 0, multiplier: 1.5, retry_on: [5xx, 429, reset], methods: all, budget: off}",
    "retry: {methods: [POST], require: Idempotency-Key, budget: {ratio: 0%, min_per_second: 0.5}}",
    "retry: {preset: seed-mobile}",
    "breaker: {}",
    "breaker: off",
    "breaker: x",
    "breaker: {consecutive_failures: off, failure_rate: 12.5%, slow_call: {duration: 1s}, count: [5xx, 429]}",
    "breaker: {failures_in_window: 3, slow_call: off, half_open: {successes: 1}, mode: shadow, preset: prod}",
    "bulkhead: x",
    "bulkhead: {max_queue: 0, order: adaptive, adaptive: {min: 1, max: 2}}",
    "bulkhead: {adaptive: off}",
    "rate_limit: {limit: 10/s, key: 'header:X-A', burst: 5}",
    "rate_limit: {limit: 100/1m, key: global, fields: off}",
    "cache: {}",
    "cache: {fresh_for: off, stale_if_error: 1h, coalesce: false}",
    "fallback: off",
    "fallback: [stale, {stale: {}}, {static: {body: ''}}, {static: {headers: {X-A: b}}, when: [5xx]}]",
    "fallback: [{upstream: a}, {upstream: {name: a}}, {redirect: /a}, {redirect: {location: 'http://a/{path}'}}]",
    "fault: {abort: 503, percent: 5%, header: {X-A: '*'}, allow_in_production: true}",
    "fault: off",
]
STAGES_WRONG = [
    "retry: 3",
    "retry: on",
    "retry: {retries: -1}",
    "retry: {retries: off}",
    "retry: {retry_on: [4xx]}",
    "retry: {retry_on: [200]}",
    "retry: {retry_on: []}",
    "retry: {retry_on: 503}",
    "retry: {methods: POST}",
    "retry: {methods: []}",
    "retry: {multiplier: 0}",
    "retry: {budget: 20%}",
    "retry: {budget: {ratio: 20}}",
    "retry: {preset: seed-db}",
    "breaker: 5",
    "breaker: -x",
    "breaker: {consecutive_failures: 0}",
    "breaker: {failure_rate: 50}",
    "breaker: {slow_call: {}}",
    "breaker: {slow_call: 2s}",
    "breaker: {mode: on}",
    "breaker: {preset: seed}",
    "bulkhead: {max_concurrent: 0}",
    "bulkhead: {adaptive: {min: 1}}",
    "rate_limit: {}",
    "rate_limit: 10/s",
    "rate_limit: {limit: 10}",
    "rate_limit: {limit: 10/s, key: ip}",
    "cache: 1m",
    "cache: {fresh_for: 60}",
    "fallback: stale",
    "fallback: []",
    "fallback: [static]",
    "fallback: [{static: {status: 100}}]",
    "fallback: [{static: {content_type: json}}]",
    "fallback: [{static: {headers: {}}}]",
    "fallback: [{static: {headers: {A B: c}}}]",
    "fallback: [{redirect: a}]",
    "fallback: [{redirect: {location: /a, status: 301}}]",
    "fallback: [{stale: {}, when: []}]",
    "fallback: [{stale: {}, when: [open]}]",
    "fault: {abort: 200, allow_in_production: true}",
    "fault: {delay: 5, allow_in_production: true}",
    "fault: {header: X-A, delay: 5s, allow_in_production: true}",
]


@pytest.mark.parametrize(
    "change",
    [
        "listen: {admin: off}",
        "listen: {admin: unix:///run/admin.sock}",
        "headers: off",
        "headers: seed",
        "admin: {token: 0123456789abcdef, hosts: [a.example, 'b.example:8443', '[::1]']}",
        "telemetry: off",
        "telemetry: {}",
        "telemetry: {otel: off, sentry: off}",
        "telemetry: {otel: {endpoint: 'http://c:4318', headers: {X-A: b}, sample: 0.5%}}",
        "telemetry: {sentry: {dsn: 'https://a1@sentry.example/7', environment: live}}",
        "log: {format: console, level: debug, sample: 1%, query: true}",
        "reload: {watch: true}",
        "breakers: {x: {header: X-Status}}",
        "upstreams: {a: {url: http://a, health: off}}",
        "upstreams: {a: {url: http://a, health: {}}}",
        "upstreams: {a: {url: http://a, health: {expect: 200}}}",
        "upstreams: {a: {url: http://a, health: {expect: 200-399}}}",
        "upstreams: {a: {url: http://a, health: {expect: [200-299, 304], host: b.example, method: HEAD}}}",
    ],
)
def test_whatever_form_the_other_keys_may_have_is_accepted(change: str) -> None:
    text = LEAST.replace(UPSTREAM, "") if change.startswith("upstreams") else LEAST
    text = f"{text}{change}\n"

    assert (loadable(text), accepted(text)) == (True, True)


def with_stage(stage: str) -> str:
    shared = "breakers: {x: {}}\nbulkheads: {x: {}}\n"
    return f"version: 1\n{UPSTREAM}{shared}routes:\n  - {{name: r, upstream: a, {stage}}}\n"


@pytest.mark.parametrize("stage", STAGES_RIGHT)
def test_whatever_form_a_stage_may_have_is_accepted(stage: str) -> None:
    assert (loadable(with_stage(stage)), accepted(with_stage(stage))) == (True, True)


@pytest.mark.parametrize("stage", STAGES_WRONG)
def test_a_stage_in_a_wrong_form_is_refused(stage: str) -> None:
    assert (loadable(with_stage(stage)), accepted(with_stage(stage))) == (False, False)


@pytest.mark.parametrize(
    "text",
    [
        f"version: 2\n{UPSTREAM}{ROUTE}",
        f"{UPSTREAM}{ROUTE}",
        f"version: 1\n{UPSTREAM}",
        f"version: 1\n{ROUTE}",
        f"version: 1\nupstreams: {{}}\n{ROUTE}",
        f"version: 1\nupstreams: {{a: {{}}}}\n{ROUTE}",
        f"version: 1\nupstreams: {{a: {{url: a}}}}\n{ROUTE}",
        f"version: 1\nupstreams: {{a: {{url: http://a, health: /health}}}}\n{ROUTE}",
        f"version: 1\nupstreams: {{a: {{url: http://a, health: {{expect: 2xx}}}}}}\n{ROUTE}",
        f"version: 1\nupstreams: {{a: {{url: http://a, health: {{expect: []}}}}}}\n{ROUTE}",
        f"version: 1\nupstreams: {{a: {{url: http://a, health: {{path: health}}}}}}\n{ROUTE}",
        f"version: 1\nupstreams: {{a: {{url: http://a}}, b c: {{url: http://a}}}}\n{ROUTE}",
        f"version: 1\n{UPSTREAM}routes: []",
        f"version: 1\n{UPSTREAM}routes: {{}}",
        f"version: 1\n{UPSTREAM}routes: [{{upstream: a}}]",
        f"version: 1\n{UPSTREAM}routes: [{{name: _none, upstream: a}}]",
        f"version: 1\n{UPSTREAM}{ROUTE}listen: {{tls: {{certificate: a}}}}",
        f"version: 1\n{UPSTREAM}{ROUTE[:-3]}, match: {{path: a}}}}]",
        f"version: 1\n{UPSTREAM}{ROUTE[:-3]}, match: {{host: []}}}}]",
        f"version: 1\n{UPSTREAM}{ROUTE[:-3]}, match: {{methods: GET}}}}]",
        f"version: 1\n{UPSTREAM}{ROUTE[:-3]}, match: {{headers: {{A: 1}}}}}}]",
        f"version: 1\n{UPSTREAM}{ROUTE[:-3]}, match: {{path: /a, path_regex: /b}}}}]",
    ],
)
def test_what_is_missing_or_of_the_wrong_form_is_refused(text: str) -> None:
    assert (loadable(text), accepted(text)) == (False, False)


def test_defaults_are_told_as_one_would_write_them() -> None:
    schema = json_schema()
    limits, upstream, timeouts = (schema["$defs"][name] for name in ("Limits", "UpstreamConfig", "Timeouts"))

    assert {name: each["default"] for name, each in limits["properties"].items()} == {
        "connections": 10000,
        "head": "32KiB",
        "target": "8KiB",
        "fields": 100,
        "head_timeout": "10s",
        "keepalive_timeout": "75s",
        "half_close_grace": "1s",
    }
    assert "default" not in upstream["properties"]["url"]
    assert timeouts["properties"]["body"]["default"] == "off"
    assert schema["properties"]["trusted_proxies"]["default"] == []


def test_every_key_is_explained() -> None:
    schema = json_schema()
    models = [schema, *schema["$defs"].values()]

    unexplained = [
        name
        for model in models
        for name, each in model["properties"].items()
        if "description" not in each
        and "description" not in schema["$defs"].get(each.get("$ref", "").removeprefix("#/$defs/"), {})
    ]

    assert unexplained == []


def test_no_title_repeats_a_key() -> None:
    schema = json_schema()
    properties = [model["properties"] for model in (schema, *schema["$defs"].values())]

    assert [name for each in properties for name, key in each.items() if "title" in key] == []
