"""What a stage is, and how stages become a route's pipeline.

A stage is `async def __call__(self, exchange) -> Reply` around `self.next`. It returns what `next` gave, replaces it, or
raises from `sidecar.errors`. It holds settings and policy objects, never anything of one request: one stage object
serves all the requests of its route at once.

Whoever takes something gives it back exactly once: at once on any `BaseException` (a cancellation is one), else through
`reply.on_close`. `CancelledError` is never swallowed.
"""

from collections.abc import Awaitable, Callable, Sequence
from typing import ClassVar

from sidecar.message import Reply
from sidecar.native import mypyc_attr
from sidecar.pipeline.exchange import Exchange

__all__ = ["Call", "Stage", "compose"]

Call = Callable[[Exchange], Awaitable[Reply]]


@mypyc_attr(allow_interpreted_subclasses=True)
class Stage:
    """One step of a pipeline. `next` is set by `compose`.

    `counters` names the attributes that count, each a number or a dict of numbers: a reload carries them over.
    """

    __slots__ = ("next",)

    next: Call
    counters: ClassVar[tuple[str, ...]] = ()

    def __call__(self, exchange: Exchange) -> Awaitable[Reply]:
        """Do this stage's part around the rest of the pipeline. A stage that awaits makes it `async`."""
        return self.next(exchange)

    def count_on(self, before: "Stage") -> None:
        """Go on from what the stage of the same kind `before` this one has counted.

        Dicts are shared from now on, so that requests that are still under way in the other one are counted here too.
        """
        for name in self.counters:
            mine, theirs = getattr(self, name), getattr(before, name)
            if isinstance(mine, dict):
                for word, number in mine.items():
                    theirs.setdefault(word, number)
                mine = theirs
            else:
                mine += theirs
            setattr(self, name, mine)

    def describe(self) -> str:
        """Name the stage and its settings in one line, for `explain`."""
        return type(self).__name__


def compose(stages: Sequence[Stage], terminal: Call) -> Call:
    """Link `stages`, outermost first, around `terminal`. A stage that is not configured is not in the list."""
    call = terminal
    for stage in reversed(stages):
        stage.next = call
        call = stage.__call__
    return call
