"""The store in any order of events: within its bounds, and what was used longest ago goes first.

The machine keeps its own books: a list of the keys, the one used longest ago in front, each with its copies, the oldest
in front.
"""

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from sidecar.message import Fields
from sidecar.policy.store import OVERHEAD, Entry, Key, Store

MAX_BYTES = 6000
MAX_ENTRIES = 4

NAMES = st.sampled_from([b"/a", b"/b", b"/c", b"/d"])
CHOICES = st.sampled_from([None, b"de", b"en"])
SIZES = st.integers(min_value=0, max_value=MAX_BYTES)


def key(name: bytes) -> Key:
    return b"r h " + name


class StoreMachine(RuleBasedStateMachine):
    """Putting, using, removing and changing, in any order."""

    def __init__(self) -> None:
        super().__init__()
        self.store = Store(MAX_BYTES, MAX_ENTRIES)
        self.there: dict[bytes, list[Entry]] = {}
        self.evicted = 0
        self.now = 0.0
        self.changed: dict[bytes, float] = {}

    @property
    def held(self) -> list[Entry]:
        return [entry for entries in self.there.values() for entry in entries]

    def use(self, name: bytes) -> None:
        self.there[name] = self.there.pop(name, [])

    def drop(self, entry: Entry) -> None:
        (name,) = [name for name, entries in self.there.items() if entry in entries]
        self.there[name].remove(entry)
        if not self.there[name]:
            del self.there[name]

    @rule(seconds=st.integers(min_value=1, max_value=3))
    def time_passes(self, seconds: int) -> None:
        self.now += seconds

    @rule(name=NAMES, choice=CHOICES, size=SIZES, ago=st.integers(min_value=0, max_value=3))
    def put(self, name: bytes, choice: bytes | None, size: int, ago: int) -> None:
        entry = Entry(key(name), 200, Fields([]), b"x" * size, self.now)
        if choice is not None:
            entry.vary, entry.values = (b"accept-language",), (choice,)
        asked_at = self.now - ago
        size = OVERHEAD + size + len(entry.key) + len(choice or b"")
        same = [old for old in self.there.get(name, []) if old.values == entry.values]
        fits = size <= MAX_BYTES and asked_at > self.changed.get(name, -10.0)
        fits = fits and all(old.asked_at <= asked_at for old in same)

        assert self.store.put(entry, asked_at) is fits

        if not fits:
            return
        assert (entry.size, entry.asked_at) == (size, asked_at)
        self.use(name)
        self.there[name] = [old for old in self.there[name] if old not in same] + [entry]
        while len(self.held) > MAX_ENTRIES or sum(old.size for old in self.held) > MAX_BYTES:
            self.drop(self.held[0])
            self.evicted += 1

    @precondition(lambda self: self.there)
    @rule(data=st.data())
    def touch(self, data: st.DataObject) -> None:
        entry = data.draw(st.sampled_from(self.held))
        self.store.touch(entry)
        self.use(entry.key.removeprefix(b"r h "))

    @precondition(lambda self: self.there)
    @rule(data=st.data())
    def remove(self, data: st.DataObject) -> None:
        entry = data.draw(st.sampled_from(self.held))
        self.store.remove(entry)
        self.store.remove(entry)
        self.drop(entry)

    @rule(name=NAMES)
    def invalidate(self, name: bytes) -> None:
        self.store.invalidate(key(name), self.now)
        self.there.pop(name, None)
        self.changed[name] = self.now

    @invariant()
    def holds_what_it_must_and_no_more(self) -> None:
        store = self.store
        for name in (b"/a", b"/b", b"/c", b"/d"):
            assert store.variants(key(name)) == tuple(self.there.get(name, []))
        assert all(store.holds(entry) for entry in self.held)
        assert store.entries == len(self.held) <= MAX_ENTRIES
        assert store.bytes == sum(entry.size for entry in self.held) <= MAX_BYTES
        assert store.evicted == self.evicted


TestStoreMachine = StoreMachine.TestCase
TestStoreMachine.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
