"""From a copy to a reply, and what is said of it: `Age` (RFC 9111 §5.1) and `Cache-Status` (RFC 9211).

What another cache said in `Cache-Status` stays; ours comes after it, as the one that is nearer to the client.
"""

import asyncio

from sidecar.message import Body, Reply, Request
from sidecar.policy.cache_request import Asked
from sidecar.policy.conditions import is_unchanged, not_modified
from sidecar.policy.store import Entry

__all__ = ["answer_from", "fresh_from", "reply_from"]

Extra = tuple[tuple[bytes, bytes], ...]

# A larger body goes out in pieces, as its client reads, instead of into the client's buffer all at once.
PIECE = 64 * 1024
LARGE = 4 * PIECE


def reply_from(entry: Entry, request: Request, now: float, extra: Extra) -> Reply:
    """Give the reply that serves a copy to `request`. `extra` is what more to say of it, such as `Cache-Status`.

    A HEAD is answered from the copy of a GET.
    """
    return _reply(entry, request, ((b"Age", b"%d" % entry.age(now)), *extra))


def answer_from(entry: Entry, read: Asked, request: Request, now: float, extra: Extra) -> Reply:
    """Give the reply as `reply_from`, or a 304 to a client that has this copy already (RFC 9111 §4.3.2)."""
    return _answer(entry, read, request, ((b"Age", b"%d" % entry.age(now)), *extra))


def fresh_from(entry: Entry, read: Asked, request: Request, now: float) -> Reply:
    """Give the reply as `answer_from`, for a copy that is fresh: a hit."""
    age = int(entry.age(now))
    if age != entry.shown_age:
        entry.shown_age = age
        status = b"sidecar; hit; ttl=%d" % (int(entry.lifetime) - age)
        entry.shown = ((b"Age", b"%d" % age), (b"Cache-Status", status))
    return _answer(entry, read, request, entry.shown)


def _answer(entry: Entry, read: Asked, request: Request, extra: Extra) -> Reply:
    if (
        not read.plain
        and entry.status == 200
        and is_unchanged(read, entry.etag, entry.last_modified, entry.date)
    ):
        fields = entry.not_modified
        if fields is None:
            fields = entry.not_modified = not_modified(entry.fields)
        reply = Reply(304, fields)
        reply.extra = extra
        return reply
    return _reply(entry, request, extra)


def _reply(entry: Entry, request: Request, extra: Extra) -> Reply:
    body = entry.body
    size = len(body)
    reply = Reply(entry.status, entry.fields)
    reply.extra = extra
    if entry.status != 204:
        reply.length = size
        if request.method != b"HEAD":
            reply.body = body if size < LARGE else _Pieces(body).body
    return reply


class _Pieces:
    """Feeds a body that is all here, piece by piece, for as long as its drain keeps up."""

    __slots__ = ("_at", "_feeding", "_whole", "body")

    def __init__(self, whole: bytes) -> None:
        self._whole = whole
        self._at = 0
        self._feeding = False
        self.body = Body(asyncio.get_running_loop().time)
        self.body.on_resume = self._feed
        self._feed()

    def _feed(self) -> None:
        if self._feeding:  # the drain paused and went on within the piece that it was given
            return
        self._feeding = True
        body, whole = self.body, self._whole
        while not body.paused and self._at < len(whole):
            piece = whole[self._at : self._at + PIECE]
            self._at += len(piece)
            body.feed(piece)
        self._feeding = False
        if self._at >= len(whole):
            body.finish()
