"""The wall clock, as HTTP writes it (RFC 9110 §5.6.7). Nothing else on the wire reads a calendar."""

import time
from email.utils import formatdate

__all__ = ["http_date"]

_cached_second = 0
_cached_text = b""


def http_date() -> bytes:
    """Give now as an IMF-fixdate. Rendered once a second: formatting takes longer than parsing a whole head."""
    global _cached_second, _cached_text  # noqa: PLW0603 -- a cache of one value that every connection shares
    now = int(time.time())  # noqa: TID251 -- a calendar date is what this is for
    if now != _cached_second:
        _cached_text = formatdate(now, usegmt=True).encode()
        _cached_second = now
    return _cached_text
