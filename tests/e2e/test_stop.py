"""How it ends: what is under way finishes, nothing new begins, and nobody waits longer than they were told."""

import signal
import threading
from collections.abc import Callable
from http.client import HTTPResponse
from pathlib import Path
from time import monotonic
from typing import Any

import pytest

from .kit import App, Sidecar, arguments, ask, config, dial, refuses_connections, sidecar, until
from .pattern import BLOCK, Checker

BOTH = pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT], ids=lambda number: number.name)


class Later(threading.Thread):
    """A call on a thread of its own; `result` waits for what it gave, or raises what it raised."""

    def __init__(self, call: Callable[[], Any]) -> None:
        super().__init__(daemon=True)
        self._call = call
        self._given: Any = None
        self._raised: BaseException | None = None
        self.start()

    def run(self) -> None:
        try:
            self._given = self._call()
        except Exception as error:  # noqa: BLE001 -- raised again in the thread that asks for the result
            self._raised = error

    def result(self) -> Any:
        self.join(30)
        if self._raised is not None:
            raise self._raised
        return self._given


def not_ready(proxy: Sidecar) -> bool:
    return ask(proxy.ops, "/health/ready").status == 503


@BOTH
def test_a_request_under_way_finishes(app: App, tmp_path: Path, number: signal.Signals) -> None:
    """It gets its answer, marked as the connection's last one; meanwhile nobody else is let in; then exit 0."""
    key = f"stop-{number.name}"
    with sidecar(config(app.url), tmp_path) as proxy:
        asking = Later(lambda: ask(proxy.traffic, f"/held/{key}", headers={"Connection": "keep-alive"}))
        app.wait_for(key, arrived=1)
        proxy.send(number)

        until(lambda: not_ready(proxy), "not ready any more")
        alive = ask(proxy.ops, "/health/live").status
        refused = refuses_connections(proxy.traffic)
        app.open(key)
        answer = asking.result()
        status = proxy.exit_status()

    assert (alive, refused) == (200, True)
    assert (answer.status, answer.body) == (200, b"held, then answered")
    assert answer.fields["connection"] == "close"
    assert status == 0
    assert [line["connections"] for line in proxy.events("sidecar.draining")] == [1]
    assert len(proxy.events("sidecar.stopped")) == 1


def test_an_idle_connection_is_closed_at_once(app: App, tmp_path: Path) -> None:
    with sidecar(config(app.url), tmp_path) as proxy, dial(proxy.traffic) as client:
        client.sendall(b"GET /hello HTTP/1.1\r\nHost: a\r\n\r\n")
        assert client.recv(65536).startswith(b"HTTP/1.1 200 ")
        proxy.send(signal.SIGTERM)

        assert client.recv(65536) == b""
        assert proxy.exit_status() == 0


def test_a_download_under_way_arrives_whole(app: App, tmp_path: Path) -> None:
    size = 32 * len(BLOCK)
    checker = Checker()
    with sidecar(config(app.url), tmp_path) as proxy, dial(proxy.traffic) as client:
        client.sendall(b"GET /download/stop/%d HTTP/1.1\r\nHost: a\r\n\r\n" % size)
        response = HTTPResponse(client)
        response.begin()
        proxy.send(signal.SIGTERM)
        until(lambda: not_ready(proxy), "not ready any more")
        while piece := response.read(1 << 20):
            checker.feed(piece)
        assert proxy.exit_status() == 0

    assert (checker.size, checker.right) == (size, True)


def test_an_upload_under_way_arrives_whole(app: App, tmp_path: Path) -> None:
    with sidecar(config(app.url), tmp_path) as proxy, dial(proxy.traffic) as client:
        client.sendall(b"POST /upload/stop-up HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n" % len(BLOCK))
        client.sendall(BLOCK[:1000])
        app.wait_for("stop-up", bytes=1000)
        proxy.send(signal.SIGTERM)
        until(lambda: not_ready(proxy), "not ready any more")
        client.sendall(BLOCK[1000:])
        answer = client.makefile("rb").read()
        assert proxy.exit_status() == 0

    assert answer.startswith(b"HTTP/1.1 200 OK\r\n")
    assert answer.endswith(b'{"bytes": 1048576, "right": true}')


def test_drain_timeout_ends_what_hangs(app: App, tmp_path: Path) -> None:
    """A request that never ends is cut off when `drain_timeout` is over, and told so; the exit status is still 0."""
    with (
        sidecar(config(app.url, more="drain_timeout: 300ms"), tmp_path) as proxy,
        dial(proxy.traffic) as client,
    ):
        client.sendall(b"GET /held/hangs HTTP/1.1\r\nHost: a\r\n\r\n")
        app.wait_for("hangs", arrived=1)
        started = monotonic()
        proxy.send(signal.SIGTERM)
        status = proxy.exit_status()
        took = monotonic() - started
        app.wait_for("hangs", cancelled=1)
        got = client.recv(65536)

    assert status == 0
    assert 0.3 <= took < 5
    assert got.startswith(b"HTTP/1.1 503 ")
    assert b'details="rejected_overload"' in got
    assert [line["connections"] for line in proxy.events("sidecar.drain_timeout")] == [1]


def test_drain_timeout_ends_a_websocket(app: App, tmp_path: Path) -> None:
    """A tunnel never ends by itself, so it must not keep the sidecar either."""
    with (
        sidecar(config(app.url, more="drain_timeout: 300ms"), tmp_path) as proxy,
        dial(proxy.traffic) as client,
    ):
        client.sendall(
            b"GET /ws HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
            b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
        )
        assert client.recv(65536).startswith(b"HTTP/1.1 101 ")
        assert proxy.stop() == 0


@BOTH
def test_a_second_signal_ends_it_at_once(app: App, tmp_path: Path, number: signal.Signals) -> None:
    """Whoever signals twice does not want to wait; the status tells that it was no orderly end."""
    key = f"twice-{number.name}"
    with (
        Sidecar(arguments(config(app.url, more="drain_timeout: 1h"), tmp_path)) as proxy,
        dial(proxy.first_json("traffic")["traffic"][0]) as client,
    ):
        client.sendall(f"GET /held/{key} HTTP/1.1\r\nHost: a\r\n\r\n".encode())
        app.wait_for(key, arrived=1)
        proxy.send(number)
        until(lambda: proxy.events("sidecar.draining"), "the line that says that it drains")
        proxy.send(number)

        assert proxy.exit_status(within=5) == 128 + number
    assert "Traceback" not in proxy.said


def test_sighup_does_not_end_it(app: App, tmp_path: Path) -> None:
    with sidecar(config(app.url), tmp_path) as proxy:
        proxy.send(signal.SIGHUP)
        until(lambda: [line for line in proxy.out if "sighup" in line], "a line about the signal")

        assert ask(proxy.traffic, "/hello").status == 200
        assert ask(proxy.ops, "/health/ready").status == 200


def test_clients_that_stay_connected_do_not_keep_it(app: App, tmp_path: Path) -> None:
    """Connections that have sent nothing, or half a head, end at the latest with `drain_timeout`."""
    with (
        sidecar(config(app.url, more="drain_timeout: 500ms"), tmp_path) as proxy,
        dial(proxy.traffic),
        dial(proxy.traffic) as half,
    ):
        half.sendall(b"GET / HTTP/1.1\r\nHos")
        until(lambda: proxy.clients() == 2, "two connections")
        assert proxy.stop() == 0
