"""The metrics are an interface: their names, their labels, and that every configured series is there from the start."""

import threading
from collections.abc import Callable, Iterable
from typing import Any

import pytest
from prometheus_client import CollectorRegistry
from prometheus_client.exposition import choose_encoder
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families as parse_prometheus

from sidecar.counts import Histogram
from sidecar.errors import Disconnected
from sidecar.pipeline.assemble import Pipeline
from sidecar.pipeline.guards import Guards
from sidecar.pipeline.stages.attempt import RESULTS
from sidecar.pipeline.stages.ladder import Other
from sidecar.policy.fallback import Upstream as Fallback
from sidecar.telemetry.live import Live, UpstreamView
from sidecar.telemetry.metrics import registry
from sidecar.telemetry.record import Recorder
from sidecar.version import VERSION
from tests.support.exchanges import a_request, a_route
from tests.support.live import some_live
from tests.support.upstream import Upstream, answer, fail
from tests.support.virtual_time import in_virtual_time

Series = dict[tuple[str, frozenset[tuple[str, str]]], float]

FORMATS: dict[str, tuple[str, Callable[[str], Iterable[Any]]]] = {
    "prometheus": ("text/plain;version=0.0.4", parse_prometheus),
    "openmetrics": ("application/openmetrics-text;version=1.0.0", parse_openmetrics),
}


def a_live(recorder: Recorder, *pipelines: Pipeline, guards: Guards | None = None) -> Live:
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
    )


def a_recorder() -> Recorder:
    """Make a recorder of the routes `orders` and `_none`."""
    return Recorder(["orders", "_none"], keep=0, access_log="off", line=lambda _: None)


def scrape(made: CollectorRegistry, fmt: str = "prometheus") -> Series:
    """Scrape as Prometheus does, and parse what came with its own parser."""
    accept, parse = FORMATS[fmt]
    encode, _ = choose_encoder(accept)
    series: Series = {}
    for family in parse(encode(made).decode()):
        for sample in family.samples:
            key = (sample.name, frozenset(sample.labels.items()))
            assert key not in series, f"{key} stands there twice"
            series[key] = sample.value
    return series


def value(series: Series, name: str, **labels: str) -> float:
    """Give the value of one series."""
    return series[name, frozenset(labels.items())]


def own(series: Series) -> dict[str, set[frozenset[str]]]:
    """Give the label names of each metric of ours."""
    found: dict[str, set[frozenset[str]]] = {}
    for name, labels in series:
        if name.startswith("sidecar_"):
            found.setdefault(name, set()).add(frozenset(key for key, _ in labels))
    return found


NAMES = {
    "sidecar_requests_total": "route method code fate",
    "sidecar_request_duration_seconds_bucket": "route le",
    "sidecar_request_duration_seconds_count": "route",
    "sidecar_request_duration_seconds_sum": "route",
    "sidecar_upstream_attempts_total": "route upstream result",
    "sidecar_upstream_attempt_duration_seconds_bucket": "upstream le",
    "sidecar_upstream_attempt_duration_seconds_count": "upstream",
    "sidecar_upstream_attempt_duration_seconds_sum": "upstream",
    "sidecar_cache_bytes": "",
    "sidecar_cache_entries": "",
    "sidecar_cache_evicted_total": "",
    "sidecar_client_connections": "",
    "sidecar_client_connections_accepted_total": "",
    "sidecar_client_connections_refused_total": "",
    "sidecar_upstream_connections": "upstream state",
    "sidecar_tasks": "",
    "sidecar_log_lines_dropped_total": "",
    "sidecar_config_last_reload_successful": "",
    "sidecar_config_last_reload_timestamp_seconds": "",
    "sidecar_config_info": "hash",
    "sidecar_build_info": "version",
}


@pytest.mark.parametrize("fmt", FORMATS)
@in_virtual_time
async def test_the_names_and_labels_are_these_from_the_first_scrape(fmt: str) -> None:
    pipeline = a_route(Upstream(), name="orders").pipeline

    series = scrape(registry(a_live(a_recorder(), pipeline)), fmt)

    assert own(series) == {name: {frozenset(labels.split())} for name, labels in NAMES.items()}


@pytest.mark.parametrize("fmt", FORMATS)
@in_virtual_time
async def test_every_series_of_a_configured_name_is_there_at_0_before_the_first_request(fmt: str) -> None:
    pipeline = a_route(Upstream(), name="orders").pipeline

    series = scrape(registry(a_live(a_recorder(), pipeline)), fmt)

    for route in ("orders", "_none"):
        assert value(series, "sidecar_requests_total", route=route, method="GET", code="200", fate="ok") == 0
        assert value(series, "sidecar_request_duration_seconds_count", route=route) == 0
    for result in RESULTS:
        labels = {"route": "orders", "upstream": "an-upstream", "result": str(result)}
        assert value(series, "sidecar_upstream_attempts_total", **labels) == 0
    assert value(series, "sidecar_upstream_attempt_duration_seconds_count", upstream="an-upstream") == 0


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
    series = scrape(registry(a_live(a_recorder())))

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

    series = scrape(registry(live), fmt)

    requests = {
        (dict(labels)["method"], dict(labels)["code"], dict(labels)["fate"]): number
        for (name, labels), number in series.items()
        if name == "sidecar_requests_total" and dict(labels)["route"] == "orders"
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

    series = scrape(registry(a_live(a_recorder(), route.pipeline)))

    for upstream, result in (("an-upstream", "upstream_disconnected"), ("spare", "ok")):
        labels = {"route": "orders", "upstream": upstream, "result": result}
        assert value(series, "sidecar_upstream_attempts_total", **labels) == 1


@pytest.mark.parametrize("name", ["with space", 'quo"te', "back\\slash", "new\nline", "ünï"])
@pytest.mark.parametrize("fmt", FORMATS)
def test_a_label_may_hold_any_text(name: str, fmt: str) -> None:
    recorder = Recorder([name], keep=0, access_log="off", line=lambda _: None)

    series = scrape(registry(a_live(recorder)), fmt)

    assert value(series, "sidecar_request_duration_seconds_count", route=name) == 0


def test_the_process_and_its_collector_are_shown_too() -> None:
    names = {name for name, _ in scrape(registry(a_live(a_recorder())))}

    assert {
        "process_resident_memory_bytes",
        "process_open_fds",
        "python_info",
        "python_gc_collections_total",
    } <= names


def test_two_registries_do_not_know_each_other() -> None:
    first = scrape(registry(a_live(a_recorder())))

    assert own(first) == own(scrape(registry(a_live(a_recorder()))))


def test_a_scrape_in_another_thread_does_not_disturb_the_counting() -> None:
    recorder = a_recorder()
    made = registry(a_live(recorder))
    failures: list[BaseException] = []

    def scrape_often() -> None:
        try:
            for _ in range(20):
                scrape(made)
        except BaseException as error:  # noqa: BLE001 -- a thread's exception would be lost
            failures.append(error)

    thread = threading.Thread(target=scrape_often, daemon=True)
    thread.start()
    requests = recorder.by_route["orders"].requests
    while thread.is_alive():
        requests.clear()
        for status in range(100, 200):
            requests[(b"GET", status, "ok")] = 1
    thread.join()

    assert failures == []
