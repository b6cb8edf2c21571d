"""What aiohttp answers by itself to bytes that are no request, dressed like every other answer of an app.

No handler, middleware or signal of the app sees those: aiohttp makes a request of its own of them, which has been to no
route, and answers 400. That request is the one place where the answer can still be had.
"""

from collections.abc import Awaitable, Callable
from functools import partial

from aiohttp import web

__all__ = ["dress_malformed"]


def dress_malformed(
    app: web.Application, dress: Callable[[web.Request, web.StreamResponse], Awaitable[None]]
) -> None:
    """Let `dress` see these answers before they are sent, as `on_response_prepare` sees the others."""

    class Request(web.Request):
        """One that may have been to no route."""

        async def _prepare_hook(self, response: web.StreamResponse) -> None:
            if self._match_info is None:
                await dress(self, response)
            else:
                await super()._prepare_hook(response)

    # aiohttp has no public way to say of what class requests are; where it takes this from is looked up when it serves.
    vars(app)["_make_request"] = partial(app._make_request, _cls=Request)
