"""The matrix: which loads are compared.

A row is a kind of load, a response size and a number of connections. Its name says all three, as in
`keep-128B-64`, and rows are chosen by patterns over names (`keep-*-64`).
"""

from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Literal

__all__ = ["CONNECTIONS", "HEADLINE", "LOADS", "ROWS", "SIZES", "Load", "Row", "select", "size_label"]

Load = Literal["keep", "close", "post", "varied"]

LOADS: dict[Load, str] = {
    "keep": "GET, kept-alive connections",
    "close": "GET, a new connection for every request",
    "post": "POST of 10 KiB, kept-alive connections",
    "varied": "GET, kept-alive connections, no head like another",
}
SIZES = (128, 10 * 1024, 1000 * 1024)
CONNECTIONS = (1, 64, 512)
POST_BYTES = 10 * 1024


def size_label(size: int) -> str:
    """Give a size in bytes as people say it: 128B, 10KiB."""
    return f"{size // 1024}KiB" if size >= 1024 else f"{size}B"


@dataclass(frozen=True, slots=True)
class Row:
    """One load. `size` is of the response body in bytes, for `post` of the request body."""

    load: Load
    size: int
    connections: int

    @property
    def name(self) -> str:
        """The load, the size and the number of connections in one word."""
        return f"{self.load}-{size_label(self.size)}-{self.connections}"

    @property
    def path(self) -> str:
        """The upstream's path that answers in this size."""
        return "/post" if self.load == "post" else f"/{self.size}"


ROWS: tuple[Row, ...] = (
    *(
        Row(load, size, count)
        for load in ("keep", "close")  # mypy: literals of a tuple keep their type
        for size in SIZES
        for count in CONNECTIONS
    ),
    *(Row("post", POST_BYTES, count) for count in CONNECTIONS),
    Row("varied", 128, 64),
)
HEADLINE = Row("keep", 128, 64)  # the row that the project's targets speak of


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
