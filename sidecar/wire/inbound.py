"""What a gateway does to a request's head on its way through (RFC 9110 §7.6).

Every field keeps its bytes, its order and its repetition, except those that concern one connection only
(`Connection` and what it lists, `Keep-Alive`, `Proxy-Connection`, `TE`, `Transfer-Encoding`, `Upgrade`) and those that
we vouch for (`X-Forwarded-*`, `Forwarded`, `Via`, `X-Request-ID`, an invalid `traceparent`).

A client's header section is mostly the same from one request to the next, and reading it is a pure function of its
bytes (and of HTTP's minor version, and of whether the peer is trusted): it is memoised (`memo`), and a miss costs the
look-up alone. What differs per request (target, id) is never part of it.
"""

import re
from collections.abc import Callable, Sequence
from ipaddress import IPv4Network, IPv6Network, ip_address

from sidecar.errors import ClientError, HeadTooLarge, LoopDetected, NotImplementedCoding, TargetTooLong
from sidecar.message import Fields, Headers, Request
from sidecar.wire import names
from sidecar.wire.head import parse_fields, parse_request_line
from sidecar.wire.memo import Memo
from sidecar.wire.names import REQUEST_NAMES, UNLISTABLE, tokens

__all__ = ["ForwardRules", "Peer", "read_request"]

Network = IPv4Network | IPv6Network

_memo: "dict[tuple[int, bool], Memo[_Section]]" = {
    (minor, trusted): Memo() for minor in (0, 1) for trusted in (False, True)
}

_HOST = re.compile(rb"(?:\[[0-9A-Fa-f:.]{2,45}\]|[A-Za-z0-9._~%!$&'()*+;=-]{1,255})(?::[0-9]{0,5})?")
_ABSOLUTE = re.compile(rb"https?://([^/?]*)(.*)", re.IGNORECASE)
_REQUEST_ID = re.compile(rb"[\x21-\x7e]{1,128}")
_IDS = rb"-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}"
# Version 00 ends with its flags; a later one may go on (W3C Trace Context §3.2.4).
_TRACEPARENT = re.compile(rb"00" + _IDS + rb"|(?!00|ff)[0-9a-f]{2}" + _IDS + rb"(?:-[\x21-\x7e]*)?")


class ForwardRules:
    """What one traffic listener vouches for: its name in `Via`, whom it believes, how it makes ids and traces.

    `unix` tells that it listens on a unix socket, whose peers have no address and are trusted.
    """

    __slots__ = (
        "max_fields",
        "max_target",
        "name",
        "new_id",
        "new_traceparent",
        "scheme",
        "trusted",
        "unix",
        "via",
    )

    def __init__(
        self,
        *,
        name: bytes,
        scheme: bytes = b"http",
        trusted: Sequence[Network] = (),
        unix: bool = False,
        max_fields: int = 100,
        max_target: int = 8192,
        new_id: Callable[[], bytes],
        new_traceparent: Callable[[], bytes],
    ) -> None:
        self.name = name
        self.scheme = scheme
        self.trusted = tuple(trusted)
        self.unix = unix
        self.max_fields = max_fields
        self.max_target = max_target
        self.new_id = new_id
        self.new_traceparent = new_traceparent
        self.via = [b"Via: 1.%d %b\r\nX-Request-ID: " % (minor, name) for minor in (0, 1)]

    def trusts(self, address: str) -> bool:
        """Tell whether `address` is a trusted proxy's. One that cannot be told never is."""
        if not self.trusted:
            return False
        try:
            parsed = ip_address(address.partition("%")[0])
        except ValueError:
            return False
        mapped = getattr(parsed, "ipv4_mapped", None)
        return any((mapped or parsed) in network for network in self.trusted)


class Peer:
    """The other end of one client connection, prepared once for all its requests."""

    __slots__ = ("address", "memo", "prefix", "section", "trusted", "vouched")

    def __init__(self, address: str, rules: ForwardRules) -> None:
        self.address = address
        # Whoever connects to a unix socket has passed the mode of its file. That a peer has no address proves nothing: a
        # client that resets its connection at once has none either, and its bytes are still read.
        self.trusted = trusted = rules.unix or rules.trusts(address)
        self.memo = (_memo[0, trusted], _memo[1, trusted])
        # What the last request's `tail` began with, and for which section: the next one is mostly the same.
        self.section: _Section | None = None
        self.prefix = b""
        self.vouched = b"X-Forwarded-For: %b\r\nX-Forwarded-Proto: %b\r\n" % (address.encode(), rules.scheme)


class _Section:
    """A header section, read: what goes on, and what it said that concerns us. Shared by every request that has it."""

    __slots__ = (
        "chain",
        "chunked",
        "count",
        "expects_continue",
        "fields",
        "forwarded_host",
        "host",
        "hosts",
        "keep_alive",
        "length",
        "max_forwards",
        "request_id",
        "traced",
        "upgrade",
        "via",
    )

    def __init__(self) -> None:
        self.fields = Fields(())
        self.count = 0
        self.host = b""
        self.hosts = 0
        self.length: int | None = None
        self.chunked = False
        self.keep_alive = True
        self.expects_continue = False
        self.upgrade: bytes | None = None
        self.via: tuple[bytes, ...] = ()
        self.chain: tuple[bytes, ...] = ()
        self.request_id = b""
        self.traced = True
        self.max_forwards: bytes | None = None
        self.forwarded_host = b""


def read_request(head: bytes, peer: Peer, rules: ForwardRules) -> tuple[Request, bool]:
    """Turn a whole head into a `Request` ready to forward, without its body; the flag says that this is chunked.

    Raises:
        ClientError: it is not valid, or one of its bounds is passed.
        LoopDetected: we sent this request ourselves.

    """
    cut = head.find(b"\r\n")
    method, target, minor = parse_request_line(head[:cut])
    if len(target) > rules.max_target:
        raise TargetTooLong
    lines = head[cut + 2 :]
    section = peer.memo[minor].get(lines)
    if section is None:
        if lines.count(b"\n") - 1 > rules.max_fields:  # before anybody parses them
            raise HeadTooLarge
        section = _learn_section(lines, minor, peer)
    elif section.count > rules.max_fields:
        raise HeadTooLarge
    if section.via and _is_loop(section.via, rules.name):
        loop = LoopDetected()
        loop.request_id = section.request_id
        raise loop
    request = Request(method, target, section.fields, minor)
    request.host = section.host
    request.keep_alive = section.keep_alive
    if section.length is not None:
        request.length = section.length
    if target[:1] != b"/":
        _other_form(request)
    if section.expects_continue:
        request.expects_continue = True
    if section.upgrade is not None:
        request.upgrade = section.upgrade
    if not section.traced:
        _restart_trace(request, rules)
    if section.max_forwards is not None:
        _count_forwards(request, section.max_forwards)
    request.request_id = request_id = section.request_id or rules.new_id()
    if peer.trusted:
        _vouch_behind_proxy(request, peer, rules, section.chain)
    else:
        request.client = peer.address
        if request.host is not section.host:  # it stood in the target
            host = b"X-Forwarded-Host: %b\r\n" % request.host
            prefix = b"%b%b%b" % (peer.vouched, host, rules.via[minor])
        elif section is peer.section:
            prefix = peer.prefix
        else:
            peer.section = section
            peer.prefix = prefix = b"%b%b%b" % (peer.vouched, section.forwarded_host, rules.via[minor])
        request.tail = b"%b%b\r\n" % (prefix, request_id)
    return request, section.chunked


def _learn_section(lines: bytes, minor: int, peer: Peer) -> _Section:
    section = _read_section(lines, minor, peer.trusted)
    peer.memo[minor].keep(lines, section, section.count)
    return section


def _read_section(lines: bytes, minor: int, trusted: bool) -> _Section:
    """Read a header section. Pure: the same bytes always mean the same.

    Raises:
        ClientError: as `parse_fields`; missing, doubled or invalid Host.
        NotImplementedCoding: a transfer coding other than chunked.

    """
    section = _Section()
    parsed = parse_fields(lines, minor, response=False)
    section.count = len(parsed)
    out: Headers = []
    connection: list[bytes] | None = None
    upgrade: bytes | None = None
    traces = 0
    codes = REQUEST_NAMES.codes
    for field in parsed:
        name, value = field
        code = codes.get(name)
        if code is None:
            code = REQUEST_NAMES.learn(name)
        if code == names.PASS:
            out.append(field)
        elif code == names.HOST:
            section.hosts += 1
            section.host = value
            out.append(field)
        elif code == names.CONTENT_LENGTH:
            section.length = int(value)
            out.append(field)
        elif code == names.CONNECTION:
            connection = [*(connection or ()), *tokens(value)]
        elif code == names.TRANSFER_ENCODING:
            if section.chunked or value.lower() != b"chunked":
                raise NotImplementedCoding
            section.chunked = True
        elif code == names.EXPECT:
            if minor:  # RFC 9110 §10.1.1: MUST be ignored in an HTTP/1.0 request
                section.expects_continue = value.lower() == b"100-continue"
                out.append(field)
        elif code == names.UPGRADE:
            upgrade = value if upgrade is None else upgrade + b", " + value
        elif code == names.VIA:
            section.via = (*section.via, value)
            out.append(field)
        elif code == names.FORWARDED_FOR:
            if trusted:
                section.chain = (*section.chain, value)
        elif code in (names.FORWARDED_OTHER, names.FORWARDED):
            if trusted:
                out.append(field)
        elif code == names.REQUEST_ID:
            if not section.request_id and _REQUEST_ID.fullmatch(value):
                section.request_id = value
        elif code == names.TRACEPARENT:
            # A second one makes both invalid.
            section.traced = not traces and _TRACEPARENT.fullmatch(value) is not None
            traces += 1
            out.append(field)
        elif code == names.MAX_FORWARDS:
            section.max_forwards = value
            out.append(field)
        elif code != names.DROP:
            out.append(field)
    _check_host(section, minor)
    if connection is None:
        section.keep_alive = bool(minor)
    else:
        section.keep_alive = b"close" not in connection and (bool(minor) or b"keep-alive" in connection)
        listed = {token for token in connection if token not in UNLISTABLE}
        if listed:
            out = [field for field in out if field[0].lower() not in listed]
        # An upgrade that was asked for properly goes on. Not h2c, however it is dressed up: who could read what follows?
        if upgrade is not None and minor and b"upgrade" in connection and b"h2c" not in upgrade.lower():
            section.upgrade = upgrade
            out += [(b"Connection", b"Upgrade"), (b"Upgrade", upgrade)]
    section.fields = Fields(out)
    return section


def _check_host(section: _Section, minor: int) -> None:
    """RFC 9112 §3.2: exactly one, and valid; an HTTP/1.0 request may have none."""
    if section.hosts > 1:
        raise ClientError("Exactly one Host field is needed.")
    if not section.hosts:
        if minor:
            raise ClientError("The Host field is missing.")
        return
    if not _HOST.fullmatch(section.host):
        raise ClientError("The Host field is not a host.")
    section.forwarded_host = b"X-Forwarded-Host: %b\r\n" % section.host


def _is_loop(via: tuple[bytes, ...], name: bytes) -> bool:
    """Tell whether our own name stands in `Via` (RFC 9110 §7.6.3): «protocol received-by [comment]»."""
    return any(member.split()[1:2] == [name] for value in via for member in value.split(b","))


def _other_form(request: Request) -> None:
    """Check a target that is not in origin-form; bring absolute-form into it (RFC 9112 §3.2.2, §3.2.4)."""
    if request.target == b"*":
        if request.method != b"OPTIONS":
            raise ClientError("The asterisk-form of a target is for OPTIONS only.")
        return
    absolute = _ABSOLUTE.fullmatch(request.target)
    if absolute is None:
        raise ClientError("The request target is neither a path nor an http URL.")
    authority, rest = absolute.groups()
    if not _HOST.fullmatch(authority):
        raise ClientError("The authority of the request target is not a host.")
    # The authority replaces what Host says; no path is "/", or "*" for OPTIONS.
    if rest[:1] != b"/":
        rest = b"*" if request.method == b"OPTIONS" and not rest else b"/" + rest
    request.target = rest
    request.path = rest.partition(b"?")[0]
    request.host = authority
    pairs = [(name, authority if name.lower() == b"host" else value) for name, value in request.fields.pairs]
    if not request.fields.values(b"host"):
        pairs.insert(0, (b"Host", authority))
    request.fields = Fields(pairs)


def _count_forwards(request: Request, value: bytes) -> None:
    """RFC 9110 §7.6.2: for TRACE and OPTIONS only; one less goes on, none ends it here."""
    if request.method not in (b"OPTIONS", b"TRACE"):
        return
    if not value.isdigit():
        raise ClientError("Max-Forwards is not a number.")
    request.max_forwards = int(value[:18])
    less = b"%d" % max(0, request.max_forwards - 1)
    request.fields = Fields(
        (name, less if name.lower() == b"max-forwards" else value) for name, value in request.fields.pairs
    )


def _restart_trace(request: Request, rules: ForwardRules) -> None:
    """W3C Trace Context §3.2: an invalid traceparent is ignored, with its tracestate, and a new trace begins."""
    kept = request.fields.without(b"traceparent", b"tracestate").pairs
    request.fields = Fields((*kept, (b"traceparent", rules.new_traceparent())))


def _vouch_behind_proxy(request: Request, peer: Peer, rules: ForwardRules, chain: tuple[bytes, ...]) -> None:
    """Extend what a trusted proxy in front of us says; the client is the last address that no trusted proxy is."""
    seen = {name.lower() for name, _ in request.fields.pairs}
    hops = [hop.strip(b" \t") for value in chain for hop in value.split(b",")]
    if peer.address:
        hops.append(peer.address.encode())
    if b"forwarded" in seen:
        _extend_forwarded(request, peer, rules)
    tail = b""
    if hops:
        tail += b"X-Forwarded-For: %b\r\n" % b", ".join(hops)
    if b"x-forwarded-proto" not in seen:
        tail += b"X-Forwarded-Proto: %b\r\n" % rules.scheme
    if b"x-forwarded-host" not in seen and request.host:
        tail += b"X-Forwarded-Host: %b\r\n" % request.host
    request.tail = b"%b%b%b\r\n" % (tail, rules.via[request.minor], request.request_id)
    request.client = peer.address
    for hop in reversed(hops):
        request.client = hop[:64].decode("latin-1")
        if not rules.trusts(request.client):
            break


def _extend_forwarded(request: Request, peer: Peer, rules: ForwardRules) -> None:
    """RFC 7239 §4: one element for each proxy. IPv6 addresses are quoted and bracketed (§6)."""
    address = peer.address or "unknown"
    node = f'"[{address}]"' if ":" in address else address
    element = f"for={node};proto={rules.scheme.decode()}".encode()
    pairs = list(request.fields.pairs)
    last = max(index for index, (name, _) in enumerate(pairs) if name.lower() == b"forwarded")
    name, value = pairs[last]
    pairs[last] = (name, value + b", " + element if value else element)
    request.fields = Fields(pairs)
