"""What a response says to a cache."""

import pytest

from sidecar.message import Fields
from sidecar.policy import cache_response
from sidecar.policy.cache_control import MOST, NOTHING
from sidecar.policy.cache_response import Told, told
from tests.support.attributes import attributes

DATE = b"Sun, 06 Nov 1994 08:49:37 GMT"
WHEN = 784111777


def read(*pairs: tuple[bytes, bytes]) -> Told:
    return told(Fields(pairs))


def values(found: Told) -> dict[str, object]:
    return attributes(found)


def test_most_sections_say_nothing_to_a_cache() -> None:
    assert values(read((b"Server", b"x"))) == {
        "age": 0,
        "binding": False,
        "cc": NOTHING,
        "date": None,
        "etag": None,
        "expires": None,
        "last_modified": None,
        "open": True,
        "private": False,
        "sized": False,
        "stream": False,
        "strip": False,
        "vary": (),
    }


def test_what_has_not_been_read_says_nothing() -> None:
    assert values(Told()) == values(read())


def test_what_a_section_says_is_read() -> None:
    found = read(
        (b"cache-control", b"max-age=5"),
        (b"Cache-Control", b"public"),
        (b"DATE", DATE),
        (b"Expires", DATE),
        (b"Age", b"7"),
        (b"ETag", b'"1"'),
        (b"Last-Modified", b"then"),
        (b"Content-Length", b"3"),
    )

    assert (found.cc.max_age, found.cc.public) == (5, True)
    assert (found.date, found.expires, found.age) == (WHEN, WHEN, 7)
    assert (found.etag, found.last_modified, found.sized) == (b'"1"', b"then", True)
    assert (found.private, found.strip) == (False, True)


def test_of_a_field_that_stands_there_twice_the_first_counts() -> None:
    found = read((b"ETag", b'"1"'), (b"ETag", b'"2"'), (b"Age", b"1"), (b"Age", b"2"))

    assert (found.etag, found.age) == (b'"1"', 1)


@pytest.mark.parametrize("value", [b"0", b"-1", b"never", b""])
def test_expires_that_is_no_date_has_passed(value: bytes) -> None:
    assert read((b"Expires", value)).expires == 0


@pytest.mark.parametrize(
    ("value", "age"),
    [
        (b"0", 0),
        (b"60", 60),
        (b" 60 , 70", 60),
        (b"x", 0),
        (b"-5", 0),
        (b"1.5", 0),
        (b"", 0),
        (b"X5", 0),
        (b"\x0c5", 0),
        (b"1000000000", 1_000_000_000),
        (b"9999999999", MOST),
        (b"00000000005", 5),
        (b"0" * 5000, 0),
        (b"9" * 5000, MOST),
    ],
)
def test_age_is_a_number_or_nothing(value: bytes, age: int) -> None:
    assert read((b"Age", value)).age == age


@pytest.mark.parametrize(
    ("fields", "names"),
    [
        ([b"Accept-Language, Accept"], (b"accept", b"accept-language")),
        ([b"B", b"a,, B"], (b"a", b"b")),
        ([b"\x0ca\x0c , \tb\t"], (b"\x0ca\x0c", b"b")),
        ([b""], ()),
        ([b"*"], None),
        ([b"a", b"b, *"], None),
    ],
)
def test_vary_names_are_sorted_and_in_lower_case(
    fields: list[bytes], names: tuple[bytes, ...] | None
) -> None:
    assert read(*[(b"Vary", field) for field in fields]).vary == names


@pytest.mark.parametrize(
    "field",
    [(b"Set-Cookie", b"a=b"), (b"Cache-Control", b"private"), (b"X-System-Degraded", b"True")],
)
def test_what_is_meant_for_one_or_stands_in_for_an_answer_is_private(field: tuple[bytes, bytes]) -> None:
    assert read(field).private


@pytest.mark.parametrize(
    ("field", "open_"),
    [
        ((b"Cache-Control", b"public"), True),
        ((b"Vary", b"a"), True),
        ((b"Vary", b"*"), False),
        ((b"Cache-Control", b"no-store"), False),
        ((b"Cache-Control", b"private"), False),
        ((b"Set-Cookie", b"a=b"), False),
    ],
)
def test_what_may_be_given_to_anybody_is_open(field: tuple[bytes, bytes], open_: bool) -> None:
    assert read(field).open is open_


@pytest.mark.parametrize(
    ("directive", "binding"),
    [
        (b"no-cache", True),
        (b"must-revalidate", True),
        (b"proxy-revalidate", True),
        (b"s-maxage=0", True),
        (b"max-age=0", False),
        (b"private", False),
    ],
)
def test_what_forbids_to_be_served_stale_is_binding(directive: bytes, binding: bool) -> None:
    assert read((b"Cache-Control", directive)).binding is binding


def test_what_says_not_to_be_degraded_is_not_private() -> None:
    assert not read((b"X-System-Degraded", b"false")).private


@pytest.mark.parametrize(
    ("kind", "stream"),
    [
        (b"text/event-stream", True),
        (b"Text/Event-Stream; charset=utf-8", True),
        (b"multipart/x-mixed-replace; boundary=x", True),
        (b"application/grpc+proto", True),
        (b"text/html", False),
    ],
)
def test_bodies_without_an_end_are_known_by_their_type(kind: bytes, stream: bool) -> None:
    assert read((b"Content-Type", kind)).stream is stream


@pytest.mark.parametrize(
    "name", [b"Age", b"Proxy-Authenticate", b"proxy-authentication-info", b"Proxy-Authorization"]
)
def test_what_is_not_kept_is_noted(name: bytes) -> None:
    assert read((name, b"1")).strip


def test_a_section_is_read_once() -> None:
    fields = Fields([(b"A", b"1")])

    assert told(fields) is told(fields)


def test_a_section_that_is_too_large_is_not_remembered() -> None:
    at_most, larger = Fields([(b"A", b"x" * 2043)]), Fields([(b"A", b"x" * 2044)])

    assert told(at_most) is told(at_most)
    assert told(larger) is not told(larger)


def test_what_is_remembered_is_bounded() -> None:
    first = Fields([(b"A", b"1")])
    found = before = told(first)
    while found is before:  # until all are forgotten, so that it is known how many there are: the last two
        told(Fields([]))
        found = told(first)

    others = [Fields([]) for _ in range(511)]
    for other in others[:510]:
        told(other)
    assert told(first) is found
    told(others[510])
    assert told(first) is not found
    assert len(cache_response._memo) <= 512
