"""What a request's header section says to a cache.

A pure function of the section, and sections come again: memoised.

A request is `personal` when it says whose it is: `Authorization`, `Cookie`, or one of the fields that carry a key in
their stead. HTTP protects only the first (RFC 9111 §3.5), users expect all of them to be.
"""

import re

from sidecar.message import Fields, Request
from sidecar.policy.cache_control import NOTHING, Directives, parse

__all__ = ["CONDITIONS", "Asked", "asked", "selecting"]

# Whoever has one of these is somebody.
_CREDENTIALS = frozenset(
    {
        b"authorization",
        b"cookie",
        b"proxy-authorization",
        b"x-api-key",
        b"api-key",
        b"apikey",
        b"x-auth-token",
        b"x-access-token",
    }
)
# Preconditions that only the origin can judge, and parts: we store no parts and judge no writes.
_PASSED_ON = frozenset({b"range", b"if-range", b"if-match", b"if-unmodified-since"})

CONDITIONS = (b"if-none-match", b"if-modified-since")

# Two requests that differ here will as a rule get different answers, so that waiting for the other's is in vain.
_NEGOTIATED = frozenset({b"accept", b"accept-encoding", b"accept-language", b"origin"})

# Fields that the wire writes into `Request.tail`: they differ from request to request, and are not in the section.
_VOUCHED = re.compile(
    rb"x-forwarded-.*|forwarded|via|x-request-id|x-real-ip|traceparent|tracestate", re.DOTALL
)

Values = tuple[bytes | None, ...]

_ENTRIES = 512
_BYTES = 2048


class Asked:
    """A header section, read.

    `passed_on`: it asks for what no cache can answer. `negotiation` are the values of the fields that most often choose
    between answers. `plain`: none of its fields concerns a cache.
    """

    __slots__ = (
        "cc",
        "modified_since",
        "negotiation",
        "none_match",
        "passed_on",
        "personal",
        "plain",
        "values",
    )

    def __init__(self) -> None:
        self.cc: Directives = NOTHING
        self.personal = False
        self.passed_on = False
        self.none_match: bytes | None = None
        self.modified_since: bytes | None = None
        self.negotiation: tuple[tuple[bytes, bytes], ...] = ()
        self.plain = True
        self.values: dict[tuple[bytes, ...], Values] = {}  # by `Vary`, as `selecting` has found them

    @property
    def conditional(self) -> bool:
        """Whether it asks to be told only what it does not have yet."""
        return self.none_match is not None or self.modified_since is not None


_memo: dict[Fields, Asked] = {}


def asked(fields: Fields) -> Asked:
    """Read the section of a request."""
    found = _memo.get(fields)
    if found is None:
        found = _read(fields)
        if len(fields.wire) <= _BYTES:
            if len(_memo) >= _ENTRIES:
                _memo.clear()
            _memo[fields] = found
    return found


def _read(fields: Fields) -> Asked:
    found = Asked()
    control: list[bytes] = []
    negotiation: list[tuple[bytes, bytes]] = []
    matches: list[bytes] = []
    for spelled, value in fields.pairs:
        name = spelled.lower()
        if name in _NEGOTIATED:
            negotiation.append((name, value))
        elif name == b"cache-control":
            control.append(value)
        elif name == b"if-none-match":
            matches.append(value)
        elif name == b"if-modified-since":
            found.modified_since = value
        elif name in _CREDENTIALS:
            found.personal = True
        elif name in _PASSED_ON:
            found.passed_on = True
    if control:
        found.cc = parse(b", ".join(control))
    if matches:
        found.none_match = b", ".join(matches)
    found.negotiation = tuple(negotiation)
    found.plain = not (control or found.conditional or found.personal or found.passed_on)
    return found


def selecting(request: Request, read: Asked, vary: tuple[bytes, ...]) -> Values:
    """Give the values of the fields in `vary` (lower case) that chose the answer; None for one that is not there.

    `read` is what `asked` gave for this request.
    """
    values = read.values.get(vary)
    if values is not None:
        return values
    pairs = request.fields.pairs
    if any(_VOUCHED.fullmatch(name) for name in vary):
        return _values([*pairs, *_lines(request.tail)], vary)
    values = _values(pairs, vary)
    if len(read.values) < 8:  # one is usual; an origin that names others each time must not fill the memory
        read.values[vary] = values
    return values


def _values(
    pairs: "tuple[tuple[bytes, bytes], ...] | list[tuple[bytes, bytes]]", vary: tuple[bytes, ...]
) -> Values:
    found: dict[bytes, bytes] = {}
    for spelled, value in pairs:
        name = spelled.lower()
        if name in vary:
            found[name] = found[name] + b", " + value if name in found else value
    return tuple([found.get(name) for name in vary])


def _lines(tail: bytes) -> list[tuple[bytes, bytes]]:
    lines = [line.partition(b":") for line in tail.split(b"\r\n") if line]
    return [(name, value.strip(b" \t")) for name, _, value in lines]
