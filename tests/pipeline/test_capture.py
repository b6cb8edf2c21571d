"""A body that goes to its client and into memory at the same time."""

import asyncio

import pytest

from sidecar.errors import ClientGone, Disconnected
from sidecar.message import HIGH_WATER, Body
from sidecar.pipeline.capture import Capture
from sidecar.policy.store import Store
from tests.support.virtual_time import in_virtual_time


class Scene:
    """A source that is fed by hand, its capture, and what came out at both ends."""

    def __init__(self, *, most: int = 1000, room: int = 1 << 20) -> None:
        loop = asyncio.get_running_loop()
        self.source = Body(loop.time)
        self.store = Store(4 * room, 10)
        self.whole: list[bytes | None] = []
        self.capture = Capture(self.source, loop.time, most, self.store, self.whole.append)
        self.out = self.capture.out
        self.got: list[bytes] = []
        self.ends: list[BaseException | None] = []

    def drain(self) -> None:
        self.out.pipe(self.got.append, self.ends.append)


@in_virtual_time
async def test_every_piece_goes_to_the_client_at_once_and_the_whole_to_whoever_keeps_it() -> None:
    scene = Scene()
    scene.source.feed(b"one,")
    scene.capture.start()
    scene.drain()
    scene.source.feed(b"two")
    assert (scene.got, scene.whole, scene.store.claimed) == ([b"one,", b"two"], [], 7)
    assert repr(scene.capture) == "<Capture 7 bytes kept, 0 pieces wait>"

    scene.source.finish()

    assert (scene.ends, scene.whole) == ([None], [b"one,two"])
    assert (scene.capture.close(), scene.store.claimed) == (True, 0)


@in_virtual_time
async def test_a_body_that_breaks_breaks_for_the_client_too() -> None:
    scene = Scene()
    scene.capture.start()
    scene.drain()
    error = Disconnected()
    scene.source.feed(b"one")

    scene.source.fail(error)

    assert (scene.got, scene.ends, scene.whole) == ([b"one"], [error], [None])


@in_virtual_time
async def test_what_waits_for_a_slow_client_is_dropped_with_a_body_that_breaks() -> None:
    scene = Scene()
    scene.capture.start()
    scene.drain()
    scene.out.hold()
    scene.source.feed(b"one")

    scene.source.fail(Disconnected())
    scene.out.release()

    assert (scene.got, len(scene.ends)) == ([], 1)


@in_virtual_time
async def test_trailers_go_to_the_client_and_the_body_is_not_kept() -> None:
    scene = Scene()
    scene.capture.start()
    scene.drain()
    scene.source.feed(b"one")

    scene.source.finish([(b"X-Sum", b"1")])

    assert (scene.out.trailers, scene.whole) == ([(b"X-Sum", b"1")], [None])


@in_virtual_time
async def test_a_slow_client_stops_the_source() -> None:
    scene = Scene()
    scene.capture.start()
    scene.drain()
    scene.out.hold()
    assert scene.source.held

    scene.source.feed(b"was on its way")
    assert (scene.got, repr(scene.capture)) == ([], "<Capture 14 bytes kept, 1 pieces wait>")
    scene.out.release()

    assert (scene.got, scene.source.held, scene.source.paused) == ([b"was on its way"], False, False)


@in_virtual_time
async def test_a_client_that_has_not_begun_to_read_stops_the_source_in_time() -> None:
    scene = Scene(most=1 << 20)
    scene.capture.start()
    piece = b"x" * (HIGH_WATER // 2)
    for _ in range(2):
        scene.source.feed(piece)
        assert not scene.source.paused
    scene.source.feed(piece)
    assert scene.source.paused

    scene.drain()

    assert (len(scene.got), scene.source.paused) == (3, False)


@in_virtual_time
async def test_a_client_that_stops_again_gets_the_rest_later() -> None:
    scene = Scene()
    scene.capture.start()

    def sip(data: bytes) -> None:
        scene.got.append(data)
        scene.out.hold()

    scene.out.pipe(sip, scene.ends.append)
    for piece in (b"1", b"2", b"3"):
        scene.source.feed(piece)
    assert scene.got == [b"1"]
    scene.out.release()
    assert (scene.got, scene.source.held) == ([b"1", b"2"], True)
    scene.source.finish()
    assert (scene.whole, scene.ends) == ([b"123"], [])
    scene.out.release()
    scene.out.release()

    assert (scene.got, scene.ends) == ([b"1", b"2", b"3"], [None])


@in_virtual_time
async def test_in_a_hurry_the_client_holds_nothing_up() -> None:
    scene = Scene()
    scene.capture.start()
    scene.drain()
    scene.out.hold()

    scene.capture.hurry()
    scene.capture.hurry()
    assert not scene.source.held
    scene.source.feed(b"one")
    scene.source.feed(b"two")
    assert not scene.source.held
    scene.source.finish()

    assert (scene.whole, scene.got, scene.ends) == ([b"onetwo"], [], [])
    scene.out.release()
    assert (scene.got, scene.ends) == ([b"one", b"two"], [None])


@in_virtual_time
async def test_in_a_hurry_a_pause_of_the_client_does_not_reach_the_source() -> None:
    scene = Scene()
    scene.capture.start()
    scene.drain()
    scene.capture.hurry()

    scene.out.hold()

    assert not scene.source.paused


@pytest.mark.parametrize(("most", "room"), [(5, 100), (100, 5)])
@in_virtual_time
async def test_what_grows_too_large_becomes_a_plain_pipe(most: int, room: int) -> None:
    scene = Scene(most=most, room=room)
    scene.capture.start()
    scene.drain()
    scene.source.feed(b"12345")
    assert (scene.whole, scene.store.claimed) == ([], 5)

    scene.source.feed(b"6")

    assert (scene.whole, scene.store.claimed, scene.got) == ([None], 0, [b"12345", b"6"])
    assert repr(scene.capture) == "<Capture given up, 0 pieces wait>"
    scene.out.hold()
    assert scene.source.held
    scene.out.release()
    scene.source.finish()
    assert (scene.ends, scene.whole) == ([None], [None])


@in_virtual_time
async def test_what_grows_too_large_in_a_hurry_waits_for_its_client_again() -> None:
    scene = Scene(most=5)
    scene.capture.start()
    scene.drain()
    scene.out.hold()
    scene.capture.hurry()
    scene.source.feed(b"12345")
    held = [scene.source.held]

    scene.source.feed(b"6")
    held.append(scene.source.held)
    scene.capture.hurry()
    held.append(scene.source.held)
    assert held == [False, True, True]
    scene.out.release()

    assert (scene.got, scene.source.held) == ([b"12345", b"6"], False)


@in_virtual_time
async def test_a_reply_that_is_over_keeps_nothing() -> None:
    scene = Scene()
    scene.capture.start()
    scene.drain()
    scene.out.hold()
    scene.source.feed(b"one")

    assert scene.capture.close() is False
    scene.source.fail(ClientGone())

    assert (scene.store.claimed, scene.got, scene.whole) == (0, [], [])


@in_virtual_time
async def test_a_reply_that_is_over_asks_nothing_of_the_source_any_more() -> None:
    scene = Scene()
    scene.capture.start()
    scene.drain()

    scene.capture.close()
    scene.out.hold()

    assert not scene.source.held
