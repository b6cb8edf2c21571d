"""What was changed is not served from a copy any more (RFC 9111 §4.4).

Stands in every route whose upstream has a route with copies: a change goes through `POST /orders` where the copies are of
`GET /orders`, and the two may be different routes. A method that we do not know may change things too.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence

from sidecar.message import Reply
from sidecar.pipeline.exchange import Exchange
from sidecar.pipeline.stage import Stage
from sidecar.policy.cache import changed_keys
from sidecar.policy.store import Store

__all__ = ["InvalidateStage"]

_SAFE = frozenset({b"GET", b"HEAD", b"OPTIONS", b"TRACE"})  # RFC 9110 §9.2.1


class InvalidateStage(Stage):
    """Forgets the copies that `routes` have of what a request has changed. `errors` counts failures of the store."""

    __slots__ = ("_routes", "_store", "_time", "errors")

    def __init__(self, store: Store, routes: Sequence[str], loop: asyncio.AbstractEventLoop) -> None:
        self._store = store
        self._routes = tuple(routes)
        self._time: Callable[[], float] = loop.time
        self.errors = 0

    def __call__(self, exchange: Exchange) -> Awaitable[Reply]:
        """Let reading requests through; watch the others' answers."""
        if exchange.request.method in _SAFE:
            return self.next(exchange)
        return self._watch(exchange)

    async def _watch(self, exchange: Exchange) -> Reply:
        reply = await self.next(exchange)
        if 200 <= reply.status < 400:
            try:
                now = self._time()
                for key in changed_keys(exchange.request, reply.fields, self._routes):
                    self._store.invalidate(key, now)
            except Exception:  # noqa: BLE001 -- the change is done: a fault of the store must not hide that
                self.errors += 1
        return reply

    def describe(self) -> str:
        """Name the stage and whose copies it looks after."""
        return f"invalidate {', '.join(self._routes)}"
