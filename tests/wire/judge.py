"""What bytes mean to somebody else: h11 reads them, a parser that shares no line of code with the one under test.

Whole messages become plain values, so that a test compares what was meant with what arrived in one `==`.
"""

from dataclasses import dataclass, field

import h11

__all__ = [
    "VOUCHED",
    "NotOneMessage",
    "Pairs",
    "Reading",
    "Received",
    "RequestReader",
    "Response",
    "requests_in",
    "response_in",
]

Pairs = list[tuple[bytes, bytes]]

# What the sidecar vouches for on every request that comes from nobody it trusts.
VOUCHED = (b"x-forwarded-for", b"x-forwarded-proto", b"x-forwarded-host", b"via", b"x-request-id")

_LIMIT = 1 << 20  # how long a head h11 may take; the bounds under test are the sidecar's own


class NotOneMessage(AssertionError):
    """The bytes are not a whole number of messages."""


@dataclass
class Received:
    """One request as h11 reads it. Names are in the case of the wire."""

    method: bytes
    target: bytes
    minor: int
    headers: Pairs
    body: bytes = b""
    trailers: Pairs = field(default_factory=list)

    def values(self, name: bytes) -> list[bytes]:
        """Every value of the field `name` (lower case)."""
        return [value for key, value in self.headers if key.lower() == name]

    @property
    def passed_on(self) -> Pairs:
        """The fields without those that the sidecar adds to every request."""
        return [pair for pair in self.headers if pair[0].lower() not in VOUCHED]


@dataclass
class Response:
    """One final response as h11 reads it, with the interim ones before it as (status, headers)."""

    status: int
    reason: bytes
    headers: Pairs
    body: bytes = b""
    trailers: Pairs = field(default_factory=list)
    interim: list[tuple[int, Pairs]] = field(default_factory=list)

    def values(self, name: bytes) -> list[bytes]:
        """Every value of the field `name` (lower case)."""
        return [value for key, value in self.headers if key.lower() == name]


def _pairs(headers: object) -> Pairs:
    assert isinstance(headers, h11._headers.Headers)
    return [(bytes(name), bytes(value)) for name, value in headers.raw_items()]


class RequestReader:
    """Reads one request from pieces. `head` is set when its head is whole, `done` when the request is.

    `rest` is what follows the request. `feed` raises `h11.RemoteProtocolError` where h11 refuses the bytes.
    """

    def __init__(self) -> None:
        self._connection = h11.Connection(h11.SERVER, max_incomplete_event_size=_LIMIT)
        self._body: list[bytes] = []
        self.head: Received | None = None
        self.done = False
        self.fed = 0

    def feed(self, data: bytes) -> None:
        """Take bytes; b"" is nothing, since a request does not end with its connection."""
        self.fed += len(data)
        if data:
            self._connection.receive_data(data)
        while not self.done:
            event = self._connection.next_event()
            if isinstance(event, h11.Request):
                minor = int(event.http_version[-1:])
                self.head = Received(event.method, event.target, minor, _pairs(event.headers))
            elif isinstance(event, h11.Data):
                self._body.append(bytes(event.data))
            elif isinstance(event, h11.EndOfMessage):
                assert self.head is not None
                self.head.body = b"".join(self._body)
                self.head.trailers = _pairs(event.headers)
                self.done = True
            else:
                return

    @property
    def rest(self) -> bytes:
        """What came after the request."""
        return bytes(self._connection.trailing_data[0])


def requests_in(data: bytes) -> list[Received]:
    """Give all the requests that `data` is, with nothing before, between or after them."""
    found: list[Received] = []
    while data:
        reader = RequestReader()
        reader.feed(data)
        if not reader.done or reader.head is None:
            raise NotOneMessage(f"{data!r} is not a whole request")
        found.append(reader.head)
        data = reader.rest
    return found


class Reading:
    """Reads one response to a request of `method` from pieces."""

    def __init__(self, method: bytes) -> None:
        self._connection = h11.Connection(h11.CLIENT, max_incomplete_event_size=_LIMIT)
        ask = h11.Request(
            method=method, target="/", headers=[("Host", "a"), ("Connection", "Upgrade"), ("Upgrade", "any")]
        )
        self._connection.send(ask)
        self._connection.send(h11.EndOfMessage())
        self._interim: list[tuple[int, Pairs]] = []
        self._body: list[bytes] = []
        self.response: Response | None = None
        self.done = False

    def feed(self, data: bytes) -> None:
        """Take bytes; b"" is the end of the connection."""
        self._connection.receive_data(data)
        while not self.done:
            event = self._connection.next_event()
            if isinstance(event, h11.InformationalResponse):
                self._interim.append((event.status_code, _pairs(event.headers)))
                if event.status_code == 101:
                    self.response = Response(101, event.reason, _pairs(event.headers))
                    self.done = True
            elif isinstance(event, h11.Response):
                self.response = Response(event.status_code, event.reason, _pairs(event.headers))
                self.response.interim = self._interim
            elif isinstance(event, h11.Data):
                self._body.append(bytes(event.data))
            elif isinstance(event, h11.EndOfMessage):
                assert self.response is not None
                self.response.body = b"".join(self._body)
                self.response.trailers = _pairs(event.headers)
                self.done = True
            else:
                return

    @property
    def rest(self) -> bytes:
        """What came after the response."""
        return bytes(self._connection.trailing_data[0])


def response_in(data: bytes, method: bytes = b"GET") -> Response:
    """Give the one response that `data`, all that came before the connection's end, is."""
    reading = Reading(method)
    reading.feed(data)
    if not reading.done:
        reading.feed(b"")
    if reading.response is None or reading.rest:
        raise NotOneMessage(f"{data!r} is not one whole response")
    return reading.response
