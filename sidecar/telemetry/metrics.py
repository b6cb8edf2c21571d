"""Prometheus metrics, read from the live objects at scrape time: a request pays no label look-up and no lock.

Names, labels and meanings are an interface (see the README); every series of a configured name exists at 0 from the
first scrape, and labels come only from configured names or closed sets.

Which (method, status, fate) a request may come to has no end, so `sidecar_requests_total` begins with those that a route
can come to by what is configured, for GET: a first refusal is then a step from 0 to 1, which `rate` and `increase` see.
"""

from collections.abc import Iterable, Iterator, Mapping
from functools import partial
from math import nan

from prometheus_client import CollectorRegistry, GCCollector, PlatformCollector, ProcessCollector

from sidecar.pipeline.assemble import Pipeline
from sidecar.pipeline.dispatch import NO_ROUTE
from sidecar.pipeline.stages.attempt import AttemptStage
from sidecar.pipeline.stages.fallback import FallbackStage
from sidecar.pipeline.stages.ladder import OtherStep
from sidecar.telemetry.condition import not_ready
from sidecar.telemetry.exposition import Registry
from sidecar.telemetry.family import Counted, Family, Fixed, Part, counter, gauge, histogram
from sidecar.telemetry.live import Live, UpstreamView
from sidecar.telemetry.outcomes import possible, possible_without_route
from sidecar.telemetry.policies import policy_families
from sidecar.telemetry.rates import Rates
from sidecar.telemetry.system import SYSTEM
from sidecar.version import VERSION

__all__ = ["registry"]

_ONE: tuple[tuple[str, ...], ...] = ((),)  # the one series of a metric without labels


def registry(live: Live, rates: Rates | None = None) -> Registry:
    """Give what shows `live`, the process and the garbage collector; with `rates`, also how available upstreams are."""
    others = CollectorRegistry()
    ProcessCollector(registry=others)
    PlatformCollector(registry=others)
    GCCollector(registry=others)
    return Registry(partial(_families, live, rates), partial(_in_force, live), others)


def _in_force(live: Live) -> tuple[object, ...]:
    return (
        live.loaded,
        live.recorder,
        live.pipelines,
        live.guards,
        live.upstreams,
        live.health,
        live.lag,
        live.tracer,
    )


def _families(live: Live, rates: Rates | None) -> Iterator[Family]:
    yield from _requests(live)
    yield from _attempts(live)
    yield from policy_families(live)
    yield from _upstreams(live, rates)
    yield from _probes(live)
    yield from _clients(live)
    yield from _program(live)
    yield from _config(live)


def _requests(live: Live) -> Iterator[Family]:
    pipelines = {pipeline.route: pipeline for pipeline in live.pipelines}
    by_route = live.recorder.by_route
    sample, labels = "sidecar_requests_total", ("route", "method", "code", "fate")
    parts = (
        Counted(
            sample,
            labels,
            (route,),
            counts.requests,
            words=_request_words,
            known=possible(pipelines[route]) if route in pipelines else possible_without_route(),
        )
        for route, counts in by_route.items()
    )
    yield Family("sidecar_requests", "counter", "Requests, by how they ended.", parts)
    yield histogram(
        "sidecar_request_duration_seconds",
        "From the head of a request to the end of its answer.",
        ("route",),
        [((route,), counts.seconds) for route, counts in by_route.items()],
    )


def _request_words(key: tuple[bytes, int, str]) -> tuple[str, str, str]:
    method, status, fate = key
    return method.decode() or "_OTHER", str(status), fate


def _attempts(live: Live) -> Iterator[Family]:
    views = list(live.upstreams.items())
    yield Family(
        "sidecar_upstream_attempts",
        "counter",
        "Attempts at an upstream, by what came of them. `reconnected`: a kept-alive connection had died.",
        _attempt_parts(live.pipelines, views),
    )
    yield histogram(
        "sidecar_upstream_attempt_duration_seconds",
        "From the beginning of an attempt to its response head, or to what became of it instead.",
        ("upstream",),
        [((name,), view.seconds) for name, view in views],
    )


def _attempt_parts(pipelines: Iterable[Pipeline], views: list[tuple[str, UpstreamView]]) -> Iterator[Part]:
    sample, labels = "sidecar_upstream_attempts_total", ("route", "upstream", "result")
    for pipeline in pipelines:
        for upstream, counts in _counts(pipeline):
            row = (pipeline.route, upstream)
            if len(counts) == 1:
                yield Counted(sample, labels, row, counts[0], words=lambda result: (str(result),))
            else:
                rows = [(*row, str(result)) for result in counts[0]]
                yield Fixed(sample, labels, rows, partial(_sums, counts))
    rows = [("_any", name, "reconnected") for name, _ in views]
    yield Fixed(sample, labels, rows, lambda: [view.reconnected() for _, view in views])


def _counts(pipeline: Pipeline) -> Iterable[tuple[str, list[Mapping[str, int]]]]:
    """Give the counters of a route's attempts at its upstream, and at those that its fallback asks, by upstream."""
    found: dict[str, list[Mapping[str, int]]] = {}
    if (own := pipeline.find(AttemptStage)) is not None:
        found[own.upstream] = [own.counts]
    if (fallback := pipeline.find(FallbackStage)) is not None:
        for step in fallback.steps:
            if isinstance(step, OtherStep):
                found.setdefault(step.attempt.upstream, []).append(step.attempt.counts)
    return found.items()


def _sums(counts: list[Mapping[str, int]]) -> list[int]:
    return [sum(each[result] for each in counts) for result in counts[0]]


def _upstreams(live: Live, rates: Rates | None) -> Iterator[Family]:
    views = list(live.upstreams.items())
    rows = [(name, state) for name, _ in views for state in ("idle", "busy")]

    def connections() -> Iterator[int]:
        for _, view in views:
            idle = view.idle()
            yield idle
            yield view.open() - idle

    yield gauge(
        "sidecar_upstream_connections",
        "Connections to an upstream open now.",
        ("upstream", "state"),
        rows,
        connections,
    )
    if rates is None:
        return

    shares: dict[str, float | None] = {}
    yield Family(
        "sidecar_upstream_availability_ratio",
        "gauge",
        "The share of attempts of the last minute that did not fail; NaN where there were none.",
        [
            Fixed(
                "sidecar_upstream_availability_ratio",
                ("upstream",),
                [(name,) for name, _ in views],
                lambda: [nan if (share := shares.get(name)) is None else share for name, _ in views],
            )
        ],
        [lambda: shares.update(rates.availability())],
    )


def _probes(live: Live) -> Iterator[Family]:
    names = [(name,) for name in live.health]
    health = list(live.health.values())
    yield gauge(
        "sidecar_upstream_healthy",
        "0 while the probes of an upstream fail, else 1, also before the first one.",
        ("upstream",),
        names,
        lambda: [int(each.healthy is not False) for each in health],
    )
    yield gauge(
        "sidecar_upstream_probe_latency_seconds",
        "How long the last good probe took; 0 before there was one.",
        ("upstream",),
        names,
        lambda: [each.latency or 0.0 for each in health],
    )
    yield counter(
        "sidecar_upstream_probes",
        "Probes of an upstream, by what came of them.",
        ("upstream", "result"),
        [(*name, result) for name in names for result in ("passed", "failed")],
        lambda: [number for each in health for number in (each.passes, each.failures)],
    )


def _clients(live: Live) -> Iterator[Family]:
    yield gauge(
        "sidecar_client_connections",
        "Client connections open now.",
        (),
        _ONE,
        lambda: [live.connections()],
    )
    yield counter(
        "sidecar_client_connections_accepted",
        "Client connections ever accepted.",
        (),
        _ONE,
        lambda: [live.accepted()],
    )
    yield counter(
        "sidecar_client_connections_refused",
        "Client connections refused because there were too many.",
        (),
        _ONE,
        lambda: [live.refused()],
    )


def _program(live: Live) -> Iterator[Family]:
    yield gauge(
        "sidecar_ready",
        "1 while traffic may be sent here, as /health/ready says.",
        (),
        _ONE,
        lambda: [int(not_ready(live) is None)],
    )
    yield gauge(
        "sidecar_tasks",
        "asyncio tasks: one for each client connection, and a few of our own.",
        (),
        _ONE,
        lambda: [live.tasks()],
    )
    if (lag := live.lag) is not None:
        yield histogram(
            "sidecar_event_loop_lag_seconds",
            "How late timers of the event loop came.",
            (),
            [((), lag.seconds)],
        )
        yield gauge(
            "sidecar_event_loop_lag_worst_seconds",
            "The latest timer of the last minute.",
            (),
            _ONE,
            lambda: [lag.worst],
        )
    yield gauge(
        "sidecar_memory_limit_bytes",
        "The memory that this process may take: the limit of its control group, or what the machine has.",
        (),
        _ONE,
        lambda: [SYSTEM.usage().limit or SYSTEM.usage().machine_memory],
    )
    yield counter(
        "sidecar_log_lines_dropped",
        "Log lines dropped because the log could not be written.",
        (),
        _ONE,
        lambda: [live.log_dropped()],
    )
    if (tracer := live.tracer) is not None:
        yield counter(
            "sidecar_trace_spans",
            "Spans, by what became of them: sent to the collector, refused by it or lost on the way, or not even tried.",
            ("result",),
            [("exported",), ("failed",), ("dropped",)],
            lambda: [tracer.exported, tracer.failed, tracer.dropped],
        )
    changes = Counted(
        "sidecar_admin_requests_total", ("action", "outcome"), (), live.changes, words=lambda change: change
    )
    yield Family("sidecar_admin_requests", "counter", "Changes asked for by the admin interface.", [changes])


def _config(live: Live) -> Iterator[Family]:
    routes = [route for route in live.recorder.by_route if route != NO_ROUTE]
    yield gauge(
        "sidecar_maintenance",
        "1 while a route is under maintenance.",
        ("route",),
        [(route,) for route in routes],
        lambda: [int(route in live.maintenance) for route in routes],
    )
    reloads = Counted(
        "sidecar_config_reloads_total", ("result",), (), live.reloads, words=lambda word: (word,)
    )
    yield Family(
        "sidecar_config_reloads", "counter", "Configurations given to the running program.", [reloads]
    )
    yield gauge(
        "sidecar_config_last_reload_successful",
        "1 if the last configuration given is in force.",
        (),
        _ONE,
        lambda: [int(live.reload_ok)],
    )
    yield gauge(
        "sidecar_config_last_reload_timestamp_seconds",
        "When the configuration in force was loaded.",
        (),
        _ONE,
        lambda: [live.loaded_at],
    )
    digest = live.loaded.digest
    yield gauge("sidecar_config_info", "The configuration in force.", ("hash",), [(digest,)], lambda: [1])
    yield gauge("sidecar_build_info", "The version.", ("version",), [(VERSION,)], lambda: [1])
