"""Events as they come: whole, in order, from where one left off, and at nobody's expense."""

import asyncio
import json
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any, Protocol

import pytest

from sidecar.config.load import load_text
from sidecar.control.admin import events, streams
from sidecar.control.admin.events import EVENT_STREAM
from sidecar.control.gate import gated
from sidecar.telemetry.hub import QUEUE
from tests.control.admin.conftest import TOKEN, YAML, Admin, Start, until


class Lines(Protocol):
    """What gives a body line by line."""

    async def readline(self) -> bytes:
        """Give the next one; b"": it has ended."""


class Reader:
    """Reads an event stream as a browser does."""

    def __init__(self, lines: Lines) -> None:
        self._lines = lines

    async def block(self) -> dict[str, str]:
        """Give the fields of the next block; a comment goes by ""."""
        block: dict[str, str] = {}
        while (line := (await self._lines.readline()).decode()) not in {"\n", ""}:
            name, _, value = line.rstrip("\n").partition(":")
            block[name] = value.removeprefix(" ")
        return block

    async def next(self) -> tuple[int | None, str, Any]:
        """Give number, kind and data of the next event."""
        while "event" not in (block := await self.block()):
            assert block, "the stream has ended"
        return (int(block["id"]) if "id" in block else None), block["event"], json.loads(block["data"])


@asynccontextmanager
async def listening(admin: Admin, query: str = "", **headers: str) -> AsyncIterator[Reader]:
    """Listen for as long as the block lasts."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    response = await admin.client.get(f"/events{query}", headers=named)
    try:
        assert (response.status, response.content_type) == (200, EVENT_STREAM)
        reader = Reader(response.content)
        assert await reader.block() == {"retry": "2000"}
        yield reader
    finally:
        response.close()


async def settled(admin: Admin, listeners: int) -> None:
    """Wait until so many listen, and the hub knows of no more."""
    await until(lambda: len(admin.live.hub) == listeners)


async def test_a_change_is_told_as_it_happens(admin: Admin) -> None:
    admin.live.hub.publish("breaker", {"name": "before"})
    async with listening(admin) as reader:
        admin.live.hub.publish("breaker", {"name": "database", "from": "CLOSED", "to": "OPEN"})
        number, kind, data = await reader.next()

    at = data.pop("at")
    assert (number, kind, data) == (2, "breaker", {"name": "database", "from": "CLOSED", "to": "OPEN"})
    assert at == pytest.approx(admin.live.wall(), abs=60)


async def test_what_an_operator_does_is_told(admin: Admin) -> None:
    async with listening(admin) as reader:
        await admin.ask("POST", "/breakers/database/open")
        _, kind, data = await reader.next()

    data.pop("at")
    assert (kind, data) == (
        "admin",
        {"action": "breaker.open", "target": "database", "who": "127.0.0.1 (loopback)", "outcome": "done"},
    )


async def test_whoever_comes_again_goes_on_where_he_was(admin: Admin) -> None:
    for number in range(1, 6):
        admin.live.hub.publish("log_level", {"level": str(number)})

    async with listening(admin, Last_Event_ID="3") as reader:
        seen = [(await reader.next())[0] for _ in range(2)]

    assert seen == [4, 5]


async def test_what_is_not_kept_any_more_is_told_as_missed(admin: Admin) -> None:
    for number in range(1, QUEUE + 11):
        admin.live.hub.publish("log_level", {"level": str(number)})

    async with listening(admin, Last_Event_ID="1") as reader:
        seen = [await reader.next() for _ in range(2)]

    assert seen[0] == (None, "missed", {"count": 9})
    assert seen[1][:2] == (11, "log_level")


async def test_a_number_of_an_earlier_run_means_all_that_is_kept(admin: Admin) -> None:
    admin.live.hub.publish("log_level", {"level": "debug"})

    async with listening(admin, Last_Event_ID="5000") as reader:
        number, kind, _ = await reader.next()

    assert (number, kind) == (1, "log_level")


@pytest.mark.parametrize("said", ["", "x", "-1", "1.5", "9" * 500, "²"])
async def test_a_number_that_is_none_means_only_what_is_new(admin: Admin, said: str) -> None:
    admin.live.hub.publish("log_level", {"level": "old"})

    async with listening(admin, Last_Event_ID=said) as reader:
        admin.live.hub.publish("log_level", {"level": "new"})
        number, _, _ = await reader.next()

    assert number == 2


async def test_with_snapshots_the_state_comes_at_once_and_again(
    admin: Admin, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(streams, "_TICK", 0.01)
    async with listening(admin, "?snapshot=1s") as reader:
        first, second = await reader.next(), await reader.next()

    assert [(number, kind) for number, kind, _ in (first, second)] == [(None, "snapshot")] * 2
    assert first[2]["at"] < second[2]["at"]
    assert [route["name"] for route in first[2]["routes"]] == ["orders", "search", "all"]


@pytest.mark.parametrize("said", ["0s", "100ms", "1.5s", "2m", "1", "yes", ""])
async def test_snapshots_come_every_so_many_seconds_and_no_other_way(admin: Admin, said: str) -> None:
    assert await admin.refusal("GET", "/events", params={"snapshot": said}) == (400, "bad_value")
    assert len(admin.live.hub) == 0


async def test_while_nothing_happens_a_comment_shows_that_somebody_is_there(
    admin: Admin, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(events, "COMMENT", 0.01)
    async with listening(admin) as reader:
        assert await reader.block() == {"": "still here"}


async def test_one_who_leaves_ends_at_once_and_leaves_nothing_behind(admin: Admin) -> None:
    tasks = len(asyncio.all_tasks())
    async with listening(admin), listening(admin, "?snapshot=1s"):
        await settled(admin, 2)

    await settled(admin, 0)
    await until(lambda: len(asyncio.all_tasks()) <= tasks)


async def test_one_more_than_there_is_room_for_is_503(admin: Admin, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(events, "MOST", 2)
    async with listening(admin), listening(admin):
        response = await admin.client.get("/events")
        assert (response.status, response.headers["Retry-After"]) == (503, "5")
        assert (await response.json(content_type=None))["code"] == "too_many_listeners"
    await settled(admin, 0)

    async with listening(admin):
        pass


async def test_a_slow_reader_loses_the_oldest_and_is_told_how_many(admin: Admin) -> None:
    reader, done = await stuffed(admin)
    for _ in range(QUEUE + 40):
        admin.live.hub.publish("log_level", {"level": "later"})

    kinds: list[tuple[str, Any]] = []
    while not kinds or kinds[-1][0] != "end":
        if len(kinds) == 1:
            admin.live.hub.publish("end", {})
        _, kind, data = await reader.next()
        if data.get("level") != "x" * 100_000:
            kinds.append((kind, data.get("count")))
    done()

    assert kinds[0][0] == "missed"
    lost = kinds[0][1]
    later = [kind for kind, _ in kinds if kind == "log_level"]
    assert lost + len(later) >= QUEUE + 40
    assert len(later) == QUEUE or len(later) == QUEUE - 1


async def test_a_slow_reader_holds_up_nobody_else(admin: Admin) -> None:
    _, done = await stuffed(admin)
    async with listening(admin) as other:
        admin.live.hub.publish("breaker", {"name": "database"})
        _, kind, _ = await other.next()
        assert (await admin.ask("GET", "/breakers"))[0] == 200
    done()

    assert kind == "breaker"


async def test_one_who_takes_nothing_for_too_long_is_cut_off(
    admin: Admin, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(events, "STUCK", 0.05)
    _, done = await stuffed(admin)

    await settled(admin, 0)
    await until(lambda: admin.connections == 0)
    done()


async def test_with_a_token_only_who_has_it_listens(start: Start) -> None:
    admin = await start(token=TOKEN)

    refused = await admin.client.get("/events")
    async with listening(admin, Authorization=f"Bearer {TOKEN}"):
        assert len(admin.live.hub) == 1

    assert refused.status == 401


def reload(admin: Admin, text: str) -> None:
    """Put another configuration in force, as the program does, and tell of it."""
    admin.live.loaded = load_text(text, env={})
    admin.live.hub.publish("reload", {"ok": True, "changed": True, "lines": [], "hash": ""})


@pytest.mark.parametrize("query", ["", "?snapshot=1s"])
async def test_a_stream_ends_when_its_token_is_revoked_and_tells_nothing_more(
    start: Start, query: str
) -> None:
    text = f"{YAML}admin: {{token: {TOKEN}}}\n"
    admin = await start(text, token=TOKEN)
    async with listening(admin, query, Authorization=f"Bearer {TOKEN}") as reader:
        if query:
            await reader.next()
        reload(admin, text.replace(TOKEN, TOKEN[::-1]))

        assert await reader.block() == {}
    await settled(admin, 0)


async def test_a_reload_that_changes_nothing_of_who_may_listen_ends_no_stream(start: Start) -> None:
    text = f"{YAML}admin: {{token: {TOKEN}}}\n"
    admin = await start(text, token=TOKEN)
    async with listening(admin, Authorization=f"Bearer {TOKEN}") as reader:
        reload(admin, text.replace("open_for: 30s", "open_for: 40s"))
        _, kind, _ = await reader.next()
        admin.live.hub.publish("breaker", {"name": "database"})
        _, later, _ = await reader.next()

    assert (kind, later) == ("reload", "breaker")


async def test_strangers_without_a_word_do_not_cut_a_stream(start: Start) -> None:
    admin = await start(token=TOKEN)
    runner = admin.client.server.runner
    assert runner is not None
    assert runner.server is not None
    server = await asyncio.get_running_loop().create_server(gated(runner.server, most=4), "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    head = f"GET /events HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {TOKEN}\r\n\r\n"
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(head.encode())
    await settled(admin, 1)

    strangers = [await asyncio.open_connection("127.0.0.1", port) for _ in range(12)]
    for _, each in strangers[::2]:
        each.write(b"GET /state HTTP/1.1\r\nHost: localhost\r\n\r\n")
    await until(lambda: admin.connections == 4)
    admin.live.hub.publish("breaker", {"name": "still here"})

    assert b"still here" in await reader.readuntil(b"still here")
    for each in (writer, *(each for _, each in strangers)):
        each.close()
    server.close()


async def test_nobody_streams_to_a_head_request(admin: Admin) -> None:
    assert (await admin.client.head("/events")).status == 405
    assert len(admin.live.hub) == 0


async def test_when_the_program_stops_all_streams_end(admin: Admin) -> None:
    async with listening(admin) as one, listening(admin, "?snapshot=1s") as other:
        await other.next()
        app = admin.client.app
        assert app is not None
        await app.shutdown()

        assert (await one.block(), await other.block()) == ({}, {})
    assert len(admin.live.hub) == 0


async def stuffed(admin: Admin) -> tuple[Reader, Callable[[], None]]:
    """Listen, and read nothing, until the handler waits for its reader; give who reads, and how to leave."""
    raw = socket.socket()
    raw.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    raw.setblocking(False)
    host: Any = admin.client.host
    await asyncio.get_running_loop().sock_connect(raw, (host, admin.client.port))
    reader, writer = await asyncio.open_connection(sock=raw, limit=4096)
    writer.write(b"GET /events HTTP/1.1\r\nHost: localhost\r\n\r\n")
    await settled(admin, 1)
    for _ in range(100):  # 10 MB, more than all buffers between the two
        admin.live.hub.publish("log_level", {"level": "x" * 100_000})
        await asyncio.sleep(0)
    return Reader(_Chunked(reader)), writer.close


class _Chunked:
    """A response read by hand, so that its client decides when to read."""

    def __init__(self, reader: asyncio.StreamReader) -> None:
        self._reader = reader
        self._head = False
        self._buffer = b""

    async def readline(self) -> bytes:
        """Give a line of the body."""
        if not self._head:
            await self._reader.readuntil(b"\r\n\r\n")
            self._head = True
        while b"\n" not in self._buffer:
            size = int(await self._reader.readline(), 16)
            self._buffer += await self._reader.readexactly(size)
            await self._reader.readexactly(2)
        line, _, self._buffer = self._buffer.partition(b"\n")
        return line + b"\n"
