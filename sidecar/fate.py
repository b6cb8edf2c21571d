"""One word for what happened to a request.

Every request ends in exactly one `Fate`. The same word stands in the log line, the metric label, `Proxy-Status`
(`details`), the error body (`code`) and the decision record, so that a person who has one of them has all of them.
The vocabularies are closed: a new outcome is a new member here, with its line in `MEANINGS`.
"""

from enum import StrEnum

__all__ = ["MEANINGS", "Fate", "WhyNotRetried"]


class Fate(StrEnum):
    """How a request ended, as its caller saw it."""

    OK = "ok"
    OK_AFTER_RETRY = "ok_after_retry"
    CACHE_FRESH = "cache_fresh"
    CACHE_STALE = "cache_stale"
    COALESCED = "coalesced"
    FALLBACK_STALE = "fallback_stale"
    FALLBACK_STATIC = "fallback_static"
    FALLBACK_MOCK = "fallback_mock"
    FALLBACK_UPSTREAM = "fallback_upstream"
    FALLBACK_REDIRECT = "fallback_redirect"
    REJECTED_RATE_LIMIT = "rejected_rate_limit"
    REJECTED_BREAKER_OPEN = "rejected_breaker_open"
    REJECTED_BULKHEAD_FULL = "rejected_bulkhead_full"
    REJECTED_QUEUE_TIMEOUT = "rejected_queue_timeout"
    REJECTED_OVERLOAD = "rejected_overload"
    TIMEOUT_ATTEMPT = "timeout_attempt"
    TIMEOUT_TOTAL = "timeout_total"
    TIMEOUT_IDLE = "timeout_idle"
    UPSTREAM_CONNECT = "upstream_connect"
    UPSTREAM_DISCONNECTED = "upstream_disconnected"
    UPSTREAM_BAD_RESPONSE = "upstream_bad_response"
    UPSTREAM_STATUS = "upstream_status"
    CLIENT_GONE = "client_gone"
    BAD_REQUEST = "bad_request"
    NO_ROUTE = "no_route"
    MAINTENANCE = "maintenance"
    INTERNAL = "internal"


class WhyNotRetried(StrEnum):
    """Why a failed request was not tried (again), where a retry was configured."""

    METHOD = "method"
    BODY_TOO_LARGE = "body_too_large"
    BUDGET = "budget"
    DEADLINE = "deadline"
    BREAKER_OPEN = "breaker_open"
    RETRIES_SPENT = "retries_spent"
    HEAD_SENT = "head_sent"
    OVERLOAD = "overload"  # the next attempt got no slot or no connection
    TOLD_NOT_TO = (
        "told_not_to"  # the upstream says that repeating is of no use, or that it has done so itself
    )


MEANINGS: dict[Fate, str] = {
    Fate.OK: "the upstream answered; also for a 4xx of its own, passed on",
    Fate.OK_AFTER_RETRY: "the upstream answered, but not at the first attempt",
    Fate.CACHE_FRESH: "answered from the cache while fresh",
    Fate.CACHE_STALE: "answered from the cache, stale, while it is refetched in the background",
    Fate.COALESCED: "shared the answer to an identical request that was already under way",
    Fate.FALLBACK_STALE: "the upstream failed; an older copy was served",
    Fate.FALLBACK_STATIC: "the upstream failed; the configured answer was served",
    Fate.FALLBACK_MOCK: "the upstream failed; a made-up answer was served (never in production)",
    Fate.FALLBACK_UPSTREAM: "the upstream failed; another one answered",
    Fate.FALLBACK_REDIRECT: "the upstream failed; the client was sent elsewhere",
    Fate.REJECTED_RATE_LIMIT: "the caller is over its quota",
    Fate.REJECTED_BREAKER_OPEN: "the circuit breaker is open",
    Fate.REJECTED_BULKHEAD_FULL: "no slot and no place in the queue",
    Fate.REJECTED_QUEUE_TIMEOUT: "waited in the queue as long as allowed",
    Fate.REJECTED_OVERLOAD: "the sidecar itself is at a limit: of connections, or of the time it has to stop",
    Fate.TIMEOUT_ATTEMPT: "no response head within `timeout.attempt`",
    Fate.TIMEOUT_TOTAL: "no response head within `timeout.total`",
    Fate.TIMEOUT_IDLE: "a body stood still for longer than `timeout.idle`",
    Fate.UPSTREAM_CONNECT: "no connection to the upstream",
    Fate.UPSTREAM_DISCONNECTED: "the upstream closed the connection before its response was whole",
    Fate.UPSTREAM_BAD_RESPONSE: "the upstream sent something that is not an HTTP/1.x response",
    Fate.UPSTREAM_STATUS: "the upstream answered with a 5xx, passed on",
    Fate.CLIENT_GONE: "the client left before its answer was whole",
    Fate.BAD_REQUEST: "the request is malformed, over a limit, or never arrived whole",
    Fate.NO_ROUTE: "no route matches",
    Fate.MAINTENANCE: "the route is under maintenance",
    Fate.INTERNAL: "a fault in the sidecar, confined to this request",
}
