"""Fetching a copy again behind the answer that was made of it (`stale-while-revalidate`, RFC 5861 §3).

Nobody waits for it, nobody is told of it, and no client can end it, so it has a bound of its own: on head and body
together. Where it fails, the copy that there is stays as it is, and the next one who asks tries again.
"""

import asyncio

from sidecar.errors import RequestError
from sidecar.message import Body, Reply, Request
from sidecar.pipeline.capture import Capture
from sidecar.pipeline.exchange import Exchange
from sidecar.pipeline.stage import Call
from sidecar.pipeline.stages.keeping import Keeper
from sidecar.policy.cache import Asking
from sidecar.policy.conditions import revalidating
from sidecar.policy.store import Entry

__all__ = ["fetch_behind", "request_behind"]

_SECONDS = 60.0  # on a route without a total deadline


def request_behind(request: Request, copy: Entry | None) -> Request:
    """Give the request that fetches a copy again: the client's, without what only that client wants to know."""
    fields = request.fields.without(b"cache-control")
    if copy is not None:
        fields = revalidating(fields, copy.etag, copy.last_modified)
    behind = Request(b"GET", request.target, fields, request.minor)
    behind.host = request.host
    behind.tail = request.tail
    behind.client = request.client
    behind.request_id = request.request_id
    return behind


async def fetch_behind(
    call: Call, exchange: Exchange, asking: Asking, keeper: Keeper, seconds: float | None
) -> None:
    """Ask through `call`, and keep the answer. Ends the flight that `asking` leads, whatever happens."""
    try:
        async with asyncio.timeout(seconds or _SECONDS):
            reply = await call(exchange)
            try:
                await _keep(asking, reply, keeper)
            finally:
                reply.close()
    except (RequestError, TimeoutError):
        pass
    finally:
        keeper.land(asking, None)


async def _keep(asking: Asking, reply: Reply, keeper: Keeper) -> None:
    copy = asking.copy
    try:
        if reply.status == 304 and copy is not None:
            keeper.renew(asking, copy, reply)
            return
        kept = keeper.keep(asking, reply)
    except Exception:  # noqa: BLE001 -- a fault of the cache is counted; there is no request that it could hurt
        keeper.on_fault()
        return
    capture, body = asking.capture, reply.body
    if isinstance(capture, Capture) and isinstance(body, Body):
        while capture.keeps and await body.read():
            pass
        kept = capture.is_whole
    if not kept and copy is not None and reply.status < 500:
        copy.swr = 0.0  # it has become something that is not kept: the next one who asks shall get that
