"""Identical requests at the same time become one (groupcache's `singleflight`, nginx's `proxy_cache_lock`).

The first is the leader and asks; the others wait for what it lands with:

| the leader | its followers |
|---|---|
| has an answer that may be shared | get it |
| has one that may not, or fails | ask, each on its own: a failure is not shared blindly |
| leaves before it has either | the next of them becomes the leader, the others wait on |
| takes too long for a follower | that one asks on its own, while there is time to |

Whoever leaves changes nothing for the rest. Where answers turn out not to be for sharing, nobody waits for them in vain
for a while (`is_alone`): waiting would make each of them a round trip later.
"""

import asyncio
from enum import Enum, auto
from typing import Final, Literal

from sidecar.policy.store import Entry

__all__ = ["ALONE", "LEAD", "Flights", "Landed"]

ALONE_SECONDS = 10.0
MAX_ALONE = 1024
LONG_KEY = 512  # bytes: longer ones are not remembered


class _Word(Enum):
    ALONE = auto()
    LEAD = auto()


ALONE: Final = _Word.ALONE
"""Ask on your own."""
LEAD: Final = _Word.LEAD
"""Ask, for those who wait as well: you are the leader now."""

Landed = Entry | Literal[_Word.ALONE, _Word.LEAD]
_Future = asyncio.Future[Landed]


class Flights:
    """What is under way, by key, and who waits for it. A leader ends its flight with `land` or `hand_over`."""

    __slots__ = ("_alone", "_loop", "_waiting")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._waiting: dict[bytes, dict[_Future, None] | None] = {}  # None: nobody does as yet
        self._alone: dict[bytes, float] = {}

    def __len__(self) -> int:
        """Tell how many are under way."""
        return len(self._waiting)

    def __contains__(self, key: bytes) -> bool:
        """Tell whether somebody asks for `key` already."""
        return key in self._waiting

    def waiting(self, key: bytes) -> int:
        """Tell how many wait for `key`."""
        return len(self._waiting.get(key) or ())

    def lead(self, key: bytes) -> bool:
        """Begin a flight. False: somebody asks for `key` already."""
        if key in self._waiting:
            return False
        self._waiting[key] = None
        return True

    def is_alone(self, key: bytes, now: float) -> bool:
        """Tell whether waiting for `key` was in vain just now."""
        if not self._alone:
            return False
        until = self._alone.get(key)
        return until is not None and now < until

    def land(self, key: bytes, entry: Entry | None) -> None:
        """End a flight: `entry` is for all who wait, None is that each asks on its own. Nothing if there is none."""
        followers = self._waiting.pop(key, None)
        if followers:
            landed = ALONE if entry is None else entry
            for follower in followers:
                if not follower.done():
                    follower.set_result(landed)

    def land_alone(self, key: bytes, now: float) -> None:
        """End a flight whose answer is for its leader only, and expect the same of the next ones."""
        if key not in self._waiting:
            return
        self.land(key, None)
        alone = self._alone
        while alone and next(iter(alone.values())) <= now:  # they end in the order in which they began
            del alone[next(iter(alone))]
        alone.pop(key, None)
        if len(alone) < MAX_ALONE and len(key) <= LONG_KEY:
            alone[key] = now + ALONE_SECONDS

    def hand_over(self, key: bytes) -> None:
        """Leave a flight that has come to nothing yet: the next one leads it. Nothing if there is none."""
        waiting = self._waiting.get(key)
        while waiting:
            follower = next(iter(waiting))
            del waiting[follower]
            if not follower.done():
                follower.set_result(LEAD)
                return
        self._waiting.pop(key, None)

    async def wait(self, key: bytes, until: float) -> Landed:
        """Wait for the flight of `key`, which is under way, until the loop's time is `until`; then it is `ALONE`."""
        waiting = self._waiting[key]
        if waiting is None:
            waiting = self._waiting[key] = {}
        follower: _Future = self._loop.create_future()
        waiting[follower] = None
        timer = self._loop.call_at(until, _alone, follower)
        try:
            return await follower
        except BaseException:
            if follower.done() and not follower.cancelled() and follower.result() is LEAD:
                self.hand_over(key)  # it was made the leader, and left before it knew
            raise
        finally:
            waiting.pop(follower, None)
            timer.cancel()


def _alone(follower: _Future) -> None:
    if not follower.done():
        follower.set_result(ALONE)
