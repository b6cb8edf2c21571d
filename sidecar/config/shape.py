"""The models as a tree, which key holds a model, a mapping or list of them, or a leaf; and values as YAML."""

from collections.abc import Iterator, Mapping, Sequence
from types import UnionType
from typing import Annotated, Any, Literal, NamedTuple, Union, get_args, get_origin

from annotated_types import MinLen
from pydantic import BaseModel, ConfigDict
from pydantic.fields import FieldInfo

from sidecar.config.alternatives import OFF, Off
from sidecar.config.kinds import Kind

__all__ = [
    "Model",
    "Shape",
    "field_at",
    "fields_along",
    "has_required",
    "model_at",
    "plain",
    "plain_field",
    "shape_of",
]


class Model(BaseModel):
    """What all models have in common: they cannot be changed, and a key that they do not know is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Shape(NamedTuple):
    """What a field holds; only a leaf has no model."""

    form: Literal["model", "map", "list", "leaf"]
    model: type[BaseModel] | None = None


def shape_of(field: FieldInfo) -> Shape:
    """Return what `field` holds; where that may be written in several forms, the longest of them."""
    annotation = field.annotation
    union = get_origin(annotation) in {Union, UnionType}
    for each in get_args(annotation) if union else (annotation,):
        if isinstance(each, type) and issubclass(each, BaseModel):
            return Shape("model", each)
        outer = get_origin(each)
        for item in get_args(each) if outer in {Mapping, tuple} else ():
            inner = get_args(item)[0] if get_origin(item) is Annotated else item
            if isinstance(inner, type) and issubclass(inner, BaseModel):
                return Shape("map" if outer is Mapping else "list", inner)
    return Shape("leaf")


def model_at(root: type[BaseModel], path: Sequence[str | int]) -> type[BaseModel]:
    """Return the model of the mapping at `path`, which must be that of a model, or of names or a list of it."""
    model = _last(root, path).model
    assert model is not None  # noqa: S101 -- the caller's part
    return model


def field_at(root: type[BaseModel], path: Sequence[str | int]) -> FieldInfo | None:
    """Return the field whose value is at `path`; None for an item or a name within one, or where there is none."""
    if not path or not isinstance(path[-1], str):
        return None
    form, _ = _last(root, path[:-1])
    return model_at(root, path[:-1]).model_fields.get(path[-1]) if form == "model" else None


def fields_along(root: type[BaseModel], path: Sequence[str | int]) -> Iterator[FieldInfo]:
    """Yield the fields that lead to `path`, as far as there are any."""
    shape = Shape("model", root)
    for key in path:
        form, model = shape
        if model is None:
            return
        if form != "model":
            shape = Shape("model", model)
            continue
        field = model.model_fields.get(str(key))
        if field is None:
            return
        yield field
        shape = shape_of(field)


def _last(root: type[BaseModel], path: Sequence[str | int]) -> Shape:
    """Return the shape of what is at `path`: a mapping or list of models where no name or index follows it."""
    shape = Shape("model", root)
    for key in path:
        if shape.form == "model" and shape.model is not None:
            shape = shape_of(shape.model.model_fields[str(key)])
        else:
            shape = Shape("model", shape.model)
    return shape


def has_required(model: type[BaseModel]) -> bool:
    """Tell if `{}` is not enough to be a `model`."""
    return any(field.is_required() for field in model.model_fields.values())


def plain(model: BaseModel) -> dict[str, Any]:
    """Return what would be read as `model`, in full: with its defaults, without keys that are not in use."""
    fields = type(model).model_fields
    every = {name: plain_field(field, getattr(model, name)) for name, field in fields.items()}
    return {name: value for name, value in every.items() if value is not None}


def plain_field(field: FieldInfo, value: object) -> Any:
    """Return what would be read as `value` in `field`; None if that is to leave the key out."""
    if value is None and any(isinstance(each, Off) for each in field.metadata):
        return OFF
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
    return value if value is None or isinstance(value, bool | int) else str(value)
