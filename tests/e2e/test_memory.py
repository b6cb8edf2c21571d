"""Memory: what passes through is never held, however much it is and however slow its taker.

The bound of every test is 20 MiB above what the sidecar held after a first transfer of the same kind.
"""

import socket
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from .kit import App, Sidecar, ask, config, dial, pause, sidecar, until
from .pattern import BLOCK, Checker

BOUND = 20 << 20
LARGE = 5 << 30


@pytest.fixture(scope="module")
def proxy(app: App, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sidecar]:
    """A sidecar of which nobody else makes use, warmed up by one transfer each way."""
    # An upload counts as waiting for the answer: on a slow machine 5 GiB take longer than the default allows.
    text = config(app.url, route="timeout: {attempt: off, total: off}")
    with sidecar(text, tmp_path_factory.mktemp("memory")) as running:
        download(running, 32 << 20)
        upload(running, 32 << 20)
        yield running


class Growth:
    """The most memory held since it was made, above what was held then."""

    def __init__(self, proxy: Sidecar) -> None:
        self._proxy = proxy
        self._before = proxy.rss()
        self.most = 0

    def look(self) -> None:
        self.most = max(self.most, self._proxy.rss() - self._before)


def head_of(client: socket.socket) -> bytes:
    """Read a response head, byte by byte so as to leave the body."""
    head = b""
    while not head.endswith(b"\r\n\r\n"):
        byte = client.recv(1)
        assert byte, head
        head += byte
    return head


def download(proxy: Sidecar, size: int, query: str = "", look: Callable[[], None] = lambda: None) -> int:
    """Take `size` bytes of the pattern; give how many bytes of body came. Without chunks they are compared."""
    with dial(proxy.traffic) as client:
        request = f"GET /download/memory/{size}{query} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"
        client.sendall(request.encode())
        assert head_of(client).startswith(b"HTTP/1.1 200 OK\r\n")
        checker = Checker()
        pieces = 0
        while piece := client.recv(1 << 20):
            checker.feed(piece)
            pieces += 1
            if pieces % 100 == 0:
                look()
    look()
    assert query or checker.right
    return checker.size


def upload(proxy: Sidecar, size: int, look: Callable[[], None] = lambda: None) -> bytes:
    """Send `size` bytes of the pattern; give the answer."""
    with dial(proxy.traffic) as client:
        client.sendall(
            b"POST /upload/memory HTTP/1.1\r\nHost: a\r\nConnection: close\r\nContent-Length: %d\r\n\r\n"
            % size
        )
        for number in range(size // len(BLOCK)):
            client.sendall(BLOCK)
            if number % 16 == 0:
                look()
        answer = client.makefile("rb").read()
    look()
    return answer


@pytest.mark.timeout(180)
def test_a_download_of_5_gib(proxy: Sidecar) -> None:
    growth = Growth(proxy)

    assert download(proxy, LARGE, look=growth.look) == LARGE

    assert growth.most < BOUND


@pytest.mark.timeout(180)
def test_an_upload_of_5_gib(proxy: Sidecar) -> None:
    growth = Growth(proxy)

    answer = upload(proxy, LARGE, growth.look)

    assert answer.endswith(b'{"bytes": %d, "right": true}' % LARGE)
    assert growth.most < BOUND


def test_a_large_download_in_chunks(proxy: Sidecar) -> None:
    growth = Growth(proxy)

    assert 256 << 20 < download(proxy, 256 << 20, "?chunked", growth.look) < 257 << 20

    assert growth.most < BOUND


def settled(app: App, key: str) -> int:
    """Wait until no more bytes move for half a second; give how many have."""
    last = -1
    while (now := app.seen(key).get("bytes", 0)) != last:
        last = now
        pause(0.5)
    return now


@pytest.mark.parametrize("clients", [1, 16])
def test_clients_that_do_not_read(app: App, proxy: Sidecar, clients: int) -> None:
    """The upstream is slowed down to the pace of who takes its answer: what it could send stays bounded."""
    key = f"unread-{clients}"
    growth = Growth(proxy)
    open_now = []
    for _ in range(clients):
        client = socket.socket()
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 16384)
        client.connect((proxy.traffic.partition(":")[0], int(proxy.traffic.partition(":")[2])))
        client.sendall(b"GET /download/%b/%d HTTP/1.1\r\nHost: a\r\n\r\n" % (key.encode(), 1 << 40))
        open_now.append(client)
    app.wait_for(key, arrived=clients)
    sent = settled(app, key)
    growth.look()
    for client in open_now:
        client.close()
    app.wait_for(key, cancelled=clients)

    # What was sent is in the kernel's buffers, whose size is the machine's business.
    assert sent < clients * (64 << 20)
    assert growth.most < BOUND


def test_an_upstream_that_does_not_read(app: App, proxy: Sidecar) -> None:
    """A client that sends to a busy upstream is slowed down, and not stored."""
    growth = Growth(proxy)
    with dial(proxy.traffic) as client:
        client.sendall(b"POST /unread/slow-up HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n" % (1 << 40))
        app.wait_for("slow-up", arrived=1)
        client.settimeout(0.5)
        sent = 0
        with suppress(TimeoutError):
            while sent < 256 << 20:
                sent += client.send(BLOCK)
        growth.look()

    # The client's FIN stands behind what nobody reads: it becomes known when the exchange is over.
    app.open("slow-up")
    until(lambda: proxy.clients() == 0 == proxy.busy(), "both connections closed")
    assert 0 < sent < 128 << 20
    assert growth.most < BOUND


def test_a_client_that_reads_slowly_gets_everything(app: App, proxy: Sidecar) -> None:
    """Stopping and going on many times loses nothing and doubles nothing."""
    size = 8 << 20
    checker = Checker()
    with dial(proxy.traffic) as client:
        client.sendall(b"GET /download/slowly/%d HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n" % size)
        head_of(client)
        while piece := client.recv(300_000):
            checker.feed(piece)
            pause(0.002)

    assert (checker.size, checker.right) == (size, True)


def test_slowloris(app: App, tmp_path: Path) -> None:
    """500 clients that dribble their heads, a byte now and then, keep nobody waiting, and are let go in time."""
    with sidecar(config(app.url, more="limits: {head_timeout: 1s}"), tmp_path) as proxy:
        dribblers = [dial(proxy.traffic) for _ in range(500)]
        for client in dribblers:
            client.sendall(b"GET /hello HTTP/1.1\r\nHost: a\r\nX-Slow: ")

        def all_let_go() -> bool:
            for client in dribblers:
                with suppress(OSError):
                    client.send(b"z")
            assert ask(proxy.traffic, "/hello", within=2).status == 200
            pause(0.05)
            return proxy.clients() == 0

        until(all_let_go, "the end of the dribblers")
        answer = dribblers[0].recv(65536)
        for client in dribblers:
            client.close()

    assert answer.startswith(b"HTTP/1.1 408 ")


def test_idle_connections_are_cheap(app: App, tmp_path: Path) -> None:
    """1 000 clients that have asked once and stay: at most 10 KiB each."""
    with sidecar(config(app.url), tmp_path) as proxy:
        ask(proxy.traffic, "/hello")
        growth = Growth(proxy)
        clients = [dial(proxy.traffic) for _ in range(1000)]
        for client in clients:
            client.sendall(b"GET /hello HTTP/1.1\r\nHost: a\r\n\r\n")
            assert client.recv(65536).startswith(b"HTTP/1.1 200 ")
        growth.look()
        assert proxy.clients() == 1000
        for client in clients:
            client.close()

    assert growth.most < 1000 * 10 * 1024


def test_64_streams_at_once(app: App, tmp_path: Path) -> None:
    """64 answers of 1 000 KiB at once, five times, in a sidecar that was not warmed up by bodies before."""
    with sidecar(config(app.url), tmp_path) as proxy:
        ask(proxy.traffic, "/hello")
        growth = Growth(proxy)
        for _ in range(5):
            clients = [dial(proxy.traffic) for _ in range(64)]
            for client in clients:
                client.sendall(b"GET /download/64/1024000 HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
            for client in clients:
                head_of(client)
                size = 0
                while piece := client.recv(1 << 20):
                    size += len(piece)
                assert size == 1_024_000
                client.close()
                growth.look()
        until(lambda: proxy.clients() == 0, "every client gone")

    assert growth.most < BOUND
