"""What was changed is not served from a copy any more."""

import pytest

from sidecar.errors import Disconnected
from sidecar.message import Request
from sidecar.pipeline.stages.invalidate import InvalidateStage
from sidecar.policy.store import Key, Store
from tests.support.caches import a_cache, fresh, results
from tests.support.exchanges import a_request, a_route
from tests.support.upstream import Upstream, answer, fail
from tests.support.virtual_time import in_virtual_time


@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH", "DELETE", "PURGE"])
@in_virtual_time
async def test_a_change_makes_the_copy_worthless(method: str) -> None:
    upstream = Upstream(answer(200, b"one", headers=fresh(60)), answer(204), answer(200, b"two"))
    route = a_cache(upstream, invalidates=("a-route",))
    await route.get()

    await route.ask(a_request(method))

    assert (await route.get()).body == b"two"


@pytest.mark.parametrize(
    ("method", "status"),
    [("HEAD", 200), ("OPTIONS", 200), ("TRACE", 200), ("POST", 199), ("POST", 400), ("POST", 503)],
)
@in_virtual_time
async def test_what_changes_nothing_or_fails_leaves_the_copy(method: str, status: int) -> None:
    upstream = Upstream(answer(200, b"one", headers=fresh(60)), answer(status))
    route = a_cache(upstream, invalidates=("a-route",))
    await route.get()

    await route.ask(a_request(method, host=b""))

    assert (await route.get()).body == b"one"


@pytest.mark.parametrize("status", [200, 303, 399])
@in_virtual_time
async def test_a_change_that_succeeds_in_any_way_counts(status: int) -> None:
    upstream = Upstream(answer(200, b"one", headers=fresh(60)), answer(status), answer(200, b"two"))
    route = a_cache(upstream, invalidates=("a-route",))
    await route.get()

    await route.ask(a_request("DELETE"))

    assert (await route.get()).body == b"two"


@in_virtual_time
async def test_a_change_that_raises_leaves_the_copy() -> None:
    upstream = Upstream(answer(200, b"one", headers=fresh(60)), fail(Disconnected()))
    route = a_cache(upstream, invalidates=("a-route",))
    await route.get()

    got = await route.ask(a_request("POST"))

    assert (got.status, (await route.get()).body) == (502, b"one")


@in_virtual_time
async def test_a_change_through_one_route_reaches_the_copies_of_another() -> None:
    store = Store(1 << 20, 10)
    reads = a_cache(Upstream(then=answer(200, b"x", headers=fresh(60))), store=store, name="reads")
    writes = a_route(
        Upstream(answer(201, headers=[(b"Location", b"/orders/1")])),
        name="writes",
        store=store,
        invalidates=("reads",),
    )
    for target in ("/orders", "/orders/1", "/orders/2"):
        await reads.get(target)

    await writes.ask(a_request("POST", "/orders"))
    for target in ("/orders", "/orders/1", "/orders/2"):
        await reads.get(target)

    assert results(reads) == {"miss": 5, "hit": 1}


class BrokenStore(Store):
    """A store that cannot forget."""

    def invalidate(self, key: Key, now: float) -> None:
        raise MemoryError


@in_virtual_time
async def test_a_change_survives_a_store_that_fails() -> None:
    request: Request = a_request("POST")
    route = a_cache(Upstream(answer(201, b"made")), store=BrokenStore(1 << 20, 10), invalidates=("a-route",))
    stage = route.pipeline.find(InvalidateStage)
    assert stage is not None

    got = await route.ask(request)

    assert (got.status, got.body, stage.errors) == (201, b"made", 1)
    assert stage.describe() == "invalidate a-route"
