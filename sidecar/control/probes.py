"""Probes without aiohttp: what a request for one looks like, and what it is told. Nothing here touches a socket.

A probe is GET or HEAD of one of the paths below, in HTTP/1.0 or 1.1 (RFC 9112 §3), without query, body or anything behind
the head. It is recognised strictly: whatever is not plainly a probe is left to aiohttp, which judges it as it always has.

`Pulse` is what the event loop leaves for the thread that answers (`control/porter.py`): plain attributes, written by the
one and read by the other. **Live** means that the loop turns. A busy loop is late, by a second or so at worst, and must
be left alone; one that has not turned for `STUCK_AFTER` hangs, and nothing but a restart mends it: 503.
"""

import asyncio
import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from time import monotonic
from typing import Final, Literal

from sidecar.dates import http_date
from sidecar.telemetry.condition import not_ready
from sidecar.telemetry.live import Live

__all__ = ["LIVE", "MOST_HEAD", "READY", "STARTUP", "STUCK_AFTER", "Probe", "Pulse", "answer", "read"]

LIVE: Final = ("/health/live", "/livez", "/healthz")
READY: Final = ("/health/ready", "/readyz")
STARTUP: Final = ("/health/startup",)

MOST_HEAD = 8192  # octets of a head that is looked at
STUCK_AFTER = 10.0  # seconds; turns of a loop that is only busy take less than one

_EVERY = 0.25  # seconds between two beats

_PATHS: Final = {path.encode(): paths[0] for paths in (LIVE, READY, STARTUP) for path in paths}
_BEGINNINGS: Final = [method + path + b" HTTP/1." for method in (b"GET ", b"HEAD ") for path in _PATHS]
_HEAD = re.compile(
    rb"(GET|HEAD) (\S+) HTTP/1\.([01])\r\n((?:[!#$%&'*+.^_`|~0-9A-Za-z-]+:[\t\x20-\x7e\x80-\xff]*\r\n)*)\r\n"
)
_NOT_OURS: Final = {
    b"content-length",
    b"transfer-encoding",
    b"expect",
    b"upgrade",
    b"content-encoding",
    b"http2-settings",
}
_PERSISTENCE: Final = {b"close": False, b"keep-alive": True}


@dataclass(frozen=True, slots=True)
class Probe:
    """What was asked: the first name of the path, whether with HEAD, and how the connection goes on."""

    path: str
    head: bool
    minor: int  # of HTTP/1
    keep: bool


def read(data: bytes) -> Probe | Literal["more", "other"]:
    """Tell which probe `data` is, the whole of it; `more`: it may become one; `other`: it is something else."""
    if not any(data.startswith(each[: len(data)]) for each in _BEGINNINGS) or len(data) > MOST_HEAD:
        return "other"
    if b"\n\r\n" not in data and b"\n\n" not in data:
        return "more"
    found = _HEAD.fullmatch(data)
    if found is None:
        return "other"
    method, path, minor, rest = found.groups()
    keep = minor == b"1"
    seen = False
    for line in rest.split(b"\r\n")[:-1]:
        name, _, value = line.partition(b":")
        name = name.lower()
        if name in _NOT_OURS:
            return "other"
        if name == b"connection":
            wanted = _PERSISTENCE.get(value.strip().lower())
            if wanted is None or seen:
                return "other"
            keep, seen = wanted, True
    return Probe(_PATHS[path], method == b"HEAD", int(minor), keep)


class Pulse:
    """The loop's heartbeat, and what of readiness only the loop can find out. `clock` gives seconds, in any thread."""

    __slots__ = ("_clock", "_live", "_loop", "_timer", "beat", "lacks")

    def __init__(
        self, loop: asyncio.AbstractEventLoop, live: Live, clock: Callable[[], float] = monotonic
    ) -> None:
        self._loop = loop
        self._live = live
        self._clock = clock
        self._timer: asyncio.TimerHandle | None = None
        self.beat = clock()
        self.lacks: str | None = None  # why it is not ready, besides what `live.not_ready` says

    def start(self) -> None:
        """Begin to beat. On the loop."""
        self.beat = self._clock()
        self._timer = self._loop.call_later(_EVERY, self.start)
        # What the thread reads by itself is left out, or it would outlast its end by a beat.
        self.lacks = not_ready(self._live) if self._live.not_ready is None else None

    def stop(self) -> None:
        """Beat no more."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    @property
    def stuck_for(self) -> float | None:
        """For how many seconds the loop has been hanging; None: it turns."""
        age = self._clock() - self.beat
        return age if age > STUCK_AFTER else None

    def told(self, path: str) -> tuple[int, Mapping[str, str | float]]:
        """Give the status and the JSON for a path's first name. In any thread."""
        reason = self._live.not_ready
        if path == STARTUP[0]:
            return (503, {"status": "starting"}) if reason == "starting" else (200, {"status": "started"})
        stuck = self.stuck_for
        if path == LIVE[0]:
            return (
                (503, {"status": "stuck", "seconds": round(stuck, 1)})
                if stuck
                else (200, {"status": "alive"})
            )
        reason = reason or self.lacks or ("the event loop is stuck" if stuck else None)
        return (503, {"status": "not ready", "reason": reason}) if reason else (200, {"status": "ready"})


def answer(probe: Probe, pulse: Pulse) -> bytes:
    """Write the whole answer, as aiohttp would."""
    status, found = pulse.told(probe.path)
    body = json.dumps(found).encode() + b"\n"
    connection = b""
    if probe.keep != (probe.minor == 1):
        connection = b"Connection: keep-alive\r\n" if probe.keep else b"Connection: close\r\n"
    return b"".join(
        (
            b"HTTP/1.%d %d %b\r\n"
            % (probe.minor, status, b"OK" if status == 200 else b"Service Unavailable"),
            b"Content-Type: application/json; charset=utf-8\r\nCache-Control: no-store\r\nServer: sidecar\r\n",
            b"Content-Length: %d\r\nDate: %b\r\n" % (len(body), http_date()),
            connection,
            b"\r\n",
            b"" if probe.head else body,
        )
    )
