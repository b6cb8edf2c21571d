"""A failed reply, put aside while something better is tried: what it held is given back, what it said is kept.

A reply that is all here is closed at once. One whose body is still coming is drained into memory, up to `MOST` bytes,
and closed as soon as it has ended, so that its slot and its connection are free while we wait. One that is larger,
breaks, or has not ended by the time it is asked for is closed and lost: it is not worth more.
"""

from sidecar.message import Body, Reply

__all__ = ["MOST", "Kept"]

MOST = 64 * 1024


class Kept:
    """One reply, from when it is put aside. `end` must be called; after that `answer` gives what there is."""

    __slots__ = ("_pieces", "_reply", "_room", "_whole")

    def __init__(self, reply: Reply) -> None:
        self._reply = reply
        self._pieces: list[bytes] = []
        self._room = MOST
        body = reply.body
        self._whole = not isinstance(body, Body)
        if isinstance(body, Body):
            body.pipe(self._take, self._ended)
        else:
            reply.close()

    def __repr__(self) -> str:
        """Tell the live state in one line."""
        return f"<Kept {self._reply.status}, {'whole' if self._whole else 'not whole'}>"

    def _take(self, data: bytes) -> None:
        self._room -= len(data)
        if self._room >= 0:
            self._pieces.append(data)
        else:
            self._pieces.clear()
            self._reply.close()

    def _ended(self, error: BaseException | None) -> None:
        self._whole = error is None and self._room >= 0
        self._reply.close(error)

    def end(self) -> None:
        """Wait no longer: what has not come by now is not wanted. Calling again does nothing."""
        self._reply.close()

    def answer(self) -> Reply | None:
        """Give the reply again, whole and with nothing to give back, or None where it was not all here."""
        if not self._whole:
            return None
        kept = self._reply
        body = kept.body
        again = Reply(
            kept.status, kept.fields, body if not isinstance(body, Body) else b"".join(self._pieces)
        )
        again.trailers = body.trailers if isinstance(body, Body) else kept.trailers
        again.reason = kept.reason
        again.length = kept.length
        again.extra = kept.extra
        return again
