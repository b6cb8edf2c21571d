"""The ops listener: read-only, for probes and Prometheus. aiohttp, apart from the traffic.

Live means that the event loop turns. Ready means that the configuration is loaded, the traffic listener is bound and
nothing is draining: never that an upstream is well, or a partial outage would become a full one.
"""

from aiohttp import web
from prometheus_client import CollectorRegistry
from prometheus_client.exposition import choose_encoder

from sidecar.telemetry.live import Live

__all__ = ["ops_app"]

_LIVE = ("/health/live", "/livez", "/healthz")
_READY = ("/health/ready", "/readyz")


def ops_app(state: Live, metrics: CollectorRegistry) -> web.Application:
    """Make the app that shows `state`, and `metrics` of it."""

    async def live(_: web.Request) -> web.Response:
        return web.json_response({"status": "alive"})

    async def ready(_: web.Request) -> web.Response:
        reason = state.not_ready
        if reason is None:
            return web.json_response({"status": "ready"})
        return web.json_response({"status": "not ready", "reason": reason}, status=503)

    async def scrape(request: web.Request) -> web.Response:
        encode, content_type = choose_encoder(request.headers.get("Accept", ""))
        return web.Response(body=encode(metrics), headers={"Content-Type": content_type})

    app = web.Application()
    for path in _LIVE:
        app.router.add_get(path, live)
    for path in _READY:
        app.router.add_get(path, ready)
    app.router.add_get("/metrics", scrape)
    return app
