"""A transport that is no socket, and a loop that turns when told: whole connections in microseconds, step by step."""

import asyncio
import atexit
from collections.abc import Callable, Iterator
from functools import cache
from typing import Any

__all__ = ["FakeTransport", "faults", "loop", "pieces", "turn"]

faults: list[dict[str, Any]] = []  # what the loop's exception handler was told


@cache
def loop() -> asyncio.AbstractEventLoop:
    """The one loop of this process's fuzzing."""
    made = asyncio.SelectorEventLoop()
    made.set_exception_handler(lambda _, context: faults.append(context))
    atexit.register(made.close)
    return made


def turn(times: int = 3) -> None:
    """Let the loop turn: everything that is ready happens."""
    for _ in range(times):
        loop().call_soon(loop().stop)
        loop().run_forever()


class FakeTransport(asyncio.Transport):
    """Keeps what is written. Closing tells the protocol in the next turn, as real ones do, exactly once."""

    def __init__(self, lost: Callable[[Exception | None], None]) -> None:
        super().__init__()
        self.written = bytearray()
        self.closed = False
        self.ended = False
        self.reading = True
        self._lost = lost

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return ("192.0.2.1", 1234) if name == "peername" else default

    def write(self, data: bytes | bytearray | memoryview) -> None:
        if not self.closed:
            assert not self.ended, "written after write_eof"
            self.written += data

    def can_write_eof(self) -> bool:
        return True

    def write_eof(self) -> None:
        self.ended = True

    def is_closing(self) -> bool:
        return self.closed

    def close(self) -> None:
        if not self.closed:
            self.closed = True
            loop().call_soon(self._lost, None)

    def abort(self) -> None:
        self.close()

    def is_reading(self) -> bool:
        return self.reading and not self.closed

    def pause_reading(self) -> None:
        self.reading = False

    def resume_reading(self) -> None:
        self.reading = True

    def get_write_buffer_size(self) -> int:
        return 0

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        pass


def pieces(data: bytes, how: int) -> Iterator[bytes]:
    """Cut `data`: 0 not at all, 1 at every byte, 2 in two at a third, else into pieces of up to `how` bytes."""
    if how == 2:
        yield data[: len(data) // 3]
        yield data[len(data) // 3 :]
        return
    step = len(data) if how == 0 else max(1, how)
    for start in range(0, len(data), max(1, step)):
        yield data[start : start + max(1, step)]
