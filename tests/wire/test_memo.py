"""The memo of header sections: a stranger can neither fill it nor freeze it."""

from sidecar.wire import names
from sidecar.wire.memo import ENTRIES, FIELDS, KEY_BYTES, Memo
from sidecar.wire.names import REQUEST_NAMES, Names


def test_what_is_small_is_remembered() -> None:
    memo: Memo[int] = Memo()

    memo.keep(b"x" * KEY_BYTES, 1, FIELDS)

    assert memo == {b"x" * KEY_BYTES: 1}


def test_what_is_large_is_not() -> None:
    memo: Memo[int] = Memo()

    memo.keep(b"x" * (KEY_BYTES + 1), 1, 1)
    memo.keep(b"x", 1, FIELDS + 1)

    assert memo == {}


def test_a_full_memo_begins_anew() -> None:
    memo: Memo[int] = Memo()

    for number in range(ENTRIES + 1):
        memo.keep(b"%d" % number, number, 1)

    assert memo == {b"%d" % ENTRIES: ENTRIES}


def test_no_stranger_fills_the_table_of_names_or_keeps_it_from_learning() -> None:
    """2048 names of 32 KiB each would be 64 MiB until the process ends."""
    table = Names({b"host": names.HOST})

    for number in range(5000):
        assert table.learn(b"x" * 32_000 + b"%d" % number) == names.PASS
    assert table.codes == {b"host": names.HOST}
    for number in range(5000):
        table.learn(b"n%d" % number)

    assert len(table.codes) <= 2048
    assert table.codes[b"n4999"] == names.PASS
    assert table.learn(b"HOST") == names.HOST


def test_an_underscore_makes_no_new_forwarded_field() -> None:
    """CGI and its kin read X-Forwarded_User as X-Forwarded-User, a login that some proxies vouch for."""
    spellings = [
        b"X-Forwarded_User",
        b"X_Forwarded_User",
        b"x_forwarded-for",
        b"X-Forwarded_For",
        b"X_Request_ID",
    ]

    assert {REQUEST_NAMES.learn(name) for name in spellings} == {names.DROP}
    assert REQUEST_NAMES.learn(b"X-Forwarded") == names.FORWARDED_OTHER
    assert REQUEST_NAMES.learn(b"X-Forwarded-User") == names.FORWARDED_OTHER
    assert REQUEST_NAMES.learn(b"X-Custom_Field") == names.PASS
