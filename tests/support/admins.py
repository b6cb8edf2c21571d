"""A real admin listener for commands that ask one: everything is real but the traffic.

with admin(YAML) as served:
    served.do(lambda: served.live.guards.breakers["db"].force_open(served.live.now(), None))
    ask(served.url)
"""

import asyncio
import threading
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, TypeVar, cast

from aiohttp import web

from sidecar.control.actions import Actions
from sidecar.control.admin.app import SERVING, admin_app
from sidecar.control.explain import explain_json
from sidecar.telemetry.live import Live
from sidecar.telemetry.rates import Rates
from tests.support.live import MINIMAL, live_from

__all__ = ["Served", "admin"]

T = TypeVar("T")


@dataclass
class Served:
    """A listener that runs in a thread of its own."""

    loop: asyncio.AbstractEventLoop = field(default_factory=asyncio.new_event_loop)
    live: Live = field(init=False)
    port: int = 0
    _runner: web.AppRunner | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def do(self, what: Callable[[], T]) -> T:
        """Call it on the listener's loop, and give what it gives."""

        async def call() -> T:
            return what()

        return self.run(call())

    def run(self, what: Coroutine[Any, Any, T]) -> T:
        """Run it on the listener's loop to its end."""
        return asyncio.run_coroutine_threadsafe(what, self.loop).result(20)

    async def start(self, text: str) -> None:
        self.live = live_from(text, self.loop)
        app = admin_app(
            self.live,
            cast("Actions", None),  # nobody here changes anything
            Rates(self.live, self.loop),
            explain_json,
            self.live.loaded.config.admin,
            lambda *_, **__: None,
        )
        self._runner = web.AppRunner(app, **SERVING)
        await self._runner.setup()
        await self.listen()

    async def listen(self) -> None:
        assert self._runner is not None
        site = web.TCPSite(self._runner, "127.0.0.1", self.port)
        await site.start()
        self.port = self._runner.addresses[0][1]

    async def stop(self) -> None:
        """Answer no more."""
        assert self._runner is not None
        for site in list(self._runner.sites):
            await site.stop()

    async def clean_up(self) -> None:
        assert self._runner is not None
        await self._runner.cleanup()


@contextmanager
def admin(text: str = MINIMAL) -> Iterator[Served]:
    """Run an admin listener for as long as the block lasts."""
    served = Served()
    thread = threading.Thread(target=served.loop.run_forever, daemon=True)
    thread.start()
    try:
        served.run(served.start(text))
        try:
            yield served
        finally:
            served.run(served.clean_up())
    finally:
        served.loop.call_soon_threadsafe(served.loop.stop)
        thread.join(20)
        served.loop.close()
