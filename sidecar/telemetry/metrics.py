"""Prometheus metrics, read from the live objects at scrape time: a request pays no label look-up and no lock.

Names, labels and meanings are an interface (see the README); every series of a configured name exists at 0 from the
first scrape, and labels come only from configured names or closed sets.
"""

from collections.abc import Iterable, Mapping

from prometheus_client import CollectorRegistry, GCCollector, PlatformCollector, ProcessCollector
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from sidecar.fate import Fate
from sidecar.pipeline.assemble import Pipeline
from sidecar.pipeline.stages.attempt import AttemptStage
from sidecar.pipeline.stages.fallback import FallbackStage
from sidecar.pipeline.stages.ladder import OtherStep
from sidecar.telemetry.live import Live
from sidecar.telemetry.policies import policy_metrics
from sidecar.telemetry.record import Recorder
from sidecar.version import VERSION

__all__ = ["registry"]


class _Collector(Collector):
    def __init__(self, live: Live) -> None:
        self._live = live

    def describe(self) -> Iterable[Metric]:
        """Name nothing: reading the live objects to register would be pointless work."""
        return []

    def collect(self) -> Iterable[Metric]:
        """Read everything."""
        live = self._live
        yield from _requests(live.recorder)
        yield from _attempts(live)
        yield from policy_metrics(live.pipelines, live.guards, live.now())
        yield from _connections(live)
        yield from _config(live)


def registry(live: Live) -> CollectorRegistry:
    """Give a registry that shows `live`, the process and the garbage collector."""
    made = CollectorRegistry()
    made.register(_Collector(live))
    ProcessCollector(registry=made)
    PlatformCollector(registry=made)
    GCCollector(registry=made)
    return made


def _requests(recorder: Recorder) -> Iterable[Metric]:
    requests = CounterMetricFamily(
        "sidecar_requests", "Requests, by how they ended.", labels=["route", "method", "code", "fate"]
    )
    seconds = HistogramMetricFamily(
        "sidecar_request_duration_seconds",
        "From the head of a request to the end of its answer.",
        labels=["route"],
    )
    for route, counts in recorder.by_route.items():
        if (b"GET", 200, Fate.OK.value) not in counts.requests:
            requests.add_metric([route, "GET", "200", Fate.OK], 0)
        for (method, code, fate), number in counts.requests.copy().items():
            requests.add_metric([route, method.decode() or "_OTHER", str(code), fate], number)
        seconds.add_metric([route], counts.seconds.cumulative(), counts.seconds.total)
    yield requests
    yield seconds


def _attempts(live: Live) -> Iterable[Metric]:
    attempts = CounterMetricFamily(
        "sidecar_upstream_attempts",
        "Attempts at an upstream, by what came of them. `reconnected`: a kept-alive connection had died.",
        labels=["route", "upstream", "result"],
    )
    for pipeline in live.pipelines:
        for upstream, counts in _counts(pipeline):
            for result, number in counts.items():
                attempts.add_metric([pipeline.route, upstream, result], number)
    for name, view in live.upstreams.items():
        attempts.add_metric(["_any", name, "reconnected"], view.reconnected())
    yield attempts
    seconds = HistogramMetricFamily(
        "sidecar_upstream_attempt_duration_seconds",
        "From the beginning of an attempt to its response head, or to what became of it instead.",
        labels=["upstream"],
    )
    for name, view in live.upstreams.items():
        seconds.add_metric([name], view.seconds.cumulative(), view.seconds.total)
    yield seconds


def _counts(pipeline: Pipeline) -> Iterable[tuple[str, Mapping[str, int]]]:
    """Give the attempts of a route at its upstream, and at those that its fallback asks; each upstream once."""
    stages: list[AttemptStage] = []
    if (own := pipeline.find(AttemptStage)) is not None:
        stages.append(own)
    if (fallback := pipeline.find(FallbackStage)) is not None:
        stages += [step.attempt for step in fallback.steps if isinstance(step, OtherStep)]
    sums: dict[str, dict[str, int]] = {}
    for stage in stages:
        counts = sums.setdefault(stage.upstream, dict.fromkeys(stage.counts, 0))
        for result, number in stage.counts.items():
            counts[result] += number
    return sums.items()


def _connections(live: Live) -> Iterable[Metric]:
    clients = GaugeMetricFamily("sidecar_client_connections", "Client connections open now.")
    clients.add_metric([], live.connections())
    yield clients
    accepted = CounterMetricFamily("sidecar_client_connections_accepted", "Client connections ever accepted.")
    accepted.add_metric([], live.accepted())
    yield accepted
    refused = CounterMetricFamily(
        "sidecar_client_connections_refused", "Client connections refused because there were too many."
    )
    refused.add_metric([], live.refused())
    yield refused
    pool = GaugeMetricFamily(
        "sidecar_upstream_connections", "Connections to an upstream open now.", labels=["upstream", "state"]
    )
    for name, view in live.upstreams.items():
        idle = view.idle()
        pool.add_metric([name, "idle"], idle)
        pool.add_metric([name, "busy"], view.open() - idle)
    yield pool
    tasks = GaugeMetricFamily(
        "sidecar_tasks", "asyncio tasks: one for each client connection, and a few of our own."
    )
    tasks.add_metric([], live.tasks())
    yield tasks
    dropped = CounterMetricFamily(
        "sidecar_log_lines_dropped", "Log lines dropped because the log could not be written."
    )
    dropped.add_metric([], live.log_dropped())
    yield dropped


def _config(live: Live) -> Iterable[Metric]:
    ok = GaugeMetricFamily(
        "sidecar_config_last_reload_successful", "1 if the last configuration given is in force."
    )
    ok.add_metric([], 1 if live.reload_ok else 0)
    yield ok
    when = GaugeMetricFamily(
        "sidecar_config_last_reload_timestamp_seconds", "When the configuration in force was loaded."
    )
    when.add_metric([], live.loaded_at)
    yield when
    info = GaugeMetricFamily("sidecar_config_info", "The configuration in force.", labels=["hash"])
    info.add_metric([live.loaded.digest], 1)
    yield info
    build = GaugeMetricFamily("sidecar_build_info", "The version.", labels=["version"])
    build.add_metric([VERSION], 1)
    yield build
