"""Texts with places for words of the request: the body of a made-up answer, the target of a redirect.

The places are `{method}`, `{path}`, `{query}` (with its `?`; empty where the target has none) and `{request_id}`.
They are found once, when the template is made, and filled in one pass: a value that looks like a place stays what it
is. All values but the id are the client's own bytes, so each is escaped for where it lands: as JSON, as HTML or XML, as
part of a URI (RFC 3986). A redirect leads where its template says and nowhere else: the authority is never filled in.
"""

import html
import json
import re
from collections.abc import Callable, Mapping

__all__ = ["PLACES", "Template", "check_location", "escape_for", "uri_part"]

PLACES = ("method", "path", "query", "request_id")

_PLACE = re.compile(rb"\{(method|path|query|request_id)\}")
_IN_LOCATION = re.compile(rb"\{(?:path|query)\}")

# What may stand in a path or a query as it is, with the `%` of what is encoded already. Not `#`: it would end both.
_NOT_URI = re.compile(rb"[^!$%&'()*+,\-./0-9:;=?@A-Z\[\]_a-z~]")

# An authority, and then nothing or the beginning of a path, a query or a fragment. `{path}` begins with a slash and
# `{query}` with a question mark: neither can change who is asked. A backslash is a slash to browsers.
_ABSOLUTE = re.compile(rb"https?://[^/?#@\\{}]+(?:[/?#]|\{(?:path|query)\}|$)", re.IGNORECASE)
_RELATIVE = re.compile(rb"/(?!/|\\|\{path\})")


class Template:
    """A text with its places found."""

    __slots__ = ("_parts",)

    def __init__(self, text: bytes) -> None:
        self._parts = _PLACE.split(text)  # a text, the name of a place, a text, …

    def fill(self, values: Mapping[bytes, bytes], escape: Callable[[bytes], bytes]) -> bytes:
        """Give the text with `values`, each escaped, in their places."""
        return b"".join(
            [escape(values[part]) if number % 2 else part for number, part in enumerate(self._parts)]
        )


def escape_for(content_type: bytes) -> Callable[[bytes], bytes]:
    """Give what makes a stranger's bytes harmless inside a text of this media type."""
    media = content_type.partition(b";")[0].strip().lower()
    if media.endswith((b"json", b"javascript")):
        return _json
    if media.endswith((b"html", b"xml")):
        return _html
    return bytes


def uri_part(value: bytes) -> bytes:
    """Give the bytes of a path or query as they came, with those encoded that no URI may have."""
    return _NOT_URI.sub(lambda found: b"%%%02X" % found[0][0], value)


def check_location(template: bytes) -> None:
    """See that a redirect's template leads to one place, whatever the request says.

    Raises:
        ValueError: it does not; the text tells why.

    """
    if not _ABSOLUTE.match(template) and not _RELATIVE.match(template):
        raise ValueError(
            "a redirect leads to http://host…, https://host… or a path on this host; the host is written out, and a "
            "template that begins with {path} could be led anywhere by `//`"
        )
    if (found := _NOT_URI.search(_IN_LOCATION.sub(b"", template).replace(b"#", b""))) is not None:
        raise ValueError(
            f"{found[0].decode('latin-1')!r} cannot stand in a URI; the places are {{path}} and {{query}}"
        )


def _json(value: bytes) -> bytes:
    """Escape for the inside of a string, also of one in a script in a page."""
    text = json.dumps(value.decode("utf-8", "replace"))[1:-1]
    for character in "<>&'":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return text.encode()


def _html(value: bytes) -> bytes:
    """Escape for text and for quoted attributes; what is not ASCII by its number, whatever the charset of the page."""
    return html.escape(value.decode("utf-8", "replace")).encode("ascii", "xmlcharrefreplace")
