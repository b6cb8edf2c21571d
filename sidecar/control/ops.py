"""The ops listener: read-only, for probes and Prometheus. aiohttp, apart from the traffic, and free of its limits.

| path | answers 200 | else |
|---|---|---|
| `/health/live`, `/livez`, `/healthz` | while the event loop turns | 503 by the thread; no answer by aiohttp |
| `/health/startup` | once the configuration was loaded and the traffic listener bound | 503 |
| `/health/ready`, `/readyz` | while traffic should come here | 503 with the `reason` |
| `/health`, `/api/health` | while healthy or degraded: JSON, see `control/health.py` | 503, the same JSON |
| `/health/detailed` | the same, with CPU, memory, disk and event loop | 503, the same JSON |
| `/metrics` | for Prometheus, in the format that it asks for | |

Plain requests for the first three rows never come here: a thread answers them in the same words (`porter`). The handlers
here are for those that it leaves alone, such as one with a query or a body.

**Ready** means that the configuration is loaded, the traffic listener is bound and nothing is draining: not that an
upstream is well, or a partial outage would become a full one. With `readiness.require_upstream: true` it is also not
ready (`no upstream is usable`) while every upstream that a route goes to is unusable: its probes say that it is failing,
or, if it has none, all of its own breakers are OPEN, those that are enforced and guard no route to another upstream, and
there is one. The rule, and what healthy and degraded mean, stands in `telemetry/condition.py`.

HEAD works where GET does, any other method is 405, any other path 404. Nothing here may be kept by a cache. Anybody on
the network may ask: no answer has an address, a path, a secret, a version of a library or a request's data in it.
"""

import asyncio
import json
from typing import Any

from aiohttp import web

from sidecar.control.gate import being_answered
from sidecar.control.health import Copies, Json, detailed_json, health_json
from sidecar.control.malformed import dress_malformed
from sidecar.telemetry.condition import not_ready
from sidecar.telemetry.exposition import Registry, exposition
from sidecar.telemetry.live import Live
from sidecar.telemetry.system import SYSTEM

__all__ = ["ops_app"]

_LIVE = ("/health/live", "/livez", "/healthz")
_READY = ("/health/ready", "/readyz")
_HEALTH = ("/health", "/api/health")

_MANY = 50


def ops_app(state: Live, metrics: Registry) -> web.Application:
    """Make the app that shows `state`, and `metrics` of it."""
    copies = Copies(state)

    async def live(_: web.Request) -> web.Response:
        return _json({"status": "alive"})

    async def ready(_: web.Request) -> web.Response:
        reason = not_ready(state)
        if reason is None:
            return _json({"status": "ready"})
        return _json({"status": "not ready", "reason": reason}, status=503)

    async def startup(_: web.Request) -> web.Response:
        if state.not_ready == "starting":
            return _json({"status": "starting"}, status=503)
        return _json({"status": "started"})

    async def health(_: web.Request) -> web.Response:
        return await _told(await health_json(state, copies))

    async def detailed(_: web.Request) -> web.Response:
        return await _told(await detailed_json(state, copies))

    async def scrape(request: web.Request) -> web.Response:
        body, headers = await exposition(
            metrics, request.headers.get("Accept", ""), request.headers.get("Accept-Encoding", "")
        )
        return web.Response(body=body, headers=headers)

    app = web.Application(middlewares=[_busy])
    for paths, handler in ((_LIVE, live), (_READY, ready), (_HEALTH, health)):
        for path in paths:
            app.router.add_get(path, handler)
    app.router.add_get("/health/startup", startup)
    app.router.add_get("/health/detailed", detailed)
    app.router.add_get("/metrics", scrape)
    app.on_response_prepare.append(_dress)
    dress_malformed(app, _dress)
    SYSTEM.disks()  # asked now, so that the answer is there when somebody wants to know
    return app


def _json(found: Json, status: int = 200) -> web.Response:
    """Give an answer whose last line ends, for those who read it in a terminal."""
    return web.json_response(text=json.dumps(found) + "\n", status=status)


async def _told(found: Json) -> web.Response:
    if len(found["services"]) > _MANY:
        await asyncio.sleep(0)  # with hundreds of them, making this and writing it take a millisecond each
    status = 503 if found["status"] == "unhealthy" else 200
    return _json(found, status=status)


@web.middleware
async def _busy(request: web.Request, handler: Any) -> web.StreamResponse:
    """Let the gate know who waits for an answer."""
    with being_answered(request.transport):
        answer: web.StreamResponse = await handler(request)
        return answer


async def _dress(_: web.Request, response: web.StreamResponse) -> None:
    """Keep it out of caches, and do not tell which versions of what answer here."""
    response.headers["Cache-Control"] = "no-store"
    response.headers["Server"] = "sidecar"
