"""Whether a failed attempt is repeated: the decision, from what failed to the seconds to wait.

RFC 9110 §9.2.2: a proxy must not repeat a request whose method is not idempotent by itself. So such a method is
repeated only where the route names it (and, with `require`, only with the field that makes a repetition harmless, such
as Idempotency-Key), or where nothing of the request has left us, when there is nothing to repeat yet: nginx, Caddy and
HAProxy draw the line at the same place.

The reasons against are asked in a fixed order, from what the request is to what a retry would cost:

    retries_spent → method → body_too_large → told_not_to → deadline → budget

`told_not_to`: the answer says `X-Should-Retry: false`, or tells of more than one attempt (`X-Upstream-Attempts`,
`x-envoy-attempt-count`): a nearer layer has retried already, and retries of retries multiply.

The wait is the back-off, or the upstream's Retry-After where that is longer. A Retry-After is lengthened by up to half
of itself, so that those who were told the same time do not come back in the same instant; never shortened. What is
longer than `retry_after_max`, or does not fit before the deadline, is not waited for.
"""

from collections.abc import Callable
from dataclasses import dataclass

from sidecar.errors import AttemptTimeout, BadResponse, ConnectFailed, Disconnected, UpstreamFailed
from sidecar.fate import WhyNotRetried
from sidecar.message import IDEMPOTENT, Fields, Request
from sidecar.policy.backoff import Backoff, Jitter, Strategy

__all__ = ["CONDITIONS", "SHORTEST_ATTEMPT", "RetryPolicy", "RetrySettings", "time_to_keep"]

_KINDS: dict[str, type[UpstreamFailed]] = {
    "connect_error": ConnectFailed,  # no connection
    "reset": Disconnected,  # closed before a whole response head had come
    "attempt_timeout": AttemptTimeout,  # no response head within `timeout.attempt`
    "bad_response": BadResponse,  # what came is no HTTP/1.x response
}

CONDITIONS = frozenset(_KINDS)

# Seconds that an attempt is given at least, where there was nothing to measure yet.
SHORTEST_ATTEMPT = 0.05

_COUNTS = (b"x-upstream-attempts", b"x-envoy-attempt-count")


@dataclass(frozen=True, slots=True)
class RetrySettings:
    """`retries` come on top of the first attempt. Times in seconds, `body_buffer` in bytes.

    `conditions` are words of `CONDITIONS`, `statuses` those of final responses. `methods`: None for all. `require` is
    the name, in lower case, of a field that a request must carry whose method is not idempotent.
    """

    retries: int = 2
    strategy: Strategy = "exponential"
    base: float = 0.1
    multiplier: float = 2.0
    max: float = 2.0
    jitter: Jitter = "full"
    conditions: frozenset[str] = frozenset({"connect_error", "reset", "attempt_timeout"})
    statuses: frozenset[int] = frozenset({502, 503, 504})
    methods: frozenset[bytes] | None = IDEMPOTENT
    require: bytes | None = None
    body_buffer: int = 1 << 20
    retry_after_max: float = 30.0


class RetryPolicy:
    """The decisions of one route. Nothing of a request is held."""

    __slots__ = ("_backoff", "settings")

    def __init__(self, settings: RetrySettings) -> None:
        self.settings = settings
        self._backoff = Backoff(
            settings.strategy, settings.base, settings.multiplier, settings.max, settings.jitter
        )

    def condition(self, error: UpstreamFailed) -> str | None:
        """Give the word for what went wrong; None: it is no reason to try again here."""
        for word in self.settings.conditions:
            if isinstance(error, _KINDS[word]):
                return word
        return None

    def repeatable(self, request: Request) -> bool:
        """Tell whether `request` may be sent again although it may have been acted upon."""
        settings = self.settings
        if settings.methods is not None and request.method not in settings.methods:
            return False
        if settings.require is None or request.method in IDEMPOTENT:
            return True
        return request.fields.first(settings.require) is not None

    def objection(
        self, request: Request, retry: int, *, sent: bool, gone: int, fields: Fields
    ) -> WhyNotRetried | None:
        """Give the first reason against retry number `retry` (1 is the first) that does not depend on time.

        `sent`: something of the request has left us. `gone`: so many bytes of its body have been handed over.
        `fields`: those of the answer that failed, or none.
        """
        settings = self.settings
        if retry > settings.retries:
            return WhyNotRetried.RETRIES_SPENT
        repeatable = self.repeatable(request)
        if sent and not repeatable:
            return WhyNotRetried.METHOD
        if gone > (settings.body_buffer if repeatable else 0):
            return WhyNotRetried.BODY_TOO_LARGE
        if _told_not_to(fields):
            return WhyNotRetried.TOLD_NOT_TO
        return None

    def wait(
        self,
        retry: int,
        previous: float,
        chance: Callable[[], float],
        *,
        retry_after: float | None,
        room: float,
    ) -> float | None:
        """Give the seconds to wait before retry number `retry`; None: they do not fit.

        `previous` is the wait before, 0 if there was none. `chance` gives random numbers in [0, 1). `room` is the time
        there is for waiting; jitter is cut off at it, since missing a retry by a throw of dice helps nobody.
        """
        delay = self._backoff.delay(retry, chance(), previous)
        if retry_after is None:
            return delay if delay <= room else None
        longest = self.settings.retry_after_max
        if retry_after > longest or max(delay, retry_after) > room:
            return None
        lengthened = min(retry_after * (1 + chance() / 2), longest)
        return min(max(delay, lengthened), room)


def time_to_keep(took: float, total: float | None) -> float:
    """Give how much of the time that is left a wait must leave to the attempt that follows it.

    The smaller of two: as long as the failed attempt took (`took`, and `SHORTEST_ATTEMPT` at least), and a tenth of
    `total`. What failed at once may succeed at once; and after an attempt that took nearly all the time there was, a
    good upstream still answers within a tenth of it.
    """
    needed = max(took, SHORTEST_ATTEMPT)
    return needed if total is None else min(needed, total / 10)


def _told_not_to(fields: Fields) -> bool:
    word = fields.first(b"x-should-retry")
    if word is not None and word.lower() == b"false":
        return True
    return any(_more_than_one(value) for name in _COUNTS for value in fields.values(name))


def _more_than_one(value: bytes) -> bool:
    return value.isdigit() and value.lstrip(b"0") not in (b"", b"1")
