"""Routes with a cache, with as few words as a test needs.

route = a_cache(Upstream(answer(200, b"one", headers=fresh(60))))
await route.get()
got = await route.get()
assert (got.body, status(got), results(route)) == (b"one", b"sidecar; hit; ttl=60", {"miss": 1, "hit": 1})
"""

from collections.abc import Callable
from typing import Any

from sidecar.message import Fields, Headers, Request
from sidecar.pipeline.assemble import Parts
from sidecar.pipeline.exchange import Exchange
from sidecar.pipeline.stage import Call
from sidecar.pipeline.stages.cache import CacheStage
from sidecar.policy.cache import CacheSettings
from sidecar.policy.store import Entry, Key, Store
from tests.support.exchanges import Got, Route, a_route
from tests.support.upstream import Arrival, Step

__all__ = ["a_cache", "a_copy", "control", "expecting", "fresh", "results", "status"]


def a_cache(
    upstream: Call,
    *,
    store: Store | None = None,
    total: float | None = 15.0,
    name: str = "a-route",
    invalidates: tuple[str, ...] = (),
    parts: Parts | None = None,
    **settings: Any,
) -> Route:
    """Make a route with a cache. `settings` are those of `CacheSettings`."""
    return a_route(
        upstream,
        name=name,
        parts=parts,
        total=total,
        cache=CacheSettings(**settings),
        store=store or Store(1 << 20, 100),
        invalidates=invalidates,
    )


def a_copy(key: Key, status: int, fields: Fields, body: bytes, stored_at: float = 0.0, **more: Any) -> Entry:
    """Make a copy. `more` sets its other attributes."""
    entry = Entry(key, status, fields, body, stored_at)
    for name, value in more.items():
        assert hasattr(entry, name), name
        setattr(entry, name, value)
    return entry


def results(route: Route) -> dict[str, int]:
    """What became of the requests, without the zeros."""
    stage = route.pipeline.find(CacheStage)
    assert stage is not None
    return {word: number for word, number in stage.results.items() if number}


def status(got: Got) -> bytes | None:
    """What an answer says of the cache."""
    return got.header(b"cache-status")


def control(value: str, **more: str) -> Headers:
    """Give a section with this Cache-Control, and `more` fields; `_` stands for `-`."""
    fields = [(name.replace("_", "-").encode(), text.encode()) for name, text in more.items()]
    return [(b"Cache-Control", value.encode()), *fields]


def fresh(seconds: int, **more: str) -> Headers:
    """Give a section that says to be fresh for so long."""
    return control(f"max-age={seconds}", **more)


def expecting(step: Step, check: Callable[[Request], None]) -> Step:
    """Do as `step`, after a look at the request as it comes to the upstream."""

    async def looked(exchange: Exchange, arrival: Arrival) -> Any:
        check(exchange.request)
        return await step(exchange, arrival)

    return looked
