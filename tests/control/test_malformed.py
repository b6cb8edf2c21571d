"""What aiohttp answers by itself goes through the same hands as what an app answers."""

import asyncio
from typing import Any

from aiohttp import web
from pytest_aiohttp import AiohttpClient

from sidecar.control.malformed import dress_malformed


async def dress(_: web.Request, response: web.StreamResponse) -> None:
    response.headers["Server"] = "us"
    response.headers["X-Dressed"] = "once" if "X-Dressed" not in response.headers else "twice"


async def hello(_: web.Request) -> web.Response:
    return web.Response(text="hello")


async def test_bytes_that_are_no_request_are_answered_in_the_same_dress(
    aiohttp_client: AiohttpClient,
) -> None:
    app = web.Application()
    app.router.add_get("/", hello)
    app.on_response_prepare.append(dress)
    dress_malformed(app, dress)
    client = await aiohttp_client(app)
    host: Any = client.host

    heads = []
    for sent in (b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n", b"nonsense\r\n\r\n"):
        reader, writer = await asyncio.open_connection(host, client.port)
        writer.write(sent)
        status, _, head = (await reader.read()).partition(b"\r\n\r\n")[0].partition(b"\r\n")
        writer.close()
        fields = dict(line.split(b": ") for line in head.split(b"\r\n"))
        heads.append((status.split()[1], fields[b"Server"], fields[b"X-Dressed"]))

    assert heads == [(b"200", b"us", b"once"), (b"400", b"us", b"once")]
