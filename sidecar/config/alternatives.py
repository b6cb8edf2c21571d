"""Values that may be written in more than one form: one or a list, `off` or a name in the place of a mapping.

Each stands in `Annotated[type, …]` beside the type of the longer form. It takes the short form, which is always
text, and leaves everything else to that type, whose findings keep their places.
"""

from collections.abc import Callable
from typing import Any

from pydantic import GetCoreSchemaHandler, GetJsonSchemaHandler
from pydantic_core import CoreSchema, core_schema

from sidecar.config.kinds import NAME, VARIABLE, Choice, Kind, Name
from sidecar.config.words import did_you_mean, shown

__all__ = ["OFF", "NamedOr", "Off", "OneOrMany", "Short", "Word", "WordOr"]

OFF = "off"


class OneOrMany:
    """Let one text stand for a list of it."""

    def __get_pydantic_core_schema__(self, source: object, handler: GetCoreSchemaHandler) -> CoreSchema:
        def as_list(value: object) -> object:
            return [value] if isinstance(value, str) else value

        return core_schema.no_info_before_validator_function(as_list, handler(source))

    def __get_pydantic_json_schema__(self, core: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        many = handler(core)
        return {"anyOf": [many["items"], many]}


class Off:
    """Let `off` stand for None: a stage, or a part of one, that is not there."""

    pattern = f"^off$|{VARIABLE}"

    def __get_pydantic_core_schema__(self, source: object, handler: GetCoreSchemaHandler) -> CoreSchema:
        return _unless_text(self.read, handler(source))

    def __get_pydantic_json_schema__(self, core: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        return {"anyOf": [{"type": "string", "pattern": self.pattern}, handler(core)]}

    def read(self, text: str) -> object:
        """Return what `text` means; `text` itself where that is for the longer form to say."""
        return None if text == OFF else NotImplemented


class NamedOr(Off):
    """Let `off` stand for None, and any other text for the name of a `model` that is defined elsewhere."""

    pattern = f"^(?:{NAME})$|{VARIABLE}"

    def __init__(self, model: type[Any]) -> None:
        self._model = model

    def __get_pydantic_core_schema__(self, _source: object, handler: GetCoreSchemaHandler) -> CoreSchema:
        return _unless_text(self.read, handler.generate_schema(self._model))

    def read(self, text: str) -> object:
        """Return None for `off`, else the name."""
        return None if text == OFF else Name().worded(text)


class WordOr:
    """Let one of some words stand where else there is a `longer` form."""

    def __init__(self, longer: Any, *words: str) -> None:
        self.words = words
        self._longer = longer

    def __get_pydantic_core_schema__(self, _source: object, handler: GetCoreSchemaHandler) -> CoreSchema:
        return _unless_text(self._read, handler.generate_schema(self._longer))

    def __get_pydantic_json_schema__(self, core: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        return {"anyOf": [*Choice(*self.words).schema()["anyOf"], handler(core)]}

    def _read(self, text: str) -> object:
        if text in self.words:
            return text
        hint = did_you_mean(text, self.words) or f"; write `[{text}]` for one"
        raise ValueError(
            f"must be {', '.join(f'`{word}`' for word in self.words)} or a list, not {shown(text)}{hint}"
        )


class Short:
    """Let text of a `kind` stand for a mapping that has only `key`. It is written out before anything is validated."""

    def __init__(self, key: str, kind: Kind) -> None:
        self.key = key
        self._kind = kind

    def __get_pydantic_core_schema__(self, source: object, handler: GetCoreSchemaHandler) -> CoreSchema:
        return handler(source)

    def __get_pydantic_json_schema__(self, core: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        return {"anyOf": [self._kind.schema(), handler(core)]}


class Word:
    """Let a word stand for a mapping that has only that key, with nothing in it. It is written out like `Short`."""

    def __init__(self, word: str) -> None:
        self._word = word

    def __get_pydantic_core_schema__(self, source: object, handler: GetCoreSchemaHandler) -> CoreSchema:
        return handler(source)

    def __get_pydantic_json_schema__(self, core: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        return {"anyOf": [{"type": "string", "pattern": f"^{self._word}$|{VARIABLE}"}, handler(core)]}


def _unless_text(read: Callable[[str], object], longer: CoreSchema) -> CoreSchema:
    """Return a schema that has `read` decide on text and leaves the rest, and what it declines, to `longer`."""

    def either(value: object, handler: core_schema.ValidatorFunctionWrapHandler) -> object:
        found = read(value) if isinstance(value, str) else NotImplemented
        return handler(value) if found is NotImplemented else found

    return core_schema.no_info_wrap_validator_function(either, longer)
