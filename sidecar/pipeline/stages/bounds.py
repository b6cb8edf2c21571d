"""The bounds on bodies: how large a request may be, how long either body may stand still, how long a response may last.

This stage only says so; the wire, which sees the bytes go by, holds them to it.
"""

from collections.abc import Awaitable

from sidecar.errors import BodyTooLarge
from sidecar.message import Reply
from sidecar.pipeline.exchange import Exchange
from sidecar.pipeline.stage import Stage

__all__ = ["Bounds"]


class Bounds(Stage):
    """`timeout.idle`, `timeout.body` (seconds) and `max_body` (bytes)."""

    __slots__ = ("_idle", "_lifetime", "_max_body")

    def __init__(self, *, idle: float | None, lifetime: float | None, max_body: int | None) -> None:
        self._idle = idle
        self._lifetime = lifetime
        self._max_body = max_body

    def __call__(self, exchange: Exchange) -> Awaitable[Reply]:
        """Set the bounds on both bodies, and step out of the way.

        Raises:
            BodyTooLarge: the request announces, or already has, more than `max_body`.

        """
        body = exchange.request.body
        if body is not None:
            limit = self._max_body
            if limit is not None:
                if max(exchange.request.length or 0, body.bytes_fed) > limit:
                    raise BodyTooLarge
                body.limit = limit
            body.idle = self._idle
        exchange.idle = self._idle
        exchange.lifetime = self._lifetime
        return self.next(exchange)

    def describe(self) -> str:
        """Name the stage and its bounds."""
        size = f", request body {self._max_body} bytes" if self._max_body is not None else ""
        idle = f"idle {self._idle:g}s" if self._idle is not None else "idle off"
        lifetime = f", response at most {self._lifetime:g}s" if self._lifetime is not None else ""
        return f"bounds {idle}{lifetime}{size}"
