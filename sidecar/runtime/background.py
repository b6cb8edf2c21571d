"""The tasks that belong to no client connection: what goes on after an answer, such as refetching a stale copy.

There is a bound on them, so that no stream of requests can leave behind more work than it brings, and each is ended
when the program ends. A failure of one is told to the loop's exception handler and hurts nobody.
"""

import asyncio
from collections.abc import Coroutine
from typing import Any

__all__ = ["Background"]


class Background:
    """Owns tasks. `most` is how many may run at once; further ones are dropped, and counted."""

    __slots__ = ("_most", "_tasks", "dropped", "loop")

    def __init__(self, loop: asyncio.AbstractEventLoop, most: int = 256) -> None:
        self.loop = loop
        self._most = most
        self._tasks: set[asyncio.Task[None]] = set()
        self.dropped = 0

    def __len__(self) -> int:
        """Tell how many run."""
        return len(self._tasks)

    def spawn(self, work: Coroutine[Any, Any, None]) -> bool:
        """Run `work` in a task. False: there are too many already, and it was not begun."""
        if len(self._tasks) >= self._most:
            self.dropped += 1
            work.close()
            return False
        task = self.loop.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._done)
        return True

    def cancel(self) -> None:
        """End them all."""
        for task in tuple(self._tasks):
            task.cancel()

    def _done(self, task: "asyncio.Task[None]") -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (fault := task.exception()) is not None:
            self.loop.call_exception_handler({"message": "work in the background failed", "exception": fault})
