"""Identical requests at the same time become one (groupcache's `singleflight`, nginx's `proxy_cache_lock`).

The first is the leader and asks; the others wait for what it lands with:

| the leader | its followers |
|---|---|
| has an answer that may be shared | get it |
| has one that may not, or fails | ask, each on its own: a failure is not shared blindly |
| leaves before it has either | the next of them becomes the leader, the others wait on |

Each waits until a moment of its own, and whoever leaves changes nothing for the rest. Where answers turn out not to be
for sharing, nobody waits for them in vain for a while (`alone`): waiting would make each of them a round trip later.
"""

import asyncio
from collections.abc import Hashable
from enum import Enum, auto
from typing import Final, Literal

from sidecar.errors import TotalTimeout
from sidecar.policy.store import Entry

__all__ = ["ALONE", "LEAD", "Flights", "Landed"]

ALONE_SECONDS = 10.0
MAX_ALONE = 1024


class _Word(Enum):
    ALONE = auto()
    LEAD = auto()
    LATE = auto()


ALONE: Final = _Word.ALONE
"""Ask on your own."""
LEAD: Final = _Word.LEAD
"""Ask, for those who wait as well: you are the leader now."""

Landed = Entry | Literal[_Word.ALONE, _Word.LEAD]
_Future = asyncio.Future[Entry | _Word]


class Flights:
    """What is under way, by key, and who waits for it. A leader ends its flight with `land` or `hand_over`."""

    __slots__ = ("_alone", "_loop", "_waiting")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._waiting: dict[Hashable, dict[_Future, None]] = {}
        self._alone: dict[Hashable, float] = {}

    def __len__(self) -> int:
        """Tell how many are under way."""
        return len(self._waiting)

    def __contains__(self, key: Hashable) -> bool:
        """Tell whether somebody asks for `key` already."""
        return key in self._waiting

    def waiting(self, key: Hashable) -> int:
        """Tell how many wait for `key`."""
        return len(self._waiting.get(key, ()))

    def lead(self, key: Hashable) -> None:
        """Begin a flight. There must be none for `key`."""
        self._waiting[key] = {}

    def is_alone(self, key: Hashable, now: float) -> bool:
        """Tell whether waiting for `key` was in vain just now."""
        if not self._alone:
            return False
        until = self._alone.get(key)
        return until is not None and now < until

    def land(self, key: Hashable, entry: Entry | None) -> None:
        """End a flight: `entry` is for all who wait, None is that each asks on its own. Nothing if there is none."""
        for follower in self._waiting.pop(key, ()):
            if not follower.done():
                follower.set_result(ALONE if entry is None else entry)

    def land_alone(self, key: Hashable, now: float) -> None:
        """End a flight whose answer is for its leader only, and expect the same of the next ones."""
        if key not in self._waiting:
            return
        if len(self._alone) >= MAX_ALONE:
            self._alone.clear()
        self._alone[key] = now + ALONE_SECONDS
        self.land(key, None)

    def hand_over(self, key: Hashable) -> None:
        """Leave a flight that has come to nothing yet: the next one leads it. Nothing if there is none."""
        waiting = self._waiting.get(key)
        if waiting is None:
            return
        while waiting:
            follower = next(iter(waiting))
            del waiting[follower]
            if not follower.done():
                follower.set_result(LEAD)
                return
        del self._waiting[key]

    async def wait(self, key: Hashable, until: float | None) -> Landed:
        """Wait for the flight of `key`, until the loop's time is `until` (None: without a bound).

        Raises:
            TotalTimeout: it did not land in time.

        """
        waiting = self._waiting[key]
        follower: _Future = self._loop.create_future()
        waiting[follower] = None
        timer = None if until is None else self._loop.call_at(until, _late, follower)
        try:
            landed = await follower
        except BaseException:
            if follower.done() and not follower.cancelled() and follower.result() is LEAD:
                self.hand_over(key)  # it was made the leader, and left before it knew
            raise
        finally:
            waiting.pop(follower, None)
            if timer is not None:
                timer.cancel()
        if landed is _Word.LATE:
            raise TotalTimeout
        return landed


def _late(follower: _Future) -> None:
    if not follower.done():
        follower.set_result(_Word.LATE)
