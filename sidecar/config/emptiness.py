"""Keys without a value: what is wrong with that, which depends on the key, and what it says of the key below.

Nearly always the lines below such a key were to be indented.
"""

from itertools import takewhile

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from sidecar.config.model import Config
from sidecar.config.reader import Document
from sidecar.config.shape import has_required, shape_of
from sidecar.config.tree import Node, Origin, Path

__all__ = ["complain_of_nothing", "left_open"]

_INDENTED = "are the lines below it indented?"


def complain_of_nothing(document: Document) -> None:
    """Add to `document` what is wrong with each value that is not there.

    Nothing is said of unknown keys: that these are unknown is enough.
    """
    for origin in document.empty:
        message = _environment(origin) or _rule(origin.path)
        if message:
            document.complain(origin.mark, origin.path, message)
            document.bad.add(origin.path)


def left_open(parent: Node, key: str, known: frozenset[str], document: Document) -> str | None:
    """Return the known key without value that the unknown `key` follows, other unknown ones aside."""
    empty = {origin.path for origin in document.empty if origin.kind == "file"}
    above = [name for name in takewhile(lambda name: name != key, parent.entries) if name in known]
    return above[-1] if above and (*parent.origin.path, above[-1]) in empty else None


def _left_out(field: FieldInfo) -> str:
    """Return what there is instead of no value: one that is not there by default must be asked for."""
    form, below = shape_of(field)
    if below is None or form != "model" or field.default is not None or has_required(below):
        return "a key that is left out has its default"
    return "`{}` has its defaults"


def _environment(origin: Origin) -> str | None:
    return f"has no value: {origin.name} is empty in the environment" if origin.kind == "env" else None


def _rule(path: Path) -> str | None:
    """Return what is wrong with having no value at `path`; None where there cannot be any."""
    model: type[BaseModel] = Config
    steps = list(path)
    while steps:
        field = model.model_fields.get(str(steps.pop(0)))
        if field is None:
            return None
        form, below = shape_of(field)
        if not steps:
            if not field.is_required():
                return f"has no value ({_left_out(field)})"
            return "is required and has no value" + (f"; {_INDENTED}" if below else "")
        if below is None:
            return "has no value"
        model = below
        if form != "model":
            steps.pop(0)  # the name or the index
    return f"must have a value; {_INDENTED}"
