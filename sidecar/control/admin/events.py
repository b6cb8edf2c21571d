"""`GET /events`: changes of state as server-sent events (HTML Living Standard §9.2), for the live page and for scripts.

    id: 17
    event: breaker
    data: {"at": 1767225600.0, "name": "database", "from": "CLOSED", "to": "OPEN", …}

With `Last-Event-ID` the stream begins with what is kept of the events since that one; what is not kept any more, and what
a slow reader lost, is told by an event `missed` with its number. With `snapshot=1s` the whole state comes as well, now
and then every so often, as an event `snapshot` without a number. A comment every `COMMENT` seconds shows both sides, and
whatever is between them, that the other one is still there.

A stream ends when its client leaves, when it takes nothing for `STUCK` seconds, when the program stops, and when a reload
has changed who may be here: whoever still may comes again and goes on where he was.
"""

import asyncio
import json
from contextlib import suppress

from aiohttp import web

from sidecar.config.observing import AdminConfig
from sidecar.control.admin.asking import seconds
from sidecar.control.admin.endpoint import Call, Control
from sidecar.control.admin.problem import Problem
from sidecar.control.admin.slices import dumped, state
from sidecar.control.admin.streams import MOST, Listener
from sidecar.telemetry.hub import Happening, Hub
from sidecar.telemetry.live import Live
from sidecar.telemetry.rates import Rates

__all__ = ["COMMENT", "EVENT_STREAM", "STUCK", "events", "snapshot_event"]

EVENT_STREAM = "text/event-stream"
COMMENT = 15.0  # seconds
STUCK = 30.0  # seconds for which a write may wait for its reader

_HELLO = b"retry: 2000\n\n"  # milliseconds after which a browser asks again
_COMMENT = b": still here\n\n"
_LONGEST_PAUSE = "1m"


async def events(control: Control, call: Call) -> web.StreamResponse:
    """Stream what happens, until the client leaves."""
    streams = control.streams
    admission = control.admission()  # nothing was waited for meanwhile: this is what has let him in
    if len(streams) >= MOST:
        detail = f"{MOST} others listen already, and no more can."
        raise Problem(503, "too_many_listeners", detail, headers={"Retry-After": "5"})
    every = _every(call)
    hub = control.live.hub
    after = _last_id(call.request, hub)
    response = web.StreamResponse(
        headers={"Content-Type": f"{EVENT_STREAM}; charset=utf-8", "X-Accel-Buffering": "no"}
    )
    with streams.listening(after, every) as listener, suppress(ConnectionError):
        await response.prepare(call.request)
        await _write(call.request, response, _HELLO + _missed(_lost(after, hub)))
        await _stream(call, response, listener, control, admission)
    return response


async def snapshot_event(live: Live, rates: Rates) -> bytes:
    """Give the whole state as an event."""
    return _event("snapshot", await dumped(await state(live, rates)))


async def _stream(
    call: Call,
    response: web.StreamResponse,
    listener: Listener,
    control: Control,
    admission: AdminConfig,
) -> None:
    while not listener.ended:
        said = b""
        if listener.due:
            listener.due = False
            said = await control.streams.latest()
        else:
            try:
                async with asyncio.timeout(COMMENT):
                    missed, taken = await listener.take()
                said = _missed(missed) + b"".join([_numbered(event) for event in taken])
            except TimeoutError:
                said = _COMMENT
        if control.admission() != admission:
            return  # a reload is an event, so this is seen at once
        if said:
            await _write(call.request, response, said)


async def _write(request: web.Request, response: web.StreamResponse, data: bytes) -> None:
    """Send, and wait until the reader has taken enough of it.

    Raises:
        ConnectionError: it has gone, or takes nothing.

    """
    try:
        async with asyncio.timeout(STUCK):
            await response.write(data)
    except TimeoutError as error:
        if request.transport is not None:
            request.transport.abort()
        raise ConnectionResetError("the reader takes nothing") from error


def _every(call: Call) -> int:
    """Give how many seconds lie between snapshots; 0: none are wanted."""
    said = call.one("snapshot")
    if said is None:
        return 0
    pause = seconds(said, "snapshot", most=_LONGEST_PAUSE)
    if pause % 1:
        raise Problem(400, "bad_value", "`snapshot` must be whole seconds.")
    return int(pause)


def _last_id(request: web.Request, hub: Hub) -> int | None:
    """Give the number of the last event that the client has seen; None: it does not say.

    One that there has not been yet is of an earlier run of the program: then all that is kept is new to it.
    """
    said = request.headers.get("Last-Event-ID", "")
    if not (said.isascii() and said.isdigit() and len(said) <= 18):
        return None
    newest = hub.recent[-1].id if hub.recent else 0
    return int(said) if int(said) <= newest else 0


def _lost(after: int | None, hub: Hub) -> int:
    """Tell how many events since number `after` are not kept any more."""
    if after is None or not hub.recent:
        return 0
    return max(0, hub.recent[0].id - after - 1)


def _missed(number: int) -> bytes:
    return _event("missed", json.dumps({"count": number}).encode()) if number else b""


def _numbered(event: Happening) -> bytes:
    data = json.dumps({"at": round(event.at, 3), **event.data}, default=str)
    return b"id: %d\n" % event.id + _event(event.kind, data.encode())


def _event(kind: str, data: bytes) -> bytes:
    """Give an event. `data` is JSON, which has no line break."""
    return b"event: %b\ndata: %b\n\n" % (kind.encode(), data)
