"""Conditional requests at a cache."""

import pytest

from sidecar.message import Fields, Headers
from sidecar.policy.cache_request import asked
from sidecar.policy.conditions import freshened, is_unchanged, not_modified, revalidating, same_tag

THEN = b"Sun, 06 Nov 1994 08:49:37 GMT"
BEFORE = b"Sun, 06 Nov 1994 08:49:36 GMT"
AFTER = b"Sunday, 06-Nov-94 08:49:38 GMT"
WHEN = 784111777


@pytest.mark.parametrize(
    ("value", "etag", "unchanged"),
    [
        (b'"1"', b'"1"', True),
        (b'W/"1"', b'"1"', True),
        (b'"1"', b'W/"1"', True),
        (b'"0", W/"1" , "2"', b'"1"', True),
        (b'"a,b"', b'"a,b"', True),
        (b'"2"', b'"1"', False),
        (b'"11"', b'"1"', False),
        (b"1", b'"1"', False),
        (b"*", b'"1"', True),
        (b" * ", None, True),
        (b'"1"', None, False),
        (b"", b'"1"', False),
    ],
)
def test_entity_tags_compare_weakly(value: bytes, etag: bytes | None, unchanged: bool) -> None:
    read = asked(Fields([(b"If-None-Match", value)]))

    assert is_unchanged(read, etag, None, None) is unchanged


@pytest.mark.parametrize(
    ("since", "modified", "date", "unchanged"),
    [
        (THEN, THEN, None, True),
        (AFTER, THEN, None, True),
        (BEFORE, THEN, None, False),
        (THEN, None, WHEN, True),
        (THEN, None, WHEN + 1, False),
        (BEFORE, None, WHEN, False),
        (THEN, None, None, False),
        (b"now", THEN, None, False),
        (THEN, b"now", WHEN, False),
        (b"now", b"now", None, True),
    ],
)
def test_dates_compare_by_their_order(
    since: bytes, modified: bytes | None, date: int | None, unchanged: bool
) -> None:
    read = asked(Fields([(b"If-Modified-Since", since)]))

    assert is_unchanged(read, b'"1"', modified, date) is unchanged


def test_where_there_are_tags_the_date_does_not_count() -> None:
    read = asked(Fields([(b"If-None-Match", b'"2"'), (b"If-Modified-Since", THEN)]))

    assert is_unchanged(read, b'"1"', THEN, None) is False


def test_without_a_condition_nothing_is_unchanged() -> None:
    assert is_unchanged(asked(Fields([])), None, None, None) is False


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        (b'"1"', b'"1"', True),
        (b'W/"1"', b'"1"', True),
        (b'"1"', b'"2"', False),
        (None, b'"1"', True),
        (b'"1"', None, True),
        (None, None, True),
    ],
)
def test_tags_can_be_of_the_same_content(one: bytes | None, other: bytes | None, same: bool) -> None:
    assert same_tag(one, other) is same


def test_a_304_says_nothing_of_the_content() -> None:
    content: Headers = [
        (b"Content-Type", b"a/b"),
        (b"Content-Length", b"5"),
        (b"Content-Encoding", b"gzip"),
        (b"Content-Language", b"de"),
        (b"Content-MD5", b"x"),
        (b"Content-Range", b"x"),
    ]
    rest: Headers = [(b"Content-Location", b"/x"), (b"Vary", b"A"), (b"Date", THEN), (b"Last-Modified", THEN)]

    assert not_modified(Fields([*content, *rest])).pairs == tuple(rest)


def test_a_304_with_a_tag_needs_no_date_of_change() -> None:
    fields = Fields([(b"ETag", b'"1"'), (b"Last-Modified", THEN), (b"Content-Type", b"a/b")])

    assert not_modified(fields).pairs == ((b"ETag", b'"1"'),)


@pytest.mark.parametrize(
    ("etag", "modified", "added"),
    [
        (b'"1"', THEN, [(b"If-None-Match", b'"1"'), (b"If-Modified-Since", THEN)]),
        (b'"1"', None, [(b"If-None-Match", b'"1"')]),
        (None, THEN, [(b"If-Modified-Since", THEN)]),
        (None, None, []),
    ],
)
def test_our_own_question_takes_the_place_of_the_clients(
    etag: bytes | None, modified: bytes | None, added: Headers
) -> None:
    fields = Fields([(b"If-None-Match", b'"0"'), (b"A", b"1"), (b"if-modified-since", b"x")])

    assert revalidating(fields, etag, modified).pairs == ((b"A", b"1"), *added)


def test_what_a_304_says_replaces_what_was_stored_but_nothing_about_the_bytes() -> None:
    stored = Fields(
        [
            (b"Content-Type", b"a/b"),
            (b"Content-Length", b"5"),
            (b"Content-Language", b"de"),
            (b"X", b"1"),
            (b"X", b"2"),
            (b"Y", b"3"),
        ]
    )
    answer = Fields(
        [
            (b"x", b"4"),
            (b"x", b"5"),
            (b"content-length", b"0"),
            (b"content-type", b"c/d"),
            (b"content-encoding", b"gzip"),
            (b"content-range", b"x"),
            (b"content-md5", b"x"),
            (b"content-language", b"en"),
        ]
    )

    assert freshened(stored, answer).pairs == (
        (b"Content-Type", b"a/b"),
        (b"Content-Length", b"5"),
        (b"Y", b"3"),
        (b"x", b"4"),
        (b"x", b"5"),
        (b"content-language", b"en"),
    )
