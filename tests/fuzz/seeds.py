"""Where fuzzing starts: valid messages, the corpora of the wire tests, and the bits that mean something to HTTP."""

# ruff: noqa: E501 -- a table of bits reads better in long lines
from tests.wire.bad_answers import INVALID
from tests.wire.conversations import CONVERSATIONS
from tests.wire.smuggling import CORPUS

__all__ = ["BITS", "SEEDS"]

REQUESTS = [sent for sent, _ in CORPUS.values()] + [talk.client for talk in CONVERSATIONS.values()]
ANSWERS = [answer[:4096] for answer in INVALID.values()] + [
    answer for talk in CONVERSATIONS.values() for answer in talk.answers
]
BODIES = [data.partition(b"\r\n\r\n")[2] for data in REQUESTS + ANSWERS if b"chunked" in data]

SEEDS: dict[str, list[bytes]] = {
    "request_head": [data.partition(b"\r\n\r\n")[0] + b"\r\n\r\n" for data in REQUESTS],
    "response_head": [data.partition(b"\r\n\r\n")[0] + b"\r\n\r\n" for data in ANSWERS],
    "chunked_body": BODIES,
    "client_connection": REQUESTS,
    "upstream_connection": ANSWERS,
}

BITS = [
    *[bytes([code]) for code in b"\r\n\t :;,=\x00\x0b\x7f\x80\xff/?#*\"'()09aAzZ_-+."],
    *[b"\r\n", b"\r\n\r\n", b"\n\n", b"\r\n ", b" HTTP/1.1\r\n", b" HTTP/1.0\r\n", b"HTTP/1.1 200 OK\r\n", b"HTTP/1.1 100 \r\n"],
    *[b"GET / HTTP/1.1\r\nHost: a\r\n", b"POST /x HTTP/1.1\r\nHost: a\r\n", b"GET", b"CONNECT", b"OPTIONS * ", b"http://b/"],
    *[b"Host: ", b"Content-Length: ", b"Content-Length: 5\r\n", b"Transfer-Encoding: ", b"Transfer-Encoding: chunked\r\n"],
    *[b"chunked", b"identity", b"Connection: ", b"close", b"keep-alive", b"Upgrade: ", b"websocket", b"h2c", b"X-A: b\r\n"],
    *[b"Expect: 100-continue\r\n", b"Max-Forwards: ", b"Via: 1.1 me\r\n", b"X-Forwarded-For: ", b"traceparent: ", b"Forwarded: "],
    *[b"0\r\n\r\n", b"5\r\nhello\r\n", b"5;a=b\r\n", b"ffffffffffffffff\r\n", b"0\r\nX: y\r\n\r\n", b"101", b"204", b"304", b"999"],
]  # fmt: skip
