"""What a YAML file says, each value with its place and its origin.

A `Node` is one value: a scalar, a list of nodes or a mapping from text to nodes. Its `Origin` says where the
value comes from, and its mark where that stands, so that whoever complains about a value can point at it.
Places count lines and columns from 1, in characters.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from sidecar.config.words import Path, key_path, one_line

__all__ = [
    "TOP",
    "Mark",
    "Node",
    "Origin",
    "Path",
    "Problem",
    "Scalar",
    "data",
    "from_data",
    "leaves",
    "spot",
    "step",
]

Scalar = bool | int | float | str


@dataclass(frozen=True, slots=True, order=True)
class Mark:
    """A place in a file."""

    line: int
    column: int


TOP = Mark(1, 1)


@dataclass(frozen=True, slots=True)
class Origin:
    """Where a value comes from.

    `kind` and `name` belong together: a `file` and its name, the environment (`env`) and the variables used, an
    `option` of the command line, a `preset` or a `profile` and its name, a `default` and nothing. `mark` and `path`
    tell where it is written, which for a route's inherited value is under `defaults`, and for a preset's where that
    is named; for what is written nowhere they mean nothing. A `secret` is not shown.
    """

    kind: Literal["file", "env", "option", "preset", "profile", "default"]
    name: str = ""
    mark: Mark = TOP
    path: Path = ()
    secret: bool = False

    @property
    def written(self) -> bool:
        """Tell if the value stands in the file, itself or as the name of a variable."""
        return self.kind in {"file", "env"}

    def __str__(self) -> str:
        if self.kind == "file":
            return f"{self.name}:{self.mark.line}"
        return f"{self.kind} {self.name}".rstrip()


@dataclass(slots=True)
class Node:
    """One value. `key` is the place of the key that leads to it, where one does."""

    value: "Scalar | list[Node] | dict[str, Node]"
    origin: Origin
    key: Mark | None = None

    @property
    def entries(self) -> "dict[str, Node]":
        """The entries of a mapping; none for any other value, so that a check need not ask first."""
        return self.value if isinstance(self.value, dict) else {}

    @property
    def items(self) -> "list[Node]":
        """The items of a list; none for any other value."""
        return self.value if isinstance(self.value, list) else []


@dataclass(frozen=True, slots=True)
class Problem:
    """One complaint: `file:line:col: key.path: message`."""

    file: str
    mark: Mark
    path: Path
    message: str

    def __str__(self) -> str:
        place = f"{self.file}:{self.mark.line}:{self.mark.column}: {key_path(self.path)}"
        return one_line(f"{place}: {self.message}")


def step(node: Node, key: str | int) -> Node | None:
    """Return the entry or item of `node` at `key`, or None."""
    if isinstance(key, str):
        return node.entries.get(key)
    return node.items[key] if 0 <= key < len(node.items) else None


def spot(root: Node, path: Path, *, key: bool = False) -> tuple[Mark, Path]:
    """Return where to point for `path`, and the path of that: the value itself or what is nearest above it.

    With `key`, point at the key rather than at its value.
    """
    node = root
    for part in path:
        below = step(node, part)
        if below is None or not below.origin.written:
            return node.origin.mark, node.origin.path
        node = below
    return (node.key if key and node.key else node.origin.mark), node.origin.path


def data(node: Node) -> object:
    """Return the plain lists, dicts and scalars."""
    if isinstance(node.value, dict):
        return {key: data(below) for key, below in node.value.items()}
    if isinstance(node.value, list):
        return [data(below) for below in node.value]
    return node.value


def from_data(value: object, origin: Origin) -> Node:
    """Return the tree of plain lists, dicts and scalars, all of one origin."""
    if isinstance(value, dict):
        return Node({key: from_data(each, origin) for key, each in value.items()}, origin)
    if isinstance(value, list):
        return Node([from_data(each, origin) for each in value], origin)
    assert isinstance(value, Scalar)  # noqa: S101 -- there is nothing else that a plain value can be
    return Node(value, origin)


def leaves(node: Node, path: Path = ()) -> Iterator[tuple[Path, Origin]]:
    """Yield path and origin of every scalar and every list."""
    for key, below in node.entries.items():
        yield from leaves(below, (*path, key))
    for index, below in enumerate(node.items):
        yield from leaves(below, (*path, index))
    if not isinstance(node.value, dict):
        yield path, node.origin
