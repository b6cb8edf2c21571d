"""What becomes of an answer besides going to its client: it is stored, and shared with those who wait for the same.

A body that is all here is kept at once. One that is still coming goes through a `Capture`, unless it is larger than
`max_body`, has no end (an event stream), or would neither be stored nor has anybody waiting for it. Who waits gets it
when it is whole, but does not wait long for that: on his own he would have its first bytes already.
"""

import asyncio
from collections.abc import Callable
from functools import partial

from sidecar.errors import UpstreamFailed
from sidecar.message import Body, Reply
from sidecar.pipeline.capture import Capture
from sidecar.pipeline.stages.single_flight import Flights
from sidecar.policy.cache import (
    Asking,
    is_worth_keeping,
    judged,
    kept_fields,
    may_keep,
    may_share,
)
from sidecar.policy.cache_response import told
from sidecar.policy.cache_settings import CacheSettings
from sidecar.policy.conditions import freshened, same_tag
from sidecar.policy.freshness import age_on_arrival
from sidecar.policy.store import Entry, Store

__all__ = ["QUICK", "Flight", "Keeper"]

Flight = bytes  # the key, and what else makes requests identical

QUICK = 1.0  # seconds: those who wait for an answer wait no longer for its body, once its head is there


class _Answer:
    """An answer whose body is still coming.

    `entry` is its copy, as yet without it; `patience` ends the waiting for it.
    """

    __slots__ = ("asking", "entry", "patience", "reply", "shares", "stores")

    def __init__(self, asking: Asking, reply: Reply, entry: Entry, *, stores: bool, shares: bool) -> None:
        self.asking = asking
        self.reply = reply
        self.entry = entry
        self.stores = stores
        self.shares = shares
        self.patience: asyncio.TimerHandle | None = None


class Keeper:
    """Keeps the answers of one route. `wall` gives the time of day.

    `on_fault` is told of failures that happen where no caller sees them.
    """

    __slots__ = ("_captures", "_flights", "_loop", "_settings", "_store", "_time", "_wall", "on_fault")

    def __init__(
        self,
        store: Store,
        settings: CacheSettings,
        flights: Flights,
        loop: asyncio.AbstractEventLoop,
        *,
        wall: Callable[[], float],
        on_fault: Callable[[], None],
    ) -> None:
        self._store = store
        self._settings = settings
        self._flights = flights
        self._loop = loop
        self._time = loop.time
        self._wall = wall
        self.on_fault = on_fault
        self._captures: dict[Flight, Capture] = {}  # of leaders whose answer is coming in

    def hurry(self, flight: Flight) -> None:
        """Let no slow client hold up an answer that others wait for."""
        capture = self._captures.get(flight)
        if capture is not None:
            capture.hurry()

    def land(self, asking: Asking, entry: Entry | None) -> None:
        """End the flight that `asking` leads, if it does: with `entry` for all, or with None: each for himself."""
        flight, asking.flight = asking.flight, None
        if flight is not None:
            self._flights.land(flight, entry)

    def hand_over(self, asking: Asking) -> None:
        """Leave the flight that `asking` leads to the next one who waits."""
        flight, asking.flight = asking.flight, None
        if flight is not None:
            self._flights.hand_over(flight)

    def _land_alone(self, asking: Asking, status: int, now: float) -> None:
        flight, asking.flight = asking.flight, None
        if flight is None:
            return
        if status < 500:
            self._flights.land_alone(flight, now)
        else:
            self._flights.land(flight, None)  # the next answer may be a better one

    def keep(self, asking: Asking, reply: Reply) -> bool:
        """Keep and share an answer, or see to it that it will be once it is whole. True: it is stored, or will be.

        The flight that `asking` leads has landed when this returns, or lands with the body's end.
        """
        status, settings = reply.status, self._settings
        said = told(reply.fields)
        now = self._time()
        if not may_keep(asking.read, status, said) or reply.trailers or said.stream:
            self._land_alone(asking, status, now)
            return False
        entry = judged(asking, status, said, settings, self._wall(), now)
        stores = asking.request.method == b"GET" and is_worth_keeping(entry, settings)
        shares = asking.flight is not None and may_share(entry, said, settings)
        if not shares:
            self._land_alone(asking, status, now)
            if not stores:
                return False
        body = reply.body
        if isinstance(body, Body):
            whole = body.take_whole()
            if whole is None:
                if (reply.length or 0) > settings.max_body:
                    self._land_alone(asking, status, now)
                    return False
                return self._capture(_Answer(asking, reply, entry, stores=stores, shares=shares), body)
            reply.body = body = whole
        if body is not None and len(body) > settings.max_body:
            self._land_alone(asking, status, now)
            return False
        entry.body = body or b""
        entry.fields = kept_fields(reply.fields, reply.extra, said, None if body is None else len(body))
        return self._complete(asking, entry, stores=stores, shares=shares)

    def _complete(self, asking: Asking, entry: Entry, *, stores: bool, shares: bool) -> bool:
        stored = stores and self._store.put(entry, asking.asked_at)
        if asking.flight is not None:
            # Who joined after a change has a right to see it, so what was asked for before it is not for him.
            outdated = shares and self._store.is_outdated(asking.key, asking.asked_at)
            self.land(asking, None if outdated or not shares else entry)
        return stored

    # --- bodies that are still coming ---

    def _capture(self, answer: _Answer, body: Body) -> bool:
        asking = answer.asking
        flight = asking.flight
        if not answer.stores and (flight is None or not self._flights.waiting(flight)):
            self.land(asking, None)  # nobody would get it
            return False
        capture = Capture(
            body, self._time, self._settings.max_body, self._store, partial(self._ended, answer, flight, body)
        )
        asking.capture = capture
        answer.reply.body = capture.out
        answer.reply.on_close(partial(self._closed, answer, flight, capture))
        if flight is not None:
            self._captures[flight] = capture
            answer.patience = self._loop.call_later(
                QUICK, self._land_alone, asking, 200, self._time() + QUICK
            )
            if self._flights.waiting(flight):
                capture.hurry()
        capture.start()
        return answer.stores

    def _let_go(self, answer: _Answer, flight: Flight | None) -> None:
        if flight is not None:
            self._captures.pop(flight, None)
        if answer.patience is not None:
            answer.patience.cancel()

    def _ended(self, answer: _Answer, flight: Flight | None, source: Body, whole: bytes | None) -> None:
        self._let_go(answer, flight)
        asking, reply, entry = answer.asking, answer.reply, answer.entry
        if whole is None and source.error is None:  # larger than was to be expected, or with trailers
            self._land_alone(asking, reply.status, self._time())
            return
        if whole is None:
            self.land(asking, None)
            return
        try:
            entry.body = whole
            entry.fields = kept_fields(reply.fields, reply.extra, told(reply.fields), len(whole))
            self._complete(asking, entry, stores=answer.stores, shares=answer.shares)
        except Exception:  # noqa: BLE001 -- a fault of the cache must not break the body that goes to the client
            self.on_fault()
            self.land(asking, None)

    def _closed(
        self, answer: _Answer, flight: Flight | None, capture: Capture, error: BaseException | None
    ) -> None:
        """Take note that the reply is over, be it that its client left in the middle."""
        if capture.close():
            return
        self._let_go(answer, flight)
        if isinstance(error, UpstreamFailed):
            self.land(answer.asking, None)
        else:
            self.hand_over(answer.asking)

    # --- renewing ---

    def renew(self, asking: Asking, copy: Entry, reply: Reply) -> Entry | None:
        """Put the copy as the 304 in `reply` has made it in its place (RFC 9111 §4.3.4).

        Gives what its client gets; None where the 304 is about another copy, so that ours is good for nothing.
        """
        answer = told(reply.fields)
        if not same_tag(answer.etag, copy.etag):
            self._store.remove(copy)
            return None
        fields = freshened(copy.fields, kept_fields(reply.fields, reply.extra, answer, None))
        said = told(fields)
        now, wall = self._time(), self._wall()
        entry = judged(asking, copy.status, said, self._settings, wall, now)
        entry.age_at_store = age_on_arrival(answer, wall, now - asking.asked_at)
        entry.fields = fields
        entry.body = copy.body
        held = self._store.holds(copy)
        if not may_keep(asking.read, copy.status, said):
            self._store.remove(copy)
            held = False
        if not held:  # nor is it where something newer has taken its place meanwhile
            self.land(asking, None)
            return entry
        self._complete(asking, entry, stores=True, shares=may_share(entry, said, self._settings))
        return entry
