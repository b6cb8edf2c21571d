"""Cache-Control: what is read, and that what is unclear is read as less."""

import pytest

from sidecar.policy.cache_control import MOST, NOTHING, parse
from tests.support.attributes import attributes


def said(value: bytes) -> dict[str, object]:
    found = attributes(parse(value))
    return {name: what for name, what in found.items() if what is not None and what is not False}


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (b"", {}),
        (b"no-store", {"no_store": True}),
        (b"No-Cache", {"no_cache": True}),
        (b"private", {"private": True}),
        (b"public, max-age=60", {"public": True, "max_age": 60}),
        (b"must-revalidate,proxy-revalidate", {"must_revalidate": True, "proxy_revalidate": True}),
        (b"only-if-cached", {"only_if_cached": True}),
        (b"S-MaxAge=5", {"s_maxage": 5}),
        (b"min-fresh=7", {"min_fresh": 7}),
        (b"max-stale=8", {"max_stale": 8}),
        (b"max-stale", {"max_stale": MOST}),
        (b"stale-while-revalidate=9, stale-if-error=10", {"stale_while_revalidate": 9, "stale_if_error": 10}),
        (b"max-age=0", {"max_age": 0}),
    ],
)
def test_every_directive_that_concerns_a_shared_cache_is_read(
    value: bytes, expected: dict[str, object]
) -> None:
    assert said(value) == expected


def test_what_is_not_known_is_ignored() -> None:
    assert said(b'immutable, no-transform, community="UCI", =5, ,, max-age=1') == {"max_age": 1}


def test_numbers_may_come_quoted_and_with_space() -> None:
    assert said(b'max-age="60", s-maxage = 5') == {"max_age": 60, "s_maxage": 5}


@pytest.mark.parametrize("number", [b"", b"x", b"-1", b"1.5", b"1e3", b'"x"', b'"'])
def test_a_number_that_is_none_is_zero(number: bytes) -> None:
    assert parse(b"max-age=" + number).max_age == 0
    assert parse(b"max-stale=" + number).max_stale == 0


def test_a_number_that_is_missing_is_zero() -> None:
    assert parse(b"max-age").max_age == 0


@pytest.mark.parametrize(
    ("number", "seconds"),
    [
        (b"2147483647", 2147483647),
        (b"2147483648", MOST),
        (b"2147483649", MOST),
        (b"9999999999", MOST),
        (b"10000000000", MOST),
        (b"00000000000005", 5),
        (b"0" * 5000, 0),
        (b"9" * 5000, MOST),
    ],
)
def test_a_number_too_large_is_the_largest(number: bytes, seconds: int) -> None:
    assert MOST == 2**31
    assert parse(b"max-age=" + number).max_age == seconds


@pytest.mark.parametrize("value", [b"max-age=60, max-age=5", b"max-age=5, max-age=60"])
def test_of_a_directive_that_stands_there_twice_the_smaller_counts(value: bytes) -> None:
    assert said(value) == {"max_age": 5}


def test_what_names_fields_counts_for_the_whole_response() -> None:
    assert said(b'private="x-user, max-age=9", no-cache="a"') == {"private": True, "no_cache": True}


def test_what_stands_in_quotes_is_no_directive() -> None:
    assert said(rb'x="no-store, \", private", max-age=3') == {"max_age": 3}


def test_a_quote_that_does_not_end_hides_nothing() -> None:
    assert said(b'x="no-store, max-age=3') == {"no_store": True, "max_age": 3}


def test_long_fields_are_read_as_well() -> None:
    assert said(b"x, " * 100 + b"no-store") == {"no_store": True}


def test_what_is_not_said_is_not_there() -> None:
    flags = (
        "no_store",
        "no_cache",
        "private",
        "public",
        "must_revalidate",
        "proxy_revalidate",
        "only_if_cached",
    )
    numbers = ("max_age", "s_maxage", "min_fresh", "max_stale", "stale_while_revalidate", "stale_if_error")

    assert [getattr(NOTHING, name) for name in flags] == [False] * 7
    assert [getattr(NOTHING, name) for name in numbers] == [None] * 6


def test_what_is_read_shows_itself() -> None:
    assert repr(parse(b"max-age=1")) == "Directives({'max_age': 1})"
    assert repr(NOTHING) == "Directives({})"


@pytest.mark.parametrize(("length", "same"), [(256, True), (257, False)])
def test_only_short_fields_are_remembered(length: int, same: bool) -> None:
    value = b"max-age=1".ljust(length)
    assert (parse(value) is parse(value)) is same
