"""The demo's service misbehaves in exactly the ways that it says."""

import io
import logging

import pytest
from aiohttp import ClientPayloadError, ServerDisconnectedError, web
from aiohttp.test_utils import TestClient
from pytest_aiohttp.plugin import AiohttpClient

from sidecar.cli.demo_service import FLAPPING_PERIOD, ORDERS, create_app

Client = TestClient[web.Request, web.Application]


class Clock:
    """Time that passes when it is told to, and that notes how long the service slept."""

    def __init__(self) -> None:
        self.time = 1000.0
        self.slept: list[float] = []

    def now(self) -> float:
        return self.time

    async def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.time += seconds


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
async def client(aiohttp_client: AiohttpClient, clock: Clock) -> Client:
    return await aiohttp_client(create_app(now=clock.now, sleep=clock.sleep))


async def answer(client: Client, path: str) -> tuple[int, str]:
    async with client.get(path) as response:
        return response.status, await response.text()


async def test_the_first_page_names_every_path(client: Client) -> None:
    status, text = await answer(client, "/")

    routes = {str(resource.canonical) for resource in client.app.router.resources()} - {"/"}
    named = {
        line.split()[0].split("?")[0].replace("/N", "/{n}") for line in text.splitlines() if line[:3] == "  /"
    }
    assert (status, named) == (200, routes)


async def test_orders_are_a_json_list(client: Client) -> None:
    async with client.get("/orders") as response:
        assert (response.status, await response.json()) == (200, ORDERS)


@pytest.mark.parametrize(("path", "seconds"), [("/slow", 3.0), ("/slow?ms=250", 0.25), ("/slow?ms=0", 0.0)])
async def test_slow_sleeps_as_long_as_asked(client: Client, clock: Clock, path: str, seconds: float) -> None:
    status, _ = await answer(client, path)

    assert (status, clock.slept) == (200, [seconds])


@pytest.mark.parametrize("ms", ["", "-1", "1.5", "60001", "9" * 5000, "٣"])
async def test_slow_refuses_what_is_no_number_of_milliseconds(client: Client, clock: Clock, ms: str) -> None:
    async with client.get("/slow", params={"ms": ms}) as response:
        assert (response.status, await response.text()) == (400, "ms is a number from 0 to 60000\n")
    assert clock.slept == []


async def test_flaky_fails_every_other_request(client: Client) -> None:
    assert [(await answer(client, "/flaky"))[0] for _ in range(5)] == [503, 200, 503, 200, 503]


async def test_flapping_is_up_and_down_in_turn(client: Client, clock: Clock) -> None:
    seen = []
    for _ in range(4):
        seen.append(await answer(client, "/flapping"))
        clock.time += FLAPPING_PERIOD - 1
        seen.append(await answer(client, "/flapping"))
        clock.time += 1

    up, down = (
        [(200, "up for another 10 s\n"), (200, "up for another 1 s\n")],
        [
            (503, "down for another 10 s\n"),
            (503, "down for another 1 s\n"),
        ],
    )
    assert seen == up + down + up + down


async def test_down_always_fails(client: Client) -> None:
    assert [await answer(client, "/down") for _ in range(3)] == [(500, "down, as always\n")] * 3


@pytest.mark.parametrize("method", ["GET", "POST"])
async def test_drop_closes_without_an_answer(
    client: Client, caplog: pytest.LogCaptureFixture, method: str
) -> None:
    with caplog.at_level(logging.WARNING), pytest.raises(ServerDisconnectedError):
        await client.request(method, "/drop")

    assert caplog.messages == [], "misbehaving on purpose is no error in the service's log"


async def test_halfway_breaks_off_after_half_of_the_announced_body(client: Client) -> None:
    async with client.get("/halfway") as response:
        announced = response.content_length
        half = await response.content.readexactly(1000)
        with pytest.raises(ClientPayloadError):
            await response.read()

    assert (response.status, announced, half) == (200, 2000, b"x" * 1000)


async def test_stream_ticks_once_a_second(client: Client, clock: Clock) -> None:
    async with client.get("/stream?n=3") as response:
        text = await response.text()

    assert (response.content_type, text, clock.slept) == (
        "text/event-stream",
        'data: {"tick": 0}\n\ndata: {"tick": 1}\n\ndata: {"tick": 2}\n\n',
        [1, 1, 1],
    )


async def test_websocket_answers_with_what_it_hears(client: Client) -> None:
    async with client.ws_connect("/ws") as socket:
        await socket.send_str("grüezi")
        await socket.send_bytes(b"\x00\xff")

        assert [await socket.receive_str(), await socket.receive_bytes()] == ["grüezi", b"\x00\xff"]


async def test_upload_counts_the_bytes_however_many(client: Client) -> None:
    counted = []
    for size in (0, 1, 3 * 2**20):
        async with client.post("/upload", data=io.BytesIO(b"x" * size)) as response:
            counted.append(await response.json())

    assert counted == [{"bytes": 0}, {"bytes": 1}, {"bytes": 3 * 2**20}]


@pytest.mark.parametrize("n", [0, 1, 65536, 65537, 1_000_000])
async def test_bytes_are_as_many_as_asked(client: Client, n: int) -> None:
    async with client.get(f"/bytes/{n}") as response:
        assert (response.status, response.content_length, len(await response.read())) == (200, n, n)


async def test_bytes_beyond_ten_gibibytes_are_refused(client: Client) -> None:
    assert await answer(client, "/bytes/99999999999") == (400, "at most 10737418240 bytes\n")
