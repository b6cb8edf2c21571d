"""What happens, told to whoever listens: changes of state, as they come.

A listener that does not keep up loses the oldest of what it has not read, and is told how many: nobody who publishes ever
waits. The last `KEPT` events are kept for those who come later. Nothing of a request passes through here.
"""

import asyncio
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

__all__ = ["KEPT", "QUEUE", "Happening", "Hub", "Subscription"]

KEPT = 256
QUEUE = 256  # events that wait for one listener


@dataclass(frozen=True, slots=True)
class Happening:
    """One event: its number (from 1, without holes), when (Unix time), what kind, and JSON values."""

    id: int
    at: float
    kind: str
    data: Mapping[str, Any]


class Subscription:
    """One listener's queue. `missed` counts what it lost since it last asked."""

    __slots__ = ("_come", "_waiting", "missed")

    def __init__(self) -> None:
        self._waiting: deque[Happening] = deque(maxlen=QUEUE)
        self._come = asyncio.Event()
        self.missed = 0

    def put(self, event: Happening) -> None:
        """Queue an event, at the price of the oldest one if there is no room."""
        if len(self._waiting) == QUEUE:
            self.missed += 1
        self._waiting.append(event)
        self._come.set()

    async def take(self) -> list[Happening]:
        """Wait until there is something, and give all of it, the oldest first."""
        await self._come.wait()
        self._come.clear()
        taken = list(self._waiting)
        self._waiting.clear()
        return taken


class Hub:
    """Where events are published. `wall` is the time of day."""

    __slots__ = ("_listeners", "_number", "_wall", "recent")

    def __init__(self, wall: Callable[[], float]) -> None:
        self._wall = wall
        self._number = 0
        self._listeners: set[Subscription] = set()
        self.recent: deque[Happening] = deque(maxlen=KEPT)

    def __len__(self) -> int:
        """Tell how many listen."""
        return len(self._listeners)

    def publish(self, kind: str, data: Mapping[str, Any]) -> None:
        """Tell everybody. Never waits and never raises."""
        self._number += 1
        event = Happening(self._number, self._wall(), kind, data)
        self.recent.append(event)
        for listener in self._listeners:
            listener.put(event)

    def subscribe(self, after: int | None = None) -> Subscription:
        """Begin to listen, with those events since number `after` that are still kept; None: only with new ones."""
        made = Subscription()
        if after is not None:
            for event in self.recent:
                if event.id > after:
                    made.put(event)
        self._listeners.add(made)
        return made

    def unsubscribe(self, listener: Subscription) -> None:
        """Stop listening."""
        self._listeners.discard(listener)
