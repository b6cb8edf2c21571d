"""One probe of a real service on loopback: what counts as well, the word for what does not, and what it costs.

Each test runs on uvloop and on plain asyncio: they end connections in different ways.
"""

import asyncio
import contextlib
import functools
import inspect
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from pathlib import Path
from typing import Any, cast

import pytest
import trustme
import uvloop
from aiohttp import web

from sidecar.config.model import UpstreamConfig
from sidecar.errors import StartFailed
from sidecar.runtime.probe import MAX_ANSWER, MAX_BODY, MAX_INTERIM, Probe
from sidecar.version import VERSION

Test = Callable[..., Coroutine[Any, Any, None]]
Talk = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]

LOOPS: dict[str, Callable[[], asyncio.AbstractEventLoop]] = {
    "uvloop": uvloop.new_event_loop,
    "asyncio": asyncio.SelectorEventLoop,
}


def on_both_loops(test: Test) -> Callable[..., None]:
    """Run an async test on each kind of loop. Tasks and callbacks' exceptions that it leaves behind fail it."""

    @functools.wraps(test)
    def on_a_loop(*args: Any, kind: str, **kwargs: Any) -> None:
        with asyncio.Runner(loop_factory=LOOPS[kind]) as runner:
            faults: list[dict[str, Any]] = []
            runner.get_loop().set_exception_handler(lambda _, context: faults.append(context))
            runner.run(_alone(test(*args, **kwargs)))
            assert faults == []

    # pytest asks a test for its parameters: those of the one inside, and one more.
    of_test = inspect.signature(test)
    kind = inspect.Parameter("kind", inspect.Parameter.KEYWORD_ONLY)
    vars(on_a_loop)["__signature__"] = of_test.replace(parameters=[*of_test.parameters.values(), kind])
    return cast("Callable[..., None]", pytest.mark.parametrize("kind", LOOPS)(on_a_loop))


async def _alone(main: Coroutine[Any, Any, None]) -> None:
    async with asyncio.timeout(20):
        await main
    left = asyncio.all_tasks() - {asyncio.current_task()}
    if left:  # the other side of a connection that has just been closed
        _, left = await asyncio.wait(left, timeout=5)
    assert left == set()


class Service:
    """A real service. `requests` came to it; `connections` were opened, of which `open` still are."""

    def __init__(self) -> None:
        self.requests: list[web.BaseRequest] = []
        self.connections = 0
        self.open = 0
        self.closed = asyncio.Event()
        self.url = ""

    @contextlib.asynccontextmanager
    async def answering(
        self, answer: Callable[[web.BaseRequest], Awaitable[web.StreamResponse]], **where: Any
    ) -> AsyncIterator["Service"]:
        """Answer with aiohttp, at a port that the system chooses, or where `where` says."""

        async def handle(request: web.BaseRequest) -> web.StreamResponse:
            self.requests.append(request)
            return await answer(request)

        server = web.Server(handle)
        kind = self._counting(web.RequestHandler)
        loop = asyncio.get_running_loop()
        async with self._listening(lambda: kind(server, loop=loop, access_log=None), where):
            try:
                yield self
            finally:
                await server.shutdown(1)

    @contextlib.asynccontextmanager
    async def talking(self, talk: Talk) -> AsyncIterator["Service"]:
        """Say what `talk` says, byte for byte."""

        kind = self._counting(asyncio.StreamReaderProtocol)
        async with self._listening(lambda: kind(asyncio.StreamReader(), self._client(talk)), {}):
            yield self

    def _counting(self, kind: type[Any]) -> type[Any]:
        """Give a kind of protocol that counts its connections here."""
        service = self

        class Counting(kind):  # type: ignore[misc]  # a base that is chosen here
            def connection_made(self, transport: asyncio.BaseTransport) -> None:
                service.connections += 1
                service.open += 1
                super().connection_made(transport)

            def connection_lost(self, error: BaseException | None) -> None:
                service.open -= 1
                service.closed.set()
                super().connection_lost(error)

        return Counting

    def _client(self, talk: Talk) -> Talk:
        async def client(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            with contextlib.suppress(ConnectionError):
                await talk(reader, writer)
            writer.close()

        return client

    @contextlib.asynccontextmanager
    async def _listening(self, protocol: Callable[[], Any], where: dict[str, Any]) -> AsyncIterator[None]:
        loop = asyncio.get_running_loop()
        if "path" in where:
            server: asyncio.Server = await loop.create_unix_server(protocol, **where)
            self.url = f"unix://{where['path']}"
        else:
            server = await loop.create_server(protocol, "127.0.0.1", 0, **where)
            scheme = "https" if "ssl" in where else "http"
            self.url = f"{scheme}://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        try:
            yield
        finally:
            server.close()
            await server.wait_closed()


async def ok(request: web.BaseRequest) -> web.StreamResponse:
    return web.Response(text="I am well")


def a_probe(url: str, tls: dict[str, Any] | None = None, **health: Any) -> Probe:
    """A probe as the configuration makes it; `health` overrides a time-out that no busy machine reaches."""
    said: dict[str, Any] = {"url": url, "health": {"timeout": "20s", "interval": "1h"} | health}
    upstream = UpstreamConfig.model_validate(said if tls is None else {**said, "tls": tls})
    assert upstream.health is not None
    return Probe("orders", upstream, upstream.health)


# --- what is asked ---


@on_both_loops
async def test_it_asks_as_a_new_caller_that_says_who_it_is() -> None:
    async with Service().answering(ok) as service:
        assert await a_probe(service.url, path="/health?deep=%2f1")() is None

        (request,) = service.requests
        assert (request.method, request.raw_path, request.version) == ("GET", "/health?deep=%2f1", (1, 1))
        assert dict(request.headers) == {
            "Host": service.url.removeprefix("http://"),
            "User-Agent": f"resilience-sidecar/{VERSION} health probe",
            "Accept": "*/*",
            "Connection": "close",
        }


@on_both_loops
async def test_method_and_host_are_those_that_were_configured() -> None:
    async with Service().answering(ok) as service:
        assert await a_probe(service.url, method="HEAD", host="api.example.com")() is None

        (request,) = service.requests
        assert (request.method, request.path, request.headers["Host"]) == ("HEAD", "/", "api.example.com")


@on_both_loops
async def test_each_probe_has_a_connection_of_its_own_and_leaves_none_behind() -> None:
    async with Service().answering(ok) as service:
        probe = a_probe(service.url)
        for _ in range(3):
            service.closed.clear()
            assert await probe() is None
            await service.closed.wait()

        assert (service.connections, service.open) == (3, 0)


@on_both_loops
async def test_a_unix_socket_is_asked_too(tmp_path: Path) -> None:
    path = str(tmp_path / "s")
    async with Service().answering(ok, path=path) as service:
        assert await a_probe(service.url)() is None

        assert service.requests[0].headers["Host"] == "localhost"
    assert await a_probe(f"unix://{path}")() == "connection_refused"


# --- what is well ---


@pytest.mark.parametrize(
    ("status", "expect", "why"),
    [
        (200, None, None),
        (204, None, None),
        (299, None, None),
        (404, None, "status 404"),
        (503, None, "status 503"),
        (401, [401], None),
        (200, [401], "status 200"),
        (399, ["200-399"], None),
    ],
)
@on_both_loops
async def test_the_status_decides(status: int, expect: list[int | str] | None, why: str | None) -> None:
    async def answer(_: web.BaseRequest) -> web.StreamResponse:
        return web.Response(status=status)

    async with Service().answering(answer) as service:
        more: dict[str, Any] = {} if expect is None else {"expect": expect}
        assert await a_probe(service.url, **more)() == why


@on_both_loops
async def test_no_redirect_is_followed_and_no_cookie_comes_back() -> None:
    async def answer(_: web.BaseRequest) -> web.StreamResponse:
        return web.Response(status=302, headers={"Location": "/elsewhere", "Set-Cookie": "a=b; Path=/"})

    async with Service().answering(answer) as service:
        probe = a_probe(service.url)
        assert [await probe(), await probe()] == ["status 302"] * 2

        assert [request.path for request in service.requests] == ["/", "/"]
        assert [request.headers.get("Cookie") for request in service.requests] == [None, None]


@on_both_loops
async def test_an_endless_body_is_read_for_so_long_and_then_dropped() -> None:
    written = 0

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal written
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\n\r\n")
        while True:
            writer.write(b"x" * 10_000)
            written += 10_000
            await writer.drain()

    async with Service().talking(talk) as service:
        assert await a_probe(service.url)() is None
        await service.closed.wait()

    assert written >= MAX_BODY


@on_both_loops
async def test_what_is_packed_is_not_unpacked() -> None:
    async def answer(_: web.BaseRequest) -> web.StreamResponse:
        return web.Response(body=b"no gzip at all", headers={"Content-Encoding": "gzip"})

    async with Service().answering(answer) as service:
        assert await a_probe(service.url)() is None


@on_both_loops
async def test_an_interim_answer_is_not_the_answer() -> None:
    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(
            b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\nHTTP/1.1 503 No\r\nContent-Length: 0\r\n\r\n"
        )

    async with Service().talking(talk) as service:
        assert await a_probe(service.url)() == "status 503"


# --- what is not ---


@on_both_loops
async def test_nobody_there_is_a_refused_connection() -> None:
    async with Service().answering(ok) as service:
        url = service.url

    assert await a_probe(url)() == "connection_refused"


@on_both_loops
async def test_a_name_that_nobody_knows_is_a_dns_error() -> None:
    assert await a_probe("http://nobody.invalid")() == "dns_error"


@pytest.mark.parametrize(
    ("says", "why"),
    [
        (b"", "connection_terminated"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nab", "connection_terminated"),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nab", "connection_terminated"),
        (b"SSH-2.0-OpenSSH_9.2\r\n\r\n", "bad_response"),
        (b"HTTP/1.1 200 OK\r\nA: " + b"x" * 100_000 + b"\r\n\r\n", "bad_response"),
    ],
)
@on_both_loops
async def test_half_an_answer_and_nonsense_have_their_words(says: bytes, why: str) -> None:
    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(says)
        await writer.drain()

    async with Service().talking(talk) as service:
        assert await a_probe(service.url)() == why
        assert service.connections == 1


@pytest.mark.parametrize(
    "says",
    [b"", b"HTTP/1.1 200 OK\r\n", b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nab"],
    ids=["nothing", "half a head", "half a body"],
)
@on_both_loops
async def test_whoever_hangs_has_timed_out_and_has_cost_one_connection(says: bytes) -> None:
    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(says)
        await reader.read()

    async with Service().talking(talk) as service:
        assert await a_probe(service.url, timeout="100ms")() == "timeout"
        await service.closed.wait()
        assert (service.connections, service.open) == (1, 0)


@on_both_loops
async def test_whoever_stops_a_probe_under_way_gets_its_connection_closed() -> None:
    asked = asyncio.Event()

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        asked.set()
        await reader.read()

    async with Service().talking(talk) as service:
        task = asyncio.get_running_loop().create_task(a_probe(service.url)())
        await asked.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await service.closed.wait()
        assert (service.connections, service.open) == (1, 0)


# --- what has no end ---

HINTS = b"HTTP/1.1 103 E\r\nA: b\r\n\r\n"
CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"


@pytest.mark.parametrize(
    ("begins", "goes_on", "why"),
    [
        (b"", HINTS * 2000, "bad_response"),
        (b"", b"HTTP/1.1 100 Continue\r\n\r\n" * 2000, "bad_response"),
        (b"HTTP/1.1 200 OK\r\n", b"A: b\r\n" * 10_000, "bad_response"),
        (b"HTTP/1.1 200 OK\r\nX: ", b"a" * 60_000, "bad_response"),
        (CHUNKED, b"1\r\na\r\n" * 10_000, "bad_response"),
        (CHUNKED + b"0\r\n", b"A: b\r\n" * 10_000, "bad_response"),
        (CHUNKED, b"400\r\n" + b"a" * 1024 + b"\r\n", None),
    ],
    ids=["early hints", "continue", "fields", "a field", "chunks of a byte", "trailers", "a stream"],
)
@on_both_loops
async def test_who_never_ends_costs_little_and_not_the_time_of_others(
    begins: bytes, goes_on: bytes, why: str | None
) -> None:
    """Whatever it is that has no end. What was written is what the kernel's buffers hold, not what time allows."""
    written = 0

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal written
        await reader.readuntil(b"\r\n\r\n")
        writer.write(begins)
        while True:
            writer.write(goes_on)
            written += len(goes_on)
            await writer.drain()

    async with Service().talking(talk) as service:
        assert await a_probe(service.url)() == why
        await service.closed.wait()

    assert written < 20_000_000


@pytest.mark.parametrize(("number", "why"), [(MAX_INTERIM, None), (MAX_INTERIM + 1, "bad_response")])
@on_both_loops
async def test_so_many_interim_answers_may_come_before_the_answer(number: int, why: str | None) -> None:
    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(HINTS * number + b"HTTP/1.1 204 No\r\n\r\n")

    async with Service().talking(talk) as service:
        assert await a_probe(service.url)() == why


@on_both_loops
async def test_a_long_head_leaves_a_body_its_room() -> None:
    head = b"".join(b"X-%d: %b\r\n" % (number, b"a" * 4000) for number in range(12))
    body = b"b" * (MAX_BODY - 1)
    sent = b"HTTP/1.1 200 OK\r\n%bContent-Length: %d\r\n\r\n%b" % (head, len(body), body)
    assert len(sent) < MAX_ANSWER

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(sent)

    async with Service().talking(talk) as service:
        assert await a_probe(service.url)() is None


# --- TLS ---


class Files:
    """An authority and a certificate for 127.0.0.1 and for a name, as files; and the server's context."""

    def __init__(self, directory: Path) -> None:
        authority = trustme.CA(key_type=trustme.KeyType.ECDSA)
        issued = authority.issue_cert("127.0.0.1", "orders.example", key_type=trustme.KeyType.ECDSA)
        self.ca = str(directory / "ca")
        authority.cert_pem.write_to_path(self.ca)
        self.server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        issued.configure_cert(self.server)
        self.asked_for: list[str | None] = []
        self.server.sni_callback = lambda _, name, __: self.asked_for.append(name)


@pytest.fixture
def files(tmp_path: Path) -> Files:
    return Files(tmp_path)


@on_both_loops
async def test_tls_is_that_of_the_upstream(files: Files) -> None:
    async with Service().answering(ok, ssl=files.server) as service:
        assert await a_probe(service.url, {"ca": files.ca})() is None
        assert await a_probe(service.url, {"ca": files.ca, "server_name": "orders.example"})() is None
        assert await a_probe(service.url, {"verify": False})() is None

        assert files.asked_for == [None, "orders.example", None]


@on_both_loops
async def test_a_certificate_that_is_not_trusted_or_not_theirs_is_said_to_be_the_reason(files: Files) -> None:
    async with Service().answering(ok, ssl=files.server) as service:
        assert await a_probe(service.url)() == "tls_certificate_error"
        assert await a_probe(service.url, {"ca": files.ca, "server_name": "other.example"})() == (
            "tls_certificate_error"
        )
        assert service.requests == []


@on_both_loops
async def test_plain_http_behind_https_is_a_tls_error(files: Files) -> None:
    async with Service().answering(ok) as service:
        url = service.url.replace("http://", "https://")
        assert await a_probe(url, {"ca": files.ca})() in {"tls_protocol_error", "connection_terminated"}


def test_a_tls_file_that_is_none_is_found_before_anything_is_opened() -> None:
    with pytest.raises(StartFailed, match=r"upstreams\.orders\.tls"):
        a_probe("https://127.0.0.1:1", {"ca": __file__})
