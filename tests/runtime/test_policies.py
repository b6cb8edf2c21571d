"""What the file says in people's words is what the policy objects decide by: each key, with no default in its way."""

import asyncio
from pathlib import Path

import pytest

from sidecar.config.load import load_file, load_text
from sidecar.config.model import Config
from sidecar.counts import Histogram
from sidecar.errors import StartFailed
from sidecar.message import IDEMPOTENT, Reply
from sidecar.pipeline.assemble import Policy
from sidecar.pipeline.exchange import Exchange
from sidecar.pipeline.guards import Guards
from sidecar.pipeline.stages.ladder import Other
from sidecar.policy.breaker import BreakerSettings
from sidecar.policy.budget import BudgetSettings
from sidecar.policy.bulkhead import BulkheadSettings
from sidecar.policy.cache import CacheSettings
from sidecar.policy.fallback import CAUSES, READS, Mock, Redirect, Stale, Static, Upstream
from sidecar.policy.fault import FaultSettings
from sidecar.policy.ratelimit import RateLimitSettings
from sidecar.policy.retry import RetrySettings
from sidecar.runtime.policies import guards, policy

HEAD = """
version: 1
profile: development
upstreams: {a: {url: http://127.0.0.1:1}, b: {url: http://127.0.0.1:2}}
"""

FULL = """
breakers:
  named: {failure_rate: 40%, window: 20s, min_requests: 7, mode: shadow}
bulkheads:
  pool: {max_concurrent: 3, max_queue: 0, queue_timeout: 250ms, order: lifo}
store: {max_bytes: 1MiB, max_entries: 11, max_body: 2KiB}
routes:
  - name: full
    match: {path: /full}
    upstream: a
    timeout: {attempt: 1s, total: 20s, idle: 3s, body: 4s}
    max_body: 5KiB
    retry:
      retries: 4
      strategy: decorrelated
      base: 10ms
      multiplier: 3
      max: 50ms
      jitter: equal
      retry_on: [connect_error, bad_response, 503, 429]
      methods: [GET, POST]
      require: Idempotency-Key
      body_buffer: 3KiB
      retry_after: {max: 7s}
      budget: {ratio: 10%, min_per_second: 2, window: 30s}
    breaker:
      consecutive_failures: 9
      failures_in_window: 8
      failure_rate: 70%
      slow_call: {duration: 900ms, rate: 60%}
      window: 50s
      min_requests: 12
      open_for: 6s
      open_multiplier: 2
      open_jitter: 5%
      open_max: 1m
      count: [500, 429]
      half_open: {max_concurrent: 2, successes: 3, max_wait: 4s}
    bulkhead:
      max_concurrent: 6
      max_queue: 5
      queue_timeout: 300ms
      order: adaptive
      target: 50ms
      adaptive: {min: 2, max: 9}
    rate_limit:
      {limit: 30/1m, algorithm: token_bucket, key: "header:X-Key", burst: 40, max_keys: 99, fields: legacy, mode: shadow}
    cache: {fresh_for: 1m, stale_while_revalidate: 2m, stale_if_error: 3m, coalesce: false, override_origin: true}
    fallback:
      - {stale: {max_age: 6m, override_origin: true}, when: [breaker_open, 5xx]}
      - {static: {status: 202, content_type: application/json, body: "[]", headers: {X-Kind: none}}, methods: [GET, POST]}
      - {mock: {body: "{path}"}}
      - {upstream: {name: b, timeout: 700ms}, when: [timeout]}
      - {redirect: {location: "https://example.com{path}", status: 307}}
    fault: {delay: 8ms, abort: 503, percent: 25%, header: {X-Fault: "yes"}}
  - {name: shared, match: {path: /shared}, upstream: a, breaker: named, bulkhead: pool, retry: off}
"""


def made(text: str) -> tuple[Config, Guards, list[Policy]]:
    """Load `text`, and make its guards and the policies of its routes."""

    async def nobody(_: Exchange) -> Reply:
        raise AssertionError

    config = load_text(HEAD + text).config
    live = guards(config, lambda: 0.5, 100.0)[0]
    others = {name: Other(nobody, Histogram()) for name in config.upstreams}
    return config, live, [policy(route, config, live, others) for route in config.routes]


def test_every_word_about_a_breaker_arrives() -> None:
    _, live, _ = made(FULL)

    assert live.breakers["full"].settings == BreakerSettings(
        consecutive_failures=9,
        failures_in_window=8,
        failure_rate=0.7,
        slow_duration=0.9,
        slow_rate=0.6,
        window=50.0,
        min_requests=12,
        open_for=6.0,
        open_multiplier=2.0,
        open_jitter=0.05,
        open_max=60.0,
        count=frozenset({500, 429}),
        max_trials=2,
        successes=3,
        max_wait=4.0,
    )
    assert live.breakers["named"].settings == BreakerSettings(
        consecutive_failures=None, failure_rate=0.4, window=20.0, min_requests=7
    )


def test_the_field_that_shows_a_breaker_is_that_of_the_breaker_in_force() -> None:
    text = """
version: 1
upstreams: {a: {url: http://a}}
breakers: {named: {header: X-Database-Status}}
routes:
  - {name: names, upstream: a, match: {path: /1}, breaker: named}
  - {name: own, upstream: a, match: {path: /2}, breaker: {header: X-Own-Status}}
  - {name: silent, upstream: a, match: {path: /3}, breaker: {}}
  - {name: none, upstream: a}
"""
    config = load_text(text, env={}).config
    made, _ = guards(config, lambda: 0.5, 0.0)

    shown = {route.name: policy(route, config, made, {}).breaker_header for route in config.routes}

    assert shown == {"names": "X-Database-Status", "own": "X-Own-Status", "silent": None, "none": None}


def test_a_breaker_without_a_word_has_the_one_trigger_that_its_profile_says() -> None:
    _, live, _ = made("routes: [{name: r, upstream: a, breaker: {}}]")

    settings = live.breakers["r"].settings
    assert (settings.consecutive_failures, settings.failures_in_window, settings.failure_rate) == (
        10,
        None,
        None,
    )


def test_every_word_about_a_bulkhead_arrives() -> None:
    _, live, _ = made(FULL)

    assert {name: each.settings for name, each in live.bulkheads.items()} == {
        "full": BulkheadSettings(6, 5, 0.3, "adaptive", 0.05, (2, 9)),
        "pool": BulkheadSettings(3, 0, 0.25, "lifo"),
    }


def test_every_word_about_retries_arrives() -> None:
    _, live, (full, shared) = made(FULL)

    assert full.retry == RetrySettings(
        retries=4,
        strategy="decorrelated",
        base=0.01,
        multiplier=3.0,
        max=0.05,
        jitter="equal",
        conditions=frozenset({"connect_error", "bad_response"}),
        statuses=frozenset({503, 429}),
        methods=frozenset({b"GET", b"POST"}),
        require=b"idempotency-key",
        body_buffer=3 << 10,
        retry_after_max=7.0,
    )
    assert full.budget is live.budgets["a"]
    assert live.budgets["a"].settings == BudgetSettings(0.1, 2.0, 30.0)
    assert (shared.retry, shared.budget) == (None, None)


@pytest.mark.parametrize(
    ("words", "methods"), [("idempotent", IDEMPOTENT), ("all", None), ("[PUT]", frozenset({b"PUT"}))]
)
def test_methods_are_those_that_are_meant(words: str, methods: frozenset[bytes] | None) -> None:
    _, _, (only,) = made(f"routes: [{{name: r, upstream: a, retry: {{methods: {words}}}}}]")

    assert only.retry is not None
    assert only.retry.methods == methods


def test_no_retries_are_no_stage_and_no_budget() -> None:
    _, live, (only,) = made("routes: [{name: r, upstream: a, retry: {retries: 0}}]")

    assert (only.retry, only.budget, dict(live.budgets)) == (None, None, {})


def test_a_budget_may_be_off() -> None:
    _, live, (only,) = made("routes: [{name: r, upstream: a, retry: {budget: off}}]")

    assert only.retry is not None
    assert (only.budget, dict(live.budgets)) == (None, {})


def test_every_word_about_a_rate_limit_arrives() -> None:
    _, live, (full, _) = made(FULL)

    assert live.limiters["full"].settings == RateLimitSettings(
        30, 60.0, "token_bucket", 40, 99, "header:X-Key"
    )
    assert (full.rate_limit, full.rate_limit_key, full.rate_limit_fields) == (
        live.limiters["full"],
        "header:X-Key",
        "legacy",
    )


def test_a_global_limit_is_one_for_all_its_routes() -> None:
    limit = "rate_limit: {limit: 5/1s, key: global}"
    routes = [f"{{name: {name}, match: {{path: /{name}}}, upstream: a, {limit}}}" for name in "xy"]
    _, live, (x, y) = made(f"routes: [{', '.join(routes)}]")

    assert x.rate_limit is y.rate_limit is live.limiters["x"]


def test_every_word_about_the_cache_arrives() -> None:
    _, live, (full, shared) = made(FULL)

    assert full.cache == CacheSettings(
        fresh_for=60.0,
        stale_while_revalidate=120.0,
        stale_if_error=180.0,
        coalesce=False,
        override_origin=True,
        keep_for=360.0,
        serve_fresh=True,
        max_body=2 << 10,
    )
    assert live.store is not None
    assert full.store is live.store
    assert shared.cache is None
    assert full.invalidates == shared.invalidates == ("full",)


def test_a_stale_step_alone_keeps_copies_and_serves_nothing_from_them_while_all_is_well() -> None:
    _, live, (only,) = made("routes: [{name: r, upstream: a, fallback: [stale]}]")

    assert only.cache is not None
    assert (only.cache.serve_fresh, only.cache.coalesce, only.cache.keep_for) == (False, False, 300.0)
    assert live.store is not None


def test_without_copies_there_is_no_store() -> None:
    _, live, (only,) = made("routes: [{name: r, upstream: a}]")

    assert (live.store, only.store, only.cache, only.invalidates) == (None, None, None, ())


def test_every_step_of_a_fallback_arrives() -> None:
    _, _, (full, _) = made(FULL)
    stale, static, mock, upstream, redirect = full.fallback

    assert stale == Stale(360.0, override_origin=True, when=frozenset({"breaker_open", "5xx"}))
    assert static == Static(
        202,
        b"application/json",
        b"[]",
        ((b"X-Kind", b"none"),),
        methods=frozenset({b"GET", b"POST"}),
    )
    assert isinstance(mock, Mock)
    assert (mock.status, mock.body, mock.methods) == (200, b"{path}", READS)
    assert upstream == Upstream("b", 0.7, when=frozenset({"timeout"}), methods=IDEMPOTENT)
    assert redirect == Redirect(b"https://example.com{path}", 307)
    assert mock.when == frozenset(CAUSES)
    assert list(full.others) == ["b"]


def test_the_body_of_a_step_may_stand_in_a_file(tmp_path: Path) -> None:
    (tmp_path / "answer.json").write_text('{"from": "a file"}')
    file = tmp_path / "sidecar.yaml"
    step = "{static: {content_type: application/json, file: answer.json}}"
    file.write_text(f"{HEAD}\nroutes: [{{name: r, upstream: a, fallback: [{step}]}}]")
    config = load_file(file).config
    (route,) = config.routes

    (static,) = policy(route, config, Guards(), {}).fallback

    assert isinstance(static, Static)
    assert static.body == b'{"from": "a file"}'
    (tmp_path / "answer.json").unlink()
    with pytest.raises(StartFailed, match=r"answer\.json: cannot be read"):
        policy(route, config, Guards(), {})


def test_every_word_about_faults_arrives() -> None:
    _, _, (full, _) = made(FULL)

    assert full.fault == FaultSettings(delay=0.008, abort=503, percent=25.0, header=(b"x-fault", b"yes"))
    _, _, (any_value,) = made('routes: [{name: r, upstream: a, fault: {reset: true, header: {X-F: "*"}}}]')
    assert any_value.fault == FaultSettings(reset=True, percent=100.0, header=(b"x-f", None))
    _, _, (cut,) = made("routes: [{name: r, upstream: a, fault: {truncate: 10B}}]")
    assert cut.fault == FaultSettings(truncate=10, percent=100.0)


def test_shadows_are_those_of_the_route_and_of_what_it_names() -> None:
    _, _, (full, shared) = made(FULL)

    assert (full.shadow, shared.shadow) == (frozenset({"rate_limit"}), frozenset({"breaker"}))


@pytest.mark.parametrize(
    ("key", "rest"),
    [("breaker", ""), ("bulkhead", ""), ("rate_limit", "limit: 1/1s, ")],
)
def test_what_is_off_is_not_there(key: str, rest: str) -> None:
    _, live, (only,) = made(f"routes: [{{name: r, upstream: a, {key}: {{{rest}mode: off}}}}]")

    assert getattr(only, key) is None
    assert (dict(live.breakers), dict(live.bulkheads), dict(live.limiters)) == ({}, {}, {})


def test_routes_that_name_a_guard_share_it() -> None:
    _, live, (one, two) = made(
        """
breakers: {db: {}}
bulkheads: {pool: {}}
routes:
  - {name: one, match: {path: /one}, upstream: a, breaker: db, bulkhead: pool}
  - {name: two, match: {path: /two}, upstream: b, breaker: db, bulkhead: pool}
"""
    )

    assert one.breaker is two.breaker is live.breakers["db"]
    assert one.bulkhead is two.bulkhead is live.bulkheads["pool"]
    assert one.budget is not two.budget


async def test_the_guards_live_on_the_loop_s_time() -> None:
    config = load_text(HEAD + "routes: [{name: r, upstream: a}]").config
    now = asyncio.get_running_loop().time()

    assert guards(config, lambda: 0.5, now)[0].budgets["a"].balance(now) == 10.0
