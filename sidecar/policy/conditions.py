"""Conditional requests at a cache (RFC 9111 §4.3): the client's, answered from a copy, and our own, to renew one.

Of the client's, `If-None-Match` goes before `If-Modified-Since` (RFC 9110 §13.2.2), and compares weakly (§13.1.2). Our
own take the place of the client's on the way to the origin; the client's are then answered from what came of that.
"""

import re

from sidecar.message import Fields
from sidecar.policy import http_date
from sidecar.policy.cache_request import CONDITIONS, Asked

__all__ = ["freshened", "is_unchanged", "not_modified", "revalidating", "same_tag"]

_TAG = re.compile(rb'(?:W/)?("[^"]*")')

# Of the content that a 304 does not have (RFC 9110 §15.4.5).
_OF_CONTENT = (
    b"content-encoding",
    b"content-language",
    b"content-length",
    b"content-md5",
    b"content-range",
    b"content-type",
)
# What a 304 cannot change of a copy, since it speaks of the bytes that are stored (RFC 9111 §3.2).
_OF_BYTES = frozenset(_OF_CONTENT) - {b"content-language"}


def is_unchanged(asked: Asked, etag: bytes | None, last_modified: bytes | None, date: int | None) -> bool:
    """Tell whether the client has this copy already, so that a 304 is its answer.

    `date` is when the copy was made, in seconds since 1970: it stands in for a missing `Last-Modified` (§4.3.2).
    """
    if asked.none_match is not None:
        if asked.none_match.strip() == b"*":
            return True
        return etag is not None and _opaque(etag) in _TAG.findall(asked.none_match)
    since = asked.modified_since
    if since is None:
        return False
    if since == last_modified:
        return True
    then = http_date.parse(since)
    made = date if last_modified is None else http_date.parse(last_modified)
    return then is not None and made is not None and made <= then


def same_tag(one: bytes | None, other: bytes | None) -> bool:
    """Tell whether two entity tags can be of the same content (weak comparison). A missing one says nothing."""
    return one is None or other is None or _opaque(one) == _opaque(other)


def _opaque(etag: bytes) -> bytes:
    return etag[2:] if etag.startswith(b"W/") else etag


def not_modified(fields: Fields) -> Fields:
    """Give the section of a 304 that stands for a copy with these `fields`."""
    gone: tuple[bytes, ...] = _OF_CONTENT
    if fields.first(b"etag") is not None:
        gone = (*gone, b"last-modified")
    return fields.without(*gone)


def revalidating(fields: Fields, etag: bytes | None, last_modified: bytes | None) -> Fields:
    """Give the section that asks the origin whether our copy is still good, in place of the client's own question."""
    pairs = list(fields.without(*CONDITIONS).pairs)
    if etag is not None:
        pairs.append((b"If-None-Match", etag))
    if last_modified is not None:
        pairs.append((b"If-Modified-Since", last_modified))
    return Fields(pairs)


def freshened(stored: Fields, answer: Fields) -> Fields:
    """Give the section of a copy after a 304 with the section `answer`, which goes before what was stored (§3.2)."""
    news = [pair for pair in answer.pairs if pair[0].lower() not in _OF_BYTES]
    return Fields((*stored.without(*{name.lower() for name, _ in news}).pairs, *news))
