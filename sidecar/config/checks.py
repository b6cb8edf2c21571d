"""Rules that concern two keys at once.

They look at the tree, not at the models, so that what they find is told together with everything else that is
wrong. Where a value is none of its kind they say nothing: that has been said.
"""

import re
from collections.abc import Callable, Container, Iterator
from itertools import combinations
from typing import NamedTuple

from sidecar.config.address import Address, parse_endpoint, parse_listen
from sidecar.config.kinds import NAME
from sidecar.config.tree import Node
from sidecar.config.words import did_you_mean, shown

__all__ = ["CHECKS", "Finding", "each_of", "is_unknown", "listener"]


class Finding(NamedTuple):
    """What is wrong with a value, or with there being its key."""

    node: Node
    message: str
    at_key: bool = False


def addresses(root: Node) -> Iterator[Finding]:
    """Find listeners that cannot both have their address."""
    listen = root.entries.get("listen")
    for first, second in combinations(("traffic", "ops", "admin"), 2):
        one, other = listener(listen, first), listener(listen, second)
        if listen and one and other and one.collides(other):
            if listen.entries[second].origin.written:
                yield Finding(listen.entries[second], f"must differ from `{first}`, which listens on `{one}`")
            else:
                yield Finding(
                    listen.entries[first], f"must differ from `{second}`, which listens on `{other}`"
                )


def upstream_tls(root: Node) -> Iterator[Finding]:
    """Find TLS settings without https, and a certificate without its key."""
    for upstream in each_of(root, "upstreams"):
        tls = upstream.entries.get("tls")
        if tls is None:
            continue
        if (url := upstream.entries.get("url")) and _scheme(url) in {"http", "unix"}:
            yield Finding(tls, f"is for https only, and the `url` is {_scheme(url)}", at_key=True)
        for one, other in (("certificate", "key"), ("key", "certificate")):
            if one in tls.entries and other not in tls.entries:
                yield Finding(tls.entries[one], f"needs `{other}` beside it", at_key=True)


def route_names(root: Node) -> Iterator[Finding]:
    """Find names of routes that are taken."""
    first: dict[object, Node] = {}
    for route in each_of(root, "routes"):
        name = route.entries.get("name")
        if name and isinstance(name.value, str) and first.setdefault(name.value, name) is not name:
            line = first[name.value].origin.mark.line
            yield Finding(name, f"is the name of the route at line {line} already")


def references(root: Node) -> Iterator[Finding]:
    """Find upstreams that are named and not defined."""
    upstreams = root.entries.get("upstreams")
    known = upstreams.entries if upstreams else {}
    for route in each_of(root, "routes") if known else ():
        name = route.entries.get("upstream")
        if name and is_unknown(name, known):
            yield Finding(
                name, f"no upstream has the name {shown(name.value)}{did_you_mean(str(name.value), known)}"
            )


def matches(root: Node) -> Iterator[Finding]:
    """Find a path that is written in two ways, and a header field asked for twice."""
    for route in each_of(root, "routes"):
        match = route.entries.get("match")
        entries = match.entries if match else {}
        if "path" in entries and "path_regex" in entries:
            yield Finding(entries["path_regex"], "cannot stand beside `path`", at_key=True)
        headers = entries.get("headers")
        first: dict[str, str] = {}
        for name, node in headers.entries.items() if headers else ():
            if first.setdefault(name.lower(), name) != name:
                yield Finding(node, f"is the same field as {shown(first[name.lower()])}", at_key=True)


CHECKS: tuple[Callable[[Node], Iterator[Finding]], ...] = (
    addresses,
    upstream_tls,
    route_names,
    references,
    matches,
)


def is_unknown(name: Node, known: Container[str]) -> bool:
    """Tell if `name` could be one, and is none of those."""
    return isinstance(name.value, str) and bool(re.fullmatch(NAME, name.value)) and name.value not in known


def each_of(root: Node, key: str) -> Iterator[Node]:
    """Yield the mappings of names, or of a list, at `key`."""
    node = root.entries.get(key)
    yield from (*node.entries.values(), *node.items) if node else ()


def listener(listen: Node | None, name: str) -> Address | None:
    """Return the address that `listen` has at `name`; None where it is off, or none."""
    node = listen.entries.get(name) if listen else None
    try:
        return parse_listen(node.value) if node and isinstance(node.value, str) else None
    except ValueError:
        return None


def _scheme(url: Node) -> str | None:
    try:
        return parse_endpoint(url.value).scheme if isinstance(url.value, str) else None
    except ValueError:
        return None
