"""pydantic's findings as complaints that a person understands, each at its place in the file.

pydantic is asked for what it does well: all findings at once, each with its location. None of its words are
used.
"""

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from sidecar.config.later import LATER
from sidecar.config.model import Config
from sidecar.config.reader import Document
from sidecar.config.shape import model_at
from sidecar.config.tree import Node, data, step
from sidecar.config.words import Path, did_you_mean, listing, shown

__all__ = ["complain_about"]

_KEY = ("[key]",)  # what pydantic appends to the location of a mapping whose key is wrong
_FORMS = {
    "model_type": "must be a mapping of keys",
    "dict_type": "must be a mapping of names",
    "tuple_type": "must be a list",
}


def complain_about(error: ValidationError, root: Node, document: Document) -> None:
    """Add to `document` what pydantic found in the tree `root`."""
    for details in error.errors(include_url=False, include_input=False):
        location = details["loc"]
        node, rest = _nearest(root, location)
        if details["type"] == "missing":
            document.about(node, "is required", below=rest)
        elif details["type"] == "extra_forbidden":
            document.about(node, _unknown(location), at_key=True)
        elif details["type"] != "too_short":
            document.about(node, _wrong(details, node), at_key=rest == _KEY)
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


def _unknown(location: Path) -> str:
    *above, key = location
    model = model_at(Config, above)
    if key in LATER.get(model, ()):
        return f"`{key}` belongs to a stage that this version does not have; remove the key"
    known = model.model_fields
    return "unknown key" + (did_you_mean(str(key), known) or f"; here can be {listing(known)}")


def _wrong(details: ErrorDetails, node: Node) -> str:
    if details["type"] == "value_error":
        return str(details["ctx"]["error"])
    value = data(node)
    one = details["type"] == "tuple_type" and not isinstance(value, dict)
    return f"{_FORMS[details['type']]}, not {shown(value)}" + (f"; write `[{value}]` for one" if one else "")
