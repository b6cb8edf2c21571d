"""The decision record: for every request, what was decided and why, in plain values.

`Recorder` is the pipeline's sink. It counts (plain integers that the metrics read), keeps the last records, and hands
those worth a line to the log. Two rings keep them: `records` of the requests that did not simply end well, and up to 128
of those that did (`ok`, or answered by the cache), so that a busy second of good answers does not wash away the one that
somebody will ask about.

In an outage thousands of requests a second are refused, or answered by a fallback, all for the same reason: lines that
bury the one which says why. With `errors`, at most `LINES_PER_SECOND` of these are handed on for each route and fate;
the next one says how many were left out before it, so that the sum stays right. The same goes for good answers that a
policy in shadow would have refused, which are worth a line too, and for what clients bring about alone: requests that are
malformed or that no route is for, and clients that leave.

With `all` every request has its line, or of the good answers a `sample`: which ones is decided by the request id alone,
so that every sidecar on a request's way keeps the same. What did not end well is in no sample.
"""

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from heapq import merge
from itertools import islice
from operator import itemgetter
from time import time  # noqa: TID251 -- the time of day, for people who read the record
from typing import Literal
from zlib import crc32

from sidecar.counts import Histogram
from sidecar.errors import RequestError
from sidecar.fate import Fate
from sidecar.pipeline.assemble import Pipeline
from sidecar.pipeline.exchange import Attempt, Exchange
from sidecar.pipeline.stages.breaker import BreakerGate
from sidecar.policy.breaker import Breaker
from sidecar.telemetry.detail import Detail, detail_of

__all__ = ["LINES_PER_SECOND", "METHODS", "AccessLog", "Record", "Recorder", "RouteCounts", "Silent"]

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
    like it got none since the last one. `detail` is there for what failed, or got a line.
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
    detail: Detail | None = None

    def as_dict(self) -> dict[str, object]:
        """Give the record as JSON types; times in milliseconds, as people read them."""
        detail = self.detail or _NO_DETAIL
        waits = dict(detail.waits)
        return {
            "at": round(self.at, 3),
            "status": self.status,
            "method": self.method,
            "path": self.path,
            "query": detail.query,
            "fate": str(self.fate),
            "why_not_retried": self.why_not_retried,
            "would_reject": list(self.would) or None,
            "route": self.route,
            "request_id": self.request_id,
            "trace_id": detail.trace_id,
            "client": self.client,
            "upstream": self.upstream,
            "attempts": [
                {"n": n, "result": str(result), "ms": _ms(seconds)}
                | ({"backoff_ms": _ms(waits[n])} if n in waits else {})
                for n, (result, seconds) in enumerate(self.attempts, 1)
            ],
            "fallback": self.fate.removeprefix(_FALLBACK) if self.fate.startswith(_FALLBACK) else None,
            "breaker": None if detail.breaker is None else detail.breaker._asdict(),
            "queued_ms": _ms(self.queued_seconds) or None,
            "upstream_ms": _ms(sum(seconds for _, seconds in self.attempts)) if self.attempts else None,
            "head_ms": _ms(self.head_seconds),
            "total_ms": _ms(self.total_seconds),
            "deadline_left_ms": None if detail.deadline_left is None else _ms(detail.deadline_left),
            "fault": self.fault,
            "error": self.error,
            "suppressed": self.suppressed or None,
        }


_NO_DETAIL = Detail()
_FALLBACK = "fallback_"


def _ms(seconds: float) -> float:
    return round(seconds * 1000, 3)


class RouteCounts:
    """The counters of one route: requests by (method, status, fate), and how long they took."""

    __slots__ = ("requests", "seconds")

    def __init__(self) -> None:
        # Keyed by the fate's plain string: hashing a member of an Enum calls Python code.
        self.requests: dict[tuple[bytes, int, str], int] = {}
        self.seconds = Histogram()


# Read for each request: a global is quicker than a member of an Enum.
_OK, _INTERNAL = Fate.OK, Fate.INTERNAL
_AFTER_RETRY = Fate.OK_AFTER_RETRY
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
    Detail | None,
]

LINES_PER_SECOND = 10
_GOOD = frozenset({"ok", "cache_fresh", "cache_stale", "coalesced"})
# Of these there may be as many as there are requests. Plain strings, as above.
_REPETITIVE = (
    _GOOD
    | {fate.value for fate in Fate if fate.value.startswith(("rejected_", _FALLBACK))}
    | {"bad_request", "no_route", "client_gone", "maintenance"}
)

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

    Seconds are those of the exchanges' clock: an exchange knows when it finished. One that takes the place of another
    goes on with its counts and its records. `sample` is the share, from 0 to 1, of the good answers that get a line with
    `all`; `query`: the query is kept for lines; `now` gives the loop's time.
    """

    __slots__ = (
        "_breakers",
        "_level",
        "_line",
        "_lines",
        "_now",
        "_ok",
        "_others",
        "_query",
        "_sampled",
        "by_route",
    )

    def __init__(
        self,
        routes: Sequence[str],
        *,
        keep: int,
        access_log: AccessLog,
        line: Callable[[Record], None],
        before: "Recorder | None" = None,
        sample: float = 1.0,
        query: bool = False,
        now: Callable[[], float] | None = None,
    ) -> None:
        theirs: dict[str, RouteCounts] = before.by_route if before is not None else {}
        self.by_route: dict[str, RouteCounts] = {
            route: theirs.get(route) or RouteCounts() for route in routes
        }
        self._ok: deque[_Raw] = _ring(min(keep, _MAX_OK), before._ok if before is not None else None)
        self._others: deque[_Raw] = _ring(keep, before._others if before is not None else None)
        self._level = access_log
        self._sampled = round(sample * (1 << 32))  # of the values that a checksum can have
        self._query = query
        self._now = now
        self._breakers: dict[str, Breaker] = {}
        self._line = line
        self._lines: dict[tuple[str, str], _Lines] = before._lines if before is not None else {}

    def watch(self, pipelines: Sequence[Pipeline]) -> None:
        """Tell in the records what the breakers of these routes did."""
        gates = ((pipeline.route, pipeline.find(BreakerGate)) for pipeline in pipelines)
        self._breakers = {route: gate.breaker for route, gate in gates if gate is not None}

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
        raw: _Raw = (
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
            None,
        )
        if fate is _OK or fate is _FRESH or fate is _STALE or fate is _COALESCED:
            if self._level == "all":
                if would or self._is_sampled(raw[1]):
                    raw = self._tell(raw, exchange)
            elif would and self._level == "errors":
                raw = self._tell(raw, exchange)
            self._ok.append(raw)
        else:
            if self._level != "off":
                raw = self._tell(raw, exchange)
            elif fate._value_ not in _REPETITIVE:
                raw = self._in_detail(raw, exchange)
            self._others.append(raw)

    def _is_sampled(self, request_id: bytes) -> bool:
        return crc32(request_id) < self._sampled  # evenly spread, also for numbers that follow each other

    def _in_detail(self, raw: _Raw, exchange: Exchange) -> _Raw:
        breaker = self._breakers.get(exchange.route)
        return (*raw[:-1], detail_of(exchange, breaker, self._now, query=self._query))

    def _tell(self, raw: _Raw, exchange: Exchange) -> _Raw:
        """Hand a record on, unless there were enough like it in this second. Gives it as it was told."""
        fate = raw[3]._value_
        if self._level == "all" or fate not in _REPETITIVE:
            raw = self._in_detail(raw, exchange)
            self._line(_record(raw))
            return raw
        key = (raw[2], fate)
        now = exchange.finished_at
        lines = self._lines.get(key)
        if lines is None:
            lines = self._lines[key] = _Lines(now)
        elif now - lines.since >= 1.0:
            lines.since = now
            lines.given = 0
        if lines.given >= LINES_PER_SECOND:
            lines.suppressed += 1
            return raw
        lines.given += 1
        suppressed, lines.suppressed = lines.suppressed, 0
        raw = self._in_detail(raw, exchange)
        self._line(_record(raw, suppressed))
        return raw

    def records(self) -> list[Record]:
        """Give the records kept, the newest first."""
        return list(self.newest_first())

    def newest_first(self) -> Iterator[Record]:
        """Give the records that are kept at this moment one by one, the newest first."""
        good, others = tuple(self._ok), tuple(self._others)
        for raw in merge(reversed(good), reversed(others), key=itemgetter(0), reverse=True):
            yield _record(raw)

    def unwell(self, most: int) -> list[Record]:
        """Give the newest `most` records of requests that did not end well, the newest first."""
        bad = (raw for raw in reversed(self._others) if raw[3] is not _AFTER_RETRY)
        return [_record(raw) for raw in islice(bad, most)]


class Silent(Recorder):
    """The recorder of who wants none: it counts nothing, keeps nothing and gives no line."""

    __slots__ = ()

    def __call__(self, exchange: Exchange) -> None:
        """Let it go."""


def _ring(size: int, before: "deque[_Raw] | None") -> "deque[_Raw]":
    """Give a ring of this size, with what was kept before; the same one if that is possible."""
    return before if before is not None and before.maxlen == size else deque(before or (), maxlen=size)


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
        detail,
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
        detail=detail,
    )


def _text(error: BaseException) -> str:
    """Tell what went wrong. Foreign exceptions by their type alone: their text is anybody's, and may itself fail."""
    name = type(error).__name__
    if not isinstance(error, RequestError):
        return name
    text = str(error)
    return f"{name}: {text}" if text != error.detail else name
