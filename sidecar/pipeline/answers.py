"""The one table from errors to the answers that people and programs read.

Every answer of ours says in its body, in `Proxy-Status` (RFC 9209) and in the record the same word, the fate. None says
anything of the inside: no upstream address, no exception text, no stack trace.

Formats: `problem+json` (RFC 9457), `seed` (`{"error": {"code", "message"}}`), `text`, a small HTML page; `auto` gives the
page to whoever accepts HTML and does not name JSON, a browser that is, and problem+json to everybody else.

What `headers` asks for, besides, stands here as far as it is the same for every request (`stages/headers.py`).
"""

import html
import json
import math
from typing import Literal

from sidecar.dates import http_date
from sidecar.errors import ClientError, ConnectFailed, MethodRefused, RateLimited, Refused, RequestError
from sidecar.message import Fields, Headers, Reply, Request, phrase

__all__ = [
    "DEGRADED",
    "DENY",
    "NOSNIFF",
    "Answers",
    "Format",
    "HeadersMode",
    "max_forwards_answer",
    "proxy_status",
    "retry_after",
]

Format = Literal["auto", "problem+json", "seed", "text"]
HeadersMode = Literal["minimal", "seed", "off"]

DEGRADED = b"X-System-Degraded"
NOSNIFF = (b"X-Content-Type-Options", b"nosniff")
DENY = (b"X-Frame-Options", b"DENY")

_PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<title>{status} {title}</title>
<style>
:root {{ color-scheme: light dark }}
body {{ font: 16px/1.5 system-ui, sans-serif; max-width: 36rem; margin: 15vh auto; padding: 0 1.5rem }}
h1 {{ font-size: 1.5rem }} dl {{ display: grid; grid-template-columns: auto 1fr; gap: .25rem 1rem }}
dt {{ opacity: .7 }} dd {{ margin: 0; font-family: ui-monospace, monospace; overflow-wrap: anywhere }}
</style></head>
<body><main><h1>{title}</h1><p>{detail}</p>{wait}
<dl><dt>Status</dt><dd>{status}</dd><dt>Reason</dt><dd>{code}</dd><dt>Request</dt><dd>{request_id}</dd></dl>
</main></body></html>
"""


class _Template:
    """An answer but for its request's id: the body on either side of it, and the fields. The `Date` lasts a second."""

    __slots__ = ("_after", "_before", "_extra", "_fields", "_made", "_size", "_status")

    def __init__(
        self,
        status: int,
        before: bytes,
        after: bytes,
        fields: Headers,
        extra: tuple[tuple[bytes, bytes], ...],
    ) -> None:
        self._status = status
        self._before = before
        self._after = after
        self._fields = fields
        self._extra = extra
        self._made: Fields | None = None
        self._size = -1

    def reply(self, request_id: bytes, shown: bytes) -> Reply:
        """Give the reply to the request of this id, which is `shown` like this in the body."""
        body = b"%b%b%b" % (self._before, shown, self._after)
        size, date = len(body), http_date()
        made = self._made
        if made is None or size != self._size or made.pairs[0][1] is not date:
            self._size = size
            made = self._made = Fields([(b"Date", date), (b"Content-Length", b"%d" % size), *self._fields])
        reply = Reply(self._status, made, body)
        reply.length = size
        reply.extra = ((b"X-Request-ID", request_id), *self._extra)
        return reply


# Stands for the id while a template is made. Made of characters that every format leaves as they are.
_ID = "0d2f7cb1-request-id-e7a4"
_PLAIN = b"-_.:"  # beside letters and digits: what an id may have and still be its own escaped form

_MOST_TEMPLATES = 512


class Answers:
    """Renders errors as replies in one format, with as much on them of the sidecar as `headers` says.

    A refusal must cost less than what it refuses, so what does not differ from one request to the next is kept.
    """

    __slots__ = ("_format", "_templates", "headers")

    def __init__(self, fmt: Format = "auto", headers: HeadersMode = "minimal") -> None:
        self._format = fmt
        self.headers = headers
        self._templates: dict[tuple[object, ...], _Template] = {}

    def for_error(self, error: RequestError, request: Request, route: str = "") -> Reply:
        """Give the reply that explains `error` to the client of `request`. `route` is "" where none matched."""
        wait = retry_after(error)
        form = self._form(request)
        request_id = request.request_id
        about_the_request = isinstance(error, ClientError) and str(error) != error.detail
        if about_the_request or not request_id.translate(None, _PLAIN).isalnum():
            own = _template(error, route, wait, form, self.headers, request_id.decode("latin-1"))
            return own.reply(request_id, b"")
        token = error.token if isinstance(error, ConnectFailed) else None
        key = (type(error), token, route, wait, form)
        template = self._templates.get(key)
        if template is None:
            if len(self._templates) >= _MOST_TEMPLATES:
                self._templates.clear()
            template = self._templates[key] = _template(error, route, wait, form, self.headers, _ID)
        return template.reply(request_id, request_id)

    def _form(self, request: Request) -> str:
        if self._format != "auto":
            return self._format
        fields = request.fields
        if fields.first(b"accept") is None:
            return "problem+json"
        accept = b", ".join(fields.values(b"accept")).lower()
        return "page" if b"text/html" in accept and b"json" not in accept else "problem+json"


def _template(  # noqa: PLR0917 -- the error, and all that decides how it looks
    error: RequestError, route: str, wait: int | None, form: str, mode: HeadersMode, request_id: str
) -> _Template:
    status = _status(error)
    problem: dict[str, object] = {
        "type": f"urn:sidecar:problem:{error.fate}",
        "title": phrase(status) or "Error",
        "status": status,
        "detail": str(error) if isinstance(error, ClientError) else error.detail,
        "code": str(error.fate),
        "request_id": request_id,
    }
    if route and not route.startswith("_"):
        problem["route"] = route
    if wait is not None:
        problem["retry_after"] = wait
    content_type, body = _render(problem, form)
    headers: Headers = [
        (b"Content-Type", content_type),
        (b"Cache-Control", b"no-store"),
        NOSNIFF,
    ]
    if mode != "off":
        headers.append((b"Proxy-Status", proxy_status(error)))
    if wait is not None:
        headers.append((b"Retry-After", b"%d" % wait))
    if isinstance(error, MethodRefused):  # RFC 9110 §15.5.6
        headers.append((b"Allow", b"GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS"))
    if request_id == _ID:
        before, _, after = body.partition(_ID.encode())
    else:
        before, after = body, b""
    return _Template(status, before, after, headers, _extra(error) if mode == "seed" else ())


def _extra(error: RequestError) -> tuple[tuple[bytes, bytes], ...]:
    """Give what `seed` says on an answer of ours: here where no stage does, since there was no request to be read."""
    return ((DEGRADED, b"false" if isinstance(error, ClientError | RateLimited) else b"true"), DENY)


def _render(problem: dict[str, object], form: str) -> tuple[bytes, bytes]:
    if form == "page":
        return b"text/html; charset=utf-8", _page(problem)
    if form == "seed":
        seed = {
            "code": problem["code"],
            "message": problem["detail"],
            "request_id": problem["request_id"],
        }
        return b"application/json", json.dumps({"error": seed}).encode()
    if form == "text":
        text = "{status} {title}: {detail}\n{code} {request_id}\n".format_map(problem)
        return b"text/plain; charset=utf-8", text.encode()
    return b"application/problem+json", json.dumps(problem).encode()


def max_forwards_answer(request: Request) -> Reply:
    """Answer OPTIONS or TRACE that must go no further (RFC 9110 §7.6.2).

    TRACE gets its own head back, without the fields that identify a person (§9.3.8).
    """
    secret = (b"authorization", b"cookie", b"proxy-authorization")
    headers: Headers = [(b"Date", http_date())]
    body = b""
    if request.method == b"TRACE":
        fields = request.fields.without(*secret).wire
        body = b"TRACE %b HTTP/1.%d\r\n%b\r\n" % (request.target, request.minor, fields)
        headers.append((b"Content-Type", b"message/http"))
    else:
        headers.append((b"Allow", b"GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS, TRACE"))
    headers.append((b"Content-Length", b"%d" % len(body)))
    reply = Reply(200, Fields(headers), body)
    reply.length = len(body)
    return reply


def retry_after(error: RequestError) -> int | None:
    """Give the whole seconds to wait: a refusal always says some, at least one."""
    wait = error.retry_after
    if wait is None:
        return 1 if isinstance(error, Refused) else None
    return max(1, math.ceil(wait))


def _status(error: RequestError) -> int:
    # RFC 9209 §2.3.6, §2.3.2: a time-out while connecting is our time-out.
    if isinstance(error, ConnectFailed) and error.token in ("connection_timeout", "dns_timeout"):
        return 504
    return error.status


def proxy_status(error: RequestError) -> bytes:
    """Give the `Proxy-Status` (RFC 9209) that says why: the field's own word for it, and the fate."""
    token = error.token if isinstance(error, ConnectFailed) else error.proxy_error
    kind = f" error={token};" if token else ""
    return f'sidecar;{kind} details="{error.fate}"'.encode()


def _page(problem: dict[str, object]) -> bytes:
    wait = problem.get("retry_after")
    text = {key: html.escape(str(value)) for key, value in problem.items()}
    return _PAGE.format_map(
        text | {"wait": f"<p>Please try again in {wait} seconds.</p>" if wait is not None else ""}
    ).encode()
