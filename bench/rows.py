"""The matrix: which loads are compared.

A row is a kind of load, a response size and a number of connections. Its name says all three, as in
`keep-128B-64`, and rows are chosen by patterns over names (`keep-*-64`).

Most rows put the proxies beside each other as they forward, with their timeouts and little else. In the row of the
policies the sidecar and Envoy decide all that they can decide of a request as well; nginx and HAProxy forward as ever.
The last two rows are of the sidecar alone, beside a load of its own: what a policy saves is a ratio of the same process.
"""

from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Literal

__all__ = [
    "CACHE_HIT",
    "CONNECTIONS",
    "HEADLINE",
    "LOADS",
    "OPEN_BREAKER",
    "POLICIES",
    "ROWS",
    "SIZES",
    "Load",
    "Row",
    "Setup",
    "select",
    "size_label",
]

Load = Literal["keep", "close", "post", "varied", "policies", "cache-hit", "breaker-open"]
Setup = Literal["plain", "policies"]

LOADS: dict[Load, str] = {
    "keep": "GET, kept-alive connections",
    "close": "GET, a new connection for every request",
    "post": "POST of 10 KiB, kept-alive connections",
    "varied": "GET, kept-alive connections, no head like another",
    "policies": "GET, kept-alive connections, no target like another: every stage decides, the cache never has a copy",
    "cache-hit": "GET, kept-alive connections, always the target of which the cache has a fresh copy",
    "breaker-open": "GET, kept-alive connections, as `policies`, to a service that is down: the breaker refuses",
}
SIZES = (128, 10 * 1024, 1000 * 1024)
CONNECTIONS = (1, 64, 512)
POST_BYTES = 10 * 1024


def size_label(size: int) -> str:
    """Give a size in bytes as people say it: 128B, 10KiB."""
    return f"{size // 1024}KiB" if size >= 1024 else f"{size}B"


@dataclass(frozen=True, slots=True)
class Row:
    """One load. `size` is of the response body in bytes, for `post` of the request body; 0: none of the upstream's.

    `beside` is the load of its own that the sidecar is compared with, None where it is compared with the other proxies.
    """

    load: Load
    size: int
    connections: int
    beside: "Row | None" = None

    @property
    def name(self) -> str:
        """The load, the size and the number of connections in one word."""
        size = f"-{size_label(self.size)}" if self.size else ""
        return f"{self.load}{size}-{self.connections}"

    @property
    def path(self) -> str:
        """The path that answers in this size. Below `/down/` the sidecar's route leads to a service that is down."""
        special = {"post": "/post", "breaker-open": "/down/128"}
        return special.get(self.load, f"/{self.size}")

    @property
    def setup(self) -> Setup:
        """How the proxies are set up for this load."""
        return "policies" if self.load in {"policies", "cache-hit", "breaker-open"} else "plain"


POLICIES = Row("policies", 128, 64)
CACHE_HIT = Row("cache-hit", 128, 64, beside=POLICIES)
OPEN_BREAKER = Row("breaker-open", 0, 64, beside=POLICIES)
ROWS: tuple[Row, ...] = (
    *(
        Row(load, size, count)
        for load in ("keep", "close")  # mypy: literals of a tuple keep their type
        for size in SIZES
        for count in CONNECTIONS
    ),
    *(Row("post", POST_BYTES, count) for count in CONNECTIONS),
    Row("varied", 128, 64),
    POLICIES,
    CACHE_HIT,
    OPEN_BREAKER,
)
HEADLINE = Row("keep", 128, 64)  # the row that most of the project's targets speak of


def select(patterns: str) -> list[Row]:
    """Return the rows whose names match any of the comma-separated patterns, in the matrix's order.

    Raises ValueError for a pattern that matches nothing: a typing error shall not look like a finished run.
    """
    wanted = [pattern.strip() for pattern in patterns.split(",") if pattern.strip()]
    idle = [pattern for pattern in wanted if not any(fnmatchcase(row.name, pattern) for row in ROWS)]
    if idle or not wanted:
        names = ", ".join(row.name for row in ROWS)
        raise ValueError(f"no row matches {', '.join(idle) or 'an empty list'}; there are: {names}")
    return [row for row in ROWS if any(fnmatchcase(row.name, pattern) for pattern in wanted)]
