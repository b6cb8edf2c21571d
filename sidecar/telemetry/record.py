"""The decision record: for every request, what was decided and why, in plain values.

`Recorder` is the pipeline's sink. It counts (plain integers that the metrics read), keeps the last records, and hands
those worth a line to the log. Two rings keep them: `records` of the requests that did not simply end well, and up to 128
of those that did (`ok`, or answered by the cache), so that a busy second of good answers does not wash away the one that
somebody will ask about.

In an outage thousands of requests a second are refused, or answered by a fallback, all for the same reason: lines that
bury the one which says why. With `errors`, at most `LINES_PER_SECOND` of these are handed on for each route and fate;
the next one says how many were left out before it, so that the sum stays right. The same goes for good answers that a
policy in shadow would have refused, which are worth a line too.
"""

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from heapq import merge
from operator import itemgetter
from time import time  # noqa: TID251 -- the time of day, for people who read the record
from typing import Literal

from sidecar.counts import Histogram
from sidecar.errors import RequestError
from sidecar.fate import Fate
from sidecar.pipeline.exchange import Attempt, Exchange

__all__ = ["LINES_PER_SECOND", "METHODS", "AccessLog", "Record", "Recorder", "RouteCounts"]

AccessLog = Literal["off", "errors", "all"]

# OpenTelemetry's known methods; any other is counted as _OTHER, or a stranger could make as many series as he likes.
METHODS = frozenset(
    {b"GET", b"HEAD", b"POST", b"PUT", b"PATCH", b"DELETE", b"OPTIONS", b"TRACE", b"CONNECT", b"QUERY"}
)


@dataclass(frozen=True, slots=True)
class Record:
    """What happened to one request. Times in seconds; `at` is the wall clock at its end (Unix time).

    `path` is without the query, which may hold what no log should. `error` is for the operator only. `would` are the
    policies in shadow that would have refused it, `fault` is what was injected. `suppressed` is for its line: how many
    like it got none since the last one.
    """

    at: float
    request_id: str
    route: str
    fate: Fate
    why_not_retried: str | None
    would: tuple[str, ...]
    method: str
    path: str
    status: int
    client: str
    upstream: str
    attempts: tuple[tuple[str, float], ...]
    queued_seconds: float
    head_seconds: float
    total_seconds: float
    fault: str | None
    error: str | None
    suppressed: int = 0

    def as_dict(self) -> dict[str, object]:
        """Give the record as JSON types; times in milliseconds, as people read them."""
        return {
            "at": round(self.at, 3),
            "status": self.status,
            "method": self.method,
            "path": self.path,
            "fate": str(self.fate),
            "why_not_retried": self.why_not_retried,
            "would_reject": list(self.would) or None,
            "route": self.route,
            "request_id": self.request_id,
            "client": self.client,
            "upstream": self.upstream,
            "attempts": [
                {"n": n, "result": str(result), "ms": round(seconds * 1000, 3)}
                for n, (result, seconds) in enumerate(self.attempts, 1)
            ],
            "queued_ms": round(self.queued_seconds * 1000, 3) or None,
            "head_ms": round(self.head_seconds * 1000, 3),
            "total_ms": round(self.total_seconds * 1000, 3),
            "fault": self.fault,
            "error": self.error,
            "suppressed": self.suppressed or None,
        }


class RouteCounts:
    """The counters of one route: requests by (method, status, fate), and how long they took."""

    __slots__ = ("requests", "seconds")

    def __init__(self) -> None:
        # Keyed by the fate's plain string: hashing a member of an Enum calls Python code.
        self.requests: dict[tuple[bytes, int, str], int] = {}
        self.seconds = Histogram()


# Read for each request: a global is quicker than a member of an Enum.
_OK, _INTERNAL = Fate.OK, Fate.INTERNAL
_FRESH, _STALE, _COALESCED = Fate.CACHE_FRESH, Fate.CACHE_STALE, Fate.COALESCED

# A record before anybody has read it: the fields of `Record` in their order, bytes still bytes. Making a tuple costs a
# request a third of a microsecond; it holds no request, no exception and no task alive.
_Raw = tuple[
    float,
    bytes,
    str,
    Fate,
    str | None,
    tuple[str, ...],
    bytes,
    bytes,
    int,
    str,
    str,
    tuple[Attempt, ...],
    float,
    float,
    float,
    str | None,
    str | None,
]

LINES_PER_SECOND = 10
_GOOD = frozenset({"ok", "cache_fresh", "cache_stale", "coalesced"})
# Of these there may be as many as there are requests. Plain strings, as above.
_REPETITIVE = _GOOD | {fate.value for fate in Fate if fate.value.startswith(("rejected_", "fallback_"))}

_MAX_OK = 128
_MAX_METHOD = 64
_MAX_PATH = 1024  # of a path in a record: 100 000 records must not hold 800 MB


class _Lines:
    """How many lines there were for one route and fate in the second from `since`, and how many were left out."""

    __slots__ = ("given", "since", "suppressed")

    def __init__(self, since: float) -> None:
        self.since = since
        self.given = 0
        self.suppressed = 0


class Recorder:
    """The sink of every pipeline: called once for each request, when everything about it is over.

    Seconds are those of the exchanges' clock: an exchange knows when it finished.
    """

    __slots__ = ("_level", "_line", "_lines", "_ok", "_others", "by_route")

    def __init__(
        self, routes: Sequence[str], *, keep: int, access_log: AccessLog, line: Callable[[Record], None]
    ) -> None:
        self.by_route = {route: RouteCounts() for route in routes}
        self._ok: deque[_Raw] = deque(maxlen=min(keep, _MAX_OK))
        self._others: deque[_Raw] = deque(maxlen=keep)
        self._level = access_log
        self._line = line
        self._lines: dict[tuple[str, str], _Lines] = {}

    def __call__(self, exchange: Exchange) -> None:
        """Take in one finished exchange."""
        counts = self.by_route[exchange.route]
        fate = exchange.fate or _INTERNAL
        request = exchange.request
        method = request.method
        key = (method if method in METHODS else b"_OTHER", exchange.status, fate._value_)
        requests = counts.requests
        try:
            requests[key] += 1
        except KeyError:
            requests[key] = 1
        started_at = exchange.started_at
        seconds = exchange.finished_at - started_at
        counts.seconds.observe(seconds)
        path = request.path
        if len(method) > _MAX_METHOD:
            method = method[:_MAX_METHOD]
        would = exchange.would
        raw = (
            time(),
            request.request_id,
            exchange.route,
            fate,
            exchange.why_not_retried,
            would,
            method,
            path if len(path) <= _MAX_PATH else path[:_MAX_PATH],
            exchange.status,
            request.client,
            exchange.upstream,
            exchange.attempts,
            exchange.queued,
            exchange.head_at - started_at if exchange.head_at else 0.0,
            seconds,
            exchange.fault,
            None if exchange.error is None else _text(exchange.error),
        )
        if fate is _OK or fate is _FRESH or fate is _STALE or fate is _COALESCED:
            self._ok.append(raw)
            if self._level == "all" or (would and self._level == "errors"):
                self._tell(raw, fate._value_, exchange.finished_at)
        else:
            self._others.append(raw)
            if self._level != "off":
                self._tell(raw, fate._value_, exchange.finished_at)

    def _tell(self, raw: _Raw, fate: str, now: float) -> None:
        """Hand a record on, unless there were enough like it in this second."""
        if self._level == "all" or fate not in _REPETITIVE:
            self._line(_record(raw))
            return
        key = (raw[2], fate)
        lines = self._lines.get(key)
        if lines is None:
            lines = self._lines[key] = _Lines(now)
        elif now - lines.since >= 1.0:
            lines.since = now
            lines.given = 0
        if lines.given >= LINES_PER_SECOND:
            lines.suppressed += 1
            return
        lines.given += 1
        suppressed, lines.suppressed = lines.suppressed, 0
        self._line(_record(raw, suppressed))

    def records(self) -> list[Record]:
        """Give the records kept, the newest first."""
        newest_first = merge(reversed(self._ok), reversed(self._others), key=itemgetter(0), reverse=True)
        return [_record(raw) for raw in newest_first]


def _record(raw: _Raw, suppressed: int = 0) -> Record:
    (
        at,
        request_id,
        route,
        fate,
        why,
        would,
        method,
        path,
        status,
        client,
        upstream,
        attempts,
        queued,
        head,
        total,
        fault,
        error,
    ) = raw
    return Record(
        at=at,
        request_id=request_id.decode("latin-1"),
        route=route,
        fate=fate,
        why_not_retried=why,
        would=would,
        method=method.decode("latin-1"),
        path=path.decode("latin-1"),
        status=status,
        client=client,
        upstream=upstream,
        attempts=attempts,
        queued_seconds=queued,
        head_seconds=head,
        total_seconds=total,
        fault=fault,
        error=error,
        suppressed=suppressed,
    )


def _text(error: BaseException) -> str:
    """Tell what went wrong. Foreign exceptions by their type alone: their text is anybody's, and may itself fail."""
    name = type(error).__name__
    if not isinstance(error, RequestError):
        return name
    text = str(error)
    return f"{name}: {text}" if text != error.detail else name
