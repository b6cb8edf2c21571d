"""The ops listener: what probes and Prometheus ask, answered read-only."""

from collections.abc import Callable, Iterable
from typing import Any

import pytest
from aiohttp import ClientResponse
from prometheus_client import CollectorRegistry, Gauge
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families as parse_prometheus
from pytest_aiohttp import AiohttpClient

from sidecar.control.ops import ops_app
from tests.support.live import some_live

PATHS = ["/health/live", "/livez", "/healthz", "/health/ready", "/readyz", "/metrics"]


class State:
    """A sidecar to be shown, and a registry of one gauge."""

    def __init__(self) -> None:
        self.live = some_live()
        self.live.not_ready = None
        self.metrics = CollectorRegistry()
        self.gauge = Gauge("sidecar_test", "A gauge.", registry=self.metrics)


@pytest.mark.parametrize("path", ["/health/live", "/livez", "/healthz"])
@pytest.mark.parametrize("reason", [None, "starting", "draining"])
async def test_live_is_live_whether_ready_or_not(
    aiohttp_client: AiohttpClient, path: str, reason: str | None
) -> None:
    state = State()
    state.live.not_ready = reason
    client = await aiohttp_client(ops_app(state.live, state.metrics))

    response = await client.get(path)

    assert (response.status, await response.json()) == (200, {"status": "alive"})


@pytest.mark.parametrize("path", ["/health/ready", "/readyz"])
async def test_ready_follows_the_state_and_says_why_not(aiohttp_client: AiohttpClient, path: str) -> None:
    state = State()
    client = await aiohttp_client(ops_app(state.live, state.metrics))

    seen = []
    for reason in ("starting", None, "draining"):
        state.live.not_ready = reason
        response = await client.get(path)
        seen.append((response.status, await response.json()))

    assert seen == [
        (503, {"status": "not ready", "reason": "starting"}),
        (200, {"status": "ready"}),
        (503, {"status": "not ready", "reason": "draining"}),
    ]


async def test_prometheus_gets_the_format_that_it_asks_for(aiohttp_client: AiohttpClient) -> None:
    state = State()
    client = await aiohttp_client(ops_app(state.live, state.metrics))
    state.gauge.set(7)

    plain = await client.get("/metrics")
    accept = {"Accept": "application/openmetrics-text;version=1.0.0,text/plain;version=0.0.4;q=0.5"}
    modern = await client.get("/metrics", headers=accept)

    assert (plain.status, modern.status) == (200, 200)
    assert plain.headers["Content-Type"].startswith("text/plain; version=")
    assert modern.headers["Content-Type"].startswith("application/openmetrics-text; version=1.0.0")
    parsers: list[tuple[Callable[[str], Iterable[Any]], ClientResponse]] = [
        (parse_prometheus, plain),
        (parse_openmetrics, modern),
    ]
    for parse, response in parsers:
        (family,) = parse(await response.text())
        assert [(sample.name, sample.value) for sample in family.samples] == [("sidecar_test", 7)]


@pytest.mark.parametrize("path", PATHS)
async def test_a_probe_may_ask_with_head(aiohttp_client: AiohttpClient, path: str) -> None:
    state = State()
    client = await aiohttp_client(ops_app(state.live, state.metrics))

    response = await client.head(path)

    assert (response.status, await response.read()) == (200, b"")


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH"])
@pytest.mark.parametrize("path", PATHS)
async def test_nothing_can_be_changed_here(aiohttp_client: AiohttpClient, path: str, method: str) -> None:
    state = State()
    client = await aiohttp_client(ops_app(state.live, state.metrics))

    assert (await client.request(method, path)).status == 405


@pytest.mark.parametrize("path", ["/", "/nothing", "/metrics/x", "/health/live/x"])
async def test_what_is_not_there_is_404(aiohttp_client: AiohttpClient, path: str) -> None:
    state = State()
    client = await aiohttp_client(ops_app(state.live, state.metrics))

    assert (await client.get(path)).status == 404
