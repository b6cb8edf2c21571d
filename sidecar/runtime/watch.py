"""Notices that the configuration file says something else, also when it is a link that is exchanged.

Kubernetes mounts a ConfigMap as a directory of links that lead through `..data`, itself a link that is exchanged when
the map changes: the file's own name never changes. So the directory is watched, and what counts is what the file holds:
whatever else happens there, a file with the same content is the same file. A file that is gone for a moment, as editors
have it, is looked at again with the next change.
"""

import asyncio
import hashlib
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

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

    held = _content(path)
    began()
    async for _ in watchfiles.awatch(
        path.parent, recursive=False, debounce=_GATHER, step=50, stop_event=stop, rust_timeout=1000
    ):
        holds = _content(path)
        if holds is not None and holds != held:
            held = holds
            await changed()


def _content(path: Path) -> bytes | None:
    try:
        return hashlib.sha256(path.read_bytes()).digest()
    except OSError:
        return None
