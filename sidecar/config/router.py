"""The compiled table of routes: which is the first, in file order, that a request matches.

`Router.explain` is the definition: it tries the patterns of one route after the other. `Router.find` gives
the same answer without trying them all. Every request passes through it, so it is made for speed, once, at
load:

- Routes are spread over tables by host: one for those that name no host, one for each host and each `*.`
  suffix named. A request looks into the tables that its host belongs to, usually one or two.
- A table is a tree of path segments. A request's path is walked down it, one step for each segment, and a
  second way is taken only where a literal and a wildcard fit the same segment. So a look-up costs what its
  path is long, however many other routes there are. (Wildcards beside literals at many levels are the
  exception: then at worst the tree is walked once.)
- Routes with the same path and host share a node. They are tried in turn, on method and header fields.
- Regular expressions have no place in a tree: each that stands before the best route found so far is tried.

Nothing is remembered about paths, so no client can fill the memory with them. Remembered are the tables that
a Host field selects, which follow from nothing else: for at most `MEMO_HOSTS` values of at most
`MEMO_HOST_BYTES` bytes. When that is full it starts anew, so made-up hosts cost a selection each and no
memory.
"""

import re
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from sidecar.config.pattern import PRESENT, HostPattern, PathPattern, match_host, match_path

__all__ = ["MEMO_HOSTS", "MEMO_HOST_BYTES", "RouteMatch", "Router"]

MEMO_HOSTS = 1024
MEMO_HOST_BYTES = 256  # a name has at most 253 (RFC 1035 §2.3.4); beyond that, the tables are selected afresh

# `37 in path` is a memchr; `b"%" in path` first raises and drops a TypeError inside CPython 3.11, for 100 ns.
_PERCENT = ord("%")
_DOT = ord(".")

_Headers = Sequence[tuple[bytes, bytes]]


@dataclass(frozen=True, slots=True)
class RouteMatch:
    """What a route asks of a request. No hosts, no methods, no headers: any will do.

    `headers` holds names in lower case, each with an exact value or `PRESENT`; all must be there. A field
    that the request repeats fulfils a condition if one of its lines does.
    """

    path: PathPattern
    hosts: tuple[HostPattern, ...] = ()
    methods: frozenset[bytes] = frozenset()
    headers: tuple[tuple[bytes, bytes], ...] = ()


class Router:
    """The routes in file order, compiled."""

    def __init__(self, matches: Sequence[RouteMatch]) -> None:
        self._matches = tuple(matches)
        self._anywhere = _Table()
        self._exact: dict[bytes, _Table] = {}
        self._below: dict[bytes, _Table] = {}
        for index, match in enumerate(self._matches):
            for table in self._tables_for(match.hosts):
                table.add(index, match)
        self._below_lengths = sorted({len(name) for name in self._below})
        self._names_hosts = bool(self._exact or self._below)
        self._memo: dict[bytes, tuple[_Table, ...]] = {}
        # The commonest table of all: one route for everything. Whatever stands behind it is never reached.
        self._first_takes_all = bool(self._matches) and _takes_all(self._matches[0])

    def __repr__(self) -> str:
        hosts = len(self._exact) + len(self._below)
        return f"<Router of {len(self._matches)} routes on {hosts} hosts, {len(self._memo)} remembered>"

    def find(self, method: bytes, host: bytes, path: bytes, headers: _Headers) -> int:
        """Give the index of the first route that matches, or -1.

        `host` is the value of the Host field and `path` what precedes `?` in the target, both as they came.
        """
        if self._first_takes_all:
            return 0
        if _PERCENT in path or (_DOT in path and b"/." in path):
            path = match_path(path)
        best = none = len(self._matches)
        if self._names_hosts:
            for table in self._memo.get(host) or self._select(host):
                best = table.first(method, path, headers, best)
        else:
            best = self._anywhere.first(method, path, headers, best)
        return -1 if best == none else best

    def explain(self, method: bytes, host: bytes, path: bytes, headers: _Headers) -> list[tuple[int, str]]:
        """Tell for each route, up to the one that is chosen, why it was passed over, or `chosen`.

        The first thing that does not fit is named: `path`, `host`, `method`, or `header X-Name`.
        """
        told: list[tuple[int, str]] = []
        for index, match in enumerate(self._matches):
            verdict = _verdict(match, method, host, path, headers)
            told.append((index, verdict))
            if verdict == "chosen":
                break
        return told

    def _tables_for(self, hosts: Iterable[HostPattern]) -> "list[_Table]":
        named = {(host.wildcard, host.name) for host in hosts}
        if not named:
            return [self._anywhere]
        return [
            (self._below if wildcard else self._exact).setdefault(name, _Table()) for wildcard, name in named
        ]

    def _select(self, host: bytes) -> "tuple[_Table, ...]":
        name = match_host(host)
        selected = [self._anywhere]
        if name in self._exact:
            selected.append(self._exact[name])
        # By the lengths that exist, not by the dots in the name: a client chooses the dots.
        selected.extend(
            self._below[name[-length:]]
            for length in self._below_lengths
            if len(name) > length + 1 and name[-length - 1] == _DOT and name[-length:] in self._below
        )
        tables = tuple(selected)
        if len(host) <= MEMO_HOST_BYTES:
            if len(self._memo) >= MEMO_HOSTS:
                self._memo.clear()
            self._memo[host] = tables
        return tables


class _Entry:
    """A route in its place in a table: what is left to be asked once host and path fit."""

    __slots__ = ("asks", "headers", "index", "methods")

    def __init__(self, index: int, match: RouteMatch) -> None:
        self.index = index
        self.methods = match.methods
        self.headers = match.headers
        self.asks = bool(match.methods or match.headers)

    def accepts(self, method: bytes, headers: _Headers) -> bool:
        if self.methods and method not in self.methods:
            return False
        for name, value in self.headers:  # noqa: SIM110 - `all` makes a generator, which costs more than the rest
            if not _carries(headers, name, value):
                return False
        return True


class _Node:
    """A place in the tree of segments, `level` of them below the root.

    `ending` are the routes whose path ends here, `going_on` those that take whatever follows (`**`).
    `literal` and `wild` lead on; a `wild` has an empty segment beside it, so that it never stands for one.
    `rival` is the `wild` that would have fitted too where this node was reached by a literal.
    `plain` says that a walk need not look at the node when it passes: neither `going_on` nor `rival`.
    """

    __slots__ = ("ending", "going_on", "level", "literal", "lowest", "plain", "rival", "wild")

    def __init__(self, level: int, lowest: int) -> None:
        self.level = level
        self.lowest = lowest  # index of the first route at this node or below
        self.literal: dict[bytes, _Node] = {}
        self.wild: _Node | None = None
        self.rival: _Node | None = None
        self.plain = True
        self.ending: list[_Entry] = []
        self.going_on: list[_Entry] = []

    def child(self, segment: bytes | None, index: int) -> "_Node":
        """Give the node that `segment` (None: any) leads to; a new one comes with the route `index`."""
        return self._wild_child(index) if segment is None else self._literal_child(segment, index)

    def _literal_child(self, segment: bytes, index: int) -> "_Node":
        node = self.literal.get(segment)
        if node is None:
            node = self.literal[segment] = _Node(self.level + 1, index)
            if self.wild is not None:
                node._compete_with(self.wild)
        return node

    def _wild_child(self, index: int) -> "_Node":
        if self.wild is None:
            self.wild = _Node(self.level + 1, index)
            for segment, node in self.literal.items():
                if segment:
                    node._compete_with(self.wild)
            self.literal.setdefault(b"", _Node(self.level + 1, index))
        return self.wild

    def _compete_with(self, wild: "_Node") -> None:
        self.rival = wild
        self.plain = False

    def add(self, entry: _Entry, *, going_on: bool) -> None:
        """Add a route after those that come before it in the file."""
        (self.going_on if going_on else self.ending).append(entry)
        self.plain = self.plain and not going_on


class _Table:
    """The routes of one host, or of any: a tree, and the regular expressions beside it."""

    __slots__ = ("_depth", "_regexes", "_root")

    def __init__(self) -> None:
        self._root = _Node(0, sys.maxsize)
        self._depth = 0
        self._regexes: list[tuple[re.Pattern[bytes], _Entry]] = []

    def add(self, index: int, match: RouteMatch) -> None:
        """Add a route after those that come before it in the file."""
        entry = _Entry(index, match)
        path = match.path
        if path.regex is not None:
            self._regexes.append((path.regex, entry))
            return
        node = self._root
        node.lowest = min(node.lowest, index)
        if path.segments:
            # What stands before the first slash is a segment too, an empty one: so `*` finds only `/**`.
            for segment in (b"", *path.segments):
                node = node.child(segment, index)
        node.add(entry, going_on=path.kind == "prefix")
        self._depth = max(self._depth, node.level)

    def first(self, method: bytes, path: bytes, headers: _Headers, best: int) -> int:
        """Give the index of the first route that matches the normal `path`, or `best` if that is lower."""
        segments = path.split(b"/", self._depth)  # what lies deeper than the tree stays in one piece
        waiting = [self._root]
        while waiting:
            node = waiting.pop()
            if node.lowest >= best:
                continue
            if node.going_on:
                best = _pick(node.going_on, method, headers, best)
            for segment in segments[node.level :] if node.level else segments:
                below = node.literal.get(segment, node.wild)
                if below is None:
                    break
                node = below
                if node.plain:
                    continue
                if node.going_on:
                    best = _pick(node.going_on, method, headers, best)
                if node.rival is not None:
                    waiting.append(node.rival)
            else:
                if node.ending:
                    best = _pick(node.ending, method, headers, best)
        for regex, entry in self._regexes:
            if entry.index >= best:
                break
            if entry.accepts(method, headers) and regex.fullmatch(path):
                return entry.index
        return best


def _pick(entries: list[_Entry], method: bytes, headers: _Headers, best: int) -> int:
    """Give the index of the first entry that accepts, or `best` if that is lower."""
    for entry in entries:
        if entry.index >= best:
            break
        if not entry.asks or entry.accepts(method, headers):
            return entry.index
    return best


def _takes_all(match: RouteMatch) -> bool:
    return match.path.text == "/**" and not (match.hosts or match.methods or match.headers)


def _carries(headers: _Headers, name: bytes, value: bytes) -> bool:
    # Spaces around a value are no part of it (RFC 9110 §5.5).
    return any(
        given.lower() == name and (value == PRESENT or held.strip(b" \t") == value) for given, held in headers
    )


def _verdict(match: RouteMatch, method: bytes, host: bytes, path: bytes, headers: _Headers) -> str:
    if not match.path.matches(path):
        return "path"
    if match.hosts and not any(pattern.matches(host) for pattern in match.hosts):
        return "host"
    if match.methods and method not in match.methods:
        return "method"
    for name, value in match.headers:
        if not _carries(headers, name, value):
            return f"header {name.decode().title()}"
    return "chosen"
