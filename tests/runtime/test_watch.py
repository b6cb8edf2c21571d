"""A file that says something else is noticed; one that only looks touched is not.

The watch is the kernel's, so time is real here; nothing waits for a guess at it, but for what is to happen.
"""

import asyncio
import os
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

from sidecar.runtime.watch import watch

WITHIN = 20


class Seen:
    """How often the file became another."""

    def __init__(self) -> None:
        self.times = 0
        self.now = asyncio.Event()

    async def changed(self) -> None:
        self.times += 1
        self.now.set()

    async def after(self, act: Callable[[], object]) -> int:
        self.now.clear()
        act()
        async with asyncio.timeout(WITHIN):
            await self.now.wait()
        return self.times


@asynccontextmanager
async def watching(path: Path) -> AsyncIterator[Seen]:
    seen, stop, began = Seen(), asyncio.Event(), asyncio.Event()
    task = asyncio.create_task(watch(path, seen.changed, stop, began.set))  # noqa: TID251 -- a test's own task
    async with asyncio.timeout(WITHIN):
        await began.wait()
    try:
        yield seen
    finally:
        stop.set()
        async with asyncio.timeout(WITHIN):
            await task


async def test_another_content_is_noticed_and_the_same_one_is_not(tmp_path: Path) -> None:
    file = tmp_path / "sidecar.yaml"
    file.write_text("one")
    async with watching(file) as seen:
        file.touch()
        file.write_text("one")
        (tmp_path / "beside").write_text("it")

        assert await seen.after(lambda: file.write_text("two")) == 1


async def test_a_file_that_is_replaced_as_editors_do_is_noticed(tmp_path: Path) -> None:
    file, new = tmp_path / "sidecar.yaml", tmp_path / ".sidecar.yaml.new"
    file.write_text("one")
    async with watching(file) as seen:
        new.write_text("two")

        assert await seen.after(lambda: new.replace(file)) == 1


async def test_a_file_that_was_gone_is_noticed_when_it_is_back_and_another(tmp_path: Path) -> None:
    file = tmp_path / "sidecar.yaml"
    file.write_text("one")
    async with watching(file) as seen:
        file.unlink()

        assert await seen.after(lambda: file.write_text("two")) == 1


async def test_links_that_are_exchanged_as_kubernetes_does_are_noticed(tmp_path: Path) -> None:
    for number in ("1", "2"):
        (tmp_path / f"..{number}").mkdir()
        (tmp_path / f"..{number}" / "sidecar.yaml").write_text(number)
    (tmp_path / "..data").symlink_to("..1")
    file = tmp_path / "sidecar.yaml"
    file.symlink_to("..data/sidecar.yaml")
    async with watching(file) as seen:
        (tmp_path / "..data_tmp").symlink_to("..2")

        assert await seen.after(lambda: (tmp_path / "..data_tmp").replace(tmp_path / "..data")) == 1


async def test_what_is_no_file_is_no_change_and_makes_nobody_wait(tmp_path: Path) -> None:
    file, pipe = tmp_path / "sidecar.yaml", tmp_path / "pipe"
    file.write_text("one")
    os.mkfifo(pipe)
    async with watching(file) as seen:
        pipe.replace(file)
        new = tmp_path / "new"
        new.write_text("two")

        assert await seen.after(lambda: new.replace(file)) == 1
