"""The cache: forgotten by an operator, of one route or whole."""

from sidecar.message import Fields
from sidecar.policy.cache import prefix_of
from sidecar.policy.store import Entry
from tests.control.admin.conftest import Admin, Start
from tests.support.live import MINIMAL


def keep(admin: Admin, route: str, number: int) -> None:
    """Put copies of a route into the store."""
    store = admin.live.guards.store
    assert store is not None
    for each in range(number):
        key = prefix_of(route) + b"%d" % each
        assert store.put(Entry(key, 200, Fields([]), b"copy", admin.live.now()), admin.live.now())


async def test_the_copies_of_one_route_can_be_dropped_or_all(admin: Admin) -> None:
    keep(admin, "orders", 3)
    keep(admin, "all", 2)

    some = await admin.ask("DELETE", "/cache?route=orders")
    _, left = await admin.ask("GET", "/cache")
    rest = await admin.ask("DELETE", "/cache")

    assert (some, left["entries"], rest) == (
        (200, {"route": "orders", "dropped": 3}),
        2,
        (200, {"route": None, "dropped": 2}),
    )
    assert [(line["target"], line["before"], line["after"]) for line in admin.lines] == [
        ("orders", {"entries": 5}, {"entries": 2}),
        ("all", {"entries": 2}, {"entries": 0}),
    ]


async def test_a_route_that_there_is_not_is_404_and_nothing_is_dropped(admin: Admin) -> None:
    keep(admin, "orders", 1)

    assert await admin.refusal("DELETE", "/cache?route=order") == (404, "unknown_name")
    assert (await admin.ask("GET", "/cache"))[1]["entries"] == 1


async def test_without_a_cache_there_is_nothing_to_see_and_nothing_to_drop(start: Start) -> None:
    admin = await start(MINIMAL)

    assert await admin.ask("GET", "/cache") == (200, None)
    assert await admin.ask("DELETE", "/cache") == (200, {"route": None, "dropped": 0})
