"""What a request says to a cache."""

import pytest

from sidecar.message import Fields
from sidecar.policy import cache_request
from sidecar.policy.cache_control import NOTHING
from sidecar.policy.cache_request import Asked, asked, selecting
from tests.support.attributes import attributes
from tests.support.exchanges import a_request


def section(*pairs: tuple[bytes, bytes]) -> Fields:
    return Fields(pairs)


def test_most_sections_say_nothing_to_a_cache() -> None:
    read = asked(section((b"Host", b"h"), (b"User-Agent", b"x"), (b"Accept", b"*/*")))

    assert (read.plain, read.personal, read.passed_on, read.conditional) == (True, False, False, False)
    assert (read.cc, read.none_match, read.modified_since) == (NOTHING, None, None)


def test_what_has_not_been_read_says_nothing() -> None:
    new, read = Asked(), asked(section())

    assert attributes(new) == attributes(read)


@pytest.mark.parametrize(
    "name",
    [
        b"Authorization",
        b"COOKIE",
        b"proxy-authorization",
        b"X-API-Key",
        b"api-key",
        b"apikey",
        b"x-auth-token",
        b"x-access-token",
    ],
)
def test_whoever_says_who_he_is_is_somebody(name: bytes) -> None:
    read = asked(section((name, b"secret")))

    assert (read.personal, read.plain, read.passed_on) == (True, False, False)


@pytest.mark.parametrize("name", [b"Range", b"If-Range", b"if-match", b"If-Unmodified-Since"])
def test_what_only_the_origin_can_judge_is_passed_on(name: bytes) -> None:
    read = asked(section((name, b"x")))

    assert (read.passed_on, read.plain, read.personal) == (True, False, False)


def test_directives_of_several_fields_are_one_list() -> None:
    read = asked(section((b"cache-control", b"no-cache"), (b"Cache-Control", b"max-age=5")))

    assert (read.cc.no_cache, read.cc.max_age, read.plain) == (True, 5, False)


def test_conditions_are_read() -> None:
    tags = asked(section((b"If-None-Match", b'"1"'), (b"if-none-match", b'"2"')))
    date = asked(section((b"If-Modified-Since", b"then")))

    assert (tags.none_match, tags.modified_since, tags.conditional, tags.plain) == (
        b'"1", "2"',
        None,
        True,
        False,
    )
    assert (date.none_match, date.modified_since, date.conditional, date.plain) == (
        None,
        b"then",
        True,
        False,
    )


def test_what_answers_are_chosen_by_most_often_is_kept_together() -> None:
    read = asked(
        section(
            (b"Accept", b"a"),
            (b"X", b"x"),
            (b"Accept-Encoding", b"b"),
            (b"accept-language", b"c"),
            (b"Origin", b"d"),
        )
    )

    assert read.negotiation == (
        (b"accept", b"a"),
        (b"accept-encoding", b"b"),
        (b"accept-language", b"c"),
        (b"origin", b"d"),
    )
    assert read.variant == b"accept: a\r\naccept-encoding: b\r\naccept-language: c\r\norigin: d\r\n"
    assert asked(section((b"X", b"x"))).variant == b""


def test_where_the_caller_came_in_is_part_of_what_it_asks_for() -> None:
    read = asked(section((b"X-Forwarded-Proto", b"https"), (b"Forwarded", b"for=x; host=a ;proto=http")))

    assert read.outside == ((b"x-forwarded-proto", b"https"), (b"forwarded", b"host=a ;proto=http"))
    assert (read.negotiation, read.plain) == (read.outside, True)


def test_a_section_is_read_once() -> None:
    fields = section((b"A", b"1"))

    assert asked(fields) is asked(fields)


def test_a_section_that_is_too_large_is_not_remembered() -> None:
    at_most, larger = section((b"A", b"x" * 2043)), section((b"A", b"x" * 2044))
    assert (len(at_most.wire), len(larger.wire)) == (2048, 2049)

    assert asked(at_most) is asked(at_most)
    assert asked(larger) is not asked(larger)


def test_what_is_remembered_is_bounded() -> None:
    first = section((b"A", b"1"))
    found = before = asked(first)
    while found is before:  # until all are forgotten, so that it is known how many there are: the last two
        asked(section())
        found = asked(first)

    others = [section() for _ in range(511)]
    for other in others[:510]:
        asked(other)
    assert asked(first) is found
    asked(others[510])
    assert asked(first) is not found
    assert len(cache_request._memo) <= 512


# --- the fields that choose ---


def test_the_fields_that_chose_are_given_in_the_order_of_vary() -> None:
    request = a_request(headers=[(b"B", b"2"), (b"a", b"1"), (b"b", b"3")])

    chosen = selecting(request, asked(request.fields), (b"a", b"b", b"c"))

    assert chosen == (b"1", b"2, 3", None)
    assert selecting(request, asked(request.fields), (b"a", b"b", b"c")) is chosen  # and found only once


@pytest.mark.parametrize(
    ("name", "value"),
    [
        (b"x-forwarded-proto", b"https"),
        (b"x-forwarded-for", b"1.2.3.4"),
        (b"x-forwarded-host", b"h.example:8080"),
        (b"forwarded", b"for=x"),
        (b"via", b"1.1 a, 1.1 me"),
        (b"x-request-id", b"7"),
        (b"x-request-id", b"X7X"),
        (b"x-request-id", b"\x0c7\x0c"),
        (b"x-real-ip", b"1.2.3.4"),
        (b"traceparent", b"00-1"),
        (b"tracestate", b"a=b"),
    ],
)
def test_what_we_vouch_for_ourselves_chooses_too(name: bytes, value: bytes) -> None:
    first = a_request(headers=[(b"Via", b"1.1 a")] if name == b"via" else [])
    own = value.rpartition(b", ")[2]
    first.tail = b"X-Forwarded: no\r\n%b:  %b\r\nOther: x\r\n" % (name.title(), own)
    other = a_request()
    other.fields = first.fields
    read = asked(first.fields)

    assert selecting(first, read, (name, b"a")) == (value, None)
    assert selecting(other, read, (name, b"a")) == (b"1.1 a" if name == b"via" else None, None)


def test_an_origin_that_varies_by_something_else_each_time_fills_no_memory() -> None:
    request = a_request(headers=[(b"h7", b"7"), (b"h8", b"8")])
    read = asked(request.fields)

    found = [selecting(request, read, (b"h%d" % number,)) for number in range(9)]

    assert found == [(None,)] * 7 + [(b"7",), (b"8",)]
    assert len(read.values) == 8
