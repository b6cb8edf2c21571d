"""An event loop whose clock jumps: hours of waiting pass in no time, and in the same order every time.

The loop runs whatever is ready. When nothing is, its clock jumps to the next timer; when there is no timer either,
nothing could ever wake it again, and it fails with `NothingCanWake` instead of hanging. There is no input from
outside in virtual time: no sockets, no threads, no signals.

`run` is also strict about what a test leaves behind: a task that outlives its test and an exception that a callback
let go are failures.
"""

import asyncio
import functools
import selectors
from collections.abc import Callable, Coroutine
from typing import Any, ParamSpec, TypeVar

__all__ = ["NothingCanWake", "VirtualTimeLoop", "in_virtual_time", "now", "run"]

P = ParamSpec("P")
T = TypeVar("T")


class NothingCanWake(Exception):
    """The program waits, and neither a timer nor anything that is ready will ever end its waiting."""


class VirtualTimeLoop(asyncio.SelectorEventLoop):
    """An event loop that starts at time 0 and is never late."""

    def __init__(self) -> None:
        super().__init__(_Jumping(self._jump))
        self._now = 0.0
        self.faults: list[dict[str, Any]] = []
        self.set_exception_handler(lambda _, context: self.faults.append(context))

    def time(self) -> float:
        """Give the virtual time in seconds."""
        return self._now

    @property
    def timers(self) -> int:
        """How many timers are set now, cancelled ones not counted."""
        return sum(not handle.cancelled() for handle in self._timers())

    def _timers(self) -> list[asyncio.TimerHandle]:
        timers: list[asyncio.TimerHandle] = vars(self)["_scheduled"]  # of BaseEventLoop, since Python 3.4
        return timers

    def _jump(self) -> None:
        timers = self._timers()
        if not timers:
            raise NothingCanWake(f"at {self._now:g} s: everything waits, and no timer is set")
        self._now = max(self._now, timers[0].when())


class _Jumping(selectors.DefaultSelector):
    """Never waits: where a loop would, the clock jumps."""

    def __init__(self, jump: Callable[[], None]) -> None:
        super().__init__()
        self._jump = jump

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        ready = super().select(0)
        if not ready and (timeout is None or timeout > 0):
            self._jump()
        return ready


def now() -> float:
    """Give the time of the running loop, in seconds."""
    return asyncio.get_running_loop().time()


def run(main: Coroutine[Any, Any, T]) -> T:
    """Run `main` from time 0 to its end, and give what it gives.

    Raises:
        NothingCanWake: it waits for ever.
        AssertionError: it left a task behind, or a callback raised.

    """
    with asyncio.Runner(loop_factory=VirtualTimeLoop) as runner:
        result = runner.run(_alone(main))
        loop = runner.get_loop()
        assert isinstance(loop, VirtualTimeLoop)
        if loop.faults:
            context = loop.faults[0]
            raise AssertionError(f"a callback failed: {context}") from context.get("exception")
        return result


def in_virtual_time(test: Callable[P, Coroutine[Any, Any, None]]) -> Callable[P, None]:
    """Make an async test run in virtual time."""

    @functools.wraps(test)
    def in_time(*args: P.args, **kwargs: P.kwargs) -> None:
        run(test(*args, **kwargs))

    return in_time


async def _alone(main: Coroutine[Any, Any, T]) -> T:
    result = await main
    left = asyncio.all_tasks() - {asyncio.current_task()}
    assert not left, f"left behind: {left}"
    return result
