"""The store in any order of events: within its bounds, and what was used longest ago goes first.

The machine keeps its own books: a list of what must be there, the one used longest ago in front.
"""

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from sidecar.message import Fields
from sidecar.policy.store import Entry, Key, Store

MAX_BYTES = 6000
MAX_ENTRIES = 4

NAMES = st.sampled_from([b"/a", b"/b", b"/c", b"/d"])
CHOICES = st.sampled_from([None, b"de", b"en"])
SIZES = st.integers(min_value=0, max_value=MAX_BYTES)


def key(name: bytes) -> Key:
    return ("r", b"h", name)


class StoreMachine(RuleBasedStateMachine):
    """Putting, using, removing and changing, in any order."""

    def __init__(self) -> None:
        super().__init__()
        self.store = Store(MAX_BYTES, MAX_ENTRIES)
        self.there: list[Entry] = []
        self.evicted = 0
        self.now = 0.0
        self.changed: dict[bytes, float] = {}

    @rule(seconds=st.integers(min_value=1, max_value=3))
    def time_passes(self, seconds: int) -> None:
        self.now += seconds

    @rule(name=NAMES, choice=CHOICES, size=SIZES, ago=st.integers(min_value=0, max_value=3))
    def put(self, name: bytes, choice: bytes | None, size: int, ago: int) -> None:
        vary, values = ((), ()) if choice is None else ((b"accept-language",), (choice,))
        entry = Entry(key(name), 200, Fields([]), b"x" * size, stored_at=self.now, vary=vary, values=values)
        asked_at = self.now - ago
        fits = entry.size <= MAX_BYTES and asked_at > self.changed.get(name, -10.0)

        assert self.store.put(entry, asked_at) is fits

        if not fits:
            return
        same = [old for old in self.there if (old.key, old.values) == (entry.key, entry.values)]
        self.there = [old for old in self.there if old not in same]
        self.there.append(entry)
        while len(self.there) > MAX_ENTRIES or sum(old.size for old in self.there) > MAX_BYTES:
            del self.there[0]
            self.evicted += 1

    @precondition(lambda self: self.there)
    @rule(data=st.data())
    def touch(self, data: st.DataObject) -> None:
        entry = data.draw(st.sampled_from(self.there))
        self.store.touch(entry)
        self.there.remove(entry)
        self.there.append(entry)

    @precondition(lambda self: self.there)
    @rule(data=st.data())
    def remove(self, data: st.DataObject) -> None:
        entry = data.draw(st.sampled_from(self.there))
        self.store.remove(entry)
        self.there.remove(entry)

    @rule(name=NAMES)
    def invalidate(self, name: bytes) -> None:
        self.store.invalidate(key(name), self.now)
        self.there = [entry for entry in self.there if entry.key != key(name)]
        self.changed[name] = self.now

    @invariant()
    def holds_what_it_must_and_no_more(self) -> None:
        store = self.store
        held = [entry for name in (b"/a", b"/b", b"/c", b"/d") for entry in store.variants(key(name))]
        assert sorted(map(id, held)) == sorted(map(id, self.there))
        assert store.entries == len(self.there) <= MAX_ENTRIES
        assert store.bytes == sum(entry.size for entry in self.there) <= MAX_BYTES
        assert store.evicted == self.evicted


TestStoreMachine = StoreMachine.TestCase
TestStoreMachine.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
