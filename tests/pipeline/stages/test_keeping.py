"""What becomes of an answer besides going to its client."""

import asyncio

import pytest

from sidecar.errors import ClientGone, Disconnected, UpstreamIdle
from sidecar.message import Body, Fields, Headers, Reply
from sidecar.pipeline.stages.keeping import QUICK, Keeper
from sidecar.pipeline.stages.single_flight import Flights
from sidecar.policy.cache import Asking, CacheSettings
from sidecar.policy.cache_request import asked
from sidecar.policy.store import Entry, Store
from tests.support.caches import control, fresh
from tests.support.exchanges import EPOCH, a_request
from tests.support.virtual_time import in_virtual_time

KEY = b"r  /"


class Scene:
    """A keeper, and one request that asks, with `followers` who wait for its answer."""

    def __init__(
        self, *, followers: int = 0, settings: CacheSettings | None = None, method: str = "GET"
    ) -> None:
        loop = asyncio.get_running_loop()
        self.store = Store(1 << 20, 10)
        self.flights = Flights(loop)
        self.faults = 0
        self.keeper = Keeper(
            self.store,
            settings or CacheSettings(),
            self.flights,
            loop,
            wall=lambda: EPOCH + loop.time(),
            on_fault=self.fault,
        )
        request = a_request(method)
        self.asking = Asking(request, KEY, asked(request.fields), b"uri-miss", loop.time())
        self.asking.flight = b"flight"
        self.flights.lead(b"flight")
        self.landed = [loop.create_task(self.flights.wait(b"flight", 1000.0)) for _ in range(followers)]

    def fault(self) -> None:
        self.faults += 1

    @property
    def copies(self) -> list[Entry]:
        return list(self.store.variants(KEY))

    async def outcome(self) -> list[object]:
        """What those who wait got: the body that was shared, or the word."""
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        words: list[object] = []
        for task in self.landed:
            if not task.done():
                words.append("waits")
                continue
            landed = task.result()
            words.append(landed.body if isinstance(landed, Entry) else landed.name)
        for task in self.landed:
            task.cancel()
        await asyncio.sleep(0)
        return words


def a_reply(body: bytes | Body | None = b"x", headers: Headers | None = None, status: int = 200) -> Reply:
    return Reply(status, Fields(headers or []), body)


def an_open_body() -> Body:
    return Body(asyncio.get_running_loop().time)


@in_virtual_time
async def test_an_answer_that_is_all_here_is_kept_and_shared_at_once() -> None:
    scene = Scene(followers=2)
    await asyncio.sleep(0)

    stored = scene.keeper.keep(scene.asking, a_reply(b"hello", fresh(60)))

    assert (stored, [copy.body for copy in scene.copies]) == (True, [b"hello"])
    assert await scene.outcome() == [b"hello", b"hello"]
    assert (len(scene.flights), scene.asking.flight) == (0, None)


@in_virtual_time
async def test_an_answer_that_may_be_shared_need_not_be_kept() -> None:
    scene = Scene(followers=1)
    await asyncio.sleep(0)

    stored = scene.keeper.keep(scene.asking, a_reply(b"hello"))

    assert (stored, scene.copies, await scene.outcome()) == (False, [], [b"hello"])


@in_virtual_time
async def test_an_answer_that_may_be_kept_need_not_be_shared() -> None:
    scene = Scene(followers=1)
    await asyncio.sleep(0)

    stored = scene.keeper.keep(scene.asking, a_reply(b"hello", control("no-cache", etag='"1"')))

    assert (stored, len(scene.copies), await scene.outcome()) == (True, 1, ["ALONE"])


@pytest.mark.parametrize(
    ("status", "alone"), [(200, True), (403, True), (499, True), (500, False), (503, False)]
)
@in_virtual_time
async def test_after_an_answer_for_one_only_nobody_waits_for_the_next_unless_it_was_a_failure(
    status: int, alone: bool
) -> None:
    scene = Scene(followers=1)
    await asyncio.sleep(0)

    stored = scene.keeper.keep(scene.asking, a_reply(b"hello", control("private"), status))

    assert (stored, scene.flights.is_alone(b"flight", 0.0)) == (False, alone)
    assert await scene.outcome() == ["ALONE"]


@in_virtual_time
async def test_the_copy_is_as_old_as_its_answer_was() -> None:
    scene = Scene()
    await asyncio.sleep(5)

    scene.keeper.keep(scene.asking, a_reply(b"", fresh(60, age="10")))

    (copy,) = scene.copies
    assert (copy.stored_at, copy.age_at_store, copy.lifetime) == (5, 15, 60)
    assert copy.fields.pairs == ((b"Cache-Control", b"max-age=60"), (b"Content-Length", b"0"))


@in_virtual_time
async def test_a_204_is_kept_without_a_length() -> None:
    scene = Scene()

    assert scene.keeper.keep(scene.asking, a_reply(None, fresh(60), 204))

    assert scene.copies[0].fields.pairs == ((b"Cache-Control", b"max-age=60"),)


@in_virtual_time
async def test_without_a_flight_there_is_nobody_to_tell() -> None:
    scene = Scene()
    scene.keeper.land(scene.asking, None)

    assert scene.keeper.keep(scene.asking, a_reply(b"", fresh(60))) is True
    assert scene.keeper.keep(scene.asking, a_reply(b"", control("private"))) is False
    scene.keeper.land(scene.asking, None)
    scene.keeper.hand_over(scene.asking)
    assert len(scene.flights) == 0


# --- bodies that are still coming ---


@in_virtual_time
async def test_a_body_that_comes_is_kept_and_shared_when_it_is_whole() -> None:
    scene, body = Scene(followers=1), an_open_body()
    await asyncio.sleep(0)
    reply = a_reply(body, fresh(60))

    stored = scene.keeper.keep(scene.asking, reply)

    body.feed(b"one")
    assert (stored, scene.copies, scene.store.claimed, reply.body is body) == (True, [], 3, False)
    body.finish()
    assert [copy.body for copy in scene.copies] == [b"one"]
    assert await scene.outcome() == [b"one"]
    reply.close()
    assert scene.store.claimed == 0


@in_virtual_time
async def test_a_body_that_nobody_would_get_goes_by_untouched() -> None:
    scene, body = Scene(), an_open_body()
    reply = a_reply(body)

    stored = scene.keeper.keep(scene.asking, reply)

    assert (stored, reply.body, len(scene.flights)) == (False, body, 0)
    assert not scene.flights.is_alone(b"flight", 0.0)


@in_virtual_time
async def test_a_body_that_is_only_for_those_who_wait_is_not_kept() -> None:
    scene, body = Scene(followers=1), an_open_body()
    await asyncio.sleep(0)

    stored = scene.keeper.keep(scene.asking, a_reply(body))
    body.feed(b"one")
    body.finish()

    assert (stored, scene.copies, await scene.outcome()) == (False, [], [b"one"])


@pytest.mark.parametrize(("length", "kept"), [(100, True), (101, False), (None, True)])
@in_virtual_time
async def test_a_body_that_is_announced_as_too_large_goes_by_untouched(
    length: int | None, kept: bool
) -> None:
    scene, body = Scene(followers=1, settings=CacheSettings(max_body=100)), an_open_body()
    await asyncio.sleep(0)
    reply = a_reply(body, fresh(60))
    reply.length = length

    stored = scene.keeper.keep(scene.asking, reply)

    assert (stored, reply.body is body) == (kept, not kept)
    assert scene.flights.is_alone(b"flight", 0.0) is not kept
    assert await scene.outcome() == ["waits" if kept else "ALONE"]


@in_virtual_time
async def test_after_a_body_that_became_too_large_nobody_waits_for_the_next() -> None:
    scene, body = Scene(followers=1, settings=CacheSettings(max_body=2)), an_open_body()
    await asyncio.sleep(0)
    scene.keeper.keep(scene.asking, a_reply(body, fresh(60)))

    body.feed(b"one")

    assert scene.flights.is_alone(b"flight", 0.0)
    assert await scene.outcome() == ["ALONE"]


@in_virtual_time
async def test_after_a_body_that_broke_the_next_is_waited_for_again() -> None:
    scene, body = Scene(followers=1), an_open_body()
    await asyncio.sleep(0)
    scene.keeper.keep(scene.asking, a_reply(body, fresh(60)))

    body.fail(Disconnected())

    assert not scene.flights.is_alone(b"flight", 0.0)
    assert await scene.outcome() == ["ALONE"]


@pytest.mark.parametrize(
    ("error", "word"),
    [(ClientGone(), "LEAD"), (None, "LEAD"), (UpstreamIdle(), "ALONE"), (Disconnected(), "ALONE")],
)
@in_virtual_time
async def test_an_answer_that_ends_too_early_is_left_to_the_next_unless_the_upstream_failed(
    error: BaseException | None, word: str
) -> None:
    scene, body = Scene(followers=1), an_open_body()
    await asyncio.sleep(0)
    reply = a_reply(body, fresh(60))
    scene.keeper.keep(scene.asking, reply)
    body.feed(b"one")

    reply.close(error)

    assert (scene.copies, scene.store.claimed) == ([], 0)
    assert await scene.outcome() == [word]


@in_virtual_time
async def test_who_waits_hurries_the_body_and_who_comes_later_too() -> None:
    early, late = Scene(followers=1), Scene()
    await asyncio.sleep(0)
    bodies = [an_open_body(), an_open_body()]
    for scene, body in zip((early, late), bodies, strict=True):
        reply = a_reply(body, fresh(60))
        scene.keeper.keep(scene.asking, reply)
        assert isinstance(reply.body, Body)
        reply.body.hold()
    assert [body.held for body in bodies] == [False, True]

    late.keeper.hurry(b"flight")
    late.keeper.hurry(b"another")

    assert [body.held for body in bodies] == [False, False]
    await early.outcome()


@in_virtual_time
async def test_those_who_wait_do_not_wait_long_for_a_body_but_it_is_kept_all_the_same() -> None:
    """On their own they would have its first bytes already."""
    scene, body = Scene(followers=1), an_open_body()
    await asyncio.sleep(0)
    scene.keeper.keep(scene.asking, a_reply(body, fresh(60)))
    body.feed(b"one")

    await asyncio.sleep(0.9)
    assert (QUICK, [task.done() for task in scene.landed]) == (1.0, [False])
    await asyncio.sleep(0.1)

    assert await scene.outcome() == ["ALONE"]
    assert [scene.flights.is_alone(b"flight", at) for at in (10.9, 11.0)] == [True, False]
    body.finish()
    assert [copy.body for copy in scene.copies] == [b"one"]


@pytest.mark.parametrize("ends", ["whole", "broken", "closed"])
@in_virtual_time
async def test_a_body_that_has_ended_leaves_no_timer_behind(ends: str) -> None:
    scene, body = Scene(), an_open_body()
    reply = a_reply(body, fresh(60))
    scene.keeper.keep(scene.asking, reply)
    if ends == "whole":
        body.finish()
    elif ends == "broken":
        body.fail(Disconnected())
    else:
        reply.close(ClientGone())

    await asyncio.sleep(5)

    assert not scene.flights.is_alone(b"flight", 5.0)


@in_virtual_time
async def test_a_body_without_a_flight_is_kept_too() -> None:
    scene, bodies = Scene(), [an_open_body(), an_open_body()]
    scene.keeper.land(scene.asking, None)
    replies = [a_reply(body, fresh(60)) for body in bodies]

    for reply in replies:
        scene.keeper.keep(scene.asking, reply)
    bodies[0].feed(b"one")
    bodies[0].finish()
    replies[1].close(ClientGone())

    assert [copy.body for copy in scene.copies] == [b"one"]


class Unkeepable(Store):
    """A store that cannot keep."""

    def put(self, entry: Entry, asked_at: float) -> bool:
        raise MemoryError


@in_virtual_time
async def test_a_store_that_fails_while_a_body_ends_breaks_nothing() -> None:
    scene, body = Scene(followers=1), an_open_body()
    await asyncio.sleep(0)
    scene.keeper._store = Unkeepable(1 << 20, 10)
    reply = a_reply(body, fresh(60))
    scene.keeper.keep(scene.asking, reply)
    body.feed(b"one")

    body.finish()

    assert isinstance(reply.body, Body)
    assert (reply.body.take_whole(), scene.faults) == (b"one", 1)
    assert await scene.outcome() == ["ALONE"]


# --- changes ---


@in_virtual_time
async def test_an_answer_from_before_a_change_is_neither_kept_nor_shared() -> None:
    scene = Scene(followers=1)
    await asyncio.sleep(1)
    scene.store.invalidate(KEY, 1.0)

    stored = scene.keeper.keep(scene.asking, a_reply(b"old", fresh(60)))

    assert (stored, scene.copies, await scene.outcome()) == (False, [], ["ALONE"])


# --- renewing ---


def a_copy(scene: Scene, **more: str) -> Entry:
    other = Scene()
    other.keeper.keep(other.asking, a_reply(b"hello", fresh(60, etag='"1"', **more)))
    (copy,) = other.copies
    scene.store.put(copy, 0.0)
    return copy


@in_virtual_time
async def test_a_304_makes_the_copy_new() -> None:
    scene = Scene(followers=1)
    copy = a_copy(scene, x="1")
    await asyncio.sleep(100)
    scene.asking.asked_at = 98.0

    entry = scene.keeper.renew(scene.asking, copy, a_reply(None, fresh(30, etag='W/"1"', age="5"), 304))

    assert entry is not None
    assert scene.copies == [entry]
    assert (entry.status, entry.body, entry.stored_at, entry.lifetime) == (200, b"hello", 100, 30)
    assert entry.age_at_store == 7  # it took two seconds since it was asked
    assert entry.fields.values(b"cache-control") == [b"max-age=30"]
    assert (entry.fields.first(b"x"), entry.fields.first(b"age")) == (b"1", None)
    assert await scene.outcome() == [b"hello"]


@in_virtual_time
async def test_the_date_of_a_304_counts_for_the_copy() -> None:
    scene = Scene()
    copy = a_copy(scene, date="Fri, 15 Jan 2027 08:00:00 GMT")
    await asyncio.sleep(50)
    scene.asking.asked_at = 50.0
    reply = a_reply(None, [], 304)
    reply.extra = ((b"Date", b"Fri, 15 Jan 2027 08:00:50 GMT"),)

    entry = scene.keeper.renew(scene.asking, copy, reply)

    assert entry is not None
    assert (entry.age_at_store, entry.fields.values(b"date")) == (0, [b"Fri, 15 Jan 2027 08:00:50 GMT"])


@in_virtual_time
async def test_a_304_about_another_copy_makes_ours_worthless() -> None:
    scene = Scene(followers=1)
    copy = a_copy(scene)
    await asyncio.sleep(0)

    assert scene.keeper.renew(scene.asking, copy, a_reply(None, [(b"ETag", b'"2"')], 304)) is None

    assert (scene.copies, await scene.outcome()) == ([], ["waits"])


@in_virtual_time
async def test_a_304_that_is_for_one_only_is_given_to_that_one_only() -> None:
    scene = Scene(followers=1)
    copy = a_copy(scene)
    await asyncio.sleep(0)

    entry = scene.keeper.renew(scene.asking, copy, a_reply(None, [(b"Set-Cookie", b"a=b")], 304))

    assert entry is not None
    assert (entry.fields.first(b"set-cookie"), scene.copies) == (b"a=b", [])
    assert await scene.outcome() == ["ALONE"]


@in_virtual_time
async def test_a_304_does_not_bring_back_a_copy_in_whose_place_there_is_a_newer_one() -> None:
    scene, other = Scene(followers=1), Scene()
    copy = a_copy(scene)
    await asyncio.sleep(1)
    other.asking.asked_at = 1.0
    other.keeper.keep(other.asking, a_reply(b"newer", fresh(60, etag='"2"')))
    (newer,) = other.copies
    scene.store.put(newer, 1.0)

    entry = scene.keeper.renew(scene.asking, copy, a_reply(None, fresh(60), 304))

    assert entry is not None
    assert (entry.body, scene.copies, await scene.outcome()) == (b"hello", [newer], ["ALONE"])


@pytest.mark.parametrize("changed", [True, False])
@in_virtual_time
async def test_a_304_is_shared_unless_it_is_stale_at_once_or_from_before_a_change(changed: bool) -> None:
    scene = Scene(followers=1)
    copy = a_copy(scene)
    await asyncio.sleep(1)
    if changed:
        scene.store.invalidate(KEY, 1.0)

    scene.keeper.renew(scene.asking, copy, a_reply(None, fresh(60 if changed else 0), 304))

    assert (len(scene.copies), await scene.outcome()) == (0 if changed else 1, ["ALONE"])
