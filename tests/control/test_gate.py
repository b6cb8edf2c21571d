"""The gate of ops and admin: the newcomer gets in, who matters least goes, and so does who dawdles over a head."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import ExitStack, asynccontextmanager, suppress
from time import perf_counter
from typing import cast

import pytest
from aiohttp import web

from sidecar.control.gate import HEAD_TIMEOUT, being_answered, gated, let_in
from tests.support.virtual_time import VirtualTimeLoop, in_virtual_time


class Inside(asyncio.Protocol):
    def __init__(self) -> None:
        self.seen: list[object] = []

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.seen.append("made")

    def data_received(self, data: bytes) -> None:
        self.seen.append(data)

    def eof_received(self) -> bool:
        self.seen.append("eof")
        return True

    def pause_writing(self) -> None:
        self.seen.append("pause")

    def resume_writing(self) -> None:
        self.seen.append("resume")

    def connection_lost(self, exc: Exception | None) -> None:
        self.seen.append("lost")


class Wire:
    """A transport that only notes whether it was cut, and knows whose it is."""

    cut = False

    def __init__(self, protocol: asyncio.BaseProtocol) -> None:
        self._protocol = protocol

    def get_protocol(self) -> asyncio.BaseProtocol:
        return self._protocol

    def abort(self) -> None:
        self.cut = True


def connect(made: asyncio.Protocol) -> Wire:
    wire = Wire(made)
    made.connection_made(cast("asyncio.Transport", wire))
    return wire


@in_virtual_time
async def test_everything_is_passed_on() -> None:
    inside = Inside()
    gate = gated(lambda: inside)()

    connect(gate)
    gate.data_received(b"x")
    assert gate.eof_received() is True
    gate.pause_writing()
    gate.resume_writing()
    gate.connection_lost(None)

    assert inside.seen == ["made", b"x", "eof", "pause", "resume", "lost"]


@in_virtual_time
async def test_the_oldest_goes_when_there_are_too_many() -> None:
    """Clients that send half a head and wait must not keep a probe out."""
    factory = gated(Inside, most=3)
    wires = [connect(factory()) for _ in range(3)]
    assert not any(wire.cut for wire in wires)

    newcomer = connect(factory())

    assert [wire.cut for wire in wires] == [True, False, False]
    assert not newcomer.cut


@in_virtual_time
async def test_who_has_left_takes_no_place() -> None:
    factory = gated(Inside, most=2)
    first = factory()
    wires = [connect(first), connect(factory())]
    first.connection_lost(None)

    wires.append(connect(factory()))

    assert not any(wire.cut for wire in wires)


# --- who makes room ---


def transport(wire: Wire) -> asyncio.Transport:
    return cast("asyncio.Transport", wire)


@in_virtual_time
async def test_silent_strangers_push_out_one_another_and_nobody_who_has_asked() -> None:
    factory = gated(Inside, most=3)
    asked = factory()
    first = connect(asked)
    asked.data_received(HEAD)
    silent = [connect(factory()) for _ in range(10)]

    assert not first.cut
    assert [wire.cut for wire in silent] == [True] * 8 + [False] * 2


@in_virtual_time
async def test_those_who_wait_for_no_answer_go_before_those_who_do_and_who_was_let_in_goes_last() -> None:
    factory = gated(Inside, most=5)
    gates = [factory() for _ in range(5)]
    # A stream, an idle connection of its owner, one of a stranger who waits, an idle one of a stranger, half a head.
    stream, owner, waiting, _, _ = wires = [connect(gate) for gate in gates]
    for gate in gates[:4]:
        gate.data_received(HEAD)
    let_in(transport(stream), let=True)
    let_in(transport(owner), let=True)

    gone = []
    with ExitStack() as answering:
        for each in (stream, waiting):
            answering.enter_context(being_answered(transport(each)))
        for _ in wires:
            newcomer = factory()
            wire = connect(newcomer)
            newcomer.data_received(HEAD)
            let_in(transport(wire), let=True)
            answering.enter_context(being_answered(transport(wire)))
            gone.append([each.cut for each in wires])

    assert [sum(cut) for cut in gone] == [1, 2, 3, 4, 5], "one for each newcomer"
    assert [len(wires) - 1 - cut[::-1].index(False) for cut in gone[:4]] == [3, 2, 1, 0], "the last first"


@in_virtual_time
async def test_who_was_let_in_once_and_is_not_any_more_is_worth_no_more_than_others() -> None:
    factory = gated(Inside, most=2)
    revoked, owner = factory(), factory()
    wires = [connect(revoked), connect(owner)]
    for gate, wire in zip((revoked, owner), wires, strict=True):
        gate.data_received(HEAD)
        let_in(transport(wire), let=True)
    let_in(transport(wires[0]), let=False)

    connect(factory())

    assert [wire.cut for wire in wires] == [True, False]


@in_virtual_time
async def test_what_was_answered_is_idle_again() -> None:
    factory = gated(Inside, most=2)
    gates = [factory(), factory()]
    wires = [connect(gate) for gate in gates]
    for gate in gates:
        gate.data_received(HEAD)
    with being_answered(transport(wires[0])):
        pass
    with being_answered(transport(wires[1])):
        connect(factory())

    assert [wire.cut for wire in wires] == [True, False]


def test_a_connection_without_a_gate_is_let_alone() -> None:
    for other in (None, transport(Wire(asyncio.Protocol()))):
        let_in(other, let=True)
        with being_answered(other):
            pass


# --- a head in time ---

HEAD = b"GET /health/live HTTP/1.1\r\nHost: a\r\n\r\n"


@in_virtual_time
async def test_who_sends_nothing_is_closed_after_ten_seconds() -> None:
    wire = connect(gated(Inside)())
    seen = []
    for seconds in (9.9, 0.2):
        await asyncio.sleep(seconds)
        seen.append(wire.cut)

    assert (HEAD_TIMEOUT, seen) == (10.0, [False, True])


@in_virtual_time
async def test_dripping_a_head_gains_no_time() -> None:
    gate = gated(Inside)()
    wire = connect(gate)
    for at in range(len(HEAD) - 1):
        gate.data_received(HEAD[at : at + 1])
        await asyncio.sleep(0.3)
        if wire.cut:
            break

    assert wire.cut
    assert 9.9 < asyncio.get_running_loop().time() < 10.4


@pytest.mark.parametrize(
    "pieces",
    [
        pytest.param([HEAD], id="whole"),
        pytest.param([HEAD[at : at + 1] for at in range(len(HEAD))], id="byte by byte"),
        pytest.param([HEAD[:-3], HEAD[-3:-1], HEAD[-1:]], id="the end in pieces"),
        pytest.param([b"\r\n\r\n", b"\r\n" + HEAD], id="after empty lines"),
        pytest.param([HEAD + HEAD[:5]], id="with the beginning of the next"),
        pytest.param([HEAD.replace(b"\r\n", b"\n")], id="with bare line feeds"),
    ],
)
def test_who_has_sent_a_head_may_stay(pieces: list[bytes]) -> None:
    """How long the answer takes, or a stream of events, is not the gate's business."""

    @in_virtual_time
    async def stays() -> None:
        gate = gated(Inside)()
        wire = connect(gate)
        for piece in pieces:
            await asyncio.sleep(9.0 / len(pieces))
            gate.data_received(piece)
        await asyncio.sleep(3600.0)
        assert not wire.cut

    stays()


@pytest.mark.parametrize(
    "sent", [b"\r\n\r\n\r\n", b"\r\n\r\nGET / HTTP/1.1\r\n", HEAD[:-2], HEAD[:-4] + b"\r\r\r\r"]
)
def test_empty_lines_and_half_a_head_are_no_head(sent: bytes) -> None:
    @in_virtual_time
    async def goes() -> None:
        for pieces in ([sent], [sent[at : at + 1] for at in range(len(sent))]):
            gate = gated(Inside)()
            wire = connect(gate)
            for piece in pieces:
                gate.data_received(piece)
            await asyncio.sleep(10.1)
            assert wire.cut

    goes()


@in_virtual_time
async def test_no_timer_is_left_of_those_that_are_gone() -> None:
    loop = asyncio.get_running_loop()
    assert isinstance(loop, VirtualTimeLoop)
    factory = gated(Inside, most=2)
    gates = [factory() for _ in range(3)]
    wires = [connect(gate) for gate in gates]
    for gate in gates:
        gate.connection_lost(None)

    await asyncio.sleep(60.0)

    assert [wire.cut for wire in wires] == [
        True,
        False,
        False,
    ]  # the first made room, the others left by themselves
    assert loop.timers == 0


# --- around aiohttp, on a real socket ---


@asynccontextmanager
async def served(handler: Callable[[web.Request], Awaitable[web.StreamResponse]]) -> AsyncIterator[int]:
    """Serve `handler` behind a gate that gives a head a fifth of a second."""
    app = web.Application()
    app.router.add_get("/", handler)
    runner = web.AppRunner(app, keepalive_timeout=0.3)
    await runner.setup()
    assert runner.server is not None
    loop = asyncio.get_running_loop()
    server = await loop.create_server(gated(runner.server, head_timeout=0.2), "127.0.0.1", 0)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()
        await runner.cleanup()


async def hello(_: web.Request) -> web.Response:
    return web.Response(text="hello")


async def slow(_: web.Request) -> web.Response:
    await asyncio.sleep(0.5)
    return web.Response(text="slow")


async def test_a_quiet_half_head_is_closed_and_the_next_client_is_served() -> None:
    async with served(hello) as port:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"GET / HTTP/1.1\r\nHost: a\r\n")
        began = perf_counter()
        with suppress(ConnectionResetError):
            assert await asyncio.wait_for(reader.read(), 5) == b""
        took = perf_counter() - began
        writer.close()
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
        answer = await asyncio.wait_for(reader.read(), 5)
        writer.close()

    assert took >= 0.15
    assert (answer[:12], answer[-5:]) == (b"HTTP/1.1 200", b"hello")


async def test_a_slow_answer_is_waited_for() -> None:
    async with served(slow) as port:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
        answer = await asyncio.wait_for(reader.read(), 5)
        writer.close()

    assert answer.endswith(b"slow")


async def test_half_of_a_second_head_is_closed_after_the_keep_alive_time() -> None:
    """That bound is aiohttp's own; whoever makes the server sets it."""
    async with served(hello) as port:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"GET / HTTP/1.1\r\nHost: a\r\n\r\nGET / HT")
        answer = await asyncio.wait_for(reader.read(), 5)
        writer.close()

    assert answer.endswith(b"hello")
