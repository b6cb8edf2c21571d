"""An upstream that hangs is the trouble of its own route, in the real process."""

import http.client
import socket
from collections.abc import Iterator
from contextlib import ExitStack, closing
from pathlib import Path
from time import perf_counter

import pytest

from .kit import WITHIN, App, Sidecar, dial, sidecar, until

STUCK = 64
ROUNDS = 5
REQUESTS = 200


@pytest.fixture
def black_hole() -> Iterator[socket.socket]:
    """An upstream that takes every connection, by way of the kernel's queue, and never says a word."""
    with socket.create_server(("127.0.0.1", 0), backlog=2 * STUCK) as listener:
        yield listener


def two_routes(app: App, black_hole: socket.socket) -> str:
    return (
        "version: 1\n"
        "listen: {traffic: '127.0.0.1:0', ops: 127.0.0.1:0, admin: 127.0.0.1:0}\n"
        f"upstreams: {{well: {{url: '{app.url}'}}, hole: {{url: 'http://127.0.0.1:{black_hole.getsockname()[1]}'}}}}\n"
        "defaults: {timeout: {attempt: off, total: off, idle: 60s}}\n"
        "routes: [{name: stuck, match: {path: /stuck}, upstream: hole}, {name: well, upstream: well}]\n"
    )


def p99(proxy: Sidecar) -> float:
    """Ask the route that is well again and again over one connection; give the time that all but 1 % stay below."""
    taken = []
    with closing(http.client.HTTPConnection(proxy.traffic, timeout=WITHIN)) as connection:
        for _ in range(REQUESTS):
            began = perf_counter()
            connection.request("GET", "/hello")
            response = connection.getresponse()
            assert (response.status, response.read()) == (200, b"hello")
            taken.append(perf_counter() - began)
    return sorted(taken)[REQUESTS * 99 // 100 - 1]


def best_p99(proxy: Sidecar) -> float:
    return min(p99(proxy) for _ in range(ROUNDS))


def test_requests_that_hang_do_not_move_another_routes_p99(
    app: App, black_hole: socket.socket, tmp_path: Path
) -> None:
    """64 requests hang on one route; the other one's p99 is what it was before, on this machine, in this minute.

    Noise can only add time, so of several rounds the quickest counts; a machine that is busier than before shows in the
    rounds after. Five times as much and 2 ms on top is still noise. What the test is for is not: waiting for a request
    that hangs lasts for as long as it does, here for ever, and that in every round.
    """
    with sidecar(two_routes(app, black_hole), tmp_path) as proxy, ExitStack() as clients:
        p99(proxy)  # warm-up: code, connections, caches
        before = best_p99(proxy)

        stuck = [clients.enter_context(dial(proxy.traffic)) for _ in range(STUCK)]
        for client in stuck:
            client.sendall(b"GET /stuck HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
        until(lambda: proxy.busy("hole") == STUCK, "all of them hang")
        during = best_p99(proxy)
        still_stuck = proxy.busy("hole")

        black_hole.close()
        answers = {_answer(client)[:12] for client in stuck}
        after = best_p99(proxy)

    told = f"{before * 1000:.2f} ms before, {during * 1000:.2f} ms during, {after * 1000:.2f} ms after"
    assert during <= 5 * max(before, after) + 0.002, told
    assert still_stuck == STUCK
    assert answers == {b"HTTP/1.1 502"}


def _answer(client: socket.socket) -> bytes:
    """Read what a client gets when it ends at last."""
    answer = b""
    while piece := client.recv(65536):
        answer += piece
    return answer
