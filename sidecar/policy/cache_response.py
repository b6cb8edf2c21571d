"""What a response's header section says to a cache.

A pure function of the section. An upstream's sections repeat, within the second of their `Date`: memoised.
"""

from sidecar.message import Fields
from sidecar.policy import http_date
from sidecar.policy.cache_control import MOST, NOTHING, Directives, parse

__all__ = ["NOT_KEPT", "Told", "told"]

# Bodies that have no end, or whose pieces matter when they come: they are never held up, nor kept.
_STREAMS = (b"text/event-stream", b"multipart/x-mixed-replace", b"application/grpc")

# Not stored (RFC 9111 §3.1), or said anew with each answer made from a copy (§5.1).
NOT_KEPT = frozenset({b"age", b"proxy-authenticate", b"proxy-authentication-info", b"proxy-authorization"})

_ENTRIES = 512
_BYTES = 2048


class Told:
    """A header section, read. Times in seconds, moments as seconds since 1970.

    `vary` are the names in `Vary`, in lower case and sorted; None where it is `*`. `expires` is 0 where it stands there
    but is no date. `private` also where the section names a person (`Set-Cookie`) or is a stand-in of another sidecar.
    `sized`: it has a Content-Length. `strip`: it has fields that are not kept.
    """

    __slots__ = (
        "age",
        "binding",
        "cc",
        "date",
        "etag",
        "expires",
        "last_modified",
        "open",
        "private",
        "sized",
        "stream",
        "strip",
        "vary",
    )

    def __init__(self) -> None:
        self.cc: Directives = NOTHING
        self.age = 0
        self.date: int | None = None
        self.expires: int | None = None
        self.etag: bytes | None = None
        self.last_modified: bytes | None = None
        self.vary: tuple[bytes, ...] | None = ()
        self.private = False
        self.open = True
        self.binding = False
        self.stream = False
        self.sized = False
        self.strip = False


_memo: dict[Fields, Told] = {}


def told(fields: Fields) -> Told:
    """Read the section of a response."""
    found = _memo.get(fields)
    if found is None:
        found = _read(fields)
        if len(fields.wire) <= _BYTES:
            if len(_memo) >= _ENTRIES:
                _memo.clear()
            _memo[fields] = found
    return found


def _read(fields: Fields) -> Told:
    found = Told()
    first: dict[bytes, bytes] = {}
    control: list[bytes] = []
    vary: list[bytes] = []
    for spelled, value in fields.pairs:
        name = spelled.lower()
        if name == b"cache-control":
            control.append(value)
        elif name == b"vary":
            vary.append(value)
        else:
            first.setdefault(name, value)
    if control:
        found.cc = parse(b", ".join(control))
    if vary:
        found.vary = _names(vary)
    found.private = (
        found.cc.private or b"set-cookie" in first or first.get(b"x-system-degraded", b"").lower() == b"true"
    )
    cc = found.cc
    found.open = not (cc.no_store or found.private or found.vary is None)
    found.binding = cc.no_cache or cc.must_revalidate or cc.proxy_revalidate or cc.s_maxage is not None
    found.stream = first.get(b"content-type", b"").lower().startswith(_STREAMS)
    found.sized = b"content-length" in first
    found.strip = not NOT_KEPT.isdisjoint(first)
    found.etag = first.get(b"etag")
    found.last_modified = first.get(b"last-modified")
    if (date := first.get(b"date")) is not None:
        found.date = http_date.parse(date)
    if (expires := first.get(b"expires")) is not None:
        found.expires = http_date.parse(expires) or 0
    if (age := first.get(b"age")) is not None:
        found.age = _age(age)
    return found


def _names(vary: list[bytes]) -> tuple[bytes, ...] | None:
    names = {name.strip(b" \t") for value in vary for name in value.lower().split(b",")} - {b""}
    return None if b"*" in names else tuple(sorted(names))


def _age(value: bytes) -> int:
    """Read `Age`: of a list the first member, and what is no number says nothing (RFC 9111 §5.1)."""
    first = value.partition(b",")[0].strip(b" \t")
    if not first.isdigit():
        return 0
    digits = first.lstrip(b"0") or b"0"
    return MOST if len(digits) > 10 else min(int(digits), MOST)
