"""Work in the background is bounded, ends with the program, and its failures are told."""

import asyncio

from sidecar.runtime.background import Background
from tests.support.virtual_time import VirtualTimeLoop, in_virtual_time


@in_virtual_time
async def test_what_is_spawned_runs_and_is_let_go_of() -> None:
    done: list[float] = []
    loop = asyncio.get_running_loop()
    background = Background(loop)

    async def work() -> None:
        await asyncio.sleep(3)
        done.append(loop.time())

    assert background.spawn(work())
    assert (len(background), done) == (1, [])
    await asyncio.sleep(4)
    assert (len(background), done) == (0, [3])


@in_virtual_time
async def test_no_more_run_at_once_than_the_bound_says() -> None:
    background = Background(asyncio.get_running_loop(), most=2)

    begun = [background.spawn(asyncio.sleep(1)) for _ in range(5)]

    assert begun == [True, True, False, False, False]
    assert (len(background), background.dropped) == (2, 3)
    await asyncio.sleep(2)
    assert background.spawn(asyncio.sleep(0))
    await asyncio.sleep(1)


@in_virtual_time
async def test_all_are_ended_with_the_program() -> None:
    background = Background(asyncio.get_running_loop())
    background.spawn(asyncio.sleep(3600))

    background.cancel()
    await asyncio.sleep(0)
    await asyncio.sleep(0)

    assert len(background) == 0


@in_virtual_time
async def test_a_failure_is_told_to_the_loop() -> None:
    loop = asyncio.get_running_loop()
    assert isinstance(loop, VirtualTimeLoop)

    async def fails() -> None:
        raise KeyError("mine")

    Background(loop).spawn(fails())
    await asyncio.sleep(1)

    assert [repr(fault["exception"]) for fault in loop.faults] == ["KeyError('mine')"]
    loop.faults.clear()
