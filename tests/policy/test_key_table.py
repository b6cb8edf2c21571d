"""Who is forgotten when there is no room for another key."""

from collections import OrderedDict

from sidecar.policy.key_table import make_room
from sidecar.policy.rate_key import Key


def _table(*debts: int) -> "OrderedDict[Key, int]":
    return OrderedDict((str(index), debt) for index, debt in enumerate(debts))


def _owes(state: int, at: int) -> int:
    return state - at


def test_an_empty_table_has_room() -> None:
    table = _table()

    assert not make_room(table, 1, _owes, 0)
    assert table == {}


def test_while_there_is_room_the_two_oldest_are_forgotten_if_they_owe_nothing() -> None:
    table = _table(0, -1, 0, 5)

    assert not make_room(table, 10, _owes, 0)
    assert list(table) == ["2", "3"]


def test_while_there_is_room_nobody_is_forgotten_who_owes_something() -> None:
    table = _table(1, 1, 0, 5)

    assert not make_room(table, 5, _owes, 0)
    assert list(table) == ["0", "1", "2", "3"]


def test_what_is_owed_is_asked_for_at_the_time_that_it_is() -> None:
    table = _table(7, 8, 9)

    assert not make_room(table, 10, _owes, 7)
    assert list(table) == ["1", "2"]


def test_of_a_full_table_all_the_eight_oldest_are_forgotten_that_owe_nothing() -> None:
    table = _table(3, 0, 4, 0, 5, 0, 6, 0, 0, 9)

    assert not make_room(table, 10, _owes, 0)
    assert list(table) == ["0", "2", "4", "6", "8", "9"]


def test_of_a_full_table_the_one_goes_that_owes_least() -> None:
    table = _table(9, 9, 9, 2, 9, 9, 9, 9, 1, 1)

    assert make_room(table, 10, _owes, 0)
    assert list(table) == ["0", "1", "2", "4", "5", "6", "7", "8", "9"]


def test_of_equal_debts_the_oldest_goes() -> None:
    table = _table(4, 3, 3)

    assert make_room(table, 3, _owes, 0)
    assert list(table) == ["0", "2"]


def test_a_table_of_one_makes_room() -> None:
    table = _table(5)

    assert make_room(table, 1, _owes, 0)
    assert table == {}
