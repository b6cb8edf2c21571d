"""What an object holds, by name: the same whether its module is compiled or not, which differ in where that stands."""

import inspect
from typing import TypeVar

__all__ = ["attributes", "twin"]

T = TypeVar("T")


def attributes(thing: object) -> dict[str, object]:
    """Give the values of all attributes that are set."""
    names = dict.fromkeys(getattr(thing, "__dict__", {}))
    for kind in type(thing).__mro__:
        for name, what in vars(kind).items():
            if not name.startswith("__") and (
                inspect.ismemberdescriptor(what) or inspect.isgetsetdescriptor(what)
            ):
                names.setdefault(name)
    return {name: getattr(thing, name) for name in names if hasattr(thing, name)}


def twin(thing: T, other: T) -> T:
    """Give `other` with everything in it that `thing` holds."""
    for name, value in attributes(thing).items():
        setattr(other, name, value)
    return other
