"""Notices that the configuration file says something else, also when it is a link that is exchanged.

Kubernetes mounts a ConfigMap as a directory of links that lead through `..data`, itself a link that is exchanged when
the map changes: the file's own name never changes. So the directory is watched, and what counts is what the file holds:
whatever else happens there, a file with the same content is the same file. A file that is gone for a moment, as editors
have it, is looked at again with the next change.
"""

import asyncio
import hashlib
import os
import stat
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from sidecar.config.reader import MAX_BYTES

__all__ = ["watch"]

_GATHER = 200  # milliseconds in which changes count as one


async def watch(
    path: Path,
    changed: Callable[[], Awaitable[Any]],
    stop: asyncio.Event,
    began: Callable[[], None] = lambda: None,
) -> None:
    """Call `changed` whenever the content of `path` has become another, until `stop` is set.

    `began` is called once it is known what the file holds now.
    """
    import watchfiles  # noqa: PLC0415 -- for those alone who have asked for it

    held = await asyncio.to_thread(_content, path)
    began()
    async for _ in watchfiles.awatch(
        path.parent, recursive=False, debounce=_GATHER, step=50, stop_event=stop, rust_timeout=1000
    ):
        holds = await asyncio.to_thread(_content, path)
        if holds is not None and holds != held:
            held = holds
            await changed()


def _content(path: Path) -> bytes | None:
    """Give what the file holds, as a fingerprint; None where there is no file that could be a configuration."""
    try:
        # A pipe in its place must not make us wait for a writer, nor may a device or a huge file be read to its end.
        with open(path, "rb", opener=lambda name, flags: os.open(name, flags | os.O_NONBLOCK)) as file:
            if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
                return None
            return hashlib.sha256(file.read(MAX_BYTES + 1)).digest()
    except OSError:
        return None
