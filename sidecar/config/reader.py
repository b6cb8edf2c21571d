"""Strict YAML: PyYAML's events in, a tree of nodes out, and every fault that does not stop the parser.

YAML 1.1 has traps, and this reader has none of them. A plain scalar is `null`, `true`, `false`, a JSON number
or text: `on`, `off`, `no`, `1:30`, `010` and `2024-01-01` stay what they look like. Refused are

- a key that is there twice (PyYAML takes the last one) or is not text, and a key without value;
- anchors, aliases and tags. A value stands where it is used, so it has one place to point at; and neither
  a kilobyte that means a gigabyte nor the name of a Python class is a question then;
- directives, a second document, and nesting deeper than `MAX_DEPTH`.

PyYAML's composer recurses for every level of nesting; its event parser does not. It is the one written in
Python, on purpose: libyaml words its faults differently and lets some of them pass.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import yaml

from sidecar.config.environ import expand
from sidecar.config.syntax import SyntaxFault, events, mark_of
from sidecar.config.tree import TOP, Mark, Node, Origin, Path, Problem, Scalar

__all__ = ["MAX_BYTES", "MAX_DEPTH", "Document", "read", "resolve"]

MAX_BYTES = 1 << 20  # a thousand routes are about 0.1 MiB
MAX_DEPTH = 32  # the grammar needs 6

_NUMBER = re.compile(r"-?(?:0|[1-9][0-9]{0,17})(\.[0-9]{1,17})?([eE][+-]?[0-9]{1,2})?")
_WORDS = {"": None, "null": None, "true": True, "false": False}
_EMPTY = "is empty; `version`, `upstreams` and `routes` are the least that it needs"
_REPEATED = "a value stands where it is used, and what many routes share goes under `defaults`"


@dataclass(slots=True)
class Document:
    """What was read. What is at or below a path in `bad` has been complained about enough.

    `empty` are the values that are not there: what that means depends on the key.
    """

    file: str
    root: Node | None = None
    problems: list[Problem] = field(default_factory=list)
    bad: set[Path] = field(default_factory=set)
    empty: list[Origin] = field(default_factory=list)

    def complain(self, mark: Mark, path: Path, message: str) -> None:
        """Add a problem."""
        self.problems.append(Problem(self.file, mark, path, message))

    def about(
        self, node: Node, message: str, *, at_key: bool = False, below: Path = (), discreet: bool = False
    ) -> None:
        """Add a problem with a value, at the value or at its key, or with what is missing `below` it.

        Says nothing more about what is bad already, and nothing that could give a secret away, which a `discreet`
        message does not.
        """
        path = node.origin.path
        if any(path[:depth] in self.bad for depth in range(len(path) + 1)):
            return
        if node.origin.secret and not discreet:
            message = "is refused; why is not shown, for it comes from a variable with a secret's name"
        self.complain((at_key and node.key) or node.origin.mark, (*path, *below), message)


def read(text: str, file: str, env: Mapping[str, str]) -> Document:
    """Return the tree of `text`, with the variables of `env` put in. No `root`: nothing to go on with."""
    document = Document(file)
    try:
        document.root = _Reader(text, document, env).document()
    except SyntaxFault as fault:
        document.complain(fault.mark, (), fault.message)
    return document


def resolve(text: str) -> Scalar | None:
    """Return what a plain scalar means: JSON's words and numbers are these, everything else is text."""
    if text in _WORDS:
        return _WORDS[text]
    match = _NUMBER.fullmatch(text)
    if match is None:
        return text
    return float(text) if match[1] or match[2] else int(text)


class _Reader:
    """One pass over the events of one file. What is bad leaves empty text in its place: indices must hold."""

    def __init__(self, text: str, out: Document, env: Mapping[str, str]) -> None:
        self._events = events(text)
        self._out = out
        self._env = env

    def document(self) -> Node:
        """Read the only document of the file."""
        next(self._events)
        start = next(self._events)
        if isinstance(start, yaml.StreamEndEvent):
            raise SyntaxFault(TOP, _EMPTY)
        if start.version or start.tags:
            self._out.complain(mark_of(start.start_mark), (), "directives (`%…`) are not supported")
        first = next(self._events)
        if isinstance(first, yaml.ScalarEvent) and not first.value:
            raise SyntaxFault(TOP, _EMPTY)
        root = self._node(first, ())
        next(self._events)
        another = next(self._events)
        if isinstance(another, yaml.DocumentStartEvent):
            self._out.complain(
                mark_of(another.start_mark), (), "a second document begins here; a file holds one"
            )
        return root

    def _node(self, event: Any, path: Path) -> Node:
        """Read the node that begins with `event`."""
        mark = mark_of(event.start_mark)
        origin = Origin("file", self._out.file, mark, path)
        if len(path) > MAX_DEPTH:
            raise SyntaxFault(mark, f"is nested deeper than {MAX_DEPTH} levels")
        if event.anchor is not None:
            self._bad(origin, f"anchors (`&…`) and aliases (`*…`) are not supported: {_REPEATED}")
        if isinstance(event, yaml.AliasEvent):
            return Node("", origin)
        if event.tag is not None:
            self._bad(origin, "tags (`!…`) are not supported")
        if isinstance(event, yaml.ScalarEvent):
            return self._scalar(event, origin)
        if isinstance(event, yaml.SequenceStartEvent):
            return Node(self._list(path), origin)
        return Node(self._mapping(path), origin)

    def _list(self, path: Path) -> list[Node]:
        items: list[Node] = []
        while not isinstance(event := next(self._events), yaml.SequenceEndEvent):
            items.append(self._node(event, (*path, len(items))))
        return items

    def _mapping(self, path: Path) -> dict[str, Node]:
        entries: dict[str, Node] = {}
        while not isinstance(event := next(self._events), yaml.MappingEndEvent):
            mark = mark_of(event.start_mark)
            key = self._key(event, path)
            node = self._node(next(self._events), (*path, key))
            node.key = mark
            if key in entries:
                first = entries[key].key or mark
                self._out.complain(mark, (*path, key), f"is there twice; the first is at line {first.line}")
            else:
                entries[key] = node
        return entries

    def _key(self, event: Any, path: Path) -> str:
        is_text = isinstance(event, yaml.ScalarEvent)
        if not is_text or event.anchor is not None or event.tag is not None:
            self._out.complain(
                mark_of(event.start_mark), path, "a key is plain text, without anchors and tags"
            )
        if is_text:
            return str(event.value)
        if not isinstance(event, yaml.AliasEvent):
            self._node(event, (*path, "?"))  # to get to its end
        self._out.bad.add((*path, "?"))
        return "?"

    def _scalar(self, event: yaml.ScalarEvent, origin: Origin) -> Node:
        """Put the environment in, then see what a plain scalar means."""
        expanded = expand(event.value, self._env)
        if expanded.used:
            origin = replace(origin, kind="env", name=", ".join(expanded.used))
        origin = replace(origin, secret=expanded.secret)
        for problem in expanded.problems:
            self._bad(origin, problem)
        value = resolve(expanded.text) if event.style is None else expanded.text
        if value is None and not expanded.problems:
            self._out.empty.append(origin)
        return Node("" if value is None else value, origin)

    def _bad(self, origin: Origin, message: str) -> None:
        self._out.complain(origin.mark, origin.path, message)
        self._out.bad.add(origin.path)
