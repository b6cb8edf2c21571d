"""Where copies are kept: what is there, what goes first, and what a change does."""

import math

import pytest

from sidecar.message import Fields
from sidecar.policy.store import (
    LONG_KEY,
    MAX_CHANGES,
    MAX_VARIANTS,
    OVERHEAD,
    SURVEYED,
    Entry,
    Key,
    Stock,
    Store,
    selecting_bytes,
)
from tests.support.attributes import attributes
from tests.support.caches import a_copy


def key(name: str = "/") -> Key:
    return b"r h " + name.encode()


def an_entry(name: str = "/", body: bytes = b"", language: bytes | None = None) -> Entry:
    entry = Entry(key(name), 200, Fields([]), body, 0.0)
    if language is not None:
        entry.vary, entry.values = (b"accept-language",), (language,)
    return entry


def names(store: Store, *candidates: str) -> str:
    return "".join(name for name in candidates if store.variants(key(name)))


# --- an entry ---


def test_a_copy_grows_older_with_time_and_is_fresh_for_its_lifetime() -> None:
    entry = a_copy(key(), 200, Fields([]), b"", 100.0, age_at_store=5.0, lifetime=60.0)

    assert [entry.age(at) for at in (100.0, 110.5)] == [5.0, 15.5]
    assert [entry.is_fresh(at) for at in (100.0, 154.9, 155.0)] == [True, True, False]


def test_a_copy_without_a_lifetime_is_never_fresh() -> None:
    assert not an_entry().is_fresh(0.0)


def test_a_copy_has_nothing_that_was_not_said() -> None:
    entry = Entry(b"key", 200, Fields([]), b"", 7.0)

    assert attributes(entry) == {
        "key": b"key",
        "status": 200,
        "fields": entry.fields,
        "body": b"",
        "stored_at": 7.0,
        "age_at_store": 0.0,
        "lifetime": 0.0,
        "said": None,
        "vary": (),
        "values": (),
        "outside": (),
        "swr": 0.0,
        "sie": 0.0,
        "must_revalidate": False,
        "public": False,
        "etag": None,
        "last_modified": None,
        "date": None,
        "asked_at": 0.0,
        "size": 0,
        "behind_at": -math.inf,
        "shown_age": -1,
        "shown": (),
        "not_modified": None,
    }


def test_a_copy_counts_with_its_section_its_key_and_what_chose_it() -> None:
    entry = Entry(b"route host /path", 200, Fields([(b"A", b"1")]), b"body", 0.0)
    store = Store(10_000, 10)
    store.put(entry, 3.0)

    assert OVERHEAD == 1000
    assert (entry.size, entry.asked_at) == (1000 + 4 + 2 * len(b"A: 1\r\n") + 16, 3.0)
    assert repr(entry) == "<Entry b'route host /path' 200, 4 bytes>"

    chosen = a_copy(
        b"k",
        200,
        Fields([]),
        b"",
        vary=(b"a", b"b", b"c"),
        values=(b"12345", None, b"678"),
        outside=((b"x", b"1234"),),
    )
    store.put(chosen, 0.0)
    assert (selecting_bytes(chosen), chosen.size) == (12, 1000 + 1 + 12)
    assert selecting_bytes(a_copy(b"k", 200, Fields([]), b"", outside=((b"x", b"1"), (b"y", b"22")))) == 3
    assert selecting_bytes(entry) == 0


# --- what is there ---


def test_what_was_put_is_there() -> None:
    store, entry = Store(10_000, 10), an_entry()

    assert store.put(entry, 0.0) is True

    assert store.variants(key()) == (entry,)
    assert (store.entries, store.bytes, store.evicted) == (1, entry.size, 0)
    assert store.variants(key("/other")) == ()


def test_a_newer_copy_takes_the_place_of_the_older() -> None:
    store, old, new = Store(10_000, 10), an_entry(body=b"old"), an_entry(body=b"newer")
    store.put(old, 0.0)

    store.put(new, 0.0)

    assert store.variants(key()) == (new,)
    assert (store.entries, store.bytes, store.evicted) == (1, new.size, 0)


def test_each_choice_has_a_copy_of_its_own_the_newest_last() -> None:
    store = Store(100_000, 100)
    german, english, plain = an_entry(language=b"de"), an_entry(language=b"en"), an_entry()
    for entry in (german, english, plain):
        store.put(entry, 0.0)
    assert store.variants(key()) == (german, english, plain)

    again = an_entry(language=b"de")
    store.put(again, 0.0)

    assert store.variants(key()) == (english, plain, again)


def test_the_choices_of_one_key_are_bounded() -> None:
    store = Store(1_000_000, 1000)
    entries = [an_entry(language=b"%d" % number) for number in range(MAX_VARIANTS + 2)]
    for entry in entries:
        store.put(entry, 0.0)

    assert MAX_VARIANTS == 32
    assert store.variants(key()) == tuple(entries[2:])
    assert (store.entries, store.evicted) == (32, 2)


def test_what_was_removed_is_gone_and_can_be_removed_again() -> None:
    store, entry, other = Store(10_000, 10), an_entry(language=b"de"), an_entry(language=b"en")
    store.put(entry, 0.0)
    store.put(other, 0.0)

    store.remove(entry)
    store.remove(entry)

    assert store.variants(key()) == (other,)
    assert (store.entries, store.bytes, store.evicted) == (1, other.size, 0)
    for _ in range(2):
        store.remove(other)
        assert (store.holds(other), store.variants(key()), store.entries, store.bytes) == (False, (), 0, 0)


# --- what goes first ---


def test_what_was_used_longest_ago_goes_first() -> None:
    store = Store(1_000_000, 3)
    entries = {name: an_entry(name) for name in "abc"}
    for entry in entries.values():
        store.put(entry, 0.0)
    store.touch(entries["a"])

    store.put(an_entry("d"), 0.0)

    assert (names(store, *"abcd"), store.evicted) == ("acd", 1)
    store.touch(entries["b"])
    store.put(an_entry("e"), 0.0)
    assert (names(store, *"abcde"), store.evicted) == ("ade", 2)


def test_as_many_go_as_the_new_one_needs_room() -> None:
    store = Store(4000, 100)
    for name in "abc":
        store.put(an_entry(name), 0.0)
    assert store.bytes == 3 * 1005

    store.put(an_entry("d", b"x" * 1000), 0.0)

    assert (names(store, *"abcd"), store.bytes, store.evicted) == ("cd", 3010, 2)


def test_what_is_larger_than_the_store_is_not_kept() -> None:
    fits, larger = an_entry("a", b"x" * 995), an_entry("b", b"x" * 996)
    store = Store(2000, 10)

    assert (store.put(fits, 0.0), store.put(larger, 0.0)) == (True, False)

    assert (names(store, *"ab"), store.bytes) == ("a", 2000)


def test_the_copies_of_one_key_are_used_together_and_the_oldest_of_them_goes_first() -> None:
    store = Store(1_000_000, 4)
    german, english, other = an_entry(language=b"de"), an_entry(language=b"en"), an_entry("/other")
    for entry in (german, english, other):
        store.put(entry, 0.0)

    store.put(an_entry("a"), 0.0)
    store.put(an_entry("b"), 0.0)

    assert (store.variants(key()), store.entries, store.evicted) == ((english,), 4, 1)
    store.put(an_entry("c"), 0.0)
    assert (store.variants(key()), store.variants(key("/other")), store.evicted) == ((), (other,), 2)


def test_a_new_copy_of_a_key_is_a_use_of_it() -> None:
    store = Store(1_000_000, 2)
    for name in "aba":
        store.put(an_entry(name), 0.0)

    store.put(an_entry("c"), 0.0)

    assert names(store, *"abc") == "ac"


def test_what_was_asked_for_earlier_does_not_take_the_place_of_what_was_asked_for_later() -> None:
    store, newer, older, same = Store(10_000, 10), an_entry(), an_entry(), an_entry()
    store.put(newer, 5.0)

    assert (store.put(older, 4.9), store.variants(key()), store.entries) == (False, (newer,), 1)
    assert (store.put(same, 5.0), store.variants(key()), store.entries) == (True, (same,), 1)
    assert (store.holds(same), store.holds(newer)) == (True, False)


# --- changes ---


def test_a_change_makes_all_copies_of_a_key_worthless() -> None:
    store = Store(10_000, 10)
    for entry in (an_entry(language=b"de"), an_entry(language=b"en"), an_entry("/other")):
        store.put(entry, 0.0)

    store.invalidate(key(), 1.0)

    assert (store.entries, store.variants(key()), store.evicted) == (1, (), 0)


@pytest.mark.parametrize(("asked_at", "kept"), [(4.9, False), (5.0, False), (5.1, True)])
def test_what_was_asked_for_before_a_change_is_not_kept(asked_at: float, kept: bool) -> None:
    store = Store(10_000, 10)
    store.invalidate(key(), 5.0)

    assert store.is_outdated(key(), asked_at) is not kept
    assert store.put(an_entry(), asked_at) is kept
    assert store.put(an_entry("/other"), asked_at) is True


def test_of_very_many_changes_it_is_known_at_least_that_they_were() -> None:
    store = Store(10_000, 10)
    for number in range(MAX_CHANGES):
        store.invalidate(key(f"/{number}"), float(number))
    assert not store.is_outdated(key("/never"), 0.0)

    store.invalidate(key("/last"), 5000.0)

    assert MAX_CHANGES == 1024
    assert [store.is_outdated(key("/never"), at) for at in (5000.0, 5000.1)] == [True, False]
    store.invalidate(key("/later"), 6000.0)
    assert [store.is_outdated(key(name), 5500.0) for name in ("/never", "/later")] == [False, True]


def test_a_change_of_a_very_long_key_is_remembered_as_one_of_everything() -> None:
    store = Store(10_000, 10)
    prefix = len(key(""))

    store.invalidate(key("x" * (LONG_KEY - prefix)), 5.0)
    assert not store.is_outdated(key("/"), 5.0)
    store.invalidate(key("x" * (LONG_KEY - prefix + 1)), 6.0)

    assert LONG_KEY == 1024
    assert [store.is_outdated(key("/"), at) for at in (6.0, 6.1)] == [True, False]


# --- bodies on their way ---


def test_bodies_on_their_way_take_a_quarter_at_most() -> None:
    store = Store(403, 10)

    assert [store.claim(60), store.claim(40), store.claim(1)] == [True, True, False]
    assert store.claimed == 100
    store.release(40)
    assert (store.claim(1), store.claimed) == (True, 61)


# --- an operator ---


def test_narrower_bounds_drop_what_was_used_longest_ago() -> None:
    store = Store(1 << 20, 10)
    for name in "abc":
        assert store.put(an_entry(name), 0.0)

    store.adjust(1 << 20, 2)

    assert names(store, "a", "b", "c") == "bc"
    assert (store.entries, store.evicted, store.max_entries) == (2, 1, 2)
    store.adjust(OVERHEAD + 200, 10)
    assert names(store, "a", "b", "c") == "c"


def test_copies_of_one_prefix_are_dropped_and_others_stay() -> None:
    store = Store(1 << 20, 10)
    for name in ("a", "a", "b"):
        store.put(an_entry(name, language=name.encode()), 0.0)
    store.put(an_entry("a", language=b"de"), 0.0)

    assert store.forget(key("a"), 1.0) == 2

    assert names(store, "a", "b") == "b"
    assert (store.entries, store.bytes) == (1, store.variants(key("b"))[0].size)


def test_everything_can_be_dropped() -> None:
    store = Store(1 << 20, 10)
    for name in "abc":
        store.put(an_entry(name), 0.0)

    assert store.forget(b"", 1.0) == 3

    assert (store.entries, store.bytes, store.forget(b"", 2.0)) == (0, 0, 0)


def test_what_was_asked_for_before_copies_were_dropped_is_not_kept() -> None:
    store = Store(1 << 20, 10)
    store.forget(key("a"), 5.0)

    assert [store.put(an_entry("a"), at) for at in (4.0, 5.0, 5.1)] == [False, False, True]


# --- a survey ---


def a_stored(
    store: Store, route: str, name: str, stored_at: float, status: int = 200, **more: object
) -> None:
    made = a_copy(f"{route} h /{name}".encode(), status, Fields([]), b"", stored_at, **more)
    assert store.put(made, stored_at)


def surveyed(store: Store, now: float, at_once: int = 256) -> dict[str, Stock]:
    *_, last = store.survey(now, at_once)
    return last


def test_a_survey_of_nothing_finds_nothing() -> None:
    assert surveyed(Store(10_000, 10), 0.0) == {}


@pytest.mark.parametrize("at_once", [1, 2, 100])
def test_a_survey_tells_what_there_is_of_each_route(at_once: int) -> None:
    store = Store(100_000, 100)
    a_stored(store, "a", "1", 10.0)
    a_stored(store, "a", "2", 30.0)
    a_stored(store, "a", "2", 20.0, vary=(b"accept",), values=(b"x",))
    a_stored(store, "aa", "1", 15.0, status=404)

    assert surveyed(store, 100.0, at_once) == {
        "a": Stock(entries=3, oldest=10.0, newest=30.0, usable_from=30.0, forced_from=30.0),
        "aa": Stock(entries=1, oldest=15.0, newest=15.0, usable_from=-math.inf, forced_from=-math.inf),
    }


def test_what_its_origin_forbids_to_serve_stale_is_usable_only_while_fresh() -> None:
    store = Store(100_000, 100)
    a_stored(store, "a", "1", 10.0)
    a_stored(store, "a", "2", 30.0, must_revalidate=True, lifetime=5.0)

    seen = [surveyed(store, at)["a"] for at in (34.0, 36.0)]

    assert [(stock.usable_from, stock.forced_from) for stock in seen] == [(30.0, 30.0), (10.0, 30.0)]


def test_the_store_may_change_during_a_survey() -> None:
    store = Store(100_000, 100)
    a_stored(store, "b", "1", 0.0)
    for number in range(6):
        a_stored(store, "a", str(number), float(number))

    steps = store.survey(10.0, at_once=2)
    next(steps)  # the two used last, 5 and 4
    store.invalidate(b"a h /3", 10.0)
    store.invalidate(b"b h /1", 10.0)
    a_stored(store, "a", "6", 11.0)
    *_, last = steps

    assert last == {"a": Stock(entries=5, oldest=0.0, newest=5.0, usable_from=5.0, forced_from=5.0)}


def test_a_survey_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a very large store it looks at those that were used last."""
    assert SURVEYED == 20_000
    monkeypatch.setattr("sidecar.policy.store.SURVEYED", 4)
    store = Store(100_000, 100)
    for number in range(10):
        a_stored(store, "a", str(number), float(number))
    few = surveyed(store, 10.0, at_once=2)
    for number in range(10):
        for name in ("1", "2"):
            a_stored(store, "b", name, 20.0 + number, vary=(b"accept",), values=(b"%d" % number,))

    assert (few["a"].entries, few["a"].oldest) == (4, 6.0)
    assert surveyed(store, 30.0, at_once=1)["b"].entries == 10
