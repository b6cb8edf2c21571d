"""A service that misbehaves on purpose, for `sidecar demo`.

Run as a program it is the demo's child process. It serves the listening socket that it inherits, and it ends
when its stdin does: the write end of that pipe is held by the parent alone, so that no death of the parent,
not even by SIGKILL, leaves this process behind.
"""

import asyncio
import json
import socket
import sys
import time
from collections.abc import Awaitable, Callable
from itertools import count

from aiohttp import WSMsgType, web

__all__ = ["create_app"]

FLAPPING_PERIOD = 10.0  # seconds up, then as many down
DEFAULT_SLOW_MS = 3000
LONGEST_MS = 60_000
MOST_BYTES = 10 * 2**30  # of one download
CHUNK = b"0123456789abcdef" * 4096  # 64 KiB

ORDERS = [
    {"id": 1, "item": "tea", "quantity": 2},
    {"id": 2, "item": "coffee", "quantity": 1},
]
HELLO = """\
Hello from the demo service. It misbehaves on purpose:

  /orders      a list, as JSON
  /slow?ms=N   answers after N milliseconds (3000)
  /flaky       fails every other request with 503
  /flapping    10 s up, 10 s down
  /down        always 500
  /drop        closes the connection without an answer
  /halfway     breaks off in the middle of the body
  /stream      a tick every second, as server-sent events
  /ws          a WebSocket that answers with what it hears
  /upload      counts the bytes of the body it is sent
  /bytes/N     N bytes
  /chaos       is well; the sidecar holds up every other request for it
"""


def create_app(
    *, now: Callable[[], float] = time.monotonic, sleep: Callable[[float], Awaitable[object]] = asyncio.sleep
) -> web.Application:
    """Build the service. `now` (seconds, any origin) and `sleep` (seconds) are its clock."""
    service = _Service(now, sleep)
    app = web.Application()
    app.add_routes(
        [
            web.get("/", service.hello),
            web.get("/orders", service.orders),
            web.get("/chaos", service.chaos),
            web.get("/slow", service.slow),
            web.route("*", "/flaky", service.flaky),
            web.get("/flapping", service.flapping),
            web.get("/down", service.down),
            web.route("*", "/drop", service.drop),
            web.get("/halfway", service.halfway),
            web.get("/stream", service.stream),
            web.get("/ws", service.websocket),
            web.route("*", "/upload", service.upload),
            web.get(r"/bytes/{n:\d+}", service.download),
        ]
    )
    return app


class _Service:
    """The handlers, and what they remember: how often `/flaky` was asked, and when the service began."""

    def __init__(self, now: Callable[[], float], sleep: Callable[[float], Awaitable[object]]) -> None:
        self._now = now
        self._sleep = sleep
        self._began = now()
        self._flaky = count()

    async def hello(self, _: web.Request) -> web.Response:
        return web.Response(text=HELLO)

    async def orders(self, _: web.Request) -> web.Response:
        return _json(ORDERS)

    async def chaos(self, _: web.Request) -> web.Response:
        return web.Response(text="not my fault\n")

    async def slow(self, request: web.Request) -> web.Response:
        ms = _number(request, "ms", DEFAULT_SLOW_MS, most=LONGEST_MS)
        await self._sleep(ms / 1000)
        return web.Response(text=f"answered after {ms} ms\n")

    async def flaky(self, _: web.Request) -> web.Response:
        if next(self._flaky) % 2 == 0:
            return web.Response(status=503, text="flaky: not this time\n")
        return web.Response(text="flaky: this time it works\n")

    async def flapping(self, _: web.Request) -> web.Response:
        phase = (self._now() - self._began) % (2 * FLAPPING_PERIOD)
        if phase >= FLAPPING_PERIOD:
            return web.Response(status=503, text=f"down for another {2 * FLAPPING_PERIOD - phase:.0f} s\n")
        return web.Response(text=f"up for another {FLAPPING_PERIOD - phase:.0f} s\n")

    async def down(self, _: web.Request) -> web.Response:
        return web.Response(status=500, text="down, as always\n")

    async def drop(self, request: web.Request) -> web.StreamResponse:
        _hang_up(request)
        return web.Response()  # goes nowhere

    async def halfway(self, request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Length": "2000", "Content-Type": "text/plain"})
        await response.prepare(request)
        await response.write(b"x" * 1000)
        _hang_up(request)
        return response

    async def stream(self, request: web.Request) -> web.StreamResponse:
        ticks = _number(request, "n", sys.maxsize, most=sys.maxsize)
        response = web.StreamResponse(
            headers={"Content-Type": "text/event-stream", "Cache-Control": "no-store"}
        )
        await response.prepare(request)
        for tick in range(ticks):
            await response.write(f"data: {json.dumps({'tick': tick})}\n\n".encode())
            await self._sleep(1)
        return response

    async def websocket(self, request: web.Request) -> web.WebSocketResponse:
        echo = web.WebSocketResponse()
        await echo.prepare(request)
        async for message in echo:
            if message.type == WSMsgType.TEXT:
                await echo.send_str(message.data)
            elif message.type == WSMsgType.BINARY:
                await echo.send_bytes(message.data)
        return echo

    async def upload(self, request: web.Request) -> web.Response:
        total = 0
        async for chunk in request.content.iter_any():
            total += len(chunk)
        return _json({"bytes": total})

    async def download(self, request: web.Request) -> web.StreamResponse:
        left = int(request.match_info["n"])
        if left > MOST_BYTES:
            raise web.HTTPBadRequest(text=f"at most {MOST_BYTES} bytes\n")
        response = web.StreamResponse(
            headers={"Content-Length": str(left), "Content-Type": "application/octet-stream"}
        )
        await response.prepare(request)
        while left > 0:
            chunk = CHUNK[:left]
            await response.write(chunk)
            left -= len(chunk)
        return response


def _number(request: web.Request, name: str, default: int, *, most: int) -> int:
    text = request.query.get(name, str(default))
    if not (text.isascii() and text.isdigit() and len(text) < 20 and int(text) <= most):
        raise web.HTTPBadRequest(text=f"{name} is a number from 0 to {most}\n")
    return int(text)


def _json(value: object) -> web.Response:
    return web.json_response(text=json.dumps(value) + "\n")  # a line of its own on somebody's terminal


def _hang_up(request: web.Request) -> None:
    """Close the connection; what was already written still goes out."""
    if request.transport is not None:
        request.transport.close()


async def _serve(listener: socket.socket, lifeline: int) -> None:
    runner = web.AppRunner(create_app(), access_log=None, handler_cancellation=True, shutdown_timeout=0.5)
    await runner.setup()
    await web.SockSite(runner, listener).start()
    parent_gone = asyncio.Event()
    asyncio.get_running_loop().add_reader(lifeline, parent_gone.set)  # nobody writes: readable means ended
    await parent_gone.wait()
    asyncio.get_running_loop().remove_reader(lifeline)
    await runner.cleanup()


if __name__ == "__main__":
    asyncio.run(_serve(socket.socket(fileno=int(sys.argv[1])), sys.stdin.fileno()))
