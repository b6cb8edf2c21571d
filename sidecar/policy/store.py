"""Where copies are kept: in memory, bounded in bytes and in number, those that were used longest ago go first.

A key (route, host and target) has one copy for each choice that `Vary` makes. What a copy takes is counted with its
header section, its key and the values that chose it; the objects around them are estimated.

A body on its way in is not a copy yet, but takes memory: `claim` counts that too, up to a quarter of `max_bytes`, so that
a thousand slow downloads cannot hold a thousand bodies besides the store.

A change (`invalidate`) also keeps out the answers that were asked for before it and come after it: they may be from
before the change, and nothing would ever correct them.
"""

import math
from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice

from sidecar.message import Fields
from sidecar.native import mypyc_attr
from sidecar.policy.cache_request import Values

__all__ = ["SURVEYED", "Entry", "Key", "Stock", "Store", "selecting_bytes"]

Key = bytes  # one piece, since the hash of bytes is worked out only once; `cache.key_of` makes it

OVERHEAD = 1000  # bytes of objects around a small copy, measured with tracemalloc on CPython 3.11
MAX_VARIANTS = 32  # of one key: they are looked through one by one
MAX_CHANGES = 1024  # changes that are remembered one by one
LONG_KEY = 1024  # bytes: longer ones are not remembered
SURVEYED = 20_000  # copies that are looked at when somebody asks what there is

_NEVER = -math.inf


class Entry:
    """One copy. Not changed any more once it is in the store: a newer one takes its place.

    `vary` and `values` are the names of the fields that chose it, and what they said; `outside` is where its caller had
    come in (`Asked.outside`). `stored_at` is on the loop's clock (the moment at which its head came, or at which the
    origin said that it is still good), `age_at_store` its age then, `lifetime` how long it is fresh, counted from its
    making, and `said` how long it says so itself (None: it does not say): all in seconds. `swr` and `sie` are the seconds
    after that in which it may be served while it is fetched again, or in place of an error. `must_revalidate`: its origin
    forbids to serve it stale. `public`: it may be given to a request that says whose it is. `date` is its `Date`, Unix
    seconds. `asked_at` is when it was asked for (the loop's time), `size` what it takes in bytes: the store sets both.
    """

    __slots__ = (
        "age_at_store",
        "asked_at",
        "behind_at",
        "body",
        "date",
        "etag",
        "fields",
        "key",
        "last_modified",
        "lifetime",
        "must_revalidate",
        "not_modified",
        "outside",
        "public",
        "said",
        "shown",
        "shown_age",
        "sie",
        "size",
        "status",
        "stored_at",
        "swr",
        "values",
        "vary",
    )

    def __init__(self, key: Key, status: int, fields: Fields, body: bytes, stored_at: float) -> None:
        self.key = key
        self.status = status
        self.fields = fields
        self.body = body
        self.stored_at = stored_at
        self.age_at_store = 0.0
        self.lifetime = 0.0
        self.said: float | None = None
        self.vary: tuple[bytes, ...] = ()
        self.values: Values = ()
        self.outside: tuple[tuple[bytes, bytes], ...] = ()
        self.swr = 0.0
        self.sie = 0.0
        self.must_revalidate = False
        self.public = False
        self.etag: bytes | None = None
        self.last_modified: bytes | None = None
        self.date: int | None = None
        self.asked_at = 0.0
        self.size = 0
        self.behind_at = (
            _NEVER  # when it was last begun to be fetched again behind an answer, on the loop's clock
        )
        # What was last written on an answer made from it, and the fields of a 304: most hits write the same.
        self.shown_age = -1
        self.shown: tuple[tuple[bytes, bytes], ...] = ()
        self.not_modified: Fields | None = None

    def __repr__(self) -> str:
        """Tell what it is of, in one line."""
        return f"<Entry {self.key!r} {self.status}, {len(self.body)} bytes>"

    def age(self, now: float) -> float:
        """Give its age in seconds at `now`, on the loop's clock (RFC 9111 §4.2.3)."""
        return self.age_at_store + now - self.stored_at

    def is_fresh(self, now: float) -> bool:
        """Tell whether it may be served without asking."""
        return self.age_at_store + now - self.stored_at < self.lifetime


@dataclass(slots=True)
class Stock:
    """What there is of one route: how many copies, and when the oldest and the newest were stored, on the loop's clock.

    `usable_from` is when the newest was stored that a fallback may serve: of a success or a redirect, and one that its
    origin does not forbid to serve stale, unless it is fresh. `forced_from` has no regard to what the origin forbids.
    """

    entries: int = 0
    oldest: float = math.inf
    newest: float = _NEVER
    usable_from: float = _NEVER
    forced_from: float = _NEVER

    def add(self, entry: Entry, now: float) -> None:
        """Take in one more copy."""
        at = entry.stored_at
        self.entries += 1
        self.oldest = min(self.oldest, at)
        self.newest = max(self.newest, at)
        if entry.status < 400:
            self.forced_from = max(self.forced_from, at)
            if not entry.must_revalidate or entry.is_fresh(now):
                self.usable_from = max(self.usable_from, at)


@mypyc_attr(allow_interpreted_subclasses=True)
class Store:
    """The copies of all routes. `bytes` and `entries` tell what it holds, `evicted` how many had to make room.

    The copies of one key are used together: of the key that was used longest ago the oldest copy goes first.
    """

    __slots__ = (
        "_changed",
        "_changed_before",
        "_keys",
        "bytes",
        "claimed",
        "entries",
        "evicted",
        "max_bytes",
        "max_entries",
    )

    def __init__(self, max_bytes: int, max_entries: int) -> None:
        self.max_bytes = max_bytes
        self.max_entries = max_entries
        self._keys: OrderedDict[Key, tuple[Entry, ...]] = OrderedDict()  # the key used last is last
        self._changed: dict[Key, float] = {}
        self._changed_before = _NEVER  # of earlier changes it is only known that they were
        self.bytes = 0
        self.entries = 0
        self.evicted = 0
        self.claimed = 0

    def variants(self, key: Key) -> tuple[Entry, ...]:
        """Give the copies of `key`, the newest last."""
        return self._keys.get(key, ())

    def holds(self, entry: Entry) -> bool:
        """Tell whether a copy is still there."""
        return entry in self._keys.get(entry.key, ())

    def touch(self, entry: Entry) -> None:
        """Note that a copy was used just now."""
        if entry.key in self._keys:
            self._keys.move_to_end(entry.key)

    def put(self, entry: Entry, asked_at: float) -> bool:
        """Keep a copy of what was asked for at `asked_at` (the loop's time), in place of an older one.

        False: it is too large, or was changed since then, or the one that is there was asked for later.
        """
        key = entry.key
        size = OVERHEAD + len(entry.body) + 2 * len(entry.fields.wire) + len(key)
        if entry.vary or entry.outside:
            size += selecting_bytes(entry)
        if size > self.max_bytes or asked_at <= self._changed.get(key, self._changed_before):
            return False
        entry.size = size
        entry.asked_at = asked_at
        keys = self._keys
        if key not in keys:
            keys[key] = (entry,)
        elif not self._place(entry):
            return False
        self.entries += 1
        self.bytes += size
        if self.bytes > self.max_bytes or self.entries > self.max_entries:
            self._make_room()
        return True

    def _make_room(self) -> None:
        keys = self._keys
        while self.bytes > self.max_bytes or self.entries > self.max_entries:
            oldest, variants = keys.popitem(last=False)
            if len(variants) > 1:
                keys[oldest] = variants[1:]
                keys.move_to_end(oldest, last=False)
            self.entries -= 1
            self.bytes -= variants[0].size
            self.evicted += 1

    def adjust(self, max_bytes: int, max_entries: int) -> None:
        """Go on within other bounds."""
        self.max_bytes = max_bytes
        self.max_entries = max_entries
        self._make_room()

    def forget(self, prefix: bytes, now: float) -> int:
        """Drop every copy whose key begins like this (b"": all) and take none that was asked for until `now`.

        Gives how many were dropped. It looks at every key.
        """
        keys = [key for key in self._keys if key.startswith(prefix)]
        dropped = 0
        for key in keys:
            for entry in self._keys.pop(key):
                self.entries -= 1
                self.bytes -= entry.size
                dropped += 1
        self._changed.clear()
        self._changed_before = now
        return dropped

    def survey(self, now: float, at_once: int = 256) -> Iterator[dict[str, Stock]]:
        """Look through the copies, by route, `at_once` keys for each value that is taken; the last value is the result.

        The store may change between two values; what comes meanwhile may be missing. Only the `SURVEYED` keys that were
        used last are looked at, and so many copies of them.
        """
        keys = list(islice(reversed(self._keys), SURVEYED))
        stocks: dict[str, Stock] = {}
        left = SURVEYED
        for first in range(0, len(keys), at_once):
            for key in keys[first : first + at_once]:
                variants = self._keys.get(key, ())
                if not variants:
                    continue
                route = key.partition(b" ")[0].decode()
                stock = stocks.get(route)
                if stock is None:
                    stock = stocks[route] = Stock()
                for entry in variants:
                    stock.add(entry, now)
                left -= len(variants)
            yield stocks
            if left <= 0:
                return
        yield stocks

    def _place(self, entry: Entry) -> bool:
        """Put a copy beside the others of its key. False: a newer one has its place."""
        key = entry.key
        for old in self._keys[key]:
            if old.vary == entry.vary and old.values == entry.values and old.outside == entry.outside:
                if old.asked_at > entry.asked_at:
                    return False
                self.remove(old)
                break
        variants = self.variants(key)
        if len(variants) >= MAX_VARIANTS:
            self.remove(variants[0])
            self.evicted += 1
        self._keys[key] = (*self.variants(key), entry)
        self._keys.move_to_end(key)
        return True

    def remove(self, entry: Entry) -> None:
        """Keep a copy no longer. Removing one that is not there does nothing."""
        if not self.holds(entry):
            return
        left = tuple([other for other in self._keys[entry.key] if other is not entry])
        if left:
            self._keys[entry.key] = left
        else:
            del self._keys[entry.key]
        self.entries -= 1
        self.bytes -= entry.size

    def invalidate(self, key: Key, now: float) -> None:
        """Forget all copies of `key`, and take none that was asked for until `now`."""
        for entry in self.variants(key):
            self.remove(entry)
        if len(self._changed) >= MAX_CHANGES or len(key) > LONG_KEY:
            self._changed.clear()
            self._changed_before = now
        else:
            self._changed[key] = now

    def is_outdated(self, key: Key, asked_at: float) -> bool:
        """Tell whether the answer to what was asked for at `asked_at` may be from before a change."""
        return asked_at <= self._changed.get(key, self._changed_before)

    def claim(self, size: int) -> bool:
        """Ask for `size` bytes for a body that is on its way. False: too much is under way already."""
        if self.claimed + size > self.max_bytes // 4:
            return False
        self.claimed += size
        return True

    def release(self, size: int) -> None:
        """Give back what was claimed."""
        self.claimed -= size


def selecting_bytes(entry: Entry) -> int:
    """Tell how many bytes the values take by which a copy was chosen: they are the client's, and as long as it likes."""
    size = 0
    if entry.vary:
        size += sum([len(value) for value in entry.values if value is not None])
    if entry.outside:
        size += sum([len(value) for _, value in entry.outside])
    return size
