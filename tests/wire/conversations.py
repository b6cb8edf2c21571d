"""Whole conversations: what a client sends, what the upstream answers to each request, and how it ends.

The last request of each ends the connection, so that its end is an event and not a wait. Ids are given by the client:
whatever is observed is then the same at each turn.
"""

from dataclasses import dataclass

__all__ = ["CONVERSATIONS", "Conversation"]

H = b"Host: a.example\r\nX-Request-ID: r\r\n"
LAST = b"GET /last HTTP/1.1\r\n" + H + b"Connection: close\r\n\r\n"
DATE = b"Date: Sat, 01 Jan 2000 00:00:00 GMT\r\n"
OK = b"HTTP/1.1 200 OK\r\n" + DATE + b"Content-Length: 2\r\n\r\nok"
CODED = b"HTTP/1.1 200 OK\r\n" + DATE + b"Transfer-Encoding: chunked\r\n\r\n"


@dataclass(frozen=True)
class Conversation:
    """`methods` are those of the answers expected, in order; `ends` lists the answers after which the upstream closes."""

    client: bytes
    answers: tuple[bytes, ...]
    methods: tuple[bytes, ...] = (b"GET",)
    ends: tuple[int, ...] = ()


CONVERSATIONS = {
    "get": Conversation(LAST, (OK,)),
    "length": Conversation(
        b"POST /p HTTP/1.1\r\n" + H + b"Content-Length: 5\r\nConnection: close\r\n\r\nhello",
        (OK,),
        (b"POST",),
    ),
    "chunked with trailers": Conversation(
        b"PUT /p HTTP/1.1\r\n" + H + b"Transfer-Encoding: chunked\r\nConnection: close\r\n\r\n"
        b"2;x=y\r\nhe\r\n03\r\nllo\r\n0;z\r\nX-Sum: 1\r\nX-More:2\r\n\r\n",
        (CODED + b"3\r\none\r\n00a;q\r\ntwo, three\r\n0\r\nX-Sum: 2\r\n\r\n",),
        (b"PUT",),
    ),
    "pipelined": Conversation(
        b"GET /1 HTTP/1.1\r\n" + H + b"\r\nPOST /2 HTTP/1.1\r\n" + H + b"Content-Length: 3\r\n\r\nabc"
        b"POST /3 HTTP/1.1\r\n" + H + b"Transfer-Encoding: chunked\r\n\r\n1\r\nx\r\n0\r\n\r\n" + LAST,
        (OK, CODED + b"0\r\n\r\n", b"HTTP/1.1 204 No Content\r\n" + DATE + b"\r\n", OK),
        (b"GET", b"POST", b"POST", b"GET"),
    ),
    "http/1.0": Conversation(
        b"GET / HTTP/1.0\r\n" + H + b"\r\n", (CODED + b"5\r\nhello\r\n0\r\nX: y\r\n\r\n",)
    ),
    "until close": Conversation(LAST, (b"HTTP/1.0 200 OK\r\n" + DATE + b"\r\nhello\r\n\r\n",), ends=(0,)),
    "interim": Conversation(
        b"POST / HTTP/1.1\r\n"
        + H
        + b"Expect: 100-continue\r\nContent-Length: 2\r\nConnection: close\r\n\r\nhi",
        (b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n" + OK,),
        (b"POST",),
    ),
    "no bodies": Conversation(
        b"HEAD /1 HTTP/1.1\r\n" + H + b"\r\nGET /2 HTTP/1.1\r\n" + H + b"\r\n" + LAST,
        (
            b"HTTP/1.1 200 OK\r\n" + DATE + b"Content-Length: 9\r\n\r\n",
            b"HTTP/1.1 304 Not Modified\r\n" + DATE + b"Content-Length: 9\r\n\r\n",
            OK,
        ),
        (b"HEAD", b"GET", b"GET"),
    ),
    "empty lines": Conversation(
        b"\r\n\r\nGET /1 HTTP/1.1\r\n" + H + b"\r\n\r\n" + LAST, (OK, OK), (b"GET", b"GET")
    ),
    "absolute": Conversation(
        b"GET http://b.example/x?y HTTP/1.1\r\n"
        + H
        + b"Connection: X-Hop, close\r\nX-Hop: 1\r\nX: \t y \r\n\r\n",
        (OK,),
    ),
    "bad chunk": Conversation(
        b"POST / HTTP/1.1\r\n"
        + H
        + b"Transfer-Encoding: chunked\r\n\r\n2\r\nhe\r\n2\r\nlloo\r\n0\r\n\r\n"
        + LAST,
        (),
        (b"POST",),
    ),
    "two lengths": Conversation(
        b"POST / HTTP/1.1\r\n" + H + b"Content-Length: 5\r\nContent-Length: 6\r\n\r\nhello" + LAST, ()
    ),
    "bare line feed": Conversation(b"GET / HTTP/1.1\r\n" + H + b"X: y\nX: z\r\n\r\n" + LAST, ()),
    "nonsense": Conversation(b"\x16\x03\x01\x02\x00\x01\r\n\r\n" + LAST, ()),
    "invalid answer": Conversation(
        LAST, (b"HTTP/1.1 200 OK\r\n" + DATE + b"Content-Length: 5, 6\r\n\r\nhello",), ends=(0,)
    ),
    "answer that is not http": Conversation(LAST, (b"220 mail.example ESMTP\r\n\r\n",), ends=(0,)),
    "answer that breaks": Conversation(LAST, (CODED + b"5\r\nhello\r\n3\r\nab",), ends=(0,)),
    "tunnel": Conversation(
        b"GET /t HTTP/1.1\r\n" + H + b"Connection: Upgrade\r\nUpgrade: echo\r\n\r\nearly up\r\n\r\n",
        (
            b"HTTP/1.1 101 Switching Protocols\r\n"
            + DATE
            + b"Connection: Upgrade\r\nUpgrade: echo\r\n\r\nearly down\r\n\r\n",
        ),
        ends=(0,),
    ),
}
