"""Those who ask: two requests a second by chance, now and then a hundred at once, and some who do not wait.

What they ask for is little and popular, so copies and shared answers come into play; some are signed in, some send
things, and each remembers what came of its request.
"""

import asyncio
from dataclasses import dataclass
from functools import partial
from random import Random

from sidecar.message import Headers, Request
from tests.soak.weather import HOUR
from tests.support.exchanges import Got, Route, a_request

__all__ = ["SENT", "Crowd", "Visit"]

RATE = 2.0  # requests a second
BETWEEN_BURSTS = 240.0  # seconds, on average
LEAVE = 0.08  # share of the clients that leave when they are tired of waiting
PATIENCE = 0.5  # seconds, on average
SENT = b"something to send"


@dataclass(slots=True)
class Visit:
    """One request and what came of it: an answer, a farewell, or (which must not be) an exception."""

    at: float
    request: Request
    crowded: bool  # it came in a burst
    got: Got | None = None
    left: bool = False
    fault: BaseException | None = None

    def __str__(self) -> str:
        return f"{self.request!r} at {self.at:.3f} s"


class Crowd:
    """Comes for an hour."""

    def __init__(self, lots: Random, route: Route) -> None:
        self._lots = lots
        self._route = route
        self._under_way: dict[int, asyncio.Task[Got]] = {}
        self.visits: list[Visit] = []

    async def come(self) -> None:
        """Ask until the hour is over, and wait for what is still under way."""
        loop = asyncio.get_running_loop()
        burst = self._lots.expovariate(1 / BETWEEN_BURSTS)
        while loop.time() < HOUR:
            await asyncio.sleep(self._lots.expovariate(RATE))
            self._ask()
            if loop.time() >= burst:
                burst += self._lots.expovariate(1 / BETWEEN_BURSTS)
                for _ in range(self._lots.randrange(20, 120)):
                    loop.call_later(self._lots.random(), partial(self._ask, crowded=True))
        await asyncio.sleep(1)  # of the last burst, nobody is missing now
        while self._under_way:
            await asyncio.wait(list(self._under_way.values()))

    def _ask(self, *, crowded: bool = False) -> None:
        loop = asyncio.get_running_loop()
        visit = Visit(loop.time(), self._request(), crowded)
        number = len(self.visits)
        self.visits.append(visit)
        task = self._under_way[number] = self._route.start(visit.request)
        if self._lots.random() < LEAVE:
            loop.call_later(self._lots.expovariate(1 / PATIENCE), task.cancel)

        def note(done: "asyncio.Task[Got]") -> None:
            del self._under_way[number]
            visit.left = done.cancelled()
            if not visit.left:
                visit.fault = done.exception()
                visit.got = done.result() if visit.fault is None else None

        task.add_done_callback(note)

    def _request(self) -> Request:
        lots = self._lots
        number = int(lots.paretovariate(0.8)) % 40
        headers: Headers = []
        method = lots.choices(("GET", "HEAD", "POST", "PUT"), (80, 5, 10, 5))[0]
        place = lots.choice(("news", "news", "shop", "mine"))
        if place == "mine":
            headers.append((b"Authorization", b"Bearer %d" % lots.randrange(20)))
        return a_request(
            method,
            f"/{place}/{number}",
            headers,
            body=SENT if method in {"POST", "PUT"} else None,
            request_id=f"soak-{len(self.visits):06d}",
            client=f"10.0.0.{lots.randrange(1, 30)}",
        )
