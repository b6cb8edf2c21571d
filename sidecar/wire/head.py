"""From the bytes of one whole head to its parts. llhttp is the judge of the grammar, in its strict mode.

Our own framing finds where a head ends and hands over exactly one head; llhttp (through httptools) then decides whether
its header section is one. So pipelining, bodies and upgrades never depend on a parser's inner state, a parser is never
reused across messages, and each function here is pure: bytes in, values out, or one of *our* errors.

The start line is ours to read: it is three words, and llhttp would accept what we do not and the reverse. With a test of
that name each:
- exactly one space between its parts (RFC 9112 §3: SHOULD be 400 where it is ambiguous)
- HTTP/1.0 and HTTP/1.1 only; no fragment in a target (§3.2: no form has one); printable ASCII only
- any token as a method (llhttp knows a list), but not CONNECT
- status codes from 100 to 599 (RFC 9110 §15), no controls in a reason phrase
And beyond llhttp: no Transfer-Encoding in an HTTP/1.0 message (RFC 9112 §6.1), as many field lines as lines.
"""

from httptools import HttpParserError, HttpParserUpgrade, HttpRequestParser, HttpResponseParser

from sidecar.errors import BadResponse, ClientError, MethodRefused, VersionRefused
from sidecar.message import Headers

__all__ = ["TOKEN", "parse_fields", "parse_request_line", "parse_status_line"]

# RFC 9110 §5.6.2.
TOKEN = b"!#$%&'*+-.^_`|~0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"

_TARGET_BYTES = bytes(code for code in range(0x21, 0x7F) if code != ord("#"))
_REASON_BYTES = bytes(range(0x20, 0x7F)) + bytes(range(0x80, 0x100)) + b"\t"

_MINOR = {b"HTTP/1.1": 1, b"HTTP/1.0": 0}
_COMMON_METHODS = frozenset({b"GET", b"HEAD", b"POST", b"PUT", b"DELETE", b"OPTIONS", b"PATCH"})


def parse_request_line(line: bytes) -> tuple[bytes, bytes, int]:
    """Give (method, target, minor version) of a request line without its CRLF.

    Raises:
        MethodRefused: for CONNECT.
        VersionRefused: for a version other than HTTP/1.0 and HTTP/1.1.
        ClientError: for everything else that is not a request line.

    """
    parts = line.split(b" ")
    if len(parts) != 3:
        raise ClientError("The request line is not «method SP target SP version».")
    method, target, version = parts
    minor = _MINOR.get(version)
    if minor is None:
        raise _version_error(version)
    if method not in _COMMON_METHODS:
        if not method or method.translate(None, TOKEN):
            raise ClientError("The method is not a token.")
        if method == b"CONNECT":
            raise MethodRefused
    if not target or target.translate(None, _TARGET_BYTES):
        raise ClientError("The request target has characters that no target may have.")
    return method, target, minor


def parse_status_line(line: bytes) -> tuple[int, bytes, int]:
    """Give (status, reason phrase, minor version) of a status line without its CRLF.

    Raises:
        BadResponse: where it is none of HTTP/1.0 or HTTP/1.1.

    """
    version, _, rest = line.partition(b" ")
    minor = _MINOR.get(version)
    if minor is None:
        raise BadResponse(f"not an HTTP/1.x status line: {line[:80]!r}")
    code, _, reason = rest.partition(b" ")
    if len(code) != 3 or not code.isdigit() or not b"100" <= code <= b"599":
        raise BadResponse(f"not a status code: {code[:20]!r}")
    if reason.translate(None, _REASON_BYTES):
        raise BadResponse(f"control characters in the reason phrase: {reason[:80]!r}")
    return int(code), reason, minor


def parse_fields(section: bytes, minor: int, *, response: bool) -> Headers:
    """Give the fields of a header section: everything after the start line, the empty line at its end included.

    Raises:
        ClientError: it is not one, in a request.
        BadResponse: it is not one, in a response.

    """
    error: type[ClientError | BadResponse] = BadResponse if response else ClientError
    start = b"HTTP/1.%d 200 OK\r\n" % minor if response else b"POST / HTTP/1.%d\r\n" % minor
    collected = _Collected()
    parser = HttpResponseParser(collected) if response else HttpRequestParser(collected)
    try:
        parser.feed_data(start + section)
    except HttpParserUpgrade:
        pass  # it stops there for the caller to take over the bytes; we hold them already
    except HttpParserError as fault:
        raise error(f"Invalid HTTP: {fault}.") from None
    fields = collected.fields
    # llhttp calls back a field when the next one begins. A section of n lines has n-1 fields and the empty line: anything
    # else means that llhttp and we disagree on where this head ends, and then it must not be forwarded.
    if len(fields) != section.count(b"\n") - 1:
        raise error("The head is not one whole head.")
    if not minor and any(name.lower() == b"transfer-encoding" for name, _ in fields):
        raise error("HTTP/1.0 has no Transfer-Encoding.")
    return fields


class _Collected:
    """Collects what httptools calls back with."""

    __slots__ = ("fields",)

    def __init__(self) -> None:
        self.fields: Headers = []

    def on_header(self, name: bytes, value: bytes) -> None:
        # llhttp strips white space before a value, not after it.
        self.fields.append((name, value.rstrip(b" \t") if value[-1:] in (b" ", b"\t") else value))


def _version_error(version: bytes) -> ClientError:
    if len(version) == 8 and version[:5] == b"HTTP/" and version[5:6].isdigit() and version[7:].isdigit():
        return VersionRefused()
    return ClientError("The request line does not end with an HTTP version.")
