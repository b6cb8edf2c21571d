"""The models as a tree, which key holds a model, a mapping or list of them, or a leaf; and values as YAML."""

from collections.abc import Iterable, Mapping
from typing import Any, Literal, NamedTuple, get_args, get_origin

from annotated_types import MinLen
from pydantic import BaseModel
from pydantic.fields import FieldInfo

from sidecar.config.kinds import Kind

__all__ = ["Shape", "model_at", "plain", "plain_field", "shape_of"]


class Shape(NamedTuple):
    """What a field holds; only a leaf has no model."""

    form: Literal["model", "map", "list", "leaf"]
    model: type[BaseModel] | None = None


def shape_of(field: FieldInfo) -> Shape:
    """Return what `field` holds."""
    annotation = field.annotation
    outer = get_origin(annotation)
    for each in (annotation, *get_args(annotation)):
        if isinstance(each, type) and issubclass(each, BaseModel):
            return Shape("map" if outer is Mapping else "list" if outer is tuple else "model", each)
    return Shape("leaf")


def model_at(root: type[BaseModel], path: Iterable[str | int]) -> type[BaseModel]:
    """Return the model of the mapping at `path`, which must be that of a model."""
    steps = iter(path)
    model = root
    for key in steps:
        form, below = shape_of(model.model_fields[str(key)])
        assert below is not None  # noqa: S101 -- the caller's part
        model = below
        if form != "model":
            next(steps)  # over the name or the index
    return model


def plain(model: BaseModel) -> dict[str, Any]:
    """Return what would be read as `model`, in full: with its defaults, without keys that are not in use."""
    fields = type(model).model_fields
    every = {name: plain_field(field, getattr(model, name)) for name, field in fields.items()}
    return {name: value for name, value in every.items() if value is not None}


def plain_field(field: FieldInfo, value: object) -> Any:
    """Return what would be read as `value` in `field`; None if that is to leave the key out."""
    for kind in field.metadata:
        if isinstance(kind, Kind):
            return kind.plain(value)
        if isinstance(kind, MinLen) and not value:
            return None  # it cannot be written: empty is refused where it could mean "any" or "none"
    return _plain(value)


def _plain(value: object) -> Any:
    if isinstance(value, BaseModel):
        return plain(value)
    if isinstance(value, Mapping):
        return {str(key): _plain(each) for key, each in value.items()}
    if isinstance(value, tuple):
        return [_plain(each) for each in value]
    return None if value is None else str(value)
