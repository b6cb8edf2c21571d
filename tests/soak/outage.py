"""One hour of an outage: the service and its weather, the route with all its policies, and those who ask.

`play(seed)` lives through the hour of that seed, in virtual time, and says which of the promises were broken.
"""

import asyncio
from dataclasses import replace
from random import Random

from sidecar.policy.breaker import Breaker
from sidecar.policy.bulkhead import Bulkhead
from sidecar.policy.ratelimit import RateLimiter
from sidecar.policy.store import Store
from sidecar.runtime.background import Background
from tests.soak.crowd import Crowd
from tests.soak.promises import Hour, hold_all
from tests.soak.rules import draw
from tests.soak.watch import Door, Ledger, Outcome
from tests.soak.weather import Forecast, Service
from tests.support.exchanges import a_route, some_parts
from tests.support.upstream import Upstream
from tests.support.virtual_time import run

__all__ = ["Outcome", "play"]

STORE = 64 << 10  # bytes, and room for fewer copies than there are targets
AFTERMATH = 10.0  # seconds: the longest body, and some more


def play(seed: int) -> Outcome:
    """Live through the hour of this seed."""
    outcome = Outcome(seed)
    try:
        run(_hour(outcome))
    except Exception as fault:  # noqa: BLE001 - whatever it is, it belongs to this seed
        outcome.broken.append(f"{type(fault).__name__}: {fault}")
    return outcome


async def _hour(outcome: Outcome) -> None:
    lots = Random(outcome.seed)
    rules, forecast = draw(lots), Forecast(lots)
    loop = asyncio.get_running_loop()
    breaker = Breaker("soak", rules.breaker, lots.random)
    bulkhead = Bulkhead("soak", rules.bulkhead)
    budget = Ledger(rules.budget, loop.time())
    upstream = Upstream(then=Door(Service(lots, forecast), rules, breaker, outcome))
    parts = replace(some_parts(), spawn=Background(loop).spawn, chance=lots.random)
    route = a_route(
        upstream,
        parts=parts,
        attempt=rules.attempt,
        total=rules.total,
        idle=5.0,
        rate_limit=RateLimiter(rules.rate_limit),
        fallback=rules.fallback,
        cache=rules.cache,
        store=Store(STORE, 20),
        invalidates=("a-route",),
        retry=rules.retry,
        budget=budget,
        breaker=breaker,
        bulkhead=bulkhead,
    )
    crowd = Crowd(lots, route)

    await crowd.come()
    await asyncio.sleep(rules.total + AFTERMATH)  # for what goes on after an answer

    hold_all(outcome, Hour(rules, forecast, budget, breaker, bulkhead, upstream, route, crowd))
