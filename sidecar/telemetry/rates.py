"""How it goes now: requests a second, what came of them and latency of the last minute, from counters of totals alone.

Every `every` seconds the counters of all routes and upstreams are written down, and the last `keep` notes kept; what is
told is the difference between now and the oldest of them, that is of at least `(keep - 1) * every` seconds, once that
much time has passed. A request pays nothing for it.

Quantiles come from the histogram's buckets, as Prometheus' `histogram_quantile` finds them: within a bucket the
observations are taken to lie evenly, and what is above the last bound is taken to lie at it. But the sum of all
observations is known too, and no quantile is told that it rules out: ten requests that a time-out has ended after 1 s lie
in the bucket from 1 to 2.5 s, and are not told as 2.5 s. What the other buckets hold counts with their lower bounds, so
that this never makes one smaller than it may be. (The time-outs of the route are no bound: they end with the head of the
response, and a request is measured to the end of its body.) So quantiles are as exact as the buckets are fine, within a
factor of two or so, and where few requests were slow much better.

A reload carries some counters over and puts new ones, which begin at zero, in the place of others. So each counter is
known by itself, by identity, and not by the name that it counts for.
"""

import asyncio
from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from itertools import zip_longest
from math import ceil
from operator import mul
from time import process_time
from typing import NamedTuple

from sidecar.counts import Histogram
from sidecar.fate import Fate
from sidecar.pipeline.stages.attempt import AttemptStage
from sidecar.pipeline.stages.fallback import FallbackStage
from sidecar.pipeline.stages.ladder import OtherStep
from sidecar.telemetry.live import Live
from sidecar.telemetry.record import RouteCounts

__all__ = ["Answers", "Counts", "Rate", "Rates", "attempts_by_upstream", "judged", "quantile"]

Counts = Mapping[str, int]

# Results of attempts that say nothing of the upstream: the client's doing, or our own.
_NOT_ITS_DOING = frozenset({"cancelled", "request_broke", Fate.REJECTED_OVERLOAD.value})


class Answers(NamedTuple):
    """How many requests of a route ended with this fate; `failed`: those that were answered with 500 and above."""

    fate: str
    number: int
    failed: int


class Rate(NamedTuple):
    """How one route or upstream goes. `rate` in requests a second, `errors` is a share (0 to 1) or None: nobody asked.

    `p50` and `p99` in seconds, None where there was nothing to measure. Of a route, errors are answers of 500 and above,
    and `answers` has each fate that there was; of an upstream, errors are attempts that it failed, those with such an
    answer among them.
    """

    rate: float = 0.0
    errors: float | None = None
    p50: float | None = None
    p99: float | None = None
    answers: tuple[Answers, ...] = ()


class _Read(NamedTuple):
    """What one counter says: the object that counts, and its numbers.

    There may be more of them the next time; those that were there stay in their places.
    """

    source: object
    numbers: tuple[float, ...]


class _Track:
    """The notes on one counter: when, and what it said."""

    __slots__ = ("notes", "source")

    def __init__(self, source: object, keep: int) -> None:
        self.source = source  # held, so that no other object can get its identity
        self.notes: deque[tuple[float, tuple[float, ...]]] = deque(maxlen=keep)


class Rates:
    """Takes notes while it runs, and tells how it goes. Seconds are those of `loop`.

    `cpu` is the share of one core that this process used between the last two notes, in percent; None before them.
    """

    def __init__(
        self, live: Live, loop: asyncio.AbstractEventLoop, every: float = 5.0, keep: int = 12
    ) -> None:
        self._live = live
        self._loop = loop
        self._every = every
        self._keep = keep
        self._timer: asyncio.TimerHandle | None = None
        self._tracks: dict[int, _Track] = {}
        self._noted_at: float | None = None
        self._used = 0.0
        self.cpu: float | None = None

    def start(self) -> None:
        """Begin to take notes, with the first one now."""
        self._tick()

    def stop(self) -> None:
        """Take no more notes; what has been noted stays."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def routes(self) -> dict[str, Rate]:
        """Tell of every route in force."""
        now = self._loop.time()
        by_route = self._live.recorder.by_route
        told: dict[str, Rate] = {}
        for pipeline in self._live.pipelines:
            counts = by_route.get(pipeline.route)
            if counts is not None:
                told[pipeline.route] = self._route(now, counts)
        return told

    def upstreams(self) -> dict[str, Rate]:
        """Tell of every upstream in force."""
        now = self._loop.time()
        attempts = attempts_by_upstream(self._live)
        return {
            name: self._upstream(now, attempts.get(name, ()), view.seconds)
            for name, view in self._live.upstreams.items()
        }

    def availability(self) -> dict[str, float | None]:
        """Tell of every upstream in force which share (0 to 1) of its attempts it did not fail; None: nobody asked."""
        attempts = attempts_by_upstream(self._live)
        told: dict[str, float | None] = {}
        for name in self._live.upstreams:
            grown = [self._grown(_attempts(counts))[1] for counts in attempts.get(name, ())]
            number, errors = sum(each[0] for each in grown), sum(each[1] for each in grown)
            told[name] = 1 - errors / number if number and self._noted_at is not None else None
        return told

    # --- notes ---

    def _tick(self) -> None:
        now = self._loop.time()
        self._timer = self._loop.call_at(now + self._every, self._tick)
        live = self._live
        tracks: dict[int, _Track] = {}
        for counts in live.recorder.by_route.values():
            self._note(tracks, now, _answers(counts))
            self._note(tracks, now, _times(counts.seconds))
        for stages in attempts_by_upstream(live).values():
            for each in stages:
                self._note(tracks, now, _attempts(each))
        for view in live.upstreams.values():
            self._note(tracks, now, _times(view.seconds))
        self._tracks = tracks  # counters that are gone are forgotten
        self._measure_cpu(now)
        self._noted_at = now

    def _note(self, tracks: dict[int, _Track], now: float, read: _Read) -> None:
        key = id(read.source)
        track = self._tracks.get(key)
        if track is None:
            track = _Track(read.source, self._keep)
            if (
                self._noted_at is not None
            ):  # made since the last note; of the first ones nobody knows since when
                track.notes.append((self._noted_at, ()))
        track.notes.append((now, read.numbers))
        tracks[key] = track

    def _grown(self, read: _Read) -> tuple[float, list[float]]:
        """Give since when, and by how much its numbers have grown since then."""
        track = self._tracks.get(id(read.source))
        if track is None:
            return self._noted_at or 0.0, list(read.numbers)
        since, before = track.notes[0]
        return since, [now - then for now, then in zip_longest(read.numbers, before, fillvalue=0)]

    def _route(self, now: float, counts: RouteCounts) -> Rate:
        if self._noted_at is None:
            return Rate()
        since, grown = self._grown(_answers(counts))
        by_fate: dict[str, tuple[int, int]] = {}
        for (_, status, fate), more in zip(counts.requests, map(int, grown), strict=True):
            if more:
                number, failed = by_fate.get(fate, (0, 0))
                by_fate[fate] = number + more, failed + (more if status >= 500 else 0)
        answers = tuple(Answers(fate, *each) for fate, each in by_fate.items())
        number = sum(each.number for each in answers)
        errors = sum(each.failed for each in answers) / number if number else None
        return Rate(number / max(now - since, 1.0), errors, *self._quantiles(counts.seconds), answers)

    def _upstream(self, now: float, attempts: Iterable[Counts], seconds: Histogram) -> Rate:
        if self._noted_at is None:
            return Rate()
        rate = number = errors = 0.0
        for counts in attempts:
            since, (more, more_errors) = self._grown(_attempts(counts))
            rate += more / max(now - since, 1.0)
            number += more
            errors += more_errors
        return Rate(rate, errors / number if number else None, *self._quantiles(seconds))

    def _quantiles(self, seconds: Histogram) -> tuple[float | None, float | None]:
        _, (total, *buckets) = self._grown(_times(seconds))
        bounds = seconds.bounds
        return quantile(bounds, buckets, 0.5, total), quantile(bounds, buckets, 0.99, total)

    def _measure_cpu(self, now: float) -> None:
        used = process_time()
        if self._noted_at is not None and now > self._noted_at:
            self.cpu = 100 * (used - self._used) / (now - self._noted_at)
        self._used = used


def quantile(bounds: Sequence[float], buckets: Sequence[float], share: float, total: float) -> float | None:
    """Give the value below which `share` (0 to 1) of the observations lie; None: there are none.

    `buckets` has how many lie at or below each bound and above the one before, and at its end the rest. `total` is the
    sum of all observations.
    """
    rank = share * sum(buckets)
    if not rank:
        return None
    # By how much all of them together are above the lower bounds of their buckets.
    room: float = max(0.0, total - sum(map(mul, buckets, (0.0, *bounds))))
    lower, below = 0.0, 0.0
    for bound, number in zip(bounds, buckets, strict=False):
        if number and below + number >= rank:
            evenly = min(bound - lower, 2 * room / number) * (rank - below) / number
            at_or_above = number - ceil(rank - below) + 1
            return lower + min(evenly, room / at_or_above)
        below += number
        lower = bound
    return bounds[-1]


def attempts_by_upstream(live: Live) -> dict[str, list[Counts]]:
    """Find the counters of all attempts at each upstream: of the routes to it, and of those that fall back to it."""
    found: dict[str, list[Counts]] = {}
    for pipeline in live.pipelines:
        for stage in pipeline.stages:
            if isinstance(stage, AttemptStage):
                found.setdefault(stage.upstream, []).append(stage.counts)
            elif isinstance(stage, FallbackStage):
                for step in stage.steps:
                    if isinstance(step, OtherStep):
                        found.setdefault(step.attempt.upstream, []).append(step.attempt.counts)
    return found


def judged(counts: Counts) -> tuple[int, int]:
    """Give how many attempts say something of the upstream, and how many of those it failed."""
    said = failed = 0
    for result, number in counts.items():
        if number and result not in _NOT_ITS_DOING:
            said += number
            if result != "ok":
                failed += number
    return said, failed


def _answers(counts: RouteCounts) -> _Read:
    # What has once been counted keeps its place in the dictionary, and nothing is ever taken out of it.
    return _Read(counts.requests, tuple(counts.requests.values()))


def _attempts(counts: Counts) -> _Read:
    return _Read(counts, judged(counts))


def _times(seconds: Histogram) -> _Read:
    return _Read(seconds, (seconds.total, *seconds.counts))
