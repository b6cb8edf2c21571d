"""How old a response is, and how long it is fresh (RFC 9111 §4.2).

    s-maxage > max-age > Expires > the route's `fresh_for`

`fresh_for` stands where HTTP has a cache guess (§4.2.2): it counts from when the answer came, whatever the clock of the
origin says, and only for successes and lasting redirects. Guessing from `Last-Modified` is not done at all: an operator
who asked for nothing shall not find answers from the day before. With `override` it goes before what the origin says.
"""

from sidecar.policy.cache_response import Told
from sidecar.policy.cache_settings import CacheSettings

__all__ = ["EXPLICIT", "GUESSED", "age_on_arrival", "fresh_seconds", "said_seconds"]

# What may be kept where the response itself says for how long: those that RFC 9110 §15.1 calls heuristically cacheable,
# without 206, since no parts are kept.
EXPLICIT = frozenset({200, 203, 204, 300, 301, 308, 404, 405, 410, 414, 501})

# What may be kept on the word of the route alone. Errors may not: one that has been mended would live on here.
GUESSED = frozenset({200, 203, 204, 301, 308})


def age_on_arrival(told: Told, wall: float, delay: float) -> float:
    """Give the age of a response when it came (§4.2.3), in seconds.

    `wall` is the time of day at which its head came, `delay` the seconds that the request took until then.
    """
    apparent = 0 if told.date is None else max(0, int(wall) - told.date)
    return max(apparent, told.age + delay)


def said_seconds(told: Told, wall: float) -> float | None:
    """Give for how many seconds, counted from its making, the response says to be fresh; None: it does not say."""
    cc = told.cc
    if cc.s_maxage is not None:
        return cc.s_maxage
    if cc.max_age is not None:
        return cc.max_age
    if told.expires is None:
        return None
    return max(0, told.expires - (int(wall) if told.date is None else told.date))


def fresh_seconds(told: Told, status: int, said: float | None, age: float, settings: CacheSettings) -> float:
    """Give for how many seconds, counted from its making, the response counts as fresh here; 0: it never does.

    `said` is what `said_seconds` gave for it, `age` its age on arrival.
    """
    override = settings.override_origin
    route = settings.fresh_for + age if settings.fresh_for and status in GUESSED else 0.0
    if override and route:
        return route
    if told.cc.no_cache and not override:
        return 0.0
    return route if said is None else said
