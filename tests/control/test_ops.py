"""The ops listener: what probes and Prometheus ask, answered read-only."""

import asyncio
from collections.abc import Callable, Iterable
from typing import Any

import pytest
from aiohttp import ClientResponse
from prometheus_client import CollectorRegistry, Gauge
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families as parse_prometheus
from pytest_aiohttp import AiohttpClient

from sidecar.control.ops import ops_app
from sidecar.telemetry.exposition import Registry
from sidecar.telemetry.metrics import registry
from tests.support.live import live_from, some_live

HEALTH = ["/health", "/api/health", "/health/detailed"]
PATHS = [
    *("/health/live", "/livez", "/healthz", "/health/ready", "/readyz", "/health/startup", "/metrics"),
    *HEALTH,
]


class State:
    """A sidecar to be shown, and a registry of one gauge."""

    def __init__(self) -> None:
        self.live = some_live()
        self.live.not_ready = None
        others = CollectorRegistry()
        self.gauge = Gauge("sidecar_test", "A gauge.", registry=others)
        self.metrics = Registry(lambda: iter(()), lambda: (), others)


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


@pytest.mark.parametrize("path", PATHS)
async def test_in_a_terminal_the_prompt_stands_on_a_line_of_its_own(
    aiohttp_client: AiohttpClient, path: str
) -> None:
    state = State()
    client = await aiohttp_client(ops_app(state.live, state.metrics))

    assert (await (await client.get(path)).text()).endswith("\n")


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


async def test_started_is_said_from_the_first_readiness_on_and_while_draining(
    aiohttp_client: AiohttpClient,
) -> None:
    state = State()
    client = await aiohttp_client(ops_app(state.live, state.metrics))

    seen = []
    for reason in ("starting", None, "draining"):
        state.live.not_ready = reason
        response = await client.get("/health/startup")
        seen.append((response.status, await response.json()))

    started = (200, {"status": "started"})
    assert seen == [(503, {"status": "starting"}), started, started]


REQUIRED = """
version: 1
upstreams: {a: {url: "http://127.0.0.1:9"}}
routes: [{name: r, upstream: a, breaker: {}}]
"""


@pytest.mark.parametrize(("required", "status"), [("false", 200), ("true", 503)])
async def test_ready_asks_for_an_upstream_only_where_that_is_configured(
    aiohttp_client: AiohttpClient, required: str, status: int
) -> None:
    live = live_from(f"{REQUIRED}readiness: {{require_upstream: {required}}}")
    live.guards.breakers["r"].force_open(live.now(), None)
    client = await aiohttp_client(ops_app(live, registry(live)))

    ready = await client.get("/health/ready")
    startup, alive = await client.get("/health/startup"), await client.get("/livez")

    assert (ready.status, startup.status, alive.status) == (status, 200, 200)
    if status == 503:
        assert await ready.json() == {"status": "not ready", "reason": "no upstream is usable"}


@pytest.mark.parametrize("path", HEALTH)
async def test_health_is_200_also_while_degraded_and_503_when_unhealthy(
    aiohttp_client: AiohttpClient, path: str
) -> None:
    live = live_from(
        REQUIRED.replace("routes: [", "routes: [{name: other, match: {path: /x}, upstream: a}, ")
    )
    client = await aiohttp_client(ops_app(live, registry(live)))

    seen = []
    for opened, reason in ((False, None), (True, None), (True, "draining")):
        if opened:
            live.guards.breakers["r"].force_open(live.now(), None)
        live.not_ready = reason
        response = await client.get(path)
        seen.append((response.status, (await response.json())["status"]))

    assert seen == [(200, "healthy"), (200, "degraded"), (503, "unhealthy")]


async def test_both_names_of_health_tell_the_same(aiohttp_client: AiohttpClient) -> None:
    state = State()
    state.live.wall = lambda: state.live.started_at + 5
    client = await aiohttp_client(ops_app(state.live, state.metrics))

    short, long = [await (await client.get(path)).json() for path in ("/health", "/api/health")]

    assert short == long
    assert (short["uptime"], list(short["services"])) == (5.0, ["service"])


@pytest.mark.parametrize("path", [*PATHS, "/nothing"])
@pytest.mark.parametrize("method", ["GET", "HEAD", "POST"])
async def test_nothing_may_be_kept_by_a_cache(aiohttp_client: AiohttpClient, path: str, method: str) -> None:
    state = State()
    client = await aiohttp_client(ops_app(state.live, state.metrics))

    assert (await client.request(method, path)).headers["Cache-Control"] == "no-store"


@pytest.mark.parametrize("path", [*PATHS, "/nothing"])
async def test_no_answer_says_what_of_which_version_gives_it(
    aiohttp_client: AiohttpClient, path: str
) -> None:
    state = State()
    client = await aiohttp_client(ops_app(state.live, state.metrics))

    servers = [(await client.request(method, path)).headers["Server"] for method in ("GET", "POST")]

    assert servers == ["sidecar"] * 2


async def test_bytes_that_are_no_request_are_told_no_more(aiohttp_client: AiohttpClient) -> None:
    state = State()
    client = await aiohttp_client(ops_app(state.live, state.metrics))
    host: Any = client.host
    reader, writer = await asyncio.open_connection(host, client.port)

    writer.write(b"nonsense\r\n\r\n")
    head = (await reader.read()).partition(b"\r\n\r\n")[0].split(b"\r\n")
    writer.close()

    assert b" 400 " in head[0]
    assert {b"Server: sidecar", b"Cache-Control: no-store"} <= set(head)


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


@pytest.mark.parametrize("path", ["/", "/nothing", "/metrics/x", "/health/", "/health/live/x", "/api"])
async def test_what_is_not_there_is_404(aiohttp_client: AiohttpClient, path: str) -> None:
    state = State()
    client = await aiohttp_client(ops_app(state.live, state.metrics))

    assert (await client.get(path)).status == 404
