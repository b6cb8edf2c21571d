"""Who runs on which core.

The proxy has a core of its own; the load generator and the upstream share what is left. On two cores this is
what makes CPU per request comparable: the proxy is never moved, and nothing competes with it. Only cores that
this process may use count, so the benchmark works inside a container with a CPU set.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

__all__ = ["Layout", "layout", "pinned"]


@dataclass(frozen=True, slots=True)
class Layout:
    """`proxy` is one core, `rest` is for everything else; both are the same core where there is only one."""

    proxy: frozenset[int]
    rest: frozenset[int]

    @property
    def shared(self) -> bool:
        """True where the proxy has no core of its own, so that throughput and latency mean little."""
        return bool(self.proxy & self.rest)

    @property
    def workers(self) -> int:
        """How many threads the generator and the upstream each get: enough to keep one proxy core busy."""
        return max(1, min(4, len(self.rest) // 2))


def layout() -> Layout:
    """Give the last usable core to the proxy: the first one takes most of the interrupts."""
    usable = sorted(os.sched_getaffinity(0))
    if len(usable) == 1:
        return Layout(frozenset(usable), frozenset(usable))
    return Layout(frozenset(usable[-1:]), frozenset(usable[:-1]))


@contextmanager
def pinned(cores: frozenset[int]) -> Iterator[None]:
    """Run the block, and any process it starts, on these cores.

    A child inherits the affinity of the thread that starts it, so no code has to run between fork and exec.
    """
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, cores)
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)
