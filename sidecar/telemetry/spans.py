"""What the spans of a request say, in the words of OpenTelemetry's semantic conventions for HTTP.

https://opentelemetry.io/docs/specs/semconv/http/http-spans/ (stable since 1.23). A request is a span of kind SERVER, an
attempt one of kind CLIENT. Ours are: `http.route` is the name of the route, since that is the closed set that we have;
`error.type` is the fate, the word that log and metrics use; and all that is peculiar to us begins with `sidecar.`.

No header field, no query and no body is in a span. A 4xx is no error of a server (the conventions agree), nor is it one
of an attempt here: it is passed on.
"""

from sidecar.config.address import Endpoint
from sidecar.fate import Fate
from sidecar.message import Request
from sidecar.pipeline.exchange import Exchange
from sidecar.telemetry.otlp import Attributes
from sidecar.telemetry.record import METHODS

__all__ = [
    "Attributes",
    "attempt_name",
    "of_attempt",
    "of_request",
    "of_upstream",
    "request_error",
    "request_name",
]


_NO_ROUTE = "_none"
_MAX_TEXT = 1024
_MAX_HOST = 255
_BROKE = frozenset(fate for fate in Fate if fate.startswith(("timeout_", "upstream_"))) | {Fate.INTERNAL}


def attempt_name(request: Request) -> str:
    """Name the span of an attempt: the method, as there is no template of its target."""
    return _method(request)[1]


def request_name(exchange: Exchange) -> str:
    """Name the span of a request: method and route."""
    name = _method(exchange.request)[1]
    return name if exchange.route == _NO_ROUTE else f"{name} {exchange.route}"


def request_error(exchange: Exchange) -> str | None:
    """Give the word for what went wrong; None where nothing did, on the server's side."""
    fate = exchange.fate or Fate.INTERNAL
    return fate.value if exchange.status >= 500 or fate in _BROKE else None


def of_request(exchange: Exchange, scheme: str) -> Attributes:
    """Give what the span of a finished request says."""
    request = exchange.request
    attributes: Attributes = {
        "http.request.method": _method(request)[0],
        "url.path": _path(request),
        "url.scheme": scheme,
        "network.protocol.version": f"1.{request.minor}",
        "sidecar.fate": (exchange.fate or Fate.INTERNAL).value,
        "sidecar.request_id": request.request_id.decode("latin-1"),
    }
    if exchange.route != _NO_ROUTE:
        attributes["http.route"] = exchange.route
    if exchange.status:
        attributes["http.response.status_code"] = exchange.status
    if request.client:
        attributes["client.address"] = request.client
    _set_server(attributes, request.host)
    if exchange.why_not_retried is not None:
        attributes["sidecar.why_not_retried"] = str(exchange.why_not_retried)
    if exchange.queued:
        attributes["sidecar.queued_ms"] = round(exchange.queued * 1000, 3)
    if exchange.fault is not None:
        attributes["sidecar.fault"] = exchange.fault
    if exchange.would:
        attributes["sidecar.would_reject"] = ", ".join(exchange.would)
    if (error := request_error(exchange)) is not None:
        attributes["error.type"] = error
    return attributes


def of_upstream(name: str, endpoint: Endpoint) -> Attributes:
    """Give what all attempts at one upstream have in common."""
    attributes: Attributes = {"sidecar.upstream": name, "network.protocol.version": "1.1"}
    if endpoint.path is not None:
        return attributes | {"server.address": endpoint.path, "network.transport": "unix"}
    return attributes | {"server.address": endpoint.host, "server.port": endpoint.port}


def of_attempt(exchange: Exchange, upstream: Attributes, base: str) -> Attributes:
    """Give what the span of an attempt says from its beginning. `base` is the upstream's URL."""
    request = exchange.request
    attributes = upstream | {
        "http.request.method": _method(request)[0],
        "url.full": base + _path(request),
    }
    if exchange.attempts:  # those before this one
        attributes["http.request.resend_count"] = len(exchange.attempts)
    return attributes


def _method(request: Request) -> tuple[str, str]:
    """Give the method as an attribute, and as a name. A stranger's own word is neither: there could be any number."""
    known = request.method in METHODS
    return (request.method.decode(),) * 2 if known else ("_OTHER", "HTTP")


def _path(request: Request) -> str:
    return request.path[:_MAX_TEXT].decode("latin-1")


def _set_server(attributes: Attributes, host: bytes) -> None:
    text = host[:_MAX_HOST].decode("latin-1")
    name, colon, port = text.rpartition(":")
    if colon and port.isdecimal() and len(port) <= 5:
        attributes["server.address"] = name.strip("[]")
        attributes["server.port"] = int(port)
    elif text:
        attributes["server.address"] = text.strip("[]")
