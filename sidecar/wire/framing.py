"""Where a message ends: the chunked coding, read and written, and the length of a body (RFC 9112 §6, §7).

`ChunkedReader` is a strict incremental decoder: the same result wherever the bytes are split. It refuses what parsers
are known to disagree on: bare LF, white space or a sign around a size, `0x`, more than 16 hex digits, control
characters in an extension, data that runs past its size. Extensions are dropped (RFC 9112 §7.1.1: a recipient MUST
ignore the ones it does not know) and bounded, as is the trailer section, so that neither can be used to fill memory or
to send bytes for ever without a body (CVE-2023-39326 is that attack on another server).
"""

from collections.abc import Sequence

from sidecar.errors import SidecarError
from sidecar.message import Headers, serialise
from sidecar.wire.head import TOKEN

__all__ = ["LAST_CHUNK", "ChunkedReader", "FramingError", "chunk", "last_chunk"]

LAST_CHUNK = b"0\r\n\r\n"

MAX_LINE = 4096  # a chunk-size line with its extensions; nginx and node allow 16 KiB for all of them together
MAX_EXTENSIONS = 16 * 1024  # in one body: node's limit since CVE-2024-22019
MAX_TRAILERS = 16 * 1024
MAX_TRAILER_LINES = 100

_HEX = b"0123456789abcdefABCDEF"
_FIELD_BYTES = bytes(range(0x20, 0x7F)) + bytes(range(0x80, 0x100)) + b"\t"

# RFC 9110 §6.5.1: fields that a trailer section must not carry, because they frame, route or authorise the message.
_NOT_IN_TRAILERS = frozenset(
    {
        b"authorization",
        b"connection",
        b"content-encoding",
        b"content-length",
        b"content-range",
        b"content-type",
        b"cookie",
        b"expect",
        b"forwarded",
        b"host",
        b"keep-alive",
        b"max-forwards",
        b"proxy",
        b"proxy-authorization",
        b"proxy-connection",
        b"set-cookie",
        b"te",
        b"traceparent",
        b"tracestate",
        b"trailer",
        b"transfer-encoding",
        b"upgrade",
        b"via",
        b"x-real-ip",
        b"x-request-id",
    }
)


class FramingError(SidecarError):
    """The chunked coding is broken. Which side broke it decides what the caller makes of it."""


def chunk(data: bytes) -> bytes:
    """Frame one piece. An empty piece would be the last chunk, so it frames to nothing."""
    return b"%x\r\n%b\r\n" % (len(data), data) if data else b""


def last_chunk(trailers: Sequence[tuple[bytes, bytes]]) -> bytes:
    """Frame the end of a body with its trailer fields."""
    if not trailers:
        return LAST_CHUNK
    return b"0\r\n%b\r\n" % serialise(trailers)


class ChunkedReader:
    """Decodes one chunked body. `feed` gives the payload so far; `done` and `rest` tell its end."""

    __slots__ = (
        "_buffer",
        "_extensions",
        "_left",
        "_size_line",
        "_trailer_lines",
        "done",
        "rest",
        "trailers",
    )

    def __init__(self) -> None:
        self._buffer = b""  # an unfinished line
        self._left = 0  # payload bytes of the current chunk still to come; -1: its CRLF
        self._size_line = True  # False: in the trailer section
        self._extensions = 0
        self._trailer_lines = 0
        self.done = False
        self.rest = b""  # what follows the body
        self.trailers: Headers = []

    def feed(self, data: bytes) -> list[bytes]:
        """Give the pieces of payload in `data`.

        Raises:
            FramingError: the bytes are not a chunked body.

        """
        pieces: list[bytes] = []
        if self._buffer:
            data = self._buffer + data
            self._buffer = b""
        at, end = 0, len(data)
        while at < end:
            if self._left > 0:
                piece = data[at : at + self._left]
                pieces.append(piece)
                at += len(piece)
                self._left -= len(piece)
                if self._left == 0:
                    self._left = -1
            elif self._left == -1:
                crlf = data[at : at + 2]
                if crlf == b"\r\n":
                    self._left = 0
                    at += 2
                elif crlf == b"\r":
                    self._buffer = crlf
                    break
                else:
                    raise FramingError("a chunk is not as long as its size says")
            else:
                stop = data.find(b"\r\n", at)
                if stop < 0:
                    self._keep_line(data[at:])
                    break
                self._line(data[at:stop])
                at = stop + 2
                if self.done:
                    self.rest = data[at:]
                    break
        return pieces

    def _keep_line(self, part: bytes) -> None:
        limit = MAX_LINE if self._size_line else MAX_TRAILERS
        if len(part.rstrip(b"\r")) > limit:
            raise FramingError("a line of the chunked coding is too long")
        if b"\n" in part or b"\r" in part[:-1]:
            raise FramingError("a line of the chunked coding does not end with CRLF")
        if self._size_line:
            # Refused now, not when the line is whole: nobody should wait for a line that cannot become right.
            size = part.rstrip(b"\r").split(b";", 1)[0]
            if size.translate(None, _HEX) or len(size) > 16:
                raise FramingError("a chunk size is not a hexadecimal number")
        self._buffer = part

    def _line(self, line: bytes) -> None:
        if self._size_line:
            self._size(line)
        elif line:
            self._trailer(line)
        else:
            self.done = True

    def _size(self, line: bytes) -> None:
        size, semicolon, extension = line.partition(b";")
        if not size or size.translate(None, _HEX) or len(size) > 16:
            raise FramingError("a chunk size is not a hexadecimal number")
        if semicolon:
            self._extensions += len(extension) + 1
            if len(line) > MAX_LINE or self._extensions > MAX_EXTENSIONS:
                raise FramingError("the chunk extensions are too long")
            if extension.translate(None, _FIELD_BYTES):
                raise FramingError("a chunk extension has control characters")
        self._left = int(size, 16)
        if self._left == 0:
            self._size_line = False

    def _trailer(self, line: bytes) -> None:
        name, colon, value = line.partition(b":")
        if not colon or not name or name.translate(None, TOKEN) or value.translate(None, _FIELD_BYTES):
            raise FramingError("a trailer is not a field line")
        self._extensions += len(line)
        self._trailer_lines += 1
        if self._extensions > MAX_TRAILERS or self._trailer_lines > MAX_TRAILER_LINES:
            raise FramingError("the trailer section is too long")
        lower = name.lower().replace(b"_", b"-")  # CGI and its kin cannot tell them apart
        if lower not in _NOT_IN_TRAILERS and not lower.startswith(b"x-forwarded"):
            self.trailers.append((name, value.strip(b" \t")))
