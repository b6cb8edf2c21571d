"""`Retry-After` in both its forms (RFC 9110 §10.2.3): a number of seconds, or a date.

A date comes in one of three formats (§5.6.7), and a recipient has to know all three: that of today, that of RFC 850 and
that of C's asctime. What is neither a number nor a date says nothing, so it is as good as absent.
"""

import re
from datetime import UTC, datetime

__all__ = ["parse"]

_TIME = rb"(?P<hour>\d\d):(?P<minute>\d\d):(?P<second>\d\d)"
_MONTH = rb"(?P<month>Jan|Feb|Mar|Apr|May|Jun|Jul|Aug|Sep|Oct|Nov|Dec)"
_DATES = tuple(
    re.compile(pattern)
    for pattern in (
        rb"[A-Z][a-z]{2}, (?P<day>\d\d) " + _MONTH + rb" (?P<year>\d{4}) " + _TIME + b" GMT",
        rb"[A-Z][a-z]{5,8}, (?P<day>\d\d)-" + _MONTH + rb"-(?P<year>\d\d) " + _TIME + b" GMT",
        rb"[A-Z][a-z]{2} " + _MONTH + rb" (?P<day>[ \d]\d) " + _TIME + rb" (?P<year>\d{4})",
    )
)
_MONTHS = (b"Jan", b"Feb", b"Mar", b"Apr", b"May", b"Jun", b"Jul", b"Aug", b"Sep", b"Oct", b"Nov", b"Dec")


def parse(value: bytes, now_unix: float) -> float | None:
    """Give for how many seconds from now `value` asks to wait, 0 for a date that has passed; None: it is neither form.

    `now_unix` is the wall clock's time, in seconds since 1970. A number too large for a float is infinity.
    """
    if value.isdigit():
        return float(value)
    for form in _DATES:
        found = form.fullmatch(value)
        if found is not None:
            when = _unix(found, now_unix)
            return None if when is None else max(0.0, when - now_unix)
    return None


def _unix(found: re.Match[bytes], now_unix: float) -> float | None:
    """Give the seconds since 1970; None: there is no such day, or no such time of the day."""
    year, second = int(found["year"]), int(found["second"])
    if len(found["year"]) == 2:
        year = _whole_year(year, now_unix)
    if second > 60:  # 60 is a leap second
        return None
    month = _MONTHS.index(found["month"]) + 1
    try:
        day = datetime(year, month, int(found["day"]), int(found["hour"]), int(found["minute"]), tzinfo=UTC)
    except ValueError:
        return None
    return day.timestamp() + second


def _whole_year(two_digits: int, now_unix: float) -> int:
    """Give the year that ends so, at most 50 years ahead (RFC 9110 §5.6.7) and less than 50 back."""
    this_year = datetime.fromtimestamp(now_unix, tz=UTC).year
    return this_year - 49 + (two_digits - this_year + 49) % 100
