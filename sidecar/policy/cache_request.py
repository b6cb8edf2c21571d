"""What a request's header section says to a cache.

A pure function of the section, and sections come again: memoised.

A request is `personal` when it says whose it is: `Authorization`, `Cookie`, one of the fields that carry a key in their
stead, or one with which a proxy in front of us passes on who has logged in (there, the first two are often gone by then).
HTTP protects only the first (RFC 9111 §3.5), users expect all of them to be. A field that is taken for one by mistake
costs a hit; one that is overlooked gives somebody another's answer. So names are matched generously.
"""

import re

from sidecar.message import Fields, Request, serialise
from sidecar.policy.cache_control import NOTHING, Directives, parse

__all__ = ["CONDITIONS", "Asked", "asked", "selecting"]

# Whoever has one of these is somebody.
_PERSONAL = re.compile(
    rb"(proxy-)?authorization|cookie2?"
    # what authenticating proxies say: oauth2-proxy, auth_request, mod_auth_openidc, Envoy, Kong, Pomerium, Authelia …
    rb"|x-forwarded-(?!(for|proto|host|port|prefix|server|ssl|scheme)$).*"
    rb"|x-(auth|authenticated|authentik|consumer|credential|identity|pomerium|webauth)(-.*)?"
    rb"|(x-)?(remote|user|account|member|customer|login)(-?(id|user|name|info|email|groups?|roles?|sub))*"
    rb"|x-(ms-)?client-(cert|dn|principal|s-dn|subject|verify).*|(x-)?ssl-client-.*|x-email"
    # keys by any name
    rb"|.*(jwt|oidc|assertion|api-?key|subscription-key|session|secret|csrf|xsrf|signature|password).*"
    rb"|.*token",
    re.DOTALL,
)

# Preconditions that only the origin can judge; parts, of which we store none; and fields by which some frameworks take a
# request for another one: an answer to that one must not be kept under this one's name.
_PASSED_ON = frozenset(
    {
        b"range",
        b"if-range",
        b"if-match",
        b"if-unmodified-since",
        b"x-http-method",
        b"x-http-method-override",
        b"x-method-override",
        b"x-original-url",
        b"x-original-uri",
        b"x-original-host",
        b"x-rewrite-url",
        b"x-host",
    }
)

# Where the caller came in, as a trusted proxy tells it: part of the target's URI, and so of what is asked for
# (RFC 9110 §7.1). What an untrusted client says of it never gets here.
_OUTSIDE = frozenset(
    {
        b"forwarded",
        b"x-forwarded-host",
        b"x-forwarded-port",
        b"x-forwarded-prefix",
        b"x-forwarded-proto",
        b"x-forwarded-scheme",
        b"x-forwarded-server",
        b"x-forwarded-ssl",
        b"x-scheme",
    }
)
_WHERE = re.compile(
    rb"(?:^|[;,])[ \t]*((?:host|proto)=[^;,]*)", re.IGNORECASE
)  # of Forwarded; `for` is who, not where

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
    between answers. `outside` is where the caller came in, where a trusted proxy says so: another scheme or host is
    another target. `variant` is both in one piece. `plain`: none of its fields concerns a cache.
    """

    __slots__ = (
        "cc",
        "modified_since",
        "negotiation",
        "none_match",
        "outside",
        "passed_on",
        "personal",
        "plain",
        "values",
        "variant",
    )

    def __init__(self) -> None:
        self.cc: Directives = NOTHING
        self.personal = False
        self.passed_on = False
        self.none_match: bytes | None = None
        self.modified_since: bytes | None = None
        self.negotiation: tuple[tuple[bytes, bytes], ...] = ()
        self.outside: tuple[tuple[bytes, bytes], ...] = ()
        self.variant = b""
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
    outside: list[tuple[bytes, bytes]] = []
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
        elif name in _PASSED_ON:
            found.passed_on = True
        elif name in _OUTSIDE:
            outside.append((name, b";".join(_WHERE.findall(value)) if name == b"forwarded" else value))
        elif _PERSONAL.fullmatch(name):
            found.personal = True
    if control:
        found.cc = parse(b", ".join(control))
    if matches:
        found.none_match = b", ".join(matches)
    found.outside = tuple(outside)
    found.negotiation = (*negotiation, *outside)
    found.variant = serialise(found.negotiation)
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
