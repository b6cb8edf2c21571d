"""The JSON Schema of the vocabulary, for editors: generated from the models, so that it says what they say.

It accepts every file that the loader accepts, `${…}` in the place of any scalar included, and refuses as much
of the rest as JSON Schema can tell: unknown keys, wrong forms, numbers without units. Ranges of durations and
sizes, names that must be defined, and files that must exist are left to `sidecar check`.
"""

from typing import Any

from pydantic.json_schema import GenerateJsonSchema, JsonSchemaValue
from pydantic_core import core_schema

from sidecar.config.kinds import VARIABLE
from sidecar.config.model import Config
from sidecar.config.shape import plain_field, shape_of

__all__ = ["json_schema"]


def json_schema() -> dict[str, Any]:
    """Return the schema, in the dialect of 2020-12."""
    return {"$schema": _Generator.schema_dialect, **Config.model_json_schema(schema_generator=_Generator)}


class _Generator(GenerateJsonSchema):
    """Leaves out titles, which repeat the keys, and writes defaults with their units."""

    def field_title_should_be_set(self, schema: Any) -> bool:  # noqa: ARG002 -- pydantic's signature
        return False

    def model_schema(self, schema: core_schema.ModelSchema) -> JsonSchemaValue:
        """Add the defaults of the keys that hold no keys themselves."""
        result = super().model_schema(schema)
        for name, field in schema["cls"].model_fields.items():
            default = (
                None if field.is_required() or shape_of(field).model else plain_field(field, field.default)
            )
            if default is not None:
                result["properties"][name]["default"] = default
        return result

    def default_schema(self, schema: core_schema.WithDefaultSchema) -> JsonSchemaValue:
        """Leave the default to `model_schema`."""
        return self.generate_inner(schema["schema"])

    def nullable_schema(self, schema: core_schema.NullableSchema) -> JsonSchemaValue:
        """None is a key that is left out; `null` is refused."""
        return self.generate_inner(schema["schema"])

    def dict_schema(self, schema: core_schema.DictSchema) -> JsonSchemaValue:
        """Refuse a key that is no name; pydantic's `patternProperties` would let it pass with any value."""
        result = super().dict_schema(schema)
        for pattern, values in result.pop("patternProperties", {}).items():
            result["propertyNames"] = {"pattern": pattern.removesuffix(f"|{VARIABLE}")}
            result["additionalProperties"] = values
        return result
