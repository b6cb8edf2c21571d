"""The name of the field in which answers tell a breaker's state: one that means nothing yet.

A field that is about the connection does not reach the client (RFC 9110 §7.6.1); one that the sidecar sets itself, or
that clients act upon, would then say two things.
"""

from sidecar.config.kinds import Text
from sidecar.config.pattern import parse_header

__all__ = ["StateField"]

_OF_THE_CONNECTION = frozenset(
    {
        "connection",
        "keep-alive",
        "proxy-connection",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
        "http2-settings",
    }
)
# What answers get from the sidecar, by one setting or another.
_OURS = frozenset(
    {
        "age",
        "cache-status",
        "date",
        "proxy-status",
        "ratelimit",
        "ratelimit-policy",
        "retry-after",
        "via",
        "x-circuit-breaker",
        "x-content-type-options",
        "x-fallback-source",
        "x-fault-injected",
        "x-frame-options",
        "x-request-id",
        "x-system-degraded",
        "x-upstream-attempts",
    }
)
_OUR_PREFIX = "x-ratelimit-"
# What clients act upon (RFC 9110 §8, §10.2, §11, §12.5, §14; RFC 9111 §5; RFC 6265, 6797).
_OF_HTTP = frozenset(
    {
        "accept-ranges",
        "allow",
        "cache-control",
        "etag",
        "expires",
        "host",
        "last-modified",
        "location",
        "pragma",
        "proxy-authenticate",
        "server",
        "set-cookie",
        "strict-transport-security",
        "vary",
        "warning",
        "www-authenticate",
    }
)
_OF_CONTENT = "content-"
_RATHER = "choose a name such as `X-Database-Status`"


class StateField(Text):
    """The name of such a field, or `off`."""

    def __init__(self) -> None:
        super().__init__(_free, pattern="^[A-Za-z0-9!#$%&'*+.^_`|~-]+$", off=True)


def _free(name: str) -> None:
    """Raise ValueError, for the user, where `name` is none that is free."""
    parse_header(name, "*")
    lower = name.lower()
    if lower in _OF_THE_CONNECTION:
        raise ValueError(f"is about the connection and not about the answer; {_RATHER}")
    if lower in _OURS or lower.startswith(_OUR_PREFIX):
        raise ValueError(f"is a field that the sidecar sets itself; {_RATHER}")
    if lower in _OF_HTTP or lower.startswith(_OF_CONTENT):
        raise ValueError(f"has a meaning in HTTP; {_RATHER}")
