"""A body that goes to its client and into memory at the same time.

    upstream's Body ──▶ Capture ──▶ `out`, a Body that the client drains at its own pace
                           └──▶ the pieces, kept until the end: then `on_whole` gets them

Pieces that the client has not taken yet wait here and not in `out`; they are the ones that are kept anyway, so a slow
client costs no memory of its own. While somebody else waits for the whole (`hurry`), its pace holds nothing up.

What grows past `most`, or past what the store has room for (`Store.claim`), is kept no longer: what the client has not
taken follows in order, and from then on it is a plain pipe, with the client's back-pressure going all the way up.
"""

from collections import deque
from collections.abc import Callable

from sidecar.message import Body, Headers
from sidecar.policy.store import Store

__all__ = ["Capture"]

OnWhole = Callable[[bytes | None], None]


class Capture:
    """One body under way. `close` must be called when its reply is over.

    `on_whole` is called once: with the body, or with None when it broke, has trailers, or became too large. It is not
    called for one that was closed before. It must not raise.
    """

    __slots__ = (
        "_claimed",
        "_ended",
        "_kept",
        "_most",
        "_on_whole",
        "_over",
        "_queue",
        "_source",
        "_store",
        "_urgent",
        "out",
    )

    def __init__(
        self,
        source: Body,
        clock: Callable[[], float],
        most: int,
        store: Store,
        on_whole: OnWhole,
    ) -> None:
        self._source = source
        self._most = most
        self._store = store
        self._on_whole = on_whole
        self._kept: list[bytes] | None = []
        self._claimed = 0
        self._queue: deque[bytes] = deque()
        self._urgent = False
        self._over = False  # the source has ended well
        self._ended = False
        self.out = Body(clock)
        self.out.on_pause = self._pause
        self.out.on_resume = self._resume

    def __repr__(self) -> str:
        """Tell the live state in one line."""
        state = "given up" if self._kept is None else f"{self._claimed} bytes kept"
        return f"<Capture {state}, {len(self._queue)} pieces wait>"

    @property
    def keeps(self) -> bool:
        """Whether the body is still kept: neither whole nor given up."""
        return self._kept is not None

    @property
    def is_whole(self) -> bool:
        """Whether all of the body has come."""
        return self._over

    def start(self) -> None:
        """Begin to drain the source. What of it is here already goes through at once."""
        self._source.pipe(self._take, self._end)

    def hurry(self) -> None:
        """Wait for the client no longer, as far as the whole body goes: somebody else wants it."""
        if self._kept is not None and not self._urgent:
            self._urgent = True
            if self._source.held:
                self._source.release()

    def close(self) -> bool:
        """Keep nothing any more, and give back what was claimed: the reply is over. False: it ended too early."""
        ended, self._ended = self._ended, True
        self._kept = None
        self._queue.clear()
        self._give_back()
        self.out.on_pause = self.out.on_resume = None
        return ended

    # --- from the source ---

    def _take(self, data: bytes) -> None:
        if self._kept is not None:
            self._keep(self._kept, data)
        if self._queue or self.out.paused:
            self._queue.append(data)
            if not self._urgent:
                self._source.hold()
        else:
            self.out.feed(data)

    def _keep(self, kept: list[bytes], data: bytes) -> None:
        size = len(data)
        if self._claimed + size <= self._most and self._store.claim(size):
            self._claimed += size
            kept.append(data)
        else:
            self._give_up()

    def _give_up(self) -> None:
        self._kept = None
        self._urgent = False
        self._give_back()
        self._tell(None)

    def _end(self, error: BaseException | None) -> None:
        kept, self._kept = self._kept, None
        if error is not None:
            self._tell(None)
            self._queue.clear()
            self.out.fail(error)
            return
        self._over = True
        if kept is not None:
            self._tell(None if self._source.trailers else b"".join(kept))
        if not self._queue:
            self._finish()

    def _tell(self, whole: bytes | None) -> None:
        if not self._ended:
            self._ended = True
            self._on_whole(whole)

    def _give_back(self) -> None:
        claimed, self._claimed = self._claimed, 0
        if claimed:
            self._store.release(claimed)

    # --- to the client ---

    def _pause(self) -> None:
        if not self._urgent and not self._over:
            self._source.hold()

    def _resume(self) -> None:
        queue, out = self._queue, self.out
        while queue and not out.paused:
            out.feed(queue.popleft())
        if out.paused:
            return
        if self._over:
            self._finish()
        elif self._source.held:
            self._source.release()

    def _finish(self) -> None:
        trailers: Headers = self._source.trailers
        self.out.finish(trailers)
