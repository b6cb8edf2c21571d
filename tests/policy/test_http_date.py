"""Moments as HTTP writes them."""

import pytest

from sidecar.policy.http_date import parse

WHEN = 784111777  # the example of RFC 9110 §5.6.7


@pytest.mark.parametrize(
    "value",
    [b"Sun, 06 Nov 1994 08:49:37 GMT", b"Sunday, 06-Nov-94 08:49:37 GMT", b"Sun Nov  6 08:49:37 1994"],
)
def test_all_three_formats_are_read(value: bytes) -> None:
    assert parse(value) == WHEN


@pytest.mark.parametrize(
    "value",
    [
        b"",
        b"0",
        b"-1",
        b"now",
        b"Sun, 99 Foo 1994 08:49:37 GMT",
        b"Sun, 06 Nov 99999999999 08:49:37 GMT",
        b"\xff\xfe",
    ],
)
def test_what_is_no_date_is_none(value: bytes) -> None:
    assert parse(value) is None


def test_what_is_longer_than_any_date_is_none() -> None:
    padding = 64 - len(b"Sun, 06 Nov 1994 08:49:37 GMT")
    assert parse(b"Sun, 06 Nov 1994 08:49:37 GMT" + b" " * padding) == WHEN
    assert parse(b"Sun, 06 Nov 1994 08:49:37 GMT" + b" " * (padding + 1)) is None
