"""What can go wrong, as a tree. An error carries what its reader needs; no other module decides a status.

    SidecarError
    ├── ConfigError                  the configuration cannot be used: all its problems at once
    ├── StartFailed                  the program cannot start, for example because a port is taken
    └── RequestError                 this request ends without the upstream's own answer
        ├── ClientError              the request cannot be served as it is         400 bad_request
        │   ├── RequestHeadTimeout   its head did not arrive in time               408
        │   ├── RequestBodyTimeout   its body stood still for `idle`               408 timeout_idle
        │   ├── MethodRefused        CONNECT                                       405
        │   ├── BodyTooLarge                                                       413
        │   ├── TargetTooLong                                                      414
        │   ├── HeadTooLarge                                                       431
        │   ├── NotImplementedCoding a transfer coding other than chunked          501
        │   ├── VersionRefused       not HTTP/1.0 or HTTP/1.1                      505
        │   ├── LoopDetected         the request passed through here before        508
        │   ├── NoRoute                                                            404 no_route
        │   └── NotCached            only-if-cached, and there is no copy          504
        ├── Refused                  we did not ask the upstream                   503
        │   ├── RateLimited                                                        429
        │   ├── BulkheadFull
        │   ├── QueueTimeout
        │   ├── BreakerOpen
        │   ├── Overloaded
        │   └── Maintenance
        ├── UpstreamFailed           we asked, and got no usable answer            502
        │   ├── ConnectFailed
        │   ├── AttemptTimeout                                                     504
        │   ├── Disconnected
        │   ├── BadResponse
        │   └── UpstreamIdle         its body stood still                          504
        ├── TotalTimeout                                                           504
        ├── ClientGone               nobody is left to answer
        │   └── ClientStalled        it stopped reading its answer                 timeout_idle
        └── Internal                 a fault of ours                               500

`status` and `proxy_error` (RFC 9209 §2.3, empty where no token fits) are class attributes: the type says it all.
Text given to an exception is for the operator's log, never for the client, which gets the type's own `detail`;
only `ClientError` speaks of the client's own bytes and may show its text.
"""

from typing import ClassVar

from sidecar.fate import Fate

__all__ = [
    "AttemptTimeout",
    "BadResponse",
    "BodyTooLarge",
    "BreakerOpen",
    "BulkheadFull",
    "ClientError",
    "ClientGone",
    "ClientStalled",
    "ConfigError",
    "ConnectFailed",
    "Disconnected",
    "HeadTooLarge",
    "Internal",
    "LoopDetected",
    "Maintenance",
    "MethodRefused",
    "NoRoute",
    "NotCached",
    "NotImplementedCoding",
    "Overloaded",
    "QueueTimeout",
    "RateLimited",
    "Refused",
    "RequestBodyTimeout",
    "RequestError",
    "RequestHeadTimeout",
    "SidecarError",
    "StartFailed",
    "TargetTooLong",
    "TotalTimeout",
    "UpstreamFailed",
    "UpstreamIdle",
    "VersionRefused",
]


class SidecarError(Exception):
    """Anything that this program raises on purpose."""


class ConfigError(SidecarError):
    """The configuration cannot be used. `problems` holds every line of complaint, `file:line:col: key: message`."""

    def __init__(self, problems: list[str]) -> None:
        super().__init__("\n".join(problems))
        self.problems = problems


class StartFailed(SidecarError):
    """The program cannot start. The text is one line for the operator."""


class RequestError(SidecarError):
    """A request that ends without the upstream's own answer.

    `retry_after` is in seconds from now, or None where waiting does not help or nobody knows for how long.
    `request_id` is the id that the request came with, where it never became a `Request`.
    """

    status: ClassVar[int] = 500
    fate: ClassVar[Fate] = Fate.INTERNAL
    proxy_error: ClassVar[str] = ""
    detail: ClassVar[str] = ""
    request_id = b""

    def __init__(self, text: str = "", *, retry_after: float | None = None) -> None:
        super().__init__(text or self.detail)
        self.retry_after = retry_after


class ClientError(RequestError):
    """The request cannot be served as it is. The text is shown to the client: it is about the client's bytes."""

    status = 400
    fate = Fate.BAD_REQUEST
    proxy_error = "http_request_error"
    detail = "The request is not valid HTTP/1.1."


class RequestHeadTimeout(ClientError):
    """The head of the request did not arrive in time."""

    status = 408
    detail = "The request head did not arrive in time."


class RequestBodyTimeout(ClientError):
    """The body of the request stood still for longer than `timeout.idle`."""

    status = 408
    fate = Fate.TIMEOUT_IDLE
    detail = "The request body did not arrive in time."


class MethodRefused(ClientError):
    """CONNECT: this is a gateway, not a forward proxy."""

    status = 405
    proxy_error = "http_request_denied"
    detail = "This is a gateway: it opens no tunnels for CONNECT."


class BodyTooLarge(ClientError):
    """The request body is larger than `max_body`."""

    status = 413
    detail = "The request body is larger than this route allows."


class TargetTooLong(ClientError):
    """The request target is longer than `limits.target`."""

    status = 414
    detail = "The request target is too long."


class HeadTooLarge(ClientError):
    """The request head is larger than `limits.head`, or has more fields than `limits.fields`."""

    status = 431
    detail = "The request head is too large."


class NotImplementedCoding(ClientError):
    """A transfer coding other than chunked (RFC 9112 §6.1: SHOULD be 501)."""

    status = 501
    detail = "Only the chunked transfer coding is understood."


class VersionRefused(ClientError):
    """Neither HTTP/1.0 nor HTTP/1.1."""

    status = 505
    detail = "Only HTTP/1.0 and HTTP/1.1 are spoken here."


class LoopDetected(ClientError):
    """Our own name stands in `Via`: the upstream leads back here (RFC 9110 §7.6.3)."""

    status = 508
    proxy_error = "proxy_loop_detected"
    detail = "The request came back to the proxy that sent it: the upstream leads back here."


class NoRoute(ClientError):
    """No route matches the request."""

    status = 404
    fate = Fate.NO_ROUTE
    proxy_error = "destination_not_found"
    detail = "No route matches this request."


class NotCached(ClientError):
    """`only-if-cached`, and there is no copy that may be used (RFC 9111 §5.2.1.7)."""

    status = 504
    detail = "There is no stored answer, and the request forbids asking for one (only-if-cached)."


class Refused(RequestError):
    """Not sent to the upstream. Always carries an honest `retry_after` where one can be known."""

    status = 503
    fate = Fate.REJECTED_OVERLOAD
    detail = "The service is not available at the moment."


class RateLimited(Refused):
    """The caller is over its quota."""

    status = 429
    fate = Fate.REJECTED_RATE_LIMIT
    proxy_error = "http_request_denied"
    detail = "Too many requests: wait as long as Retry-After says."


class BulkheadFull(Refused):
    """No slot and no place in the queue."""

    fate = Fate.REJECTED_BULKHEAD_FULL
    proxy_error = "connection_limit_reached"
    detail = "The service is busy: every slot and every place in the queue is taken."


class QueueTimeout(Refused):
    """Waited in the queue as long as allowed."""

    fate = Fate.REJECTED_QUEUE_TIMEOUT
    proxy_error = "connection_limit_reached"
    detail = "The service is busy: no slot became free in time."


class BreakerOpen(Refused):
    """The circuit breaker is open."""

    fate = Fate.REJECTED_BREAKER_OPEN
    proxy_error = "destination_unavailable"
    detail = "The service has been failing and is given time to recover."


class Overloaded(Refused):
    """The sidecar itself is at a limit."""

    fate = Fate.REJECTED_OVERLOAD
    proxy_error = "connection_limit_reached"
    detail = "The service is busy: a limit of the sidecar itself is reached."


class Maintenance(Refused):
    """The route is under maintenance."""

    fate = Fate.MAINTENANCE
    proxy_error = "destination_unavailable"
    detail = "The service is under maintenance."


class UpstreamFailed(RequestError):
    """We asked and got no usable answer.

    `sent` is False when no byte of the request left us, so that repeating it is safe whatever its method
    (nginx, Caddy and HAProxy draw the line at the same place).
    """

    status = 502
    fate = Fate.UPSTREAM_DISCONNECTED
    detail = "The service did not answer properly."

    def __init__(self, text: str = "", *, sent: bool = True, retry_after: float | None = None) -> None:
        super().__init__(text, retry_after=retry_after)
        self.sent = sent


class ConnectFailed(UpstreamFailed):
    """No connection: refused, unreachable, name not found, TLS failed, or not within `connect_timeout`.

    `token` narrows `proxy_error` to what happened, in RFC 9209's words.
    """

    fate = Fate.UPSTREAM_CONNECT
    proxy_error = "connection_refused"
    detail = "The service cannot be reached."

    def __init__(self, text: str = "", *, token: str | None = None) -> None:
        super().__init__(text, sent=False)
        self.token = token or self.proxy_error


class AttemptTimeout(UpstreamFailed):
    """No response head within `timeout.attempt`."""

    status = 504
    fate = Fate.TIMEOUT_ATTEMPT
    proxy_error = "http_response_timeout"
    detail = "The service did not answer in time."


class Disconnected(UpstreamFailed):
    """The upstream closed the connection before its response was whole.

    `head_seen` tells a response that broke off from one that never began.
    """

    fate = Fate.UPSTREAM_DISCONNECTED
    proxy_error = "connection_terminated"
    detail = "The service closed the connection before it had answered."

    def __init__(self, text: str = "", *, sent: bool = True, head_seen: bool = False) -> None:
        super().__init__(text, sent=sent)
        self.head_seen = head_seen


class BadResponse(UpstreamFailed):
    """What the upstream sent is not an HTTP/1.x response, or its framing is ambiguous."""

    fate = Fate.UPSTREAM_BAD_RESPONSE
    proxy_error = "http_protocol_error"
    detail = "The service sent an invalid response."


class UpstreamIdle(UpstreamFailed):
    """A body stood still, on the upstream's side, for longer than `timeout.idle`."""

    status = 504
    fate = Fate.TIMEOUT_IDLE
    proxy_error = "connection_read_timeout"
    detail = "The service stopped in the middle of its response."


class TotalTimeout(RequestError):
    """No response head within `timeout.total`, all attempts and waiting included."""

    status = 504
    fate = Fate.TIMEOUT_TOTAL
    proxy_error = "http_response_timeout"
    detail = "The request could not be answered in time."


class ClientGone(RequestError):
    """The client left. Nobody sees the status; 499 is nginx's word for it in logs and metrics."""

    status = 499
    fate = Fate.CLIENT_GONE
    detail = "The client closed the connection."


class ClientStalled(ClientGone):
    """The client stopped reading its answer for longer than `timeout.idle`."""

    fate = Fate.TIMEOUT_IDLE
    detail = "The client stopped reading."


class Internal(RequestError):
    """A fault of ours, confined to this request."""

    status = 500
    fate = Fate.INTERNAL
    proxy_error = "proxy_internal_error"
    detail = "The sidecar failed on this request. The fault is in its log."
