"""The rate limit of a route: who is over his quota gets 429 and a `Retry-After` that is true, before anything is held.

The answers tell the quota in one of two languages, or both (`fields`):

- `standard`: `RateLimit-Policy: "NAME";q=100;w=60` and `RateLimit: "NAME";r=99;t=1`
  (draft-ietf-httpapi-ratelimit-headers-10): of the policy `NAME`, the route, 100 are allowed in 60 seconds; 99 may be
  sent at once, and for the next second no more than that. `w` is left out where it is no whole number of seconds;
  `sidecar-burst` is a remark of ours where a bucket's burst is not its limit.
- `legacy`: `X-RateLimit-Limit` (how many may be sent at once, if none was for a while), `-Remaining`, and `-Reset`, in
  seconds from now, as in draft-polli-ratelimit-headers-03 and in Envoy, not as a time of day.

`t` and `-Reset` are rounded up, like `Retry-After`: on a refusal all three are the same, so none is earlier than another.
What the upstream says of limits of its own is passed on beside it.

In shadow the decision is made on the same state and counted; nothing is refused, and nothing is told.
"""

import asyncio
from collections.abc import Awaitable, Callable
from math import ceil
from typing import Literal

from sidecar.errors import RateLimited
from sidecar.message import Reply
from sidecar.pipeline.exchange import Exchange
from sidecar.pipeline.stage import Stage
from sidecar.policy.rate_key import key_function
from sidecar.policy.ratelimit import RateLimiter, RateLimitSettings

__all__ = ["RateFields", "RateLimitStage"]

RateFields = Literal["both", "standard", "legacy", "off"]

Pairs = tuple[tuple[bytes, bytes], ...]


class RateLimitStage(Stage):
    """Asks `limiter` for every request. `allowed + rejected + would_reject` is the number of requests."""

    __slots__ = (
        "_decide",
        "_fields",
        "_key_of",
        "_quota",
        "_time",
        "allowed",
        "key",
        "limiter",
        "rejected",
        "shadow",
        "would_reject",
    )

    counters = ("allowed", "rejected", "would_reject")

    def __init__(
        self,
        limiter: RateLimiter,
        loop: asyncio.AbstractEventLoop,
        *,
        route: str,
        key: str = "client_ip",
        fields: RateFields = "both",
        shadow: bool = False,
    ) -> None:
        self.limiter = limiter
        self._decide = limiter.decide
        self._time = loop.time
        self.key = key
        self._key_of = key_function(key, route)
        self._fields = fields
        self._quota = None if shadow or fields == "off" else _Quota(limiter.settings, route, fields)
        self.shadow = shadow
        self.allowed = 0
        self.rejected = 0
        self.would_reject = 0

    def __call__(self, exchange: Exchange) -> Awaitable[Reply]:
        """Let the request pass if its quota allows it.

        Raises:
            RateLimited: it does not.

        """
        allowed, remaining, reset, retry_after = self._decide(self._key_of(exchange.request), self._time())
        quota = self._quota
        if quota is not None:
            exchange.extra += quota.tell(remaining, ceil(reset))
        if allowed:
            self.allowed += 1
        elif self.shadow:
            self.would_reject += 1
            exchange.would += ("rate_limit",)
        else:
            self.rejected += 1
            raise RateLimited(retry_after=retry_after)
        return self.next(exchange)

    def describe(self) -> str:
        """Name the stage and its settings."""
        settings = self.limiter.settings
        burst = f", burst {settings.capacity}" if settings.capacity != settings.limit else ""
        shadow = ", shadow" if self.shadow else ""
        return (
            f"rate limit {settings.limit} per {settings.per:g}s by {self.key}, "
            f"{settings.algorithm}{burst}, fields {self._fields}{shadow}"
        )


_KEPT = 1024


class _Quota:
    """The fields that tell a quota. What was told last is kept: the same few numbers come again and again."""

    __slots__ = ("_lines", "_told")

    def __init__(self, settings: RateLimitSettings, route: str, fields: RateFields) -> None:
        self._lines: list[Callable[[int, int], tuple[bytes, bytes]]] = []
        if fields != "legacy":
            self._lines += _standard(settings, route.encode("ascii"))
        if fields != "standard":
            self._lines += _legacy(settings)
        self._told: dict[tuple[int, int], Pairs] = {}

    def tell(self, remaining: int, seconds: int) -> Pairs:
        """Give the fields for so many `remaining`, and so many `seconds` until there are more."""
        told = self._told.get((remaining, seconds))
        if told is None:
            if len(self._told) >= _KEPT:
                self._told.clear()
            told = tuple([line(remaining, seconds) for line in self._lines])
            self._told[remaining, seconds] = told
        return told


def _standard(settings: RateLimitSettings, route: bytes) -> list[Callable[[int, int], tuple[bytes, bytes]]]:
    # The name of a route is made of letters, digits, `_`, `.` and `-`: nothing in it needs an escape (RFC 9651 §3.3.3).
    window = b";w=%d" % settings.per if settings.per == int(settings.per) else b""
    burst = b";sidecar-burst=%d" % settings.capacity if settings.capacity != settings.limit else b""
    policy = (b"RateLimit-Policy", b'"%b";q=%d%b%b' % (route, settings.limit, window, burst))
    return [
        lambda _, __: policy,
        lambda remaining, seconds: (b"RateLimit", b'"%b";r=%d;t=%d' % (route, remaining, seconds)),
    ]


def _legacy(settings: RateLimitSettings) -> list[Callable[[int, int], tuple[bytes, bytes]]]:
    limit = (b"X-RateLimit-Limit", b"%d" % settings.capacity)
    return [
        lambda _, __: limit,
        lambda remaining, _: (b"X-RateLimit-Remaining", b"%d" % remaining),
        lambda _, seconds: (b"X-RateLimit-Reset", b"%d" % seconds),
    ]
