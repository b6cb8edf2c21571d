"""The way of every request: who asks, what is asked, what is answered, and what the audit says of it.

A change goes on to its end, audit included, when its client leaves meanwhile; what only reads ends with its client.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from aiohttp import HttpVersion11, web
from aiohttp.http_exceptions import HttpProcessingError

from sidecar.config.words import did_you_mean, shown
from sidecar.control.admin.asking import body_of, object_in, query_of
from sidecar.control.admin.audit import Audit, Who
from sidecar.control.admin.endpoint import Call, Control, Endpoint
from sidecar.control.admin.guard import SECURITY, Guard, client_of
from sidecar.control.admin.problem import Problem
from sidecar.control.admin.slices import dumped
from sidecar.control.gate import being_answered, let_in

__all__ = ["Entrance", "Malformed", "on_expect", "secure"]

_Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


@dataclass(slots=True)
class _Asked:
    """A request, as far as it has been understood. `target` is what a change would change."""

    request: web.Request
    endpoint: Endpoint | None
    who: Who
    target: str | None = None

    @property
    def action(self) -> str | None:
        """What the audit calls it."""
        return self.endpoint.action if self.endpoint is not None else None


class Entrance:
    """Takes every request. `within` is how many seconds a body may take.

    `endpoints` are those behind aiohttp's routes.
    """

    def __init__(
        self,
        control: Control,
        guard: Guard,
        audit: Audit,
        endpoints: Mapping[web.AbstractRoute, Endpoint],
        within: float,
    ) -> None:
        self._control = control
        self._guard = guard
        self._audit = audit
        self._endpoints = endpoints
        self._within = within
        self._paths: Sequence[str] = sorted({each.path for each in endpoints.values() if each.path != "/"})
        self._under_way: set[asyncio.Task[web.StreamResponse]] = set()

    async def __call__(self, request: web.Request, handler: _Handler) -> web.StreamResponse:
        """Answer `request`; `handler` is aiohttp's, which knows what to say where there is no endpoint."""
        endpoint = self._endpoints.get(request.match_info.route)
        asked = _Asked(request, endpoint, Who(client_of(request), "stranger"))
        with being_answered(request.transport):
            return await self._told(asked, self._answer(asked, handler))

    async def _told(self, asked: _Asked, work: Awaitable[web.StreamResponse]) -> web.StreamResponse:
        """Answer also where `work` fails, and tell the audit."""
        try:
            return await work
        except Problem as problem:
            return self._refused(asked, problem)
        except web.HTTPException as error:
            return self._refused(asked, self._translated(error, asked.request))
        except Exception as fault:
            self._audit.failed(asked.who, asked.action, asked.target, fault)
            if asked.request.writer.output_size:
                raise ConnectionResetError("an answer has begun, and ends here") from fault
            return Problem(500, "internal", "This is a fault in the sidecar; its log has more.").answer()

    async def _answer(self, asked: _Asked, handler: _Handler) -> web.StreamResponse:
        request, endpoint = asked.request, asked.endpoint
        asked.target = request.match_info.get("name")
        let_in(request.transport, let=False)
        asked.who = self._guard.admit(request, endpoint)
        let_in(request.transport, let=asked.who.by != "stranger")
        if endpoint is None:
            return await handler(request)
        await _meet_expectation(request)
        call = await self._call(asked, endpoint)
        if endpoint.action is None:
            return await _response(await endpoint.handler(self._control, call))
        work = self._told(asked, self._change(asked, endpoint, endpoint.action, call))
        task = asyncio.get_running_loop().create_task(work)
        self._under_way.add(task)
        task.add_done_callback(self._under_way.discard)
        return await asyncio.shield(task)

    async def _call(self, asked: _Asked, endpoint: Endpoint) -> Call:
        """Read what is asked."""
        request = asked.request
        body: Mapping[str, Any] = {}
        query = query_of(request, endpoint)
        for named in (query.get("name"), query.get("route")):
            if named is not None:
                asked.target = named[0]
        if endpoint.action is not None:
            body = object_in(await body_of(request, self._within), endpoint)
            if isinstance(route := body.get("route"), str):
                asked.target = route
        return Call(request, request.match_info, query, body)

    async def _change(self, asked: _Asked, endpoint: Endpoint, action: str, call: Call) -> web.StreamResponse:
        changed = await endpoint.handler(self._control, call)
        self._audit.changed(asked.who, action, changed)
        return await _response(changed.answer)

    def _refused(self, asked: _Asked, problem: Problem) -> web.StreamResponse:
        self._audit.refused(asked.who, asked.request, asked.action, asked.target, problem)
        return problem.answer()

    def _translated(self, error: web.HTTPException, request: web.Request) -> Problem:
        """Say what aiohttp's router says."""
        path = request.path
        if isinstance(error, web.HTTPMethodNotAllowed):
            allowed = ", ".join(sorted(error.allowed_methods))
            detail = f"{shown(path)} takes {allowed}."
            return Problem(405, "method_not_allowed", detail, headers={"Allow": allowed})
        if isinstance(error, web.HTTPNotFound):
            guess = did_you_mean(path[:100], self._paths) or "; `/openapi.json` has them all."
            return Problem(404, "not_found", f"There is no path {shown(path)}{guess}")
        return Problem(error.status, "refused", f"{error.reason}.")


class Malformed(logging.Handler):
    """Takes what aiohttp says of bytes that are no HTTP request, which no handler ever sees, and tells the audit."""

    def __init__(self, audit: Audit) -> None:
        super().__init__()
        self._audit = audit

    def emit(self, record: logging.LogRecord) -> None:
        """Tell it."""
        fault = record.exc_info[1] if record.exc_info else None
        client = str(record.args[0]) if isinstance(record.args, tuple) and record.args else "unknown"
        who = Who(client, "stranger")
        if isinstance(fault, HttpProcessingError):
            self._audit.malformed(who, type(fault).__name__)
        elif isinstance(fault, Exception):
            self._audit.failed(who, None, None, fault)


async def on_expect(_: web.Request) -> None:
    """Leave what a request expects to the entrance: aiohttp would answer before anybody has looked who asks."""


async def _meet_expectation(request: web.Request) -> None:
    """Ask for the body of who waits to be asked for it (RFC 9110 §10.1.1).

    Raises:
        Problem: he expects something else.

    """
    expected = request.headers.get("Expect")
    if expected is None or request.version < HttpVersion11:
        return
    if expected.lower() != "100-continue":
        raise Problem(417, "unknown_expectation", "Nothing but `100-continue` can be expected here.")
    await request.writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
    request.writer.output_size = 0  # as aiohttp does: the answer has not begun


async def secure(_: web.Request, response: web.StreamResponse) -> None:
    """Put on every answer what a browser must know, unless it says so itself."""
    for name, value in SECURITY.items():
        response.headers.setdefault(name, value)
    response.headers["Server"] = "sidecar"


async def _response(answer: Any) -> web.StreamResponse:
    """Give a response of JSON, a line that ends as lines do, unless it is one already."""
    if isinstance(answer, web.StreamResponse):
        return answer
    return web.Response(body=await dumped(answer) + b"\n", content_type="application/json")
