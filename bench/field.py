"""The field of a run: the cores, the upstream, and the proxies that take part.

Every check enters one, starts the proxies that it wants in it, and leaves it with everything stopped and the
temporary directory gone.
"""

import tempfile
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from bench import peers
from bench.cores import Layout, layout
from bench.peers import Missing, Program, Proxy
from bench.process import NotStarted
from bench.rows import Setup

__all__ = ["Field", "entered"]


@dataclass(frozen=True)
class Field:
    """`programs` take part; `missing` says of the others why not."""

    where: Path
    cores: Layout
    upstream_port: int
    programs: dict[str, Program]
    missing: dict[str, str] = field(default_factory=dict)

    def start(
        self, name: str, *, idle_timeout: str = "60s", setup: Setup = "plain"
    ) -> AbstractContextManager[Proxy]:
        """Run one proxy. Raises NotStarted."""
        return peers.proxy(
            self.programs[name],
            self.where,
            self.upstream_port,
            self.cores,
            idle_timeout=idle_timeout,
            setup=setup,
        )

    @contextmanager
    def start_all(self, setup: Setup = "plain") -> Iterator[list[Proxy]]:
        """Run every proxy. One that does not start is told in `missing` and takes no further part."""
        with ExitStack() as stack:
            running = []
            for name in tuple(self.programs):
                try:
                    running.append(stack.enter_context(self.start(name, setup=setup)))
                except NotStarted as failure:
                    self.missing[name] = str(failure)
                    del self.programs[name]
            if not running:
                raise NotStarted("; ".join(f"{name}: {why}" for name, why in self.missing.items()))
            yield running


@contextmanager
def entered(names: Sequence[str]) -> Iterator[Field]:
    """Find the named proxies and run the upstream.

    Raises NotStarted where the upstream (nginx) is missing, or no proxy is left that starts.
    """
    nginx = peers.locate("nginx")
    if isinstance(nginx, Missing):
        raise NotStarted(f"nginx, the upstream of every load, is {nginx.reason}")
    found = [peers.locate(name) for name in names]
    programs = {one.name: one for one in found if isinstance(one, Program)}
    missing = {one.name: one.reason for one in found if isinstance(one, Missing)}
    cores = layout()
    with tempfile.TemporaryDirectory(prefix="bench-") as directory:
        where = Path(directory)
        with peers.upstream(nginx, where, cores) as port:
            ground = Field(where, cores, port, programs, missing)
            with ground.start_all():
                pass  # who does not start is out before anything is measured; what starts is then cached
            yield ground
