"""The thread at the door of ops: probes are answered while the loop hangs, everybody else is led to it, nothing is lost.

A test that asks with a blocking socket holds up its own loop meanwhile: what is answered then, the thread answered.
"""

import asyncio
import errno
import gc
import socket
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from time import perf_counter

import pytest
from aiohttp import web

from sidecar.control.admin.app import SERVING
from sidecar.control.gate import gated
from sidecar.control.ops import ops_app
from sidecar.control.porter import KEEP_ALIVE, Porter
from sidecar.control.probes import LIVE, READY, STARTUP, Pulse
from sidecar.telemetry.live import Live
from sidecar.telemetry.metrics import registry
from tests.support.live import live_from

PATIENCE = 10.0  # seconds


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


class House:
    """A porter before the ops application, which also listens at `behind` with nobody before it."""

    def __init__(
        self, live: Live, porter: Porter, listening: socket.socket, behind: int, clock: Clock
    ) -> None:
        self.live = live
        self.porter = porter
        self.address = listening.getsockname()
        self.family = listening.family
        self.behind = ("127.0.0.1", behind)
        self.clock = clock

    def dial(self, address: tuple[str, int] | None = None) -> socket.socket:
        made = socket.socket(socket.AF_INET if address else self.family)
        made.settimeout(PATIENCE)
        try:
            made.connect(address or self.address)
        except OSError:
            made.close()
            raise
        return made

    def ask(self, *pieces: bytes, address: tuple[str, int] | None = None, half_close: bool = False) -> bytes:
        """Send the pieces; give all that comes till the other side ends it."""
        with self.dial(address) as client:
            for piece in pieces:
                client.sendall(piece)
            if half_close:
                client.shutdown(socket.SHUT_WR)
            return to_the_end(client)


def to_the_end(client: socket.socket) -> bytes:
    came = b""
    while data := client.recv(65536):
        came += data
    return came


def one_answer(client: socket.socket) -> bytes:
    """Read an answer that has a length."""
    came = b""
    while b"\r\n\r\n" not in came:
        data = client.recv(65536)
        assert data, came
        came += data
    head, _, body = came.partition(b"\r\n\r\n")
    (length,) = [
        int(line.split(b":")[1])
        for line in head.split(b"\r\n")
        if line.lower().startswith(b"content-length:")
    ]
    while len(body) < length:
        body += client.recv(65536)
    return head + b"\r\n\r\n" + body


@asynccontextmanager
async def house(
    *,
    unix: Path | None = None,
    most: int = 128,
    head_timeout: float = PATIENCE,
    keep_alive: float = KEEP_ALIVE,
) -> AsyncIterator[House]:
    loop = asyncio.get_running_loop()
    live, clock = live_from(), Clock()
    runner = web.AppRunner(ops_app(live, registry(live)), **SERVING, shutdown_timeout=1.0)
    await runner.setup()
    assert runner.server is not None
    behind = await loop.create_server(runner.server, "127.0.0.1", 0)
    listening = socket.socket(socket.AF_UNIX if unix else socket.AF_INET)
    listening.bind(str(unix) if unix else ("127.0.0.1", 0))
    listening.listen(64)
    porter = Porter(
        loop,
        [listening],
        gated(runner.server),
        Pulse(loop, live, clock),
        most=most,
        head_timeout=head_timeout,
        keep_alive=keep_alive,
    )
    made = House(live, porter, listening, behind.sockets[0].getsockname()[1], clock)
    porter.start()
    try:
        yield made
    finally:
        behind.close()
        porter.stop()
        await runner.cleanup()
        await asyncio.sleep(0)


def request(path: str, *fields: str, method: str = "GET", version: str = "1.1") -> bytes:
    lines = [f"{method} {path} HTTP/{version}", "Host: a", *fields]
    return "\r\n".join([*lines, "", ""]).encode()


PROBE = request("/livez", "Connection: close")
ALIVE = b'{"status": "alive"}\n'


def parted(answer: bytes) -> tuple[bytes, dict[bytes, bytes], bytes]:
    """Give the first line, the fields that tell something, and the body."""
    head, _, body = answer.partition(b"\r\n\r\n")
    first, *lines = head.split(b"\r\n")
    fields = {name.lower(): value.strip() for name, _, value in (line.partition(b":") for line in lines)}
    assert fields.pop(b"date").endswith(b" GMT")
    return first, fields, body


# --- the same answers ---


@pytest.mark.parametrize("reason", [None, "starting", "draining"])
@pytest.mark.parametrize("method", ["GET", "HEAD"])
async def test_the_thread_says_what_the_application_would(reason: str | None, method: str) -> None:
    asked = [
        request(path, f"Connection: {connection}", method=method, version=version)
        for path in (*LIVE, *READY, *STARTUP)
        for connection, version in (("close", "1.1"), ("close", "1.0"))
    ]
    async with house() as at:
        at.live.not_ready = reason
        by_thread = [at.ask(each) for each in asked]
        by_aiohttp = [await asyncio.to_thread(at.ask, each, address=at.behind) for each in asked]

    assert [parted(each) for each in by_thread] == [parted(each) for each in by_aiohttp]


@pytest.mark.parametrize(("version", "field"), [("1.1", "X: y"), ("1.0", "Connection: keep-alive")])
async def test_a_connection_that_may_stay_stays_as_it_would_there(version: str, field: str) -> None:
    asked = request("/readyz", field, version=version)

    def twice(address: tuple[str, int] | None) -> list[bytes]:
        with at.dial(address) as client:
            answers = []
            for _ in range(2):
                client.sendall(asked)
                answers.append(one_answer(client))
            return answers

    async with house() as at:
        by_thread = twice(None)
        by_aiohttp = await asyncio.to_thread(twice, at.behind)

    assert [parted(each) for each in by_thread] == [parted(each) for each in by_aiohttp]


async def test_a_loop_that_hangs_is_told_and_probed_all_the_same() -> None:
    async with house() as at:
        at.clock.now += 60.0
        stuck, ready = at.ask(PROBE), at.ask(request("/readyz", "Connection: close"))

    assert parted(stuck)[0::2] == (
        b"HTTP/1.1 503 Service Unavailable",
        b'{"status": "stuck", "seconds": 60.0}\n',
    )
    assert parted(ready)[2] == b'{"status": "not ready", "reason": "the event loop is stuck"}\n'


async def test_a_unix_socket_is_as_good(tmp_path: Path) -> None:
    async with house(unix=tmp_path / "ops.sock") as at:
        alive = at.ask(PROBE)
        metrics = await asyncio.to_thread(at.ask, request("/metrics", "Connection: close"))

    assert alive.endswith(ALIVE)
    assert b"sidecar_client_connections" in metrics


# --- heads in pieces, and in time ---


async def test_a_head_may_come_in_pieces() -> None:
    async with house() as at:
        with at.dial() as client:
            client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            for each in PROBE:
                client.sendall(bytes([each]))
            answer = to_the_end(client)

    assert answer.endswith(ALIVE)


async def test_a_piece_of_a_probe_that_becomes_something_else_is_not_lost() -> None:
    def ask() -> bytes:
        with at.dial() as client:
            client.sendall(b"GET /live")
            at.ask(PROBE)  # by now the thread has taken the beginning
            client.sendall(b"z?query HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
            return to_the_end(client)

    async with house() as at:
        assert (await asyncio.to_thread(ask)).endswith(ALIVE)


async def test_who_dawdles_over_a_head_is_closed_in_time_and_others_are_answered_meanwhile() -> None:
    async with house(head_timeout=0.2) as at:
        with at.dial() as quiet, at.dial() as dripping:
            began = perf_counter()
            dripping.sendall(PROBE[:10])
            assert at.ask(PROBE).endswith(ALIVE)
            assert to_the_end(quiet) == b""
            assert to_the_end(dripping) == b""
            took = perf_counter() - began

    assert 0.15 < took < PATIENCE / 2


async def test_who_asks_no_more_is_closed_when_the_time_to_stay_is_over() -> None:
    async with house(keep_alive=0.1) as at:
        answer = at.ask(request("/livez"))

    assert answer.endswith(ALIVE)


async def test_the_oldest_goes_when_there_are_too_many() -> None:
    async with house(most=3) as at:
        clients = [at.dial() for _ in range(3)]
        answer = at.ask(PROBE)

        assert answer.endswith(ALIVE)
        assert to_the_end(clients[0]) == b""
        for client in clients[1:]:
            client.sendall(PROBE)
            assert to_the_end(client).endswith(ALIVE)
        for client in clients:
            client.close()


# --- whoever else comes ---


@pytest.mark.parametrize(
    ("sent", "begins"),
    [
        pytest.param(request("/metrics", "Connection: close"), b"HTTP/1.1 200 ", id="metrics"),
        pytest.param(request("/health", "Connection: close"), b"HTTP/1.1 200 ", id="health"),
        pytest.param(request("/nothing", "Connection: close"), b"HTTP/1.1 404 ", id="unknown"),
        pytest.param(request("/livez", "Connection: close", method="POST"), b"HTTP/1.1 405 ", id="POST"),
        pytest.param(request("/livez?x", "Connection: close"), b"HTTP/1.1 200 ", id="query"),
        pytest.param(b"complete nonsense\r\n\r\n", b"HTTP/1.", id="garbage"),
        pytest.param(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", b"HTTP/1.", id="TLS"),
        pytest.param(request("/livez", "A: " + "a" * 9_000), b"HTTP/1.", id="too long a head"),
    ],
)
async def test_whatever_is_no_probe_gets_the_answer_of_the_application(sent: bytes, begins: bytes) -> None:
    async with house() as at:
        led = await asyncio.to_thread(at.ask, sent)
        straight = await asyncio.to_thread(at.ask, sent, address=at.behind)

    assert led.startswith(begins)
    assert led.split(b"\r\n")[0] == straight.split(b"\r\n")[0]


async def test_after_a_probe_the_same_connection_may_ask_for_metrics_and_probe_again() -> None:
    def ask() -> list[bytes]:
        with at.dial() as client:
            answers = []
            for path in ("/livez", "/metrics", "/livez"):
                client.sendall(request(path))
                answers.append(one_answer(client))
            return answers

    async with house() as at:
        first, metrics, last = await asyncio.to_thread(ask)

    assert first.endswith(ALIVE)
    assert b"sidecar_client_connections" in metrics
    assert last.endswith(ALIVE)


async def test_requests_sent_all_at_once_are_answered_in_their_order() -> None:
    asked = request("/livez") + request("/readyz") + request("/nothing") + PROBE

    async with house() as at:
        answer = await asyncio.to_thread(at.ask, asked)

    parts = answer.split(b"HTTP/1.1 ")[1:]
    assert [part[:3] for part in parts] == [b"200", b"200", b"404", b"200"]
    assert b'"ready"' in parts[1]


async def test_who_has_ended_his_side_is_still_answered() -> None:
    async with house() as at:
        assert at.ask(request("/livez"), half_close=True).endswith(ALIVE)
        assert at.ask(PROBE[:-2], half_close=True) == b""


async def test_who_leaves_or_resets_hurts_nobody() -> None:
    async with house() as at:
        for sent in (b"", PROBE[:5], PROBE, request("/metrics")):
            client = at.dial()
            client.sendall(sent)
            client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")  # a reset
            client.close()
        await asyncio.sleep(0.05)

        assert at.ask(PROBE).endswith(ALIVE)


async def test_no_more_wait_for_a_loop_that_hangs_than_may_be_connected() -> None:
    async with house(most=3) as at:
        clients = []
        for _ in range(5):
            clients.append(at.dial())
            clients[-1].sendall(request("/health", "Connection: close"))
            assert at.ask(PROBE).endswith(ALIVE)  # by now it waits

        ends = [await asyncio.to_thread(to_the_end, client) for client in clients]
        for client in clients:
            client.close()

    assert [end[:12] for end in ends] == [b"", b"", *[b"HTTP/1.1 200"] * 3]


# --- faults, and the end ---


async def test_a_fault_is_told_once_and_the_next_probe_is_answered(monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[dict[str, object]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: told.append(context))
    async with house() as at:
        whole = at.live

        class Broken:
            @property
            def not_ready(self) -> str:
                raise ValueError("broken")

        with monkeypatch.context() as patch:
            patch.setattr(at.porter._pulse, "_live", Broken())
            assert [at.ask(PROBE), at.ask(PROBE)] == [b"", b""]
        assert at.porter._pulse._live is whole
        assert at.ask(PROBE).endswith(ALIVE)
        await asyncio.sleep(0)

    assert [str(context["exception"]) for context in told] == ["broken"]


async def test_without_files_for_connections_it_waits_and_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[dict[str, object]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: told.append(context))
    accept, failures = socket.socket.accept, iter([OSError(errno.EMFILE, "Too many open files")])

    def accept_or_not(self: socket.socket) -> tuple[socket.socket, object]:
        fault = next(failures, None)
        if fault is not None:
            raise fault
        return accept(self)

    async with house() as at:
        monkeypatch.setattr(socket.socket, "accept", accept_or_not)
        assert at.ask(PROBE).endswith(ALIVE)
        await asyncio.sleep(0)

    assert [str(context["exception"]) for context in told] == ["[Errno 24] Too many open files"]


async def test_when_it_stops_the_thread_ends_and_no_socket_is_left() -> None:
    before = threading.active_count()
    async with house() as at:
        with at.dial() as quiet, at.dial() as waiting:
            waiting.sendall(request("/metrics"))
            assert at.ask(PROBE).endswith(ALIVE)
            began = perf_counter()
            at.porter.stop()
            took = perf_counter() - began
            with pytest.raises(ConnectionRefusedError):
                at.dial()
            assert to_the_end(quiet) == b""
            assert to_the_end(waiting) == b""
            at.porter.stop()  # once more does nothing

    assert took < 0.5
    assert threading.active_count() <= before + 1  # asyncio keeps one of `to_thread`
    gc.collect()  # a socket that nobody closed would warn now
