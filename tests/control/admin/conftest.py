"""An admin listener for tests: the real app on a real socket, over the real objects of a configuration."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from typing import Any

import pytest
from aiohttp import ClientResponse, web
from aiohttp.test_utils import TestClient
from pytest_aiohttp import AiohttpClient

from sidecar.config.observing import AdminConfig
from sidecar.control.admin.app import admin_app
from sidecar.control.explain import explain_json
from sidecar.telemetry.live import Live
from sidecar.telemetry.rates import Rates
from tests.support.actions import RecordingActions
from tests.support.live import live_from

YAML = """
version: 1
upstreams:
  orders: {url: "http://127.0.0.1:9"}
breakers:
  database: {consecutive_failures: 3, open_for: 30s}
  db.read-1: {mode: shadow}
bulkheads: {reads: {max_concurrent: 10}}
store: {}
routes:
  - {name: orders, match: {path: /orders/**}, upstream: orders, breaker: database, bulkhead: reads, cache: {}}
  - {name: search, match: {path: /search}, upstream: orders, breaker: db.read-1, rate_limit: {limit: 5/1s}}
  - {name: all, match: {path: /**}, upstream: orders}
"""

TOKEN = "a-token-of-32-characters-or-so-00"
JSON = {"Content-Type": "application/json"}


@dataclass
class Admin:
    """One admin listener, its client, and what it did: `lines` of the log, `actions` of the program."""

    client: TestClient[web.Request, web.Application]
    live: Live
    actions: RecordingActions
    lines: list[dict[str, Any]]

    @property
    def connections(self) -> int:
        """How many clients are connected."""
        runner = self.client.server.runner
        assert runner is not None
        assert runner.server is not None
        return len(runner.server.connections)

    async def ask(self, method: str, path: str, **said: Any) -> tuple[int, Any]:
        """Send a request as the command line would, and give status and JSON."""
        said.setdefault("headers", JSON)
        response = await self.client.request(method, path, **said)
        return response.status, await response.json(content_type=None)

    async def refusal(self, method: str, path: str, **said: Any) -> tuple[int, str]:
        """Send a request that should be refused, check that it is so in form, and give status and code."""
        said.setdefault("headers", JSON)
        response = await self.client.request(method, path, **said)
        problem = await problem_of(response)
        return response.status, problem["code"]


async def problem_of(response: ClientResponse) -> dict[str, Any]:
    """Give the problem that a response tells, which must be one in form."""
    assert response.content_type == "application/problem+json"
    problem: dict[str, Any] = await response.json(content_type=None)
    assert problem["status"] == response.status
    assert problem["type"] == f"urn:sidecar:problem:admin:{problem['code']}"
    assert problem["title"]
    assert problem["detail"].endswith((".", "?", "…"))
    return problem


async def until(happened: Callable[[], bool]) -> None:
    """Wait for what nobody tells of: what a handler does behind a socket."""
    async with asyncio.timeout(5):
        while not happened():  # noqa: ASYNC110 -- there is no event: the code under test is not to know of its tests
            await asyncio.sleep(0.001)


Start = Callable[..., Awaitable[Admin]]


@pytest.fixture
async def start(aiohttp_client: AiohttpClient) -> AsyncIterator[Start]:
    """Start an admin listener: `await start(yaml, token=…, hosts=…)`."""
    started: list[Rates] = []

    async def begin(
        text: str = YAML,
        *,
        token: str | None = None,
        hosts: tuple[str, ...] = (),
        body_seconds: float = 10.0,
    ) -> Admin:
        live = live_from(text)
        rates = Rates(live, asyncio.get_running_loop())
        rates.start()
        started.append(rates)
        actions = RecordingActions(live)
        lines: list[dict[str, Any]] = []

        def audit(event: str, **fields: Any) -> None:
            lines.append({"event": event, **fields})

        settings = AdminConfig(hosts=hosts, **({} if token is None else {"token": token}))
        app = admin_app(live, actions, rates, explain_json, settings, audit, body_seconds=body_seconds)
        return Admin(await aiohttp_client(app), live, actions, lines)

    yield begin
    for rates in started:
        rates.stop()


@pytest.fixture
async def admin(start: Start) -> Admin:
    """Give an admin listener without a token."""
    return await start()
