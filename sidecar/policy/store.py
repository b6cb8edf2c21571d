"""Where copies are kept: in memory, bounded in bytes and in number, those that were used longest ago go first.

A key (route, host, target) has one copy for each choice that `Vary` makes. What a copy takes is counted with its header
section and its key; the objects around them are estimated.

A body on its way in is not a copy yet, but takes memory: `claim` counts that too, up to a quarter of `max_bytes`, so that
a thousand slow downloads cannot hold a thousand bodies besides the store.

A change (`invalidate`) also keeps out the answers that were asked for before it and come after it: they may be from
before the change, and nothing would ever correct them.
"""

import math
from collections import OrderedDict

from sidecar.message import Fields
from sidecar.policy.cache_request import Values

__all__ = ["Entry", "Key", "Store"]

Key = tuple[str, bytes, bytes]  # route, host (lower case), target

OVERHEAD = 1000  # bytes of objects around a small copy, measured with tracemalloc on CPython 3.11
MAX_VARIANTS = 32  # of one key: they are looked through one by one
MAX_CHANGES = 1024  # changes that are remembered one by one


class Entry:
    """One copy. Never changed once it is in the store: a newer one takes its place.

    `vary` and `values` are the names of the fields that chose it, and what they said; `outside` is where its caller had
    come in (`Asked.outside`). `stored_at` is on the loop's clock
    (the moment at which its head came, or at which the origin said that it is still good), `age_at_store` its age then,
    `lifetime` how long it is fresh, counted from its making: all in seconds. `swr` and `sie` are the seconds after that
    in which it may be served while it is fetched again, or in place of an error. `must_revalidate`: its origin forbids to
    serve it stale. `public`: it may be given to a request that says whose it is. `date` is its `Date`, Unix seconds.
    """

    __slots__ = (
        "age_at_store",
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

    def __init__(
        self,
        key: Key,
        status: int,
        fields: Fields,
        body: bytes,
        *,
        stored_at: float,
        age_at_store: float = 0.0,
        lifetime: float = 0.0,
        vary: tuple[bytes, ...] = (),
        values: Values = (),
        outside: tuple[tuple[bytes, bytes], ...] = (),
        swr: float = 0.0,
        sie: float = 0.0,
        must_revalidate: bool = False,
        public: bool = False,
        etag: bytes | None = None,
        last_modified: bytes | None = None,
        date: int | None = None,
    ) -> None:
        self.key = key
        self.status = status
        self.fields = fields
        self.body = body
        self.stored_at = stored_at
        self.age_at_store = age_at_store
        self.lifetime = lifetime
        self.vary = vary
        self.values = values
        self.outside = outside
        self.swr = swr
        self.sie = sie
        self.must_revalidate = must_revalidate
        self.public = public
        self.etag = etag
        self.last_modified = last_modified
        self.date = date
        self.size = OVERHEAD + len(body) + 2 * len(fields.wire) + len(key[1]) + len(key[2])
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


class Store:
    """The copies of all routes. `bytes` and `entries` tell what it holds, `evicted` how many had to make room."""

    __slots__ = (
        "_changed",
        "_changed_before",
        "_keys",
        "_recent",
        "bytes",
        "claimed",
        "evicted",
        "max_bytes",
        "max_entries",
    )

    def __init__(self, max_bytes: int, max_entries: int) -> None:
        self.max_bytes = max_bytes
        self.max_entries = max_entries
        self._keys: dict[Key, list[Entry]] = {}  # the variants of each, the newest last
        self._recent: OrderedDict[Entry, None] = OrderedDict()  # the one used last is last
        self._changed: dict[Key, float] = {}
        self._changed_before = -math.inf  # of earlier changes it is only known that they were
        self.bytes = 0
        self.evicted = 0
        self.claimed = 0

    @property
    def entries(self) -> int:
        """How many copies there are."""
        return len(self._recent)

    def variants(self, key: Key) -> list[Entry]:
        """Give the copies of `key`, the newest last; not to be changed."""
        return self._keys.get(key, [])

    def touch(self, entry: Entry) -> None:
        """Note that a copy was used just now."""
        if entry in self._recent:
            self._recent.move_to_end(entry)

    def put(self, entry: Entry, asked_at: float) -> bool:
        """Keep a copy of what was asked for at `asked_at` (the loop's time), in place of an older one.

        False: it is too large, or was changed since then.
        """
        key = entry.key
        if entry.size > self.max_bytes or asked_at <= self._changed.get(key, self._changed_before):
            return False
        variants = self._keys.get(key)
        if variants is None:
            self._keys[key] = [entry]
        else:
            self._replace(variants, entry)
            self._keys.setdefault(key, variants).append(entry)
        self._recent[entry] = None
        self.bytes += entry.size
        while self.bytes > self.max_bytes or len(self._recent) > self.max_entries:
            self._evict(next(iter(self._recent)))
        return True

    def _replace(self, variants: list[Entry], entry: Entry) -> None:
        for old in variants:
            if old.vary == entry.vary and old.values == entry.values and old.outside == entry.outside:
                self.remove(old)
                return
        if len(variants) >= MAX_VARIANTS:
            self._evict(variants[0])

    def remove(self, entry: Entry) -> None:
        """Keep a copy no longer. Removing one that is not there does nothing."""
        if entry not in self._recent:
            return
        del self._recent[entry]
        variants = self._keys[entry.key]
        variants.remove(entry)
        if not variants:
            del self._keys[entry.key]
        self.bytes -= entry.size

    def _evict(self, entry: Entry) -> None:
        self.remove(entry)
        self.evicted += 1

    def invalidate(self, key: Key, now: float) -> None:
        """Forget all copies of `key`, and take none that was asked for until `now`."""
        for entry in tuple(self.variants(key)):
            self.remove(entry)
        if len(self._changed) >= MAX_CHANGES:
            self._changed.clear()
            self._changed_before = now
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
