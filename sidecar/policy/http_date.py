"""A moment as HTTP writes it (RFC 9110 §5.6.7), in any of the three formats, as seconds since 1970.

Reading one takes longer than all else that a cache does to a response, and the same dates come again and again:
memoised. What is no date is None, which for `Expires` means that the time has passed (RFC 9111 §5.3).
"""

from email.utils import mktime_tz, parsedate_tz
from functools import lru_cache

__all__ = ["parse"]

_LONGEST = 64  # bytes: the longest valid date has 33


def parse(value: bytes) -> int | None:
    """Give the moment; None: it is no date."""
    return _read(value) if len(value) <= _LONGEST else None


@lru_cache(maxsize=256)
def _read(value: bytes) -> int | None:
    try:
        parts = parsedate_tz(value.decode("latin-1"))
        return None if parts is None else int(mktime_tz(parts))
    except (ValueError, OverflowError, IndexError, TypeError):  # what the library lets through of bad dates
        return None
