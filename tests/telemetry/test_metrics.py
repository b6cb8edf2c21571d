"""The metrics are an interface: their names, their labels, and that every configured series is there from the start."""

import asyncio
from math import isnan
from typing import Any

import pytest

from sidecar.counts import Histogram
from sidecar.errors import Disconnected
from sidecar.fate import Fate
from sidecar.pipeline.assemble import Pipeline
from sidecar.pipeline.guards import Guards
from sidecar.pipeline.stages.attempt import RESULTS, AttemptStage
from sidecar.pipeline.stages.ladder import Other
from sidecar.policy.fallback import Upstream as Fallback
from sidecar.policy.health import Health, HealthSettings
from sidecar.runtime.live import put_in_force
from sidecar.telemetry.lag import LagMeter
from sidecar.telemetry.live import Live, Maintained, UpstreamView
from sidecar.telemetry.metrics import registry
from sidecar.telemetry.otel import Tracer
from sidecar.telemetry.rates import Rates
from sidecar.telemetry.record import Recorder
from sidecar.version import VERSION
from tests.support.exchanges import a_request, a_route
from tests.support.live import engine_from, live_from, some_live
from tests.support.scrapes import FORMATS, label_names, scrape, value
from tests.support.upstream import Upstream, answer, fail
from tests.support.virtual_time import in_virtual_time

# Everything that can be configured, and probes and lag as a program that runs has them.
EVERYTHING = """
version: 1
upstreams: {app: {url: "http://127.0.0.1:9"}, spare: {url: "http://127.0.0.1:10"}}
breakers: {shared: {consecutive_failures: 3}}
bulkheads: {pool: {max_concurrent: 2}}
routes:
  - name: orders
    match: {path: /orders/**}
    upstream: app
    rate_limit: {limit: 5/1m}
    cache: {}
    retry: {retries: 2}
    breaker: shared
    bulkhead: pool
    fallback: [stale, {static: {status: 203, body: none}}, {upstream: spare}, {redirect: {location: "/sorry"}}]
    fault: {delay: 1ms, percent: 1%, allow_in_production: true}
  - {name: bare, match: {path: /bare}, upstream: app, retry: off}
"""


def a_live(recorder: Recorder, *pipelines: Pipeline, guards: Guards | None = None, **more: Any) -> Live:
    """Make what the metrics read, with one upstream."""
    view = UpstreamView(
        url="http://127.0.0.1:1",
        max_connections=10,
        open=lambda: 5,
        idle=lambda: 3,
        reconnected=lambda: 2,
        seconds=Histogram(),
    )
    return some_live(
        recorder=recorder,
        pipelines=pipelines,
        guards=guards or Guards(),
        upstreams={"an-upstream": view},
        connections=lambda: 7,
        accepted=lambda: 70,
        refused=lambda: 3,
        tasks=lambda: 4,
        log_dropped=lambda: 1,
        loaded_at=1_700_000_000.0,
        **more,
    )


def a_recorder() -> Recorder:
    """Make a recorder of the routes `orders` and `_none`."""
    return Recorder(["orders", "_none"], keep=0, access_log="off", line=lambda _: None)


def everything() -> Live:
    """Give what a program shows that has all there is."""
    loop = asyncio.get_running_loop()
    live = live_from(EVERYTHING)
    live.health = {"app": Health(HealthSettings())}
    live.lag = LagMeter(loop)
    live.changes = {("reset", "done"): 0}
    return live


NAMES = {
    "sidecar_requests_total": "route method code fate",
    "sidecar_request_duration_seconds_bucket": "route le",
    "sidecar_request_duration_seconds_count": "route",
    "sidecar_request_duration_seconds_sum": "route",
    "sidecar_upstream_attempts_total": "route upstream result",
    "sidecar_upstream_attempt_duration_seconds_bucket": "upstream le",
    "sidecar_upstream_attempt_duration_seconds_count": "upstream",
    "sidecar_upstream_attempt_duration_seconds_sum": "upstream",
    "sidecar_upstream_connections": "upstream state",
    "sidecar_upstream_availability_ratio": "upstream",
    "sidecar_upstream_healthy": "upstream",
    "sidecar_upstream_probe_latency_seconds": "upstream",
    "sidecar_upstream_probes_total": "upstream result",
    "sidecar_retries_total": "route reason",
    "sidecar_retry_blocked_total": "route reason",
    "sidecar_retry_budget_balance": "upstream",
    "sidecar_breaker_state": "breaker state",
    "sidecar_breaker_enforced": "breaker",
    "sidecar_breaker_transitions_total": "breaker from to cause",
    "sidecar_breaker_rejected_total": "breaker",
    "sidecar_breaker_open_seconds_total": "breaker",
    "sidecar_breaker_recovery_seconds_bucket": "breaker le",
    "sidecar_breaker_recovery_seconds_count": "breaker",
    "sidecar_breaker_recovery_seconds_sum": "breaker",
    "sidecar_bulkhead_in_use": "bulkhead",
    "sidecar_bulkhead_limit": "bulkhead",
    "sidecar_bulkhead_queued": "bulkhead",
    "sidecar_bulkhead_admitted_total": "bulkhead",
    "sidecar_bulkhead_rejected_total": "bulkhead reason",
    "sidecar_bulkhead_queue_wait_seconds_bucket": "bulkhead le",
    "sidecar_bulkhead_queue_wait_seconds_count": "bulkhead",
    "sidecar_bulkhead_queue_wait_seconds_sum": "bulkhead",
    "sidecar_rate_limit_decisions_total": "route decision",
    "sidecar_rate_limit_keys": "route",
    "sidecar_rate_limit_evicted_total": "route",
    "sidecar_fallback_total": "route source cause",
    "sidecar_faults_injected_total": "route kind",
    "sidecar_cache_requests_total": "route result",
    "sidecar_cache_bytes": "",
    "sidecar_cache_entries": "",
    "sidecar_cache_evicted_total": "",
    "sidecar_maintenance": "route",
    "sidecar_ready": "",
    "sidecar_client_connections": "",
    "sidecar_client_connections_accepted_total": "",
    "sidecar_client_connections_refused_total": "",
    "sidecar_tasks": "",
    "sidecar_event_loop_lag_seconds_bucket": "le",
    "sidecar_event_loop_lag_seconds_count": "",
    "sidecar_event_loop_lag_seconds_sum": "",
    "sidecar_event_loop_lag_worst_seconds": "",
    "sidecar_memory_limit_bytes": "",
    "sidecar_log_lines_dropped_total": "",
    "sidecar_admin_requests_total": "action outcome",
    "sidecar_config_reloads_total": "result",
    "sidecar_config_last_reload_successful": "",
    "sidecar_config_last_reload_timestamp_seconds": "",
    "sidecar_config_info": "hash",
    "sidecar_build_info": "version",
}


@pytest.mark.parametrize("fmt", FORMATS)
@in_virtual_time
async def test_the_names_and_labels_are_these_from_the_first_scrape(fmt: str) -> None:
    live = everything()

    series = scrape(registry(live, Rates(live, asyncio.get_running_loop())), fmt)

    assert label_names(series) == {name: {frozenset(labels.split())} for name, labels in NAMES.items()}


@in_virtual_time
async def test_every_series_is_at_0_before_the_first_request_but_those_that_say_what_there_is() -> None:
    series = scrape(everything())

    told = {
        (name, *sorted(labels)): number
        for (name, labels), number in series.items()
        if number and name.startswith("sidecar_")
    }
    states = {key for key in told if key[0] in {"sidecar_breaker_state", "sidecar_breaker_enforced"}}
    assert states == {
        ("sidecar_breaker_state", ("breaker", "shared"), ("state", "CLOSED")),
        ("sidecar_breaker_enforced", ("breaker", "shared")),
    }
    assert {key[0] for key in told.keys() - states} == {
        "sidecar_build_info",
        "sidecar_bulkhead_limit",
        "sidecar_config_info",
        "sidecar_config_last_reload_successful",
        "sidecar_config_last_reload_timestamp_seconds",
        "sidecar_memory_limit_bytes",
        "sidecar_ready",
        "sidecar_retry_budget_balance",
        "sidecar_tasks",
        "sidecar_upstream_healthy",
    }


@in_virtual_time
async def test_the_ends_that_a_request_can_come_to_are_there_by_what_its_route_does() -> None:
    series = scrape(everything())

    def fates(route: str) -> set[tuple[str, str, str]]:
        return {
            (found["method"], found["code"], found["fate"])
            for (name, labels) in series
            if name == "sidecar_requests_total" and (found := dict(labels))["route"] == route
        }

    bare = {
        ("GET", "200", "ok"),
        ("GET", "499", "client_gone"),
        ("GET", "500", "internal"),
        ("GET", "500", "upstream_status"),
        ("GET", "502", "upstream_status"),
        ("GET", "503", "upstream_status"),
        ("GET", "504", "upstream_status"),
        ("GET", "502", "upstream_bad_response"),
        ("GET", "502", "upstream_connect"),
        ("GET", "502", "upstream_disconnected"),
        ("GET", "503", "maintenance"),
        ("GET", "503", "rejected_overload"),
        ("GET", "504", "timeout_attempt"),
    }
    assert fates("bare") == bare
    assert fates("orders") - bare == {
        ("GET", "200", "cache_fresh"),
        ("GET", "200", "cache_stale"),
        ("GET", "200", "coalesced"),
        ("GET", "200", "fallback_stale"),
        ("GET", "200", "fallback_upstream"),
        ("GET", "200", "ok_after_retry"),
        ("GET", "203", "fallback_static"),
        ("GET", "302", "fallback_redirect"),
        ("GET", "429", "rejected_rate_limit"),
        ("GET", "503", "rejected_breaker_open"),
        ("GET", "503", "rejected_bulkhead_full"),
        ("GET", "503", "rejected_queue_timeout"),
        ("GET", "504", "timeout_total"),
    }
    assert fates("_none") == {("GET", "404", "no_route"), ("_OTHER", "400", "bad_request")}


@in_virtual_time
async def test_attempts_are_there_by_every_result_before_the_first() -> None:
    series = scrape(everything())

    for route, upstream in (("orders", "app"), ("orders", "spare"), ("bare", "app")):
        for result in RESULTS:
            labels = {"route": route, "upstream": upstream, "result": str(result)}
            assert value(series, "sidecar_upstream_attempts_total", **labels) == 0


@pytest.mark.parametrize("fmt", FORMATS)
def test_what_is_read_is_what_is_there_now(fmt: str) -> None:
    live = a_live(a_recorder())
    made = registry(live)

    series = scrape(made, fmt)

    assert value(series, "sidecar_client_connections") == 7
    assert value(series, "sidecar_client_connections_accepted_total") == 70
    assert value(series, "sidecar_client_connections_refused_total") == 3
    assert value(series, "sidecar_upstream_connections", upstream="an-upstream", state="idle") == 3
    assert value(series, "sidecar_upstream_connections", upstream="an-upstream", state="busy") == 2
    assert value(series, "sidecar_tasks") == 4
    assert value(series, "sidecar_log_lines_dropped_total") == 1
    assert value(series, "sidecar_config_last_reload_successful") == 1
    assert value(series, "sidecar_config_last_reload_timestamp_seconds") == 1_700_000_000
    assert value(series, "sidecar_config_info", hash=live.loaded.digest) == 1
    assert value(series, "sidecar_build_info", version=VERSION) == 1
    live.reload_ok = False
    assert value(scrape(made, fmt), "sidecar_config_last_reload_successful") == 0


@in_virtual_time
async def test_a_reconnection_is_counted_as_an_attempt_of_its_own_kind() -> None:
    series = scrape(a_live(a_recorder()))

    reconnected = [
        (dict(labels)["upstream"], number)
        for (name, labels), number in series.items()
        if name == "sidecar_upstream_attempts_total" and dict(labels)["result"] == "reconnected"
    ]
    assert reconnected == [("an-upstream", 2)]


@pytest.mark.parametrize("fmt", FORMATS)
@in_virtual_time
async def test_what_happened_is_counted(fmt: str) -> None:
    recorder = a_recorder()
    route = a_route(Upstream(answer(after=0.02), fail(Disconnected(), after=3), answer(201)), name="orders")
    for request in (a_request(), a_request(), a_request("BREW")):
        await route.ask(request)
    for exchange in route.done:
        recorder(exchange)
    live = a_live(recorder, route.pipeline)
    live.upstreams = {"an-upstream": UpstreamView("", 1, lambda: 0, lambda: 0, lambda: 0, route.seconds)}

    series = scrape(live, fmt)

    requests = {
        (dict(labels)["method"], dict(labels)["code"], dict(labels)["fate"]): number
        for (name, labels), number in series.items()
        if name == "sidecar_requests_total" and dict(labels)["route"] == "orders" and number
    }
    assert requests == {
        ("GET", "200", "ok"): 1,
        ("GET", "502", "upstream_disconnected"): 1,
        ("_OTHER", "201", "ok"): 1,
    }
    assert value(series, "sidecar_request_duration_seconds_count", route="orders") == 3
    assert value(series, "sidecar_request_duration_seconds_sum", route="orders") == pytest.approx(3.02)
    assert value(series, "sidecar_request_duration_seconds_bucket", route="orders", le="0.025") == 2
    assert value(series, "sidecar_upstream_attempt_duration_seconds_count", upstream="an-upstream") == 3
    labels = {"route": "orders", "upstream": "an-upstream"}
    assert value(series, "sidecar_upstream_attempts_total", **labels, result="ok") == 2
    assert value(series, "sidecar_upstream_attempts_total", **labels, result="upstream_disconnected") == 1


@in_virtual_time
async def test_attempts_at_the_upstream_of_a_fallback_are_counted_as_its_own() -> None:
    steps = (Fallback("spare"), Fallback("spare", when=frozenset({"timeout"})))
    others = {"spare": Other(Upstream(answer(200)), Histogram())}
    route = a_route(Upstream(fail(Disconnected())), name="orders", fallback=steps, others=others)
    await route.get()

    series = scrape(a_live(a_recorder(), route.pipeline))

    for upstream, result in (("an-upstream", "upstream_disconnected"), ("spare", "ok")):
        labels = {"route": "orders", "upstream": upstream, "result": result}
        assert value(series, "sidecar_upstream_attempts_total", **labels) == 1


def test_the_process_and_its_collector_are_shown_too() -> None:
    names = {name for name, _ in scrape(a_live(a_recorder()))}

    assert {
        "process_resident_memory_bytes",
        "process_open_fds",
        "python_info",
        "python_gc_collections_total",
    } <= names


@in_virtual_time
async def test_the_availability_of_an_upstream_is_the_share_of_attempts_of_the_last_minute_that_did_not_fail() -> (
    None
):
    live = live_from(EVERYTHING)
    rates = Rates(live, asyncio.get_running_loop())
    rates.start()
    metrics = registry(live, rates)
    attempt = live.pipelines[0].find(AttemptStage)
    assert attempt is not None

    def availability() -> float:
        return value(scrape(metrics), "sidecar_upstream_availability_ratio", upstream="app")

    before = availability()
    attempt.counts["ok"] += 3
    attempt.counts[Fate.UPSTREAM_CONNECT] += 1
    attempt.counts["cancelled"] += 6  # says nothing of the upstream
    during = availability()
    await asyncio.sleep(70)
    after = availability()
    rates.stop()

    assert (isnan(before), during, isnan(after)) == (True, 0.75, True)


def test_probes_tell_whether_an_upstream_is_well() -> None:
    health = Health(HealthSettings(fall=2, rise=1))
    metrics = registry(a_live(a_recorder(), health={"an-upstream": health}))

    def told() -> tuple[float, ...]:
        series = scrape(metrics)
        return (
            value(series, "sidecar_upstream_healthy", upstream="an-upstream"),
            value(series, "sidecar_upstream_probe_latency_seconds", upstream="an-upstream"),
            value(series, "sidecar_upstream_probes_total", upstream="an-upstream", result="passed"),
            value(series, "sidecar_upstream_probes_total", upstream="an-upstream", result="failed"),
        )

    seen = [told()]
    health.passed(1.0, 0.025)
    seen.append(told())
    for at in (2.0, 3.0):
        health.failed(at, "refused")
    seen.append(told())

    assert seen == [(1, 0, 0, 0), (1, 0.025, 1, 0), (0, 0.025, 1, 2)]


@in_virtual_time
async def test_maintenance_reloads_and_what_admin_requests_changed_are_shown() -> None:
    live = everything()
    metrics = registry(live)
    live.maintenance["bare"] = Maintained(0.0, 30.0)
    live.changes["reset", "done"] = 2
    live.changes["maintenance", "refused"] = 1
    live.reloads["refused"] = 3

    series = scrape(metrics)

    assert value(series, "sidecar_maintenance", route="bare") == 1
    assert value(series, "sidecar_maintenance", route="orders") == 0
    assert value(series, "sidecar_admin_requests_total", action="reset", outcome="done") == 2
    assert value(series, "sidecar_admin_requests_total", action="maintenance", outcome="refused") == 1
    assert value(series, "sidecar_config_reloads_total", result="refused") == 3
    assert value(series, "sidecar_config_reloads_total", result="ok") == 0


@in_virtual_time
async def test_who_should_get_no_traffic_says_so() -> None:
    live = everything()
    metrics = registry(live)

    ready = [value(scrape(metrics), "sidecar_ready")]
    live.not_ready = "draining"
    ready.append(value(scrape(metrics), "sidecar_ready"))

    assert ready == [1, 0]


@in_virtual_time
async def test_the_lag_of_the_event_loop_is_shown() -> None:
    live = everything()
    assert live.lag is not None
    live.lag.seconds.observe(0.2)

    series = scrape(live)

    assert value(series, "sidecar_event_loop_lag_seconds_count") == 1
    assert value(series, "sidecar_event_loop_lag_seconds_bucket", le="0.1") == 0
    assert value(series, "sidecar_event_loop_lag_seconds_bucket", le="0.25") == 1


@in_virtual_time
async def test_after_a_reload_what_is_new_is_shown_and_what_is_gone_is_not() -> None:
    live = everything()
    metrics = registry(live)
    before = scrape(metrics)
    put_in_force(live, engine_from(EVERYTHING.replace("name: bare", "name: new")))

    after = scrape(metrics)

    key = ("sidecar_request_duration_seconds_count", frozenset({("route", "new")}))
    gone = ("sidecar_request_duration_seconds_count", frozenset({("route", "bare")}))
    assert (key in before, gone in before) == (False, True)
    assert (key in after, gone in after) == (True, False)


def test_what_became_of_spans_is_shown_where_there_are_any() -> None:
    tracer = Tracer("http://127.0.0.1:9/v1/traces")
    try:
        with_tracer = scrape(a_live(a_recorder(), tracer=tracer))
        without = scrape(a_live(a_recorder()))
    finally:
        tracer.close()

    for result in ("exported", "failed", "dropped"):
        assert value(with_tracer, "sidecar_trace_spans_total", result=result) == 0
    assert "sidecar_trace_spans_total" not in label_names(without)


def test_two_registries_do_not_know_each_other() -> None:
    first = scrape(a_live(a_recorder()))

    assert label_names(first) == label_names(scrape(a_live(a_recorder())))
