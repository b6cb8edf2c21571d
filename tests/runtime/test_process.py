"""A whole sidecar on the test's own loop: it starts or says why not, answers, drains and leaves nothing behind.

The process around it (signals, exit status, standard streams) is tested end to end, with a real process.
"""

import asyncio
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from typing import Any

import aiohttp
import pytest
from aiohttp import web
from pytest_aiohttp import AiohttpServer
from structlog.testing import CapturingLogger

from sidecar.config.load import load_text
from sidecar.errors import StartFailed
from sidecar.runtime import Sidecar

PATIENCE = 10  # seconds


class Service:
    """An upstream that answers `/hang` when it is let, and everything else at once."""

    def __init__(self) -> None:
        self.let = asyncio.Event()
        self.asked = asyncio.Event()
        self.left = asyncio.Event()

    def app(self) -> web.Application:
        app = web.Application()
        app.router.add_get("/hang", self.hang)
        app.router.add_get("/{rest:.*}", self.hello)
        return app

    async def hello(self, request: web.Request) -> web.Response:
        return web.Response(text=f"hello {request.path}")

    async def hang(self, request: web.Request) -> web.Response:
        self.asked.set()
        try:
            await asyncio.wait_for(self.let.wait(), PATIENCE)
        finally:
            self.left.set()
        return web.Response(text="at last")


Server = Callable[[Service], Any]

TEXT = """
version: 1
listen: {{traffic: "127.0.0.1:0", ops: "127.0.0.1:0", admin: "127.0.0.1:0"}}
upstreams: {{service: {{url: "{upstream}"}}}}
routes: [{{name: all, upstream: service}}]
{more}
"""


@asynccontextmanager
async def running(
    upstream: str, more: str = "", log: CapturingLogger | None = None, max_files: int | None = None
) -> AsyncIterator[Sidecar]:
    """Run a sidecar before `upstream`; end it in any case."""
    text = TEXT.format(upstream=upstream, more=more)
    sidecar = Sidecar(load_text(text), log or CapturingLogger(), max_files=max_files)
    await sidecar.start()
    try:
        yield sidecar
    finally:
        await sidecar.stop()


def url_of(sidecar: Sidecar, listener: str = "traffic") -> str:
    """Give the address of a listener."""
    (address,) = sidecar.addresses[listener]
    return f"http://{address}"


def events(log: CapturingLogger) -> list[str]:
    """Give the names of what was logged."""
    return [call.args[0] for call in log.calls]


async def until(condition: Callable[[], bool]) -> None:
    """Let the loop turn until the condition holds."""
    async with asyncio.timeout(PATIENCE):
        while not condition():  # noqa: ASYNC110 -- what is waited for are counts, which tell nobody
            await asyncio.sleep(0)


async def test_it_answers_says_where_and_counts(
    aiohttp_server: AiohttpServer, caplog: pytest.LogCaptureFixture
) -> None:
    upstream = await aiohttp_server(Service().app())
    log = CapturingLogger()
    async with (
        running(str(upstream.make_url("")), log=log) as sidecar,
        aiohttp.ClientSession() as client,
    ):
        async with client.get(url_of(sidecar) + "/a%2Fb") as response:
            assert (response.status, await response.text()) == (200, "hello /a/b")
            assert response.headers["X-Request-ID"]
        async with client.get(url_of(sidecar, "ops") + "/health/ready") as response:
            assert response.status == 200
        async with client.get(url_of(sidecar, "ops") + "/metrics") as response:
            text = await response.text()

    assert 'sidecar_requests_total{code="200",fate="ok",method="GET",route="all"} 1.0' in text
    assert events(log) == ["sidecar.ready"]
    assert [
        each.getMessage() for each in caplog.records
    ] == []  # whatever aiohttp has to say would be on stderr
    assert set(log.calls[0].kwargs) == {"version", "compiled", "source", "traffic", "ops", "admin"}


@pytest.mark.parametrize("key", ["traffic", "ops"])
async def test_a_port_that_is_taken_stops_the_start_and_leaves_nothing_open(key: str) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        other = "ops" if key == "traffic" else "traffic"
        text = f"""
version: 1
listen: {{{key}: "127.0.0.1:{port}", {other}: "127.0.0.1:0", admin: "127.0.0.1:0"}}
upstreams: {{service: {{url: "http://127.0.0.1:1"}}}}
routes: [{{name: all, upstream: service}}]
"""
        sidecar = Sidecar(load_text(text), CapturingLogger())

        with pytest.raises(StartFailed, match=rf"^listen\.{key}: cannot listen on 127\.0\.0\.1:{port}: "):
            await sidecar.start()

    assert sidecar.addresses == {}
    assert asyncio.all_tasks() == {asyncio.current_task()}


async def test_draining_lets_the_request_under_way_finish_and_refuses_new_ones(
    aiohttp_server: AiohttpServer,
) -> None:
    service, log = Service(), CapturingLogger()
    upstream = await aiohttp_server(service.app())
    async with (
        running(str(upstream.make_url("")), log=log) as sidecar,
        aiohttp.ClientSession() as client,
        aiohttp.ClientSession() as idle,
    ):
        traffic, ops = url_of(sidecar), url_of(sidecar, "ops")
        async with idle.get(traffic + "/") as response:
            assert response.headers.get("Connection") != "close"
        under_way = asyncio.get_running_loop().create_task(client.get(traffic + "/hang"))
        await asyncio.wait_for(service.asked.wait(), PATIENCE)

        draining = asyncio.get_running_loop().create_task(sidecar.drain())
        await asyncio.sleep(0)
        async with idle.get(ops + "/health/ready") as response:
            assert (response.status, (await response.json())["reason"]) == (503, "draining")
        async with idle.get(ops + "/health/live") as response:
            assert response.status == 200
        with pytest.raises(aiohttp.ClientConnectionError):
            await idle.get(traffic + "/")
        assert not draining.done()

        service.let.set()
        response = await under_way
        assert (await response.text(), response.headers.get("Connection")) == ("at last", "close")
        await asyncio.wait_for(draining, PATIENCE)

    assert sidecar.addresses == {}
    assert events(log) == ["sidecar.ready", "sidecar.draining"]


async def test_draining_ends_when_its_time_is_over_and_lets_the_upstream_go(
    aiohttp_server: AiohttpServer,
) -> None:
    """Whose request is cut is told so, and it is not put down as a client that left."""
    service, log = Service(), CapturingLogger()
    upstream = await aiohttp_server(service.app())
    async with (
        running(str(upstream.make_url("")), "drain_timeout: 20ms", log) as sidecar,
        aiohttp.ClientSession() as client,
    ):
        under_way = asyncio.get_running_loop().create_task(client.get(url_of(sidecar) + "/hang"))
        await asyncio.wait_for(service.asked.wait(), PATIENCE)

        await asyncio.wait_for(sidecar.drain(), PATIENCE)

        response = await under_way
        assert (response.status, (await response.json())["code"]) == (503, "rejected_overload")
        assert response.headers["Connection"] == "close"
    service.let.set()
    assert events(log)[:3] == ["sidecar.ready", "sidecar.draining", "sidecar.drain_timeout"]


async def test_a_stopped_sidecar_has_given_everything_back(aiohttp_server: AiohttpServer) -> None:
    upstream = await aiohttp_server(Service().app())
    async with running(str(upstream.make_url(""))) as sidecar, aiohttp.ClientSession() as client:
        for _ in range(5):
            async with client.get(url_of(sidecar) + "/") as response:
                await response.read()
        engine, server = sidecar.engine, sidecar.server
        assert engine is not None
        assert server is not None
        assert engine.pools["service"].idle == 1

        await sidecar.stop()
        await until(lambda: not server.connections)
        await until(lambda: engine.pools["service"].open == 0)

    await sidecar.stop()  # once more does nothing


async def test_a_client_that_leaves_frees_the_upstream_at_once(aiohttp_server: AiohttpServer) -> None:
    service = Service()
    upstream = await aiohttp_server(service.app())
    async with running(str(upstream.make_url(""))) as sidecar:
        (address,) = sidecar.addresses["traffic"]
        host, _, port = address.rpartition(":")
        _, writer = await asyncio.open_connection(host, int(port))
        writer.write(b"GET /hang HTTP/1.1\r\nHost: a\r\n\r\n")
        await asyncio.wait_for(service.asked.wait(), PATIENCE)

        writer.transport.abort()
        with suppress(ConnectionError):
            await writer.wait_closed()

        await asyncio.wait_for(service.left.wait(), PATIENCE)
        engine = sidecar.engine
        assert engine is not None
        await until(lambda: engine.pools["service"].open == 0)
        await until(lambda: bool(engine.recorder.records()))
        assert [str(record.fate) for record in engine.recorder.records()] == ["client_gone"]


async def test_a_request_that_is_not_ok_gets_its_line_in_the_log() -> None:
    log = CapturingLogger()
    async with running("http://127.0.0.1:1", log=log) as sidecar, aiohttp.ClientSession() as client:
        response = await client.get(url_of(sidecar) + "/x?secret=1")
        await response.read()
        await until(lambda: "request" in events(log))

    (line,) = [call.kwargs for call in log.calls if call.args == ("request",)]
    assert (line["request_id"], line["fate"], line["path"], line["status"]) == (
        response.headers["X-Request-ID"],
        "upstream_connect",
        "/x",
        502,
    )
    assert "secret" not in str(line)


async def test_no_more_clients_are_let_in_than_there_are_files_for(aiohttp_server: AiohttpServer) -> None:
    upstream = await aiohttp_server(Service().app())
    log = CapturingLogger()
    async with running(str(upstream.make_url("")), log=log, max_files=130) as sidecar:
        assert sidecar.server is not None
        limit = sidecar.server.limits.connections

        (address,) = sidecar.addresses["traffic"]
        host, _, port = address.rpartition(":")
        clients = [await asyncio.open_connection(host, int(port)) for _ in range(limit + 1)]
        refusal = await asyncio.wait_for(clients[limit][0].read(), PATIENCE)
        for _, writer in clients:
            writer.close()

    assert 0 < limit < 130 // 2
    assert refusal.startswith(b"HTTP/1.1 503 ")
    assert b"\r\nRetry-After: 1\r\n" in refusal
    (warning,) = [call.kwargs for call in log.calls if call.args == ("sidecar.connections_capped",)]
    assert (warning["limit"], warning["open_files"]) == (limit, 130)


async def test_a_breaker_that_changes_says_so_and_whether_it_is_only_in_shadow() -> None:
    log = CapturingLogger()
    text = """
version: 1
listen: {traffic: "127.0.0.1:0", ops: "127.0.0.1:0", admin: "127.0.0.1:0"}
upstreams: {service: {url: "http://127.0.0.1:1"}}
breakers: {shared: {mode: shadow}, strict: {}, unused: {mode: "off"}}
routes:
  - {name: own, match: {path: /own}, upstream: service, breaker: {mode: shadow}}
  - {name: firm, match: {path: /firm}, upstream: service, breaker: {}}
  - {name: many, match: {path: /many}, upstream: service, breaker: shared}
  - {name: rest, upstream: service, breaker: strict}
"""
    sidecar = Sidecar(load_text(text), log)
    await sidecar.start()
    try:
        assert sidecar.engine is not None
        breakers = sidecar.engine.guards.breakers
        for breaker in breakers.values():
            breaker.force_open(0.0, None)
    finally:
        await sidecar.stop()

    changes = [call for call in log.calls if call.args == ("breaker.opened",)]
    assert {call.kwargs["breaker"]: call.kwargs.get("mode") for call in changes} == {
        "own": "shadow",
        "shared": "shadow",
        "firm": None,
        "strict": None,
    }
    assert {call.method_name for call in changes} == {"warning"}


@pytest.mark.parametrize(
    ("mode", "shown"),
    [
        ("minimal", set()),
        ("seed", {"X-Circuit-Breaker", "X-System-Degraded", "X-Content-Type-Options", "X-Frame-Options"}),
        ("off", set()),
    ],
)
async def test_answers_say_as_much_of_the_sidecar_as_they_are_asked_to(
    aiohttp_server: AiohttpServer, mode: str, shown: set[str]
) -> None:
    upstream = await aiohttp_server(Service().app())
    more = f"headers: {mode}\ndefaults: {{breaker: {{}}}}"
    async with running(str(upstream.make_url("")), more) as sidecar, aiohttp.ClientSession() as client:
        async with client.get(url_of(sidecar) + "/hello") as response:
            fields = dict(response.headers)
        async with client.get(url_of(sidecar) + "/hello", headers={"Max-Forwards": "x"}) as response:
            refused = response.headers

    assert {name for name in fields if name.startswith("X-")} == {"X-Request-ID"} | shown
    if mode == "seed":
        assert (fields["X-Circuit-Breaker"], fields["X-System-Degraded"]) == ("all=CLOSED", "false")
    assert refused["X-Request-ID"]


async def test_a_breaker_that_a_reload_has_taken_away_may_still_change_for_requests_under_way(
    aiohttp_server: AiohttpServer,
) -> None:
    upstream = await aiohttp_server(Service().app())
    log = CapturingLogger()
    async with running(str(upstream.make_url("")), "defaults: {breaker: {}}", log) as sidecar:
        assert sidecar.engine is not None
        assert sidecar.live is not None
        breaker = sidecar.engine.guards.breakers["all"]
        text = TEXT.format(upstream=upstream.make_url(""), more="")
        await sidecar._become(load_text(text))
        assert sidecar.engine.guards.breakers == {}

        breaker.force_open(0.0, None)

        assert events(log) == ["sidecar.ready", "breaker.opened"]
        assert [event.kind for event in sidecar.live.hub.recent] == ["sidecar"]
