"""Who looks by the clock: they begin, they follow a reload, and they end."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from aiohttp import web
from pytest_aiohttp import AiohttpServer
from structlog.testing import CapturingLogger

from sidecar.policy.breaker import State
from sidecar.runtime.engine import Engine
from sidecar.runtime.observers import Observers
from sidecar.telemetry.live import Live
from tests.support.live import engine_from, live_from

TEXT = """
version: 1
upstreams:
  alone: {{url: "{url}", health: {{path: /well, interval: 100ms, timeout: 100ms, rise: 1, fall: {fall}}}}}
  other: {{url: "http://127.0.0.1:9"}}
breakers: {{shared: {{}}, own: {{}}}}
routes:
  - {{name: one, match: {{path: /one}}, upstream: alone, breaker: own}}
  - {{name: two, match: {{path: /two}}, upstream: alone, breaker: shared}}
  - {{name: three, upstream: other, breaker: shared}}
"""

WITHIN = 20


@pytest.fixture
async def url(aiohttp_server: AiohttpServer) -> str:
    app = web.Application()

    async def well(_: web.Request) -> web.Response:
        return web.Response()

    app.router.add_get("/well", well)
    server = await aiohttp_server(app)
    return f"http://{server.host}:{server.port}"


@asynccontextmanager
async def observing(text: str) -> AsyncIterator[tuple[Observers, Live, Engine, CapturingLogger]]:
    log = CapturingLogger()
    observers = Observers(asyncio.get_running_loop(), log)
    live, engine = live_from(text), engine_from(text)
    live.guards = engine.guards
    observers.start(live, engine)
    try:
        yield observers, live, engine, log
    finally:
        async with asyncio.timeout(WITHIN):
            await observers.stop()


async def until_probed(live: Live) -> None:
    async with asyncio.timeout(WITHIN):
        listener = live.hub.subscribe(after=0)
        while not any(event.kind == "upstream" for event in await listener.take()):
            pass


async def test_an_upstream_is_probed_and_what_is_found_is_told(url: str) -> None:
    async with observing(TEXT.format(url=url, fall=3)) as (_, live, _, log):
        assert list(live.health) == ["alone"]

        await until_probed(live)

        assert live.health["alone"].healthy is True
        assert [dict(event.data) for event in live.hub.recent] == [
            {"name": "alone", "healthy": True, "why": None}
        ]
        assert [call.args for call in log.calls] == [("upstream.healthy",)]
        assert live.lag is not None


async def test_good_probes_shorten_the_open_time_of_breakers_that_guard_this_upstream_alone(url: str) -> None:
    async with observing(TEXT.format(url=url, fall=3)) as (_, live, engine, _):
        own, shared = engine.guards.breakers["own"], engine.guards.breakers["shared"]
        for breaker in (own, shared):
            for _ in range(5):
                breaker.settle(breaker.enter(live.now()), 1, live.now(), 0.1, "503")
        assert (own.state, shared.state) == (State.OPEN, State.OPEN)
        turned = asyncio.Event()
        own.on_event = lambda _: turned.set()

        async with asyncio.timeout(WITHIN):
            await turned.wait()

        assert own.view(live.now()).state is State.HALF_OPEN
        assert shared.view(live.now()).state is State.OPEN


async def test_what_is_known_of_an_upstream_survives_a_reload_with_the_same_thresholds(url: str) -> None:
    async with observing(TEXT.format(url=url, fall=3)) as (observers, live, _, _):
        await until_probed(live)
        known = live.health["alone"]

        same = engine_from(TEXT.format(url=url, fall=3).replace("/well", "/"))
        observers.prepared(same.loaded)(live, same)
        assert live.health["alone"] is known

        other = engine_from(TEXT.format(url=url, fall=2))
        observers.prepared(other.loaded)(live, other)
        assert live.health["alone"] is not known


async def test_probes_that_are_not_asked_for_any_more_end(url: str) -> None:
    async with observing(TEXT.format(url=url, fall=3)) as (observers, live, _, _):
        text = TEXT.format(url=url, fall=3)
        without = engine_from(text[: text.index(", health")] + "}\n" + text[text.index("  other") :])

        observers.prepared(without.loaded)(live, without)

        assert live.health == {}


async def test_a_new_configuration_that_is_only_prepared_changes_nothing(url: str) -> None:
    async with observing(TEXT.format(url=url, fall=3)) as (observers, live, _, _):
        before = live.health

        observers.prepared(engine_from(TEXT.format(url=url, fall=2)).loaded)

        assert live.health is before


async def test_nothing_is_left_behind(url: str) -> None:
    before = asyncio.all_tasks()
    async with observing(TEXT.format(url=url, fall=3)) as (_, live, _, _):
        await until_probed(live)
    await asyncio.sleep(0)

    assert asyncio.all_tasks() == before
