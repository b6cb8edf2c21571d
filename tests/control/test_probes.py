"""Probes: what is one, what is left to aiohttp, and what they are told."""

import asyncio

import pytest

from sidecar.control.probes import MOST_HEAD, Probe, Pulse, answer, read
from tests.support.live import live_from
from tests.support.virtual_time import in_virtual_time

REST = b"Host: a\r\nUser-Agent: kube-probe/1.30\r\nAccept: */*\r\n"


@pytest.mark.parametrize(
    ("path", "first"),
    [
        *((path, "/health/live") for path in ("/health/live", "/livez", "/healthz")),
        *((path, "/health/ready") for path in ("/health/ready", "/readyz")),
        ("/health/startup", "/health/startup"),
    ],
)
@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_each_path_is_known_by_its_first_name(method: str, path: str, first: str) -> None:
    data = f"{method} {path} HTTP/1.1\r\n".encode() + REST + b"\r\n"

    assert read(data) == Probe(first, method == "HEAD", 1, keep=True)


@pytest.mark.parametrize(
    ("version", "connection", "keep"),
    [
        ("1.1", "", True),
        ("1.1", "Connection: close\r\n", False),
        ("1.1", "connection:  Keep-Alive \r\n", True),
        ("1.0", "", False),
        ("1.0", "Connection: keep-alive\r\n", True),
    ],
)
def test_the_connection_goes_on_as_the_client_asks(version: str, connection: str, keep: bool) -> None:
    found = read(f"GET /livez HTTP/{version}\r\n{connection}\r\n".encode())

    assert isinstance(found, Probe)
    assert (found.minor, found.keep) == (int(version[-1]), keep)


WHOLE = b"GET /livez HTTP/1.1\r\n" + REST + b"\r\n"


@pytest.mark.parametrize("length", range(len(WHOLE)))
def test_any_beginning_of_a_probe_may_become_one(length: int) -> None:
    assert read(WHOLE[:length]) == "more"


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(b"GET /metrics", id="another path"),
        pytest.param(b"GET /health H", id="the page that tells more"),
        pytest.param(b"GET /livez?x=1", id="a query"),
        pytest.param(b"GET /livez/ ", id="a slash more"),
        pytest.param(b"GET http://a/livez", id="absolute form"),
        pytest.param(b"get /livez", id="another method"),
        pytest.param(b"POST /livez", id="POST"),
        pytest.param(b"\r\nGET /livez", id="an empty line before it"),
        pytest.param(b"\x16\x03\x01\x02\x00\x01\x00", id="TLS"),
        pytest.param(b"PRI * HTTP/2.0\r\n", id="HTTP/2"),
        pytest.param(b"GET /livez HTTP/2", id="a version that is not ours"),
        pytest.param(b"GET /livez HTTP/1.2\r\n\r\n", id="a minor version that there is not"),
        pytest.param(WHOLE + b"G", id="something behind it"),
        pytest.param(WHOLE + WHOLE, id="two"),
        pytest.param(WHOLE.replace(b"\r\n", b"\n"), id="bare line feeds"),
        pytest.param(WHOLE.replace(b"Host: a", b"Host : a"), id="a space before the colon"),
        pytest.param(WHOLE.replace(b"Host: a", b"Host: a\r\n b"), id="a folded line"),
        pytest.param(WHOLE.replace(b"Host: a", b"Host: \0"), id="a control character"),
        pytest.param(WHOLE.replace(b"Host: a", b"Host: \r"), id="a bare carriage return"),
        pytest.param(WHOLE.replace(b"Host: a", b"Content-Length: 1"), id="a body"),
        pytest.param(WHOLE.replace(b"Host: a", b"Transfer-Encoding: chunked"), id="a chunked body"),
        pytest.param(WHOLE.replace(b"Host: a", b"Expect: 100-continue"), id="Expect"),
        pytest.param(WHOLE.replace(b"Host: a", b"Connection: Upgrade\r\nUpgrade: h2c"), id="Upgrade"),
        pytest.param(WHOLE.replace(b"Host: a", b"Connection: close, x"), id="more than one option"),
        pytest.param(WHOLE.replace(b"Host: a", b"Connection: close\r\nConnection: x"), id="two of them"),
        pytest.param(b"GET /livez HTTP/1.1\r\nA: " + b"a" * MOST_HEAD, id="a head that has no end"),
    ],
)
def test_what_is_not_plainly_a_probe_is_something_else(data: bytes) -> None:
    assert read(data) == "other"


# --- what they are told ---

LOCKED = """
version: 1
upstreams: {a: {url: "http://127.0.0.1:9"}}
routes: [{name: r, upstream: a, breaker: {}}]
readiness: {require_upstream: true}
"""


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


@in_virtual_time
async def test_a_loop_that_has_not_turned_for_ten_seconds_is_stuck_and_comes_back() -> None:
    clock = Clock()
    pulse = Pulse(asyncio.get_running_loop(), live_from(), clock)
    pulse.start()

    seen = []
    for passed in (10.0, 0.5):
        clock.now += passed
        seen.append((pulse.told("/health/live"), pulse.told("/health/ready"), pulse.told("/health/startup")))
    await asyncio.sleep(0.3)
    after = (pulse.told("/health/live"), pulse.told("/health/ready"))
    pulse.stop()

    started = (200, {"status": "started"})
    assert seen == [
        ((200, {"status": "alive"}), (200, {"status": "ready"}), started),
        (
            (503, {"status": "stuck", "seconds": 10.5}),
            (503, {"status": "not ready", "reason": "the event loop is stuck"}),
            started,
        ),
    ]
    assert after == ((200, {"status": "alive"}), (200, {"status": "ready"}))


@in_virtual_time
async def test_starting_and_draining_show_at_once() -> None:
    live = live_from()
    pulse = Pulse(asyncio.get_running_loop(), live)

    seen = []
    for reason in ("starting", None, "draining"):
        live.not_ready = reason
        seen.append([pulse.told(path)[1] for path in ("/health/live", "/health/ready", "/health/startup")])

    alive = {"status": "alive"}
    assert seen == [
        [alive, {"status": "not ready", "reason": "starting"}, {"status": "starting"}],
        [alive, {"status": "ready"}, {"status": "started"}],
        [alive, {"status": "not ready", "reason": "draining"}, {"status": "started"}],
    ]


@in_virtual_time
async def test_a_required_upstream_that_is_unusable_shows_with_the_next_beat() -> None:
    live = live_from(LOCKED)
    pulse = Pulse(asyncio.get_running_loop(), live)
    pulse.start()
    before = pulse.told("/health/ready")
    live.guards.breakers["r"].force_open(live.now(), None)
    await asyncio.sleep(0.3)
    after = pulse.told("/health/ready")
    pulse.stop()

    assert before == (200, {"status": "ready"})
    assert after == (503, {"status": "not ready", "reason": "no upstream is usable"})


@in_virtual_time
async def test_the_start_does_not_outlast_itself_by_a_beat() -> None:
    live = live_from()
    live.not_ready = "starting"
    pulse = Pulse(asyncio.get_running_loop(), live)
    pulse.start()
    live.not_ready = None

    assert pulse.told("/health/ready") == (200, {"status": "ready"})
    pulse.stop()


@in_virtual_time
async def test_head_is_answered_without_a_body_and_with_its_length() -> None:
    pulse = Pulse(asyncio.get_running_loop(), live_from())

    whole, head = [
        answer(Probe("/health/live", head, 1, keep=True), pulse).partition(b"\r\n\r\n")
        for head in (False, True)
    ]

    assert (whole[2], head[2]) == (b'{"status": "alive"}\n', b"")
    assert b"\r\nContent-Length: 20\r\n" in head[0]
