"""The gate of the ops listener: the newcomer gets in, the oldest goes."""

import asyncio
from typing import cast

from sidecar.control.gate import gated


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
    """A transport that only notes whether it was cut."""

    cut = False

    def abort(self) -> None:
        self.cut = True


def connect(made: asyncio.Protocol) -> Wire:
    wire = Wire()
    made.connection_made(cast("asyncio.Transport", wire))
    return wire


def test_everything_is_passed_on() -> None:
    inside = Inside()
    gate = gated(lambda: inside)()

    connect(gate)
    gate.data_received(b"x")
    assert gate.eof_received() is True
    gate.pause_writing()
    gate.resume_writing()
    gate.connection_lost(None)

    assert inside.seen == ["made", b"x", "eof", "pause", "resume", "lost"]


def test_the_oldest_goes_when_there_are_too_many() -> None:
    """Clients that send half a head and wait must not keep a probe out."""
    factory = gated(Inside, most=3)
    wires = [connect(factory()) for _ in range(3)]
    assert not any(wire.cut for wire in wires)

    newcomer = connect(factory())

    assert [wire.cut for wire in wires] == [True, False, False]
    assert not newcomer.cut


def test_who_has_left_takes_no_place() -> None:
    factory = gated(Inside, most=2)
    first = factory()
    wires = [connect(first), connect(factory())]
    first.connection_lost(None)

    wires.append(connect(factory()))

    assert not any(wire.cut for wire in wires)
