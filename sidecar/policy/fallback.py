"""The fallback ladder: what a client gets instead, when its route has no good answer.

A route lists steps; the first one counts that is meant for this cause and this method and that can deliver. The steps
sit outside retry, breaker and cache and see the final reason: a fallback further in would swallow the error that retry
and breaker decide by.

| source | what it serves | methods, unless it names others |
|---|---|---|
| stale | the stored copy that RFC 9111 §4.2.4 lets stand in | GET, HEAD; never others |
| static | a configured answer | GET, HEAD |
| mock | a made-up one, for development | GET, HEAD |
| upstream | what another upstream answers | idempotent ones |
| redirect | the way to somewhere else | GET, HEAD |

A failed POST must not look done, hence the methods. The client's own excess (rate limit) and its own mistakes have no
fallback, nor has a fault of ours: hiding that would only keep it from being mended.
"""

import re
from dataclasses import dataclass, field
from typing import ClassVar

from sidecar.errors import (
    AttemptTimeout,
    BreakerOpen,
    BulkheadFull,
    ConnectFailed,
    Overloaded,
    QueueTimeout,
    RequestError,
    TotalTimeout,
    UpstreamFailed,
    UpstreamIdle,
)
from sidecar.fate import Fate
from sidecar.message import IDEMPOTENT
from sidecar.policy.templates import check_location

__all__ = [
    "CAUSES",
    "READS",
    "SERVER_ERROR",
    "FallbackStep",
    "Mock",
    "Redirect",
    "Stale",
    "Static",
    "Upstream",
    "cause_of",
]

SERVER_ERROR = "5xx"  # the cause of a reply whose status is 500 or above

# `disconnected` also stands for an answer that is none.
CAUSES = (
    "breaker_open",
    "timeout",
    "connect_error",
    "disconnected",
    SERVER_ERROR,
    "bulkhead_full",
    "overload",
)

READS = frozenset({b"GET", b"HEAD"})

# The first line that fits counts: what is left of UpstreamFailed after the others is Disconnected and BadResponse.
_KINDS: tuple[tuple[tuple[type[RequestError], ...], str], ...] = (
    ((BreakerOpen,), "breaker_open"),
    ((AttemptTimeout, TotalTimeout, UpstreamIdle), "timeout"),
    ((ConnectFailed,), "connect_error"),
    ((UpstreamFailed,), "disconnected"),
    ((BulkheadFull, QueueTimeout), "bulkhead_full"),
    ((Overloaded,), "overload"),
)

_TOKEN = re.compile(rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")  # RFC 9110 §5.6.2
_VALUE = re.compile(rb"(?:[!-~\x80-\xff](?:[\t !-~\x80-\xff]*[!-~\x80-\xff])?)?")  # §5.5

# Set by the proxy itself on such an answer, or about the connection.
_OURS = frozenset(
    {
        b"age",
        b"cache-control",
        b"cache-status",
        b"connection",
        b"content-length",
        b"content-type",
        b"date",
        b"keep-alive",
        b"proxy-connection",
        b"proxy-status",
        b"te",
        b"trailer",
        b"transfer-encoding",
        b"upgrade",
        b"x-content-type-options",
        b"x-fallback-source",
        b"x-request-id",
        b"x-system-degraded",
    }
)


def cause_of(error: RequestError) -> str | None:
    """Give the cause that steps are chosen by; None where an error has no fallback."""
    for kinds, cause in _KINDS:
        if isinstance(error, kinds):
            return cause
    return None


@dataclass(frozen=True, slots=True, kw_only=True)
class _Step:
    """What all steps have. `when` are the causes that a step is for, `methods` those of the requests it serves.

    Making a step raises ValueError where a setting makes no sense; the text is for the author of the configuration.
    """

    source: ClassVar[str]
    fate: ClassVar[Fate]

    when: frozenset[str] = frozenset(CAUSES)
    methods: frozenset[bytes] = READS

    def __post_init__(self) -> None:
        if unknown := self.when.difference(CAUSES):
            raise ValueError(f"no such cause: {', '.join(sorted(unknown))}; there are {', '.join(CAUSES)}")

    def applies(self, cause: str, method: bytes) -> bool:
        """Tell whether the step is meant for this."""
        return cause in self.when and method in self.methods


@dataclass(frozen=True, slots=True)
class Stale(_Step):
    """The stored copy, at most `max_age` seconds after it was stored.

    `override_origin` serves also what its origin forbids to serve stale.
    """

    source = "stale"
    fate = Fate.FALLBACK_STALE

    max_age: float = 300.0
    override_origin: bool = False

    def __post_init__(self) -> None:
        _Step.__post_init__(self)
        if not self.methods <= READS:
            raise ValueError("copies are kept of answers to GET, and serve GET and HEAD only")


@dataclass(frozen=True, slots=True)
class Static(_Step):
    """A configured answer. `fields` come in addition to those that every such answer has."""

    source = "static"
    fate = Fate.FALLBACK_STATIC

    status: int = 200
    content_type: bytes = b"text/plain; charset=utf-8"
    body: bytes = b""
    fields: tuple[tuple[bytes, bytes], ...] = ()

    def __post_init__(self) -> None:
        _Step.__post_init__(self)
        _check_answer(self.status, self.content_type, self.body, self.fields)


@dataclass(frozen=True, slots=True)
class Mock(_Step):
    """A made-up answer: `body` has places for words of the request (`templates`). Not for production."""

    source = "mock"
    fate = Fate.FALLBACK_MOCK

    status: int = 200
    content_type: bytes = b"application/json"
    body: bytes = b""
    fields: tuple[tuple[bytes, bytes], ...] = ()

    def __post_init__(self) -> None:
        _Step.__post_init__(self)
        _check_answer(self.status, self.content_type, self.body, self.fields)


@dataclass(frozen=True, slots=True)
class Upstream(_Step):
    """Another upstream, asked once.

    It has `timeout` seconds to its response head, and at most `max_concurrent` requests of this route at a time:
    whatever broke the first upstream must not break it too. Any status below 500 is an answer.
    """

    source = "upstream"
    fate = Fate.FALLBACK_UPSTREAM

    name: str
    timeout: float = 5.0
    max_concurrent: int = 10
    methods: frozenset[bytes] = field(default=IDEMPOTENT, kw_only=True)


@dataclass(frozen=True, slots=True)
class Redirect(_Step):
    """The way to somewhere else. `location` has places for `{path}` and `{query}`.

    302 or 303, which browsers follow with GET, or 307, which keeps the method. None that may be remembered: an outage
    ends.
    """

    source = "redirect"
    fate = Fate.FALLBACK_REDIRECT

    location: bytes
    status: int = 302

    def __post_init__(self) -> None:
        _Step.__post_init__(self)
        if self.status not in (302, 303, 307):
            raise ValueError(f"{self.status} is no passing redirect; there are 302, 303 and 307")
        check_location(self.location)


FallbackStep = Stale | Static | Mock | Upstream | Redirect


def _check_answer(
    status: int, content_type: bytes, body: bytes, fields: tuple[tuple[bytes, bytes], ...]
) -> None:
    if not 200 <= status <= 599 or status in (206, 304):
        raise ValueError(
            f"{status} cannot be answered: a status is 200 to 599, without 206 and 304, which need a copy"
        )
    if status in (204, 205) and body:
        raise ValueError(f"a {status} has no body")
    if not content_type or not _VALUE.fullmatch(content_type):
        raise ValueError("the content type must be written in one line of visible characters")
    for name, value in fields:
        shown = name.decode("latin-1")
        if not _TOKEN.fullmatch(name):
            raise ValueError(f"{shown!r} is not the name of a header field")
        if name.lower() in _OURS:
            raise ValueError(f"{shown} is set by the proxy itself")
        if not _VALUE.fullmatch(value):
            raise ValueError(f"the value of {shown} must be written in one line of visible characters")
