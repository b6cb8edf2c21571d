"""Those who listen to events: at most `MOST`, each with a bounded queue, and one snapshot a second for all of them.

The hub has each state change. What is as it is at a moment (rates, queues) has no change to tell of, so whoever asks for
it is reminded every so often, and finds the latest snapshot here: made once for everybody, and only while somebody wants
one. A listener that reads slowly is reminded once, however many were made meanwhile, and gets the newest.
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager

from sidecar.telemetry.hub import Happening, Hub, Subscription

__all__ = ["MOST", "Listener", "Streams"]

MOST = 64
_TICK = 1.0  # seconds

_NUDGE = Happening(0, 0.0, "nudge", {})  # wakes a listener, and is not for its client


class Listener:
    """One who listens. `every` is how many ticks lie between snapshots, 0: none are wanted."""

    __slots__ = ("_subscription", "due", "ended", "every")

    def __init__(self, subscription: Subscription, every: int) -> None:
        self._subscription = subscription
        self.every = every
        self.due = every > 0
        self.ended = False

    def remind(self) -> None:
        """Let it know that there is a new snapshot."""
        if not self.due:
            self.due = True
            self._subscription.put(_NUDGE)

    def end(self) -> None:
        """Let it know that there will be nothing more."""
        self.ended = True
        self._subscription.put(_NUDGE)

    async def take(self) -> tuple[int, list[Happening]]:
        """Wait until there is something: how many events were missed, and those that were not, the oldest first."""
        taken = await self._subscription.take()
        missed, self._subscription.missed = self._subscription.missed, 0
        return missed, [event for event in taken if event is not _NUDGE]


class Streams:
    """All who listen. `make` gives a snapshot as it is sent."""

    def __init__(self, hub: Hub, make: Callable[[], Awaitable[bytes]]) -> None:
        self._hub = hub
        self._make = make
        self._listeners: set[Listener] = set()
        self._ticks = 0
        self._timer: asyncio.TimerHandle | None = None
        self._latest: bytes | None = None
        self._making = asyncio.Lock()

    def __len__(self) -> int:
        """Tell how many listen."""
        return len(self._listeners)

    @contextmanager
    def listening(self, after: int | None, every: int) -> Iterator[Listener]:
        """Listen for as long as the block lasts, with what is kept of the events since number `after`."""
        subscription = self._hub.subscribe(after)
        listener = Listener(subscription, every)
        self._listeners.add(listener)
        if every and self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(_TICK, self._tick)
        try:
            yield listener
        finally:
            self._listeners.discard(listener)
            self._hub.unsubscribe(subscription)
            if self._timer is not None and not any(each.every for each in self._listeners):
                self._timer.cancel()
                self._timer = self._latest = None

    async def latest(self) -> bytes:
        """Give the snapshot of this second. Who asks first makes it; if he leaves meanwhile, the next one does."""
        async with self._making:
            if self._latest is None:
                self._latest = await self._make()
            return self._latest

    def end(self) -> None:
        """Let all of them go: the program stops."""
        for listener in self._listeners:
            listener.end()

    def _tick(self) -> None:
        self._timer = asyncio.get_running_loop().call_later(_TICK, self._tick)
        self._ticks += 1
        due = [each for each in self._listeners if each.every and self._ticks % each.every == 0]
        self._latest = None  # the first who is due makes the next one
        for listener in due:
            listener.remind()
