"""What a gateway does to a response's head on its way back (RFC 9110 §7.6), and what that head says of its framing.

Reading a head is a pure function of its bytes, and an upstream's heads repeat: memoised (`memo`), as in `inbound`.
"""

from sidecar.dates import http_date
from sidecar.errors import BadResponse
from sidecar.message import Fields, Headers, Reply
from sidecar.wire import names
from sidecar.wire.head import parse_fields, parse_status_line
from sidecar.wire.memo import Memo
from sidecar.wire.names import RESPONSE_NAMES, UNLISTABLE, tokens

__all__ = ["CHUNKED", "UNTIL_CLOSE", "ResponseHead", "read_response_head"]

CHUNKED = -1
UNTIL_CLOSE = -2

_memo: "Memo[ResponseHead]" = Memo()


class ResponseHead:
    """A response head, read. Shared by every response that has it."""

    __slots__ = (
        "bodiless",
        "chunked",
        "dated",
        "fields",
        "keep_alive",
        "length",
        "reason",
        "size",
        "status",
        "upgrade",
    )

    def __init__(self, status: int, reason: bytes) -> None:
        self.status = status
        self.reason = reason
        self.fields = Fields(())
        self.length: int | None = None
        self.chunked = False
        self.dated = False
        self.keep_alive = True
        self.upgrade: bytes | None = None
        self.bodiless = status < 200 or status in (204, 304)
        self.size = 0  # of the payload, unless the request was HEAD; or `CHUNKED`, `UNTIL_CLOSE`

    def measure(self) -> None:
        """Set `size`: RFC 9112 §6.3, in its order."""
        if self.bodiless:
            self.size = 0
        elif self.chunked:
            self.size = CHUNKED
        else:
            self.size = UNTIL_CLOSE if self.length is None else self.length

    def reply(self) -> Reply:
        """Make a reply with this head and no body yet."""
        reply = Reply(self.status, self.fields)
        reply.reason = self.reason
        if self.length is not None:
            reply.length = self.length
        if (
            not self.dated and self.status >= 200
        ):  # RFC 9110 §6.6.1: whoever forwards it appends the time it came
            reply.extra = ((b"Date", http_date()),)
        return reply


def read_response_head(head: bytes) -> ResponseHead:
    """Read a whole head.

    Raises:
        BadResponse: it is not valid, or its framing is not clear.

    """
    read = _memo.get(head)
    if read is None:
        read = _read(head)
        _memo.keep(head, read, len(read.fields.pairs))
    return read


def _read(head: bytes) -> ResponseHead:
    cut = head.find(b"\r\n")
    status, reason, minor = parse_status_line(head[:cut])
    parsed = parse_fields(head[cut + 2 :], minor, response=True)
    read = ResponseHead(status, reason)
    out: Headers = []
    connection: list[bytes] | None = None
    codes = RESPONSE_NAMES.codes
    for field in parsed:
        name, value = field
        code = codes.get(name)
        if code is None:
            code = RESPONSE_NAMES.learn(name)
        if code == names.PASS:
            out.append(field)
        elif code == names.DATE:
            read.dated = True
            out.append(field)
        elif code == names.CONTENT_LENGTH:
            read.length = int(value)
            out.append(field)
        elif code == names.CONNECTION:
            connection = [*(connection or ()), *tokens(value)]
        elif code == names.TRANSFER_ENCODING:
            if read.chunked or value.lower() != b"chunked":
                raise BadResponse(f"its transfer coding is not just chunked: {value[:80]!r}")
            read.chunked = True
        elif code == names.UPGRADE:
            read.upgrade = value
    if connection is None:
        read.keep_alive = bool(minor)
    else:
        read.keep_alive = b"close" not in connection and (bool(minor) or b"keep-alive" in connection)
        listed = {token for token in connection if token not in UNLISTABLE}
        if listed:
            out = [field for field in out if field[0].lower() not in listed]
    if status == 426 and read.upgrade is not None:  # RFC 9110 §15.5.22: MUST say to what, §7.8: and list it
        out += [(b"Connection", b"Upgrade"), (b"Upgrade", read.upgrade)]
    if (
        status < 200 or status == 204
    ) and read.length is not None:  # RFC 9110 §8.6: MUST NOT be sent in these
        read.length = None
        out = [field for field in out if field[0].lower() != b"content-length"]
    read.fields = Fields(out)
    read.measure()
    return read
