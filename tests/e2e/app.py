"""An upstream as people write them: an aiohttp application, here with every kind of body and a few gates.

    python -m e2e.app [--unix PATH] [--port PORT] [--certificate FILE --key FILE [--client-ca FILE]]

prints `{"port": …}` and serves until it is ended. A `{key}` in a path is a word that a test makes up; what
happens under it is counted, and `GET /seen/{key}` tells.
"""

import argparse
import asyncio
import gzip
import json
import ssl
import struct
import zlib
from collections import Counter, defaultdict

from aiohttp import WSMsgType, web

from .pattern import BLOCK, Checker

GATES = web.AppKey("GATES", dict[str, asyncio.Event])
NOTES = web.AppKey("NOTES", dict[str, Counter[str]])

PAGE = """<!doctype html><html><head><title>a page</title></head><body>
<img id="dot" src="/dot.png"><p id="fetched">nothing yet</p><p id="posted">nothing yet</p>
<script>
  const show = (id, text) => document.getElementById(id).textContent = text;
  fetch("/hello").then(r => r.text()).then(t => show("fetched", "fetched " + t));
  fetch("/echo", {method: "POST", body: "this"}).then(r => r.text()).then(t => show("posted", "posted " + t));
  const dot = document.getElementById("dot");
  dot.decode().then(() => dot.alt = "width " + dot.naturalWidth);
</script></body></html>"""

routes = web.RouteTableDef()


@routes.get("/hello")
async def hello(request: web.Request) -> web.Response:
    return web.Response(text="hello")


@routes.get("/page")
async def page(request: web.Request) -> web.Response:
    return web.Response(text=PAGE, content_type="text/html")


@routes.get("/dot.png")
async def dot(request: web.Request) -> web.Response:
    return web.Response(body=_png(3, 2), content_type="image/png")


@routes.route("*", "/what{rest:.*}")
async def what(request: web.Request) -> web.Response:
    body = await request.read()
    return web.json_response(
        {
            "method": request.method,
            "target": request.raw_path,
            "version": f"{request.version.major}.{request.version.minor}",
            "fields": [[name.decode(), value.decode()] for name, value in request.raw_headers],
            "body": body.decode("latin-1"),
        }
    )


@routes.route("*", "/echo")
async def echo(request: web.Request) -> web.StreamResponse:
    response = web.StreamResponse(headers={"Content-Type": request.content_type})
    await response.prepare(request)
    async for piece in request.content.iter_any():
        await response.write(piece)
    return response


@routes.get("/chunked/{number}")
async def chunked(request: web.Request) -> web.StreamResponse:
    response = web.StreamResponse()
    response.enable_chunked_encoding()
    await response.prepare(request)
    for number in range(int(request.match_info["number"])):
        await response.write(b"piece %d\n" % number)
    return response


@routes.get("/gzip")
async def gzipped(request: web.Request) -> web.Response:
    body = gzip.compress(b"squeeze me " * 1000, mtime=0)
    return web.Response(body=body, headers={"Content-Encoding": "gzip", "Content-Type": "text/plain"})


@routes.get("/status/{status}")
async def status(request: web.Request) -> web.Response:
    return web.Response(status=int(request.match_info["status"]), text="as asked")


@routes.post("/upload/{key}")
async def upload(request: web.Request) -> web.Response:
    note = request.app[NOTES][request.match_info["key"]]
    note["arrived"] += 1
    checker = Checker()
    async for piece in request.content.iter_any():
        checker.feed(piece)
        note["bytes"] = checker.size
    return web.json_response({"bytes": checker.size, "right": checker.right})


@routes.get("/download/{key}/{size}")
async def download(request: web.Request) -> web.StreamResponse:
    """Send `size` bytes of the pattern; with `?chunked` without saying beforehand how many."""
    note = request.app[NOTES][request.match_info["key"]]
    note["arrived"] += 1
    left = int(request.match_info["size"])
    response = web.StreamResponse()
    if "chunked" in request.query:
        response.enable_chunked_encoding()
    else:
        response.content_length = left
    try:
        await response.prepare(request)
        while left:
            piece = BLOCK[:left]
            await response.write(piece)
            left -= len(piece)
            note["bytes"] += len(piece)
    except (asyncio.CancelledError, ConnectionError):
        note["cancelled"] += 1
        raise
    return response


@routes.get("/held/{key}")
async def held(request: web.Request) -> web.Response:
    """Answer when the gate is opened."""
    note = request.app[NOTES][request.match_info["key"]]
    note["arrived"] += 1
    try:
        await request.app[GATES][request.match_info["key"]].wait()
    except asyncio.CancelledError:
        note["cancelled"] += 1
        raise
    return web.Response(text="held, then answered")


@routes.post("/unread/{key}")
async def unread(request: web.Request) -> web.Response:
    """Take no byte of the body; answer when the gate is opened."""
    note = request.app[NOTES][request.match_info["key"]]
    note["arrived"] += 1
    try:
        await request.app[GATES][request.match_info["key"]].wait()
    except asyncio.CancelledError:
        note["cancelled"] += 1
        raise
    return web.Response()


@routes.get("/sse/{key}")
async def sse(request: web.Request) -> web.StreamResponse:
    """Send an event at once and another one when the gate is opened."""
    response = web.StreamResponse(headers={"Content-Type": "text/event-stream", "Cache-Control": "no-cache"})
    await response.prepare(request)
    await response.write(b"data: one\n\n")
    await request.app[GATES][request.match_info["key"]].wait()
    await response.write(b"data: two\n\n")
    return response


@routes.post("/gate/{key}")
async def gate(request: web.Request) -> web.Response:
    request.app[GATES][request.match_info["key"]].set()
    return web.Response()


@routes.get("/seen/{key}")
async def seen(request: web.Request) -> web.Response:
    return web.json_response(request.app[NOTES][request.match_info["key"]])


@routes.get("/ws")
async def websocket(request: web.Request) -> web.WebSocketResponse:
    socket = web.WebSocketResponse(max_msg_size=0, protocols=("echo",), compress=False)
    await socket.prepare(request)
    async for message in socket:
        if message.type is WSMsgType.TEXT and message.data == "bye":
            await socket.close(code=4001)
        elif message.type is WSMsgType.TEXT:
            await socket.send_str(message.data)
        elif message.type is WSMsgType.BINARY:
            await socket.send_bytes(message.data)
    return socket


def _png(width: int, height: int) -> bytes:
    """Make a red picture."""

    def part(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    lines = (b"\0" + b"\xff\0\0" * width) * height
    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n" + part(b"IHDR", head) + part(b"IDAT", zlib.compress(lines)) + part(b"IEND", b"")
    )


def _context(options: argparse.Namespace) -> ssl.SSLContext | None:
    if options.certificate is None:
        return None
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(options.certificate, options.key)
    if options.client_ca is not None:
        context.load_verify_locations(options.client_ca)
        context.verify_mode = ssl.CERT_REQUIRED
    return context


async def main(options: argparse.Namespace) -> None:
    app = web.Application(client_max_size=0)
    gates: dict[str, asyncio.Event] = defaultdict(asyncio.Event)
    notes: dict[str, Counter[str]] = defaultdict(Counter)
    app[GATES] = gates
    app[NOTES] = notes
    app.add_routes(routes)
    runner = web.AppRunner(app, access_log=None, handler_cancellation=True, keepalive_timeout=300)
    await runner.setup()
    context = _context(options)
    site: web.BaseSite
    if options.unix is not None:
        site = web.UnixSite(runner, options.unix, ssl_context=context)
    else:
        site = web.TCPSite(
            runner, "127.0.0.1", options.port, ssl_context=context, backlog=2048, reuse_address=True
        )
    await site.start()
    port = 0 if options.unix is not None else runner.addresses[0][1]
    print(json.dumps({"port": port}), flush=True)
    await asyncio.Event().wait()


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--port", type=int, default=0)
    for name in ("--unix", "--certificate", "--key", "--client-ca"):
        parser.add_argument(name)
    asyncio.run(main(parser.parse_args()))
