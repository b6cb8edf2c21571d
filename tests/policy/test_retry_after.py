"""`Retry-After` in both its forms, and what is neither."""

import math
import time
from calendar import timegm
from email.utils import formatdate

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.policy.retry_after import parse

NOON = timegm((2026, 10, 21, 12, 0, 0))
END_OF_CENTURY = timegm((2099, 12, 31, 23, 59, 0))
MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")


@pytest.mark.parametrize(
    ("value", "seconds"), [(b"0", 0), (b"1", 1), (b"120", 120), (b"007", 7), (b"9" * 5000, math.inf)]
)
def test_seconds_are_read(value: bytes, seconds: float) -> None:
    assert parse(value, NOON) == seconds


@pytest.mark.parametrize(
    "value",
    [
        b"Wed, 21 Oct 2026 12:01:30 GMT",
        b"Wednesday, 21-Oct-26 12:01:30 GMT",
        b"Wed Oct 21 12:01:30 2026",
    ],
)
def test_an_http_date_is_honoured_in_each_of_its_formats(value: bytes) -> None:
    assert parse(value, NOON) == 90
    assert parse(value, NOON + 89.75) == 0.25


@pytest.mark.parametrize("value", [b"Wed, 21 Oct 2026 11:59:59 GMT", b"Sun, 06 Nov 1994 08:49:37 GMT"])
def test_a_date_that_has_passed_asks_for_no_wait(value: bytes) -> None:
    assert parse(value, NOON) == 0


def test_a_single_digit_day_of_asctime_is_read() -> None:
    assert parse(b"Sun Nov  1 12:00:00 2026", NOON) == 11 * 86400


@pytest.mark.parametrize("number", range(12))
def test_every_month_is_known(number: int) -> None:
    due = timegm((2027, number + 1, 3, 4, 5, 6))

    assert parse(b"Mon, 03 %b 2027 04:05:06 GMT" % MONTHS[number].encode(), NOON) == due - NOON


@pytest.mark.parametrize(
    ("now", "digits", "year"),
    [
        (NOON, 26, 2026),
        (NOON, 27, 2027),
        (NOON, 76, 2076),  # 50 years ahead
        (NOON, 77, 1977),  # 51 would be more than 50
        (NOON, 25, 2025),
        (END_OF_CENTURY, 0, 2100),
        (END_OF_CENTURY, 99, 2099),
        (END_OF_CENTURY, 49, 2149),
        (END_OF_CENTURY, 50, 2050),
    ],
)
def test_a_year_of_two_digits_is_never_more_than_fifty_years_ahead(
    now: float, digits: int, year: int
) -> None:
    whole = parse(b"Sun, 03 Mar %d 04:05:06 GMT" % year, now)

    assert parse(b"Sunday, 03-Mar-%02d 04:05:06 GMT" % digits, now) == whole


@pytest.mark.skipif(not hasattr(time, "tzset"), reason="the time zone of a process cannot be set here")
def test_where_the_machine_stands_does_not_matter(monkeypatch: pytest.MonkeyPatch) -> None:
    last_hour = timegm((2026, 12, 31, 23, 0, 0))  # of the year, in Greenwich
    monkeypatch.setenv("TZ", "EAST-14")
    time.tzset()
    try:
        found = [
            parse(b"Thu, 31 Dec 2026 23:01:30 GMT", last_hour),
            parse(b"Wednesday, 01-Jan-77 00:00:00 GMT", last_hour),
        ]
    finally:
        monkeypatch.undo()
        time.tzset()

    assert found == [90, 0]  # 77 was 1977


@pytest.mark.parametrize(
    ("value", "seconds"),
    [(b"Wed, 21 Oct 2026 12:00:60 GMT", 60), (b"Wed, 21 Oct 2026 12:00:61 GMT", None)],
)
def test_a_leap_second_is_a_second(value: bytes, seconds: float | None) -> None:
    assert parse(value, NOON) == seconds


@pytest.mark.parametrize(
    "value",
    [
        b"",
        b"soon",
        b"-1",
        b"+1",
        b"1.5",
        b"1 2",
        b"1e3",
        "٣".encode(),
        b"Wed, 32 Oct 2026 12:00:00 GMT",
        b"Wed, 30 Feb 2027 12:00:00 GMT",
        b"Wed, 21 Okt 2026 12:00:00 GMT",
        b"Wed, 21 Oct 2026 24:00:00 GMT",
        b"Wed, 21 Oct 2026 12:60:00 GMT",
        b"Wed, 21 Oct 0000 12:00:00 GMT",
        b"Wed, 21 Oct 2026 12:00:00",
        b"Wed, 21 Oct 2026 12:00:00 CET",
        b"Wed, 21 Oct 2026 12:00:00 GMT, 5",
        b"21 Oct 2026 12:00:00 GMT",
        b"Wednesday, 21-Oct-2026 12:00:00 GMT",
        b"Wed Oct 21 12:00:00 2026 GMT",
        b"2026-10-21T12:00:00Z",
    ],
)
def test_what_is_neither_form_says_nothing(value: bytes) -> None:
    assert parse(value, NOON) is None


@given(st.integers(0, timegm((9999, 12, 31, 23, 59, 59))))
def test_every_date_that_can_be_written_is_read(when: int) -> None:
    assert parse(formatdate(when, usegmt=True).encode(), 0) == when


@given(st.binary(max_size=40), st.floats(0, 4e9))
def test_no_value_can_do_harm(value: bytes, now: float) -> None:
    seconds = parse(value, now)

    assert seconds is None or seconds >= 0
