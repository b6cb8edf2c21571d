"""The service behind the sidecar, and how it fares in the hour: up, browned out, down, flapping, up again.

What it does with a request is drawn by lot, with the odds of the moment. The lots come from the seed, and the loop of
virtual time runs everything in the same order each time: the same seed is the same hour.
"""

import asyncio
import math
from bisect import bisect_right
from dataclasses import dataclass
from random import Random

from sidecar.errors import BadResponse, ConnectFailed, Disconnected
from sidecar.message import Headers, Reply, Request
from sidecar.pipeline.exchange import Exchange
from tests.support.upstream import Arrival, Step, answer, fail, hang, stream

__all__ = ["HOUR", "Forecast", "Service", "Weather", "body_for"]

HOUR = 3600.0
WHOLE = 0.7  # share of the answers that come in one piece


@dataclass(frozen=True, slots=True)
class Weather:
    """The odds. `latency` is the median, in seconds, `spread` the sigma of its logarithm; the others are shares of 1."""

    name: str
    latency: float
    spread: float
    refused: float = 0.0  # no connection
    hangs: float = 0.0  # no answer, ever
    disconnects: float = 0.0  # no answer, and the connection is closed
    garbage: float = 0.0  # what comes is not HTTP
    errors: float = 0.0  # a 5xx
    breaks: float = 0.0  # the body ends too early


CLEAR = Weather("clear", 0.04, 0.4)
FAIR = Weather("fair", 0.05, 0.5, errors=0.003, breaks=0.001)
BROWN_OUT = Weather(
    "brown-out", 0.7, 1.0, hangs=0.05, disconnects=0.05, garbage=0.01, errors=0.3, breaks=0.05
)
DOWN = Weather("down", 0.01, 0.3, refused=0.9, hangs=0.1)


class Forecast:
    """Which weather comes when. `clears_at` is the time from which nothing fails any more."""

    def __init__(self, lots: Random) -> None:
        brown = 900 + lots.uniform(-60, 60)
        down = brown + 600 + lots.uniform(-60, 60)
        flapping = down + 600 + lots.uniform(-60, 60)
        self.clears_at = flapping + 600 + lots.uniform(-60, 60)
        hours = [(0.0, FAIR), (brown, BROWN_OUT), (down, DOWN)]
        at, is_down = flapping, False
        while at < self.clears_at:
            hours.append((at, DOWN if is_down else FAIR))
            at += lots.uniform(2, 30)
            is_down = not is_down
        hours.append((self.clears_at, CLEAR))
        self._begins = [begin for begin, _ in hours]
        self._weathers = [weather for _, weather in hours]

    def at(self, now: float) -> Weather:
        """Give the weather at `now`, in seconds from the beginning."""
        return self._weathers[bisect_right(self._begins, now) - 1]


class Service:
    """A step for `Upstream(then=…)`: plays what the weather brings."""

    def __init__(self, lots: Random, forecast: Forecast) -> None:
        self._lots = lots
        self._forecast = forecast

    async def __call__(self, exchange: Exchange, arrival: Arrival) -> Reply:
        """Treat one request."""
        weather = self._forecast.at(asyncio.get_running_loop().time())
        return await self._step(weather, exchange.request)(exchange, arrival)

    def _step(self, weather: Weather, request: Request) -> Step:
        after = self._lots.lognormvariate(math.log(weather.latency), weather.spread)
        failure = self._failure(weather, after)
        if failure is not None:
            return failure
        body, headers = body_for(request), _cache_fields(request)
        breaks = self._lots.random() < weather.breaks
        if request.method == b"HEAD" or (not breaks and self._lots.random() < WHOLE):
            return answer(200, body, headers=headers, after=after)
        times = sorted((self._lots.uniform(0, 1.5), self._lots.uniform(0, 1.5)))
        return stream(
            zip(times, (body[:5], body[5:]), strict=True),
            headers=headers,
            after=after,
            breaks=Disconnected(head_seen=True) if breaks else None,
        )

    def _failure(self, weather: Weather, after: float) -> Step | None:
        kinds = [
            (weather.refused, fail(ConnectFailed(), after=min(after, 0.05))),
            (weather.hangs, hang()),
            (weather.disconnects, fail(Disconnected(), after=after)),
            (weather.garbage, fail(BadResponse(), after=after)),
            (weather.errors, self._error(after)),
        ]
        lot = self._lots.random()
        for share, step in kinds:
            if lot < share:
                return step
            lot -= share
        return None

    def _error(self, after: float) -> Step:
        status = self._lots.choice((500, 502, 503, 503, 503, 504))
        headers: Headers = []
        if status == 503 and self._lots.random() < 0.3:
            headers.append((b"Retry-After", b"%d" % self._lots.choice((0, 1, 3, 120))))
        return answer(status, b"trouble", headers=headers, after=after)


def body_for(request: Request) -> bytes:
    """Give the answer that this request must get, and no other: it names the target and the one who asks."""
    return b"%b for %b" % (request.target, request.fields.first(b"authorization") or b"anybody")


def _cache_fields(request: Request) -> Headers:
    if request.path.startswith(b"/news/"):
        return [(b"Cache-Control", b"max-age=5, stale-while-revalidate=20")]
    if request.path.startswith(b"/mine/"):
        return [(b"Cache-Control", b"private, max-age=60")]
    return []
