"""What a route may ask of a request: patterns for its path, host, method and header fields.

A pattern is parsed once, when the configuration is loaded. A text that is not one raises `ValueError`, whose
message is meant for the person who wrote it and names only what is wrong: the caller adds file, line and key.

Paths
    /a/b      exact: this path and no other; a slash at the end makes a different path
    /a/*/c    template: `*` is one segment, not empty; `{id}` is the same with a name, unique in its pattern
    /a/**     prefix: `/a`, `/a/` and all below; `**` comes last, wildcards may stand before it (`/a/*/c/**`)
    /**       every request, even `OPTIONS *`
A regular expression (Python's `re`, over ASCII) has a key of its own and must match the whole path. What it
costs is up to its author: a path is as long as the listener lets it be, so `(a+)+` and its like are a hazard.

What is compared is not the path as it came but its normal form, `match_path`: percent-encoded unreserved
characters are decoded and hexadecimal digits upper-cased (RFC 3986 §6.2.2.1, §6.2.2.2), then dot segments are
removed, encoded ones too (§6.2.2.3, §5.2.4). So `/public/../admin` and `/%61dmin` get the policy of what the
upstream will resolve, `/admin`. Three limits: `%2F` never separates segments; `//` is kept, it is an empty
segment; and what only some servers do (backslashes, `..;`, merged slashes) is not guessed at. The normal form
serves the choice of a route alone: the request goes on with the bytes that came. It is taken once, so from a
malformed escape (`%%341`) may come a text that looks encoded.

Hosts are compared without case, port or trailing dot (`match_host`), IPv6 addresses in the form of RFC 5952.
`*.example.com` is one label or more before `.example.com`, and not `example.com` itself.
Methods are tokens and case-sensitive (RFC 9110 §9.1); GET does not imply HEAD, nor the other way round.
Header fields: the name without case, the value exact; `*` for a field that is there, whatever it holds.
"""

import re
import warnings
from dataclasses import dataclass, field
from ipaddress import IPv6Address
from string import ascii_letters, digits
from typing import Literal

__all__ = [
    "PRESENT",
    "HostPattern",
    "PathPattern",
    "match_host",
    "match_path",
    "parse_header",
    "parse_host",
    "parse_method",
    "parse_path",
    "parse_regex",
]

PRESENT = b"*"
"""The value of a header condition that any value fulfils."""

_UNRESERVED = frozenset(ascii_letters + digits + "-._~")  # RFC 3986 §2.3
_TOKEN = frozenset(ascii_letters + digits + "!#$%&'*+-.^_`|~")  # RFC 9110 §5.6.2
_HOST_LABEL = frozenset(ascii_letters + digits + "-_")  # `_` is not in RFC 1123, but container names have it
_MAX_HOST = 253  # RFC 1035 §2.3.4, as text and without the trailing dot
_MAX_LABEL = 63
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_-]*")
_HEX = frozenset("0123456789abcdefABCDEF")
_KNOWN_METHODS = frozenset(
    {"GET", "HEAD", "POST", "PUT", "DELETE", "CONNECT", "OPTIONS", "TRACE", "PATCH", "QUERY", "PURGE"}
    | {"PROPFIND", "PROPPATCH", "MKCOL", "COPY", "MOVE", "LOCK", "UNLOCK", "REPORT", "SEARCH"}
)


def _normal_escape(pair: str) -> bytes:
    char = chr(int(pair, 16))
    return (char if char in _UNRESERVED else f"%{pair.upper()}").encode()


_ESCAPES = {f"{high}{low}".encode(): _normal_escape(high + low) for high in _HEX for low in _HEX}
"""The normal form of each well-formed percent-encoding, by its two digits as they may be written."""


# --- paths --------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class PathPattern:
    """A set of paths, made by `parse_path` or `parse_regex`.

    `segments` holds what stands between the slashes, None for `*` or `{id}`, without a `**` at the end; a
    regular expression has none. `kind` is `prefix` for all that ends in `**`.
    """

    text: str
    kind: Literal["exact", "prefix", "template", "regex"]
    segments: tuple[bytes | None, ...] = ()
    regex: re.Pattern[bytes] | None = field(default=None, compare=False, repr=False)

    def matches(self, path: bytes) -> bool:
        """Tell if a raw request path (what precedes `?`) is in the set: the definition, not the fast way."""
        normal = match_path(path)
        if self.regex is not None:
            return self.regex.fullmatch(normal) is not None
        if self.kind == "prefix" and not self.segments:
            return True
        start, *parts = normal.split(b"/")
        if start:
            return False
        wanted = len(self.segments)
        if len(parts) < wanted or (self.kind != "prefix" and len(parts) > wanted):
            return False
        return all(map(_segment_covers, self.segments, parts))

    def covers(self, other: "PathPattern") -> bool:
        """Tell if every path that `other` matches is matched by this one too.

        True is certain. False is certain where no regular expression is involved; one is only known to be
        within itself and `/**`, and to cover itself and the exact paths that it matches.
        """
        if self.kind == "prefix" and not self.segments:
            return True
        if self.regex is not None:
            return self == other or (
                other.kind == "exact" and self.regex.fullmatch(other._only_path()) is not None
            )
        if other.regex is not None:
            return False
        wanted, given = len(self.segments), len(other.segments)
        fits = given >= wanted if self.kind == "prefix" else given == wanted and other.kind != "prefix"
        return fits and all(map(_segment_covers, self.segments, other.segments))

    def _only_path(self) -> bytes:
        return b"/" + b"/".join(segment or b"" for segment in self.segments)


def _segment_covers(mine: bytes | None, other: bytes | None) -> bool:
    return mine == other if mine is not None else other is None or bool(other)


def match_path(path: bytes) -> bytes:
    """Give the normal form in which a raw request path is compared with patterns; the module says which."""
    if b"%" not in path and b"/." not in path:
        return path
    first, *escapes = path.split(b"%")
    path = first + b"".join(_unescape(escape) for escape in escapes)
    return _without_dot_segments(path) if b"/." in path and path.startswith(b"/") else path


def _unescape(rest: bytes) -> bytes:
    known = _ESCAPES.get(rest[:2])
    return b"%" + rest if known is None else known + rest[2:]


def _without_dot_segments(path: bytes) -> bytes:
    """RFC 3986 §5.2.4 for a path that starts with a slash: `..` takes a segment away, none from the root."""
    _, *segments = path.split(b"/")
    kept: list[bytes] = []
    for segment in segments:
        if segment == b"..":
            del kept[-1:]
        elif segment != b".":
            kept.append(segment)
    if segments[-1] in {b".", b".."}:
        kept.append(b"")  # what a dot segment at the end leaves is a directory: `/a/b/..` is `/a/`
    return b"/" + b"/".join(kept)


def parse_path(text: str) -> PathPattern:
    """Read a path pattern. Raises ValueError, for the user, where `text` is none."""
    _check_path_start(text)
    _check_path_characters(text)
    *leading, last = text[1:].split("/")
    names: set[str] = set()
    segments = [_parse_segment(segment, names) for segment in leading]
    if last == "**":
        return PathPattern(text, "prefix", tuple(segments))
    segments.append(_parse_segment(last, names) if last else b"")
    return PathPattern(text, "template" if None in segments else "exact", tuple(segments))


def _check_path_start(text: str) -> None:
    if not text:
        raise ValueError("the path is empty; `/**` matches every path")
    if text.startswith("/"):
        return
    if text.startswith("^"):
        raise ValueError("a path starts with `/`; a regular expression goes into `path_regex`")
    if "://" in text:
        raise ValueError("a path starts with `/`; a host goes into `host`")
    raise ValueError("a path starts with `/`")


def _check_path_characters(text: str) -> None:
    for position, char in enumerate(text):
        if char == "?":
            raise ValueError("`?` starts a query, and routes do not look at queries; leave it out")
        if char == "#":
            raise ValueError("`#` starts a fragment, which is never sent to a server; leave it out")
        if char == "%":
            _check_escape(text[position + 1 : position + 3])
        elif not char.isascii() or char == " ":
            raise ValueError(
                f"{_code_point(char)} cannot be in a path; percent-encoded it is `{_percent_encoded(char)}`"
            )
        elif not char.isprintable():
            raise ValueError(f"{_code_point(char)} is a control character, which cannot be in a path")


def _check_escape(pair: str) -> None:
    normal = _ESCAPES.get(pair.encode("utf-8", "replace"))
    if normal is None:
        raise ValueError("`%` must be followed by two hexadecimal digits; a percent sign itself is `%25`")
    if not normal.startswith(b"%"):
        raise ValueError(
            f"`%{pair}` is `{normal.decode()}`, which needs no percent-encoding; write it plainly"
        )


def _parse_segment(segment: str, names: set[str]) -> bytes | None:
    """Read one segment, None for one of any text; `names` are those used so far, and grow."""
    if not segment:
        raise ValueError("`//` has an empty segment between its slashes; for such paths use `path_regex`")
    if segment in {".", ".."}:
        raise ValueError(f"`{segment}` never matches: dot segments are removed before paths are compared")
    if segment == "**":
        raise ValueError("`**` must be the last segment; `*` is exactly one")
    if segment == "*":
        return None
    if "{" in segment or "}" in segment:
        _add_name(segment, names)
        return None
    if "*" in segment:
        raise ValueError(f"`*` must be a whole segment, not a part of `{segment}`; for more use `path_regex`")
    if segment.startswith(":"):
        raise ValueError(
            f"`{segment}` would match nothing but itself; a named segment is `{{{segment[1:]}}}`"
        )
    first, *escapes = segment.encode("ascii").split(b"%")
    return first + b"".join(_unescape(escape) for escape in escapes)


def _add_name(segment: str, names: set[str]) -> None:
    opened, closed = segment.find("{"), segment.find("}")
    if opened == -1:
        raise ValueError(f"`}}` in `{segment}` closes nothing")
    if closed == -1:
        raise ValueError(f"`{{` in `{segment}` is not closed")
    if opened != 0 or closed != len(segment) - 1:
        raise ValueError(
            f"`{{…}}` must be a whole segment, not a part of `{segment}`; for more use `path_regex`"
        )
    name = segment[1:-1]
    if not _NAME.fullmatch(name):
        raise ValueError(
            f"`{segment}` needs a name of letters, digits, `_` and `-`, with a letter or `_` first"
        )
    if name in names:
        raise ValueError(f"`{segment}` is there twice; names are unique in a path")
    names.add(name)


def parse_regex(text: str) -> PathPattern:
    """Read a regular expression over whole paths. Raises ValueError, for the user, where `text` is none."""
    if not text:
        raise ValueError(
            "the regular expression is empty; it must match the whole path, which starts with `/`"
        )
    for char in text:
        if not char.isascii():
            raise ValueError(
                f"{_code_point(char)} cannot be in a path; percent-encoded it is `{_percent_encoded(char)}`"
            )
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")  # of what its author will not have meant: `[[` or `&&` in a set
            regex = re.compile(text.encode("ascii"))
    except re.error as error:
        raise ValueError(f"not a regular expression: {_located(error.msg, error.pos)}") from error
    except Warning as warning:
        what, _, position = str(warning).partition(" at position ")
        raise ValueError(f"not a clear regular expression: {_located(what, int(position))}") from warning
    except (ValueError, OverflowError) as error:  # numbers that are too long or too large
        raise ValueError(f"not a regular expression: {error}") from error
    except RecursionError as error:
        raise ValueError("not a regular expression: it is nested too deeply") from error
    return PathPattern(text, "regex", regex=regex)


def _code_point(char: str) -> str:
    return f"U+{ord(char):04X}"


def _located(what: str, position: int | None) -> str:
    shown = "".join(char if char.isprintable() else _code_point(char) for char in what)
    return shown if position is None else f"{shown} at character {position + 1}"


def _percent_encoded(char: str) -> str:
    return "".join(f"%{byte:02X}" for byte in char.encode("utf-8", "surrogatepass"))


# --- hosts --------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class HostPattern:
    """A set of hosts: `name` in its normal form, or with `wildcard` all that end in `.` and `name`."""

    text: str
    name: bytes
    wildcard: bool = False

    def matches(self, host: bytes) -> bool:
        """Tell if the value of a Host field is in the set: the definition, not the fast way."""
        normal = match_host(host)
        return self._is_below(normal) if self.wildcard else normal == self.name

    def covers(self, other: "HostPattern") -> bool:
        """Tell if every host that `other` matches is matched by this one too."""
        if not self.wildcard:
            return not other.wildcard and self.name == other.name
        return self._is_below(other.name) or (other.wildcard and self.name == other.name)

    def _is_below(self, name: bytes) -> bool:
        return len(name) > len(self.name) + 1 and name.endswith(b"." + self.name)


def match_host(host: bytes) -> bytes:
    """Give the normal form of a Host field's value: lower case, no port, no final dot, IPv6 as RFC 5952."""
    if not host.startswith(b"["):
        return host.partition(b":")[0].removesuffix(b".").lower()
    address = host[1:].partition(b"]")[0]
    try:
        return f"[{IPv6Address(address.decode('ascii'))}]".encode()
    except ValueError:
        return b"[" + address.lower() + b"]"


def parse_host(text: str) -> HostPattern:
    """Read a host pattern. Raises ValueError, for the user, where `text` is none."""
    if text in {"", "*"}:
        raise ValueError("a host is a name; leave `host` out to match every host")
    if not text.isascii():
        raise ValueError(
            f"{_code_point(next(c for c in text if not c.isascii()))} in a host: write its `xn--` form"
        )
    if "/" in text:
        raise ValueError("a host is a name alone, without scheme and path")
    if text.startswith("["):
        return _parse_ipv6(text)
    if _is_ipv6(text):
        raise ValueError("an IPv6 address stands in brackets, as in `[2001:db8::1]`")
    if ":" in text:
        raise ValueError("a host is written without port: the port of a request's Host is not looked at")
    wildcard = text.startswith("*.")
    name = text.removeprefix("*.").removesuffix(".")
    _check_host_name(name)
    return HostPattern(text, name.lower().encode(), wildcard)


def _parse_ipv6(text: str) -> HostPattern:
    address, closed, rest = text[1:].partition("]")
    if rest.startswith(":"):
        raise ValueError("a host is written without port: the port of a request's Host is not looked at")
    if not closed or rest or "%" in address or not _is_ipv6(address):
        raise ValueError("brackets are for an IPv6 address without zone, as in `[2001:db8::1]`")
    return HostPattern(text, match_host(text.encode()))


def _is_ipv6(text: str) -> bool:
    try:
        IPv6Address(text)
    except ValueError:
        return False
    return True


def _check_host_name(name: str) -> None:
    if "*" in name:
        raise ValueError("`*` in a host is only the whole first label, as in `*.example.com`")
    if len(name) > _MAX_HOST:
        raise ValueError(f"a host has at most {_MAX_HOST} characters")
    for label in name.split("."):
        if not label:
            raise ValueError("a label of the host (what stands between dots) is empty")
        if len(label) > _MAX_LABEL:
            raise ValueError(
                f"a label of a host (what stands between dots) has at most {_MAX_LABEL} characters"
            )
        strange = next((char for char in label if char not in _HOST_LABEL), None)
        if strange is not None:
            raise ValueError(f"a host has letters, digits, `-`, `_` and dots, not {_code_point(strange)}")


# --- methods and header fields ------------------------------------------------------------------------------


def parse_method(text: str) -> bytes:
    """Read a method. Raises ValueError, for the user, where `text` is none, or a known one in lower case."""
    if text in {"", "*"}:
        raise ValueError("a method is a name such as `GET`; leave `methods` out to match every method")
    _check_token(text, "a method")
    known = text.upper()
    if known in _KNOWN_METHODS and known != text:
        raise ValueError(f"methods are case-sensitive; did you mean `{known}`?")
    return text.encode("ascii")


def parse_header(name: str, value: str) -> tuple[bytes, bytes]:
    """Read a condition on a header field: its lower-case name and its value, or `PRESENT`. Raises ValueError.

    A value beyond ASCII is compared as UTF-8.
    """
    if not name:
        raise ValueError("a header field needs a name")
    _check_token(name, "the name of a header field")
    for char in value:
        if char < " " or char == "\x7f":
            raise ValueError(f"{_code_point(char)} is a control character, which cannot be in a header field")
    if value != value.strip(" "):
        raise ValueError("the value of a header field neither starts nor ends with a space")
    return name.lower().encode("ascii"), value.encode("utf-8", "surrogatepass")


def _check_token(text: str, what: str) -> None:
    strange = next((char for char in text if char not in _TOKEN), None)
    if strange is not None:
        raise ValueError(f"{what} has letters, digits and !#$%&'*+-.^_`|~, not {_code_point(strange)}")
