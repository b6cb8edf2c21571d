"""One snapshot a second for all who listen, and none while nobody does."""

import asyncio

from sidecar.control.admin.streams import Streams
from sidecar.telemetry.hub import Hub
from tests.support.virtual_time import VirtualTimeLoop, in_virtual_time


class Made:
    """Streams whose snapshots are numbers."""

    def __init__(self) -> None:
        self.number = 0
        self.hub = Hub(lambda: 0.0)
        self.streams = Streams(self.hub, self.make)

    async def make(self) -> bytes:
        """Make the next one."""
        self.number += 1
        await asyncio.sleep(0)
        return b"%d" % self.number


@in_virtual_time
async def test_all_who_listen_share_one_snapshot_a_tick() -> None:
    made = Made()
    streams = made.streams
    with streams.listening(None, 1) as one, streams.listening(None, 1) as other:
        assert (await streams.latest(), await streams.latest()) == (b"1", b"1")
        one.due = other.due = False
        await asyncio.gather(one.take(), other.take())
        assert (one.due, other.due) == (True, True)
        assert set(await asyncio.gather(streams.latest(), streams.latest())) == {b"2"}


@in_virtual_time
async def test_each_is_reminded_as_often_as_it_asked_for() -> None:
    made = Made()
    reminded = {1: 0, 3: 0}
    with made.streams.listening(None, 1) as often, made.streams.listening(None, 3) as seldom:
        for _ in range(9):
            often.due = False
            await often.take()
            reminded[1] += often.due
            if seldom.due:
                reminded[3] += 1
                seldom.due = False

    assert reminded == {1: 9, 3: 4}  # the first one is due from the start


@in_virtual_time
async def test_while_nobody_wants_snapshots_none_is_made_and_no_timer_runs() -> None:
    made = Made()
    loop = asyncio.get_running_loop()
    assert isinstance(loop, VirtualTimeLoop)
    with made.streams.listening(None, 0):
        assert loop.timers == 0
        with made.streams.listening(None, 1):
            assert loop.timers == 1
        assert loop.timers == 0

    assert (made.number, len(made.streams), len(made.hub)) == (0, 0, 0)


@in_virtual_time
async def test_one_who_leaves_while_making_the_snapshot_leaves_it_to_the_next() -> None:
    made = Made()
    with made.streams.listening(None, 1):
        first = asyncio.get_running_loop().create_task(made.streams.latest())
        second = asyncio.get_running_loop().create_task(made.streams.latest())
        await asyncio.sleep(0)
        first.cancel()

        assert await second == b"2"
        await asyncio.gather(first, return_exceptions=True)


@in_virtual_time
async def test_one_who_does_not_read_is_reminded_once() -> None:
    made = Made()
    with made.streams.listening(None, 1) as listener:
        listener.due = False
        await asyncio.sleep(500)
        missed, taken = await listener.take()

    assert (missed, taken, listener.due) == (0, [], True)
