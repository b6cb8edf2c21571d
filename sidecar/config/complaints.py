"""pydantic's findings as complaints that a person understands, each at its place in the file.

pydantic is asked for what it does well: all findings at once, each with its location. None of its words are
used.
"""

from collections.abc import Mapping

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from sidecar.config.emptiness import left_open
from sidecar.config.kinds import Kind
from sidecar.config.later import belongs_to_a_later_version
from sidecar.config.model import Config, ErrorsConfig, Listen, Match, Timeouts, UpstreamConfig
from sidecar.config.reader import Document
from sidecar.config.shape import model_at
from sidecar.config.tree import Node, data, step
from sidecar.config.words import Path, did_you_mean, listing, shown
from sidecar.config.yamltext import scalar

__all__ = ["complain_about"]

_KEY = ("[key]",)  # what pydantic appends to the location of a mapping whose key is wrong
_FORMS = {
    "model_type": "must be a mapping of keys",
    "dict_type": "must be a mapping of names",
    "tuple_type": "must be a list",
}
# What one means who writes a scalar where a mapping belongs.
_MAIN_KEYS: Mapping[type[BaseModel], str] = {
    ErrorsConfig: "format",
    Listen: "traffic",
    Match: "path",
    Timeouts: "attempt",
    UpstreamConfig: "url",
}


def complain_about(error: ValidationError, root: Node, document: Document) -> None:
    """Add to `document` what pydantic found in the tree `root`."""
    for details in error.errors(include_url=False, include_input=False):
        location = details["loc"]
        node, rest = _nearest(root, location)
        if details["type"] == "missing":
            document.about(node, "is required", below=rest)
        elif details["type"] == "extra_forbidden":
            document.about(node, _unknown(location, root, document), at_key=True)
        elif details["type"] != "too_short":
            document.about(node, _wrong(details, root, document), at_key=rest == _KEY)
        elif node.value in ([], {}):  # pydantic counts only what is right in it
            document.about(node, "must not be empty")


def _nearest(root: Node, location: Path) -> tuple[Node, Path]:
    """Return the node at `location` or nearest above it, and the steps that did not exist."""
    node = root
    for depth, key in enumerate(location):
        below = step(node, key)
        if below is None:
            return node, location[depth:]
        node = below
    return node, ()


def _unknown(location: Path, root: Node, document: Document) -> str:
    *above, last = location
    key = str(last)
    model = model_at(Config, above)
    if belongs_to_a_later_version(key, model):
        return f"{shown(key)} belongs to a stage that this version does not have; remove the key"
    known = model.model_fields
    open_key = left_open(_nearest(root, tuple(above))[0], key, frozenset(known), document)
    if open_key:
        return f"unknown key; if it is part of `{open_key}`, indent it below"
    return "unknown key" + (did_you_mean(key, known) or f"; here can be {listing(known)}")


def _wrong(details: ErrorDetails, root: Node, document: Document) -> str:
    if details["type"] == "value_error":
        return str(details["ctx"]["error"])
    location = details["loc"]
    value = data(_nearest(root, location)[0])
    hint = ""
    if details["type"] == "tuple_type" and not isinstance(value, dict):
        hint = f"; write `[{value}]` for one"
    elif details["type"] == "model_type" and not _follows_an_open_one(location, root, document):
        hint = _as_mapping(value, model_at(Config, location))
    return f"{_FORMS[details['type']]}, not {shown(value)}{hint}"


def _follows_an_open_one(location: Path, root: Node, document: Document) -> bool:
    """Tell if the value at `location`, in a mapping of names, may belong to an empty one above it."""
    if not location:
        return False
    *above, key = location
    parent = _nearest(root, tuple(above))[0]
    names = frozenset(name for name, node in parent.entries.items() if node.origin.path in document.bad)
    return isinstance(key, str) and left_open(parent, key, names, document) is not None


def _as_mapping(value: object, model: type[BaseModel]) -> str:
    """Return a question after the mapping that the scalar `value` stands for, where that is plain to see."""
    if not isinstance(value, str):
        return ""
    key, colon, rest = value.partition(":")
    if colon and key in model.model_fields:
        return f"; did you mean {shown(f'{key}: {rest}')}?"
    key = _MAIN_KEYS.get(model, "")
    kinds = [kind for kind in model.model_fields[key].metadata if isinstance(kind, Kind)] if key else []
    if not any(kind.accepts(value) for kind in kinds):
        return ""
    return f"; did you mean {shown(f'{{{key}: {scalar(value)}}}')}?"
