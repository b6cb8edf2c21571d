"""The bound on a body that stands still. No timer per piece: one per body, set again for as long as the body moves."""

import asyncio
from collections.abc import Callable

from sidecar.message import Body

__all__ = ["IdleGuard"]


class IdleGuard:
    """Calls `on_idle` once `body` has not moved for `body.idle` seconds (None: no bound).

    The bound is read when the loop turns next, so whoever is asked to handle the body now can still set it. A body that
    waits for somebody to begin draining it does not count as standing still: that wait has a bound of its own.
    """

    __slots__ = ("_body", "_handle", "_loop", "_on_idle", "_waited_until")

    def __init__(self, loop: asyncio.AbstractEventLoop, body: Body, on_idle: Callable[[], None]) -> None:
        self._loop = loop
        self._body = body
        self._on_idle = on_idle
        self._waited_until = 0.0
        self._handle: asyncio.Handle | None = loop.call_soon(self._check)

    def stop(self) -> None:
        """Stop guarding. Calling again does nothing."""
        if self._handle is not None:
            self._handle.cancel()
            self._handle = None

    def _check(self) -> None:
        self._handle = None
        body = self._body
        if body.idle is None or body.finished or body.error is not None:
            return
        now = self._loop.time()
        if body.paused and not body.held:
            self._waited_until = now
        due = max(body.moved_at, self._waited_until) + body.idle
        if now + 0.001 >= due:
            self._on_idle()
        else:
            self._handle = self._loop.call_at(due, self._check)
