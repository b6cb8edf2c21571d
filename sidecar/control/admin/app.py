"""The admin listener: everything that can be seen and done there, one row each. aiohttp, apart from the traffic.

A row is all that there is to say of a path: the routes, the checks of what is asked, the audit and `/openapi.json` are
made from it.
"""

import logging
from collections.abc import Callable, Mapping
from typing import Any, Final

from aiohttp import web

from sidecar.config.observing import AdminConfig
from sidecar.control.actions import Actions
from sidecar.control.admin import breakers, cache, log_level, maintenance, requests, views
from sidecar.control.admin.asking import BODY_SECONDS, MAX_BODY
from sidecar.control.admin.audit import Audit
from sidecar.control.admin.endpoint import Call, Control, Endpoint, Explain
from sidecar.control.admin.entrance import Entrance, Malformed, on_expect, secure
from sidecar.control.admin.events import EVENT_STREAM, events, snapshot_event
from sidecar.control.admin.explain import explain as explained
from sidecar.control.admin.guard import Guard
from sidecar.control.admin.openapi import description
from sidecar.control.admin.page import page
from sidecar.control.admin.reload import reload
from sidecar.control.admin.schemas import (
    BREAKER,
    FILTERS,
    LEVELED,
    MAINTAINED,
    ONE_BREAKER,
    ONE_ROUTE,
    QUESTION,
    RESET,
    RETRY_AFTER,
    ROUTE,
    ROWS,
    SNAPSHOT,
    THE_LEVEL,
    TTL,
)
from sidecar.control.admin.streams import Streams
from sidecar.control.malformed import dress_malformed
from sidecar.telemetry.live import Live
from sidecar.telemetry.rates import Rates

__all__ = ["SERVING", "admin_app", "table"]

SERVING: Final[Mapping[str, Any]] = {
    "access_log": None,
    "handler_cancellation": True,  # whoever leaves ends what was read for him
    "keepalive_timeout": 30.0,  # seconds; also for a head that does not come
    "lingering_time": 2.0,  # seconds for the rest of a body that was refused
}
"""How aiohttp serves the app."""


def table() -> list[Endpoint]:
    """Give all that there is."""
    rows = [
        Endpoint("GET", "/", page, "The live page.", media=("text/html",), is_open=True),
        Endpoint("GET", "/state", views.state, "Everything that the live page shows."),
        Endpoint("GET", "/breakers", breakers.listed, "The breakers.", answer=_listed(BREAKER)),
        Endpoint(
            "GET",
            "/breakers/{name}",
            breakers.shown,
            "A breaker, with its last changes, the newest first.",
            answer=BREAKER,
        ),
        Endpoint(
            "POST",
            "/breakers/{name}/reset",
            breakers.reset,
            "Makes a breaker automatic again, and CLOSED, with new counts.",
            action="breaker.reset",
            answer=BREAKER,
        ),
        Endpoint(
            "POST",
            "/breakers/{name}/open",
            breakers.force_open,
            "Forces a breaker OPEN: it refuses everything.",
            action="breaker.open",
            query=(TTL,),
            answer=BREAKER,
        ),
        Endpoint(
            "POST",
            "/breakers/{name}/close",
            breakers.close,
            "Forces a breaker CLOSED: it lets everything pass.",
            action="breaker.close",
            query=(TTL,),
            answer=BREAKER,
        ),
        *(
            Endpoint(
                "POST",
                path,
                breakers.reset_all,
                "Resets all breakers, or one.",
                action="breakers.reset",
                query=(ONE_BREAKER,),
                answer=RESET,
            )
            for path in ("/breakers/reset", "/api/admin/reset-circuit-breakers")
        ),
        Endpoint("GET", "/routes", views.routes, "The routes in file order.", answer=ROWS),
        Endpoint("GET", "/upstreams", views.upstreams, "The upstreams.", answer=ROWS),
        Endpoint("GET", "/bulkheads", views.bulkheads, "The bulkheads and their queues.", answer=ROWS),
        Endpoint("GET", "/rate-limits", views.rate_limits, "The rate limits.", answer=ROWS),
        Endpoint("GET", "/budgets", views.budgets, "The retry budgets.", answer=ROWS),
        Endpoint(
            "GET",
            "/cache",
            views.cache,
            "The stored answers in numbers; null: there is no cache.",
            answer={"type": ["object", "null"]},
        ),
        Endpoint(
            "DELETE",
            "/cache",
            cache.clear,
            "Drops the stored answers, those of one route or all.",
            action="cache.clear",
            query=(ONE_ROUTE,),
        ),
        Endpoint(
            "GET",
            "/config",
            views.Configuration(),
            "The configuration in force and where its values come from, without secrets.",
            media=("application/json", *views.YAML),
        ),
        Endpoint(
            "POST",
            "/config/reload",
            reload,
            "Reads the configuration file again. A wrong one is refused with its lines, and changes nothing.",
            action="config.reload",
        ),
        Endpoint(
            "GET",
            "/requests",
            requests.requests,
            "What became of single requests, the newest first.",
            query=FILTERS,
            answer=ROWS,
        ),
        Endpoint(
            "GET",
            "/explain",
            explained,
            "What would become of a request, and why, without sending it.",
            query=QUESTION,
        ),
        Endpoint(
            "GET",
            "/events",
            events,
            "Changes of state as server-sent events; `Last-Event-ID` goes on where a stream broke.",
            query=(SNAPSHOT,),
            media=(EVENT_STREAM,),
        ),
        Endpoint(
            "GET", "/maintenance", maintenance.shown, "The routes under maintenance.", answer=MAINTAINED
        ),
        Endpoint(
            "PUT",
            "/maintenance",
            maintenance.begin,
            "Answers the requests of a route, or of all, with 503.",
            action="maintenance.begin",
            body=(ROUTE, RETRY_AFTER),
            answer=MAINTAINED,
        ),
        Endpoint(
            "DELETE",
            "/maintenance",
            maintenance.end,
            "Lets them through again.",
            action="maintenance.end",
            body=(ROUTE,),
            answer=MAINTAINED,
        ),
        Endpoint("GET", "/log-level", log_level.level, "How much the log says.", answer=LEVELED),
        Endpoint(
            "PUT",
            "/log-level",
            log_level.set_level,
            "Makes the log say more or less, until the next reload or start.",
            action="log_level.set",
            body=(THE_LEVEL,),
            answer=LEVELED,
        ),
    ]

    async def openapi(_: Control, __: Call) -> Any:
        return described

    rows.append(Endpoint("GET", "/openapi.json", openapi, "This description.", is_open=True))
    described = description(rows)
    return rows


def admin_app(  # noqa: PLR0917 -- whoever wires it names what it is made of, once
    live: Live,
    actions: Actions,
    rates: Rates,
    explain: Explain,
    settings: AdminConfig,
    audit: Callable[..., None],
    *,
    body_seconds: float = BODY_SECONDS,
) -> web.Application:
    """Make the app. `audit` writes one line of the log: a name and fields.

    `settings` say who is let in until a reload brings others. A body may take `body_seconds`.
    """
    at_start = live.loaded

    def in_force() -> AdminConfig:
        return settings if live.loaded is at_start else live.loaded.config.admin

    rows = table()
    streams = Streams(live.hub, lambda: snapshot_event(live, rates))
    kept = Audit(live, audit, rows)
    logger = logging.Logger("admin")  # noqa: LOG001 -- of this app alone: one by name is the process's
    logger.addHandler(Malformed(kept))
    app = web.Application(
        client_max_size=MAX_BODY, handler_args={**SERVING, "logger": logger}, middlewares=[]
    )
    routes: dict[web.AbstractRoute, Endpoint] = {}
    for row in rows:
        for method in _methods(row):
            routes[app.router.add_route(method, row.path, _unreachable, expect_handler=on_expect)] = row
    control = Control(live, actions, rates, explain, streams, in_force)
    entrance = Entrance(control, Guard(live, in_force), kept, routes, body_seconds)

    @web.middleware
    async def enter(request: web.Request, handler: Any) -> web.StreamResponse:
        return await entrance(request, handler)

    async def end(_: web.Application) -> None:
        streams.end()

    app.middlewares.append(enter)
    app.on_response_prepare.append(secure)
    dress_malformed(app, secure)
    app.on_shutdown.append(end)
    return app


def _methods(row: Endpoint) -> tuple[str, ...]:
    """Give the methods of a row: what can be got can be asked for with HEAD as well, but for a stream."""
    return ("GET", "HEAD") if row.method == "GET" and EVENT_STREAM not in row.media else (row.method,)


def _listed(item: Mapping[str, Any]) -> Mapping[str, Any]:
    return {"type": "array", "items": item}


async def _unreachable(_: web.Request) -> web.StreamResponse:
    """Stand where aiohttp wants a handler: the middleware answers everything that has a row."""
    raise web.HTTPNotFound
