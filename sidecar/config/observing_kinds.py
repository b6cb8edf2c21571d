"""The kinds of scalar that only `observing` has: secrets, statuses in ranges, the path of a probe.

A complaint about a secret says which rule it breaks and never what stands there.
"""

# ruff: noqa: D102 -- Kind documents what the kinds override

import re
from collections.abc import Collection, Iterator, Sequence
from typing import Annotated, Any

from pydantic import BaseModel, Field, GetCoreSchemaHandler, GetJsonSchemaHandler
from pydantic_core import CoreSchema, core_schema

from sidecar.config.kinds import VARIABLE, Kind, Text
from sidecar.config.shape import fields_along

__all__ = [
    "LEAST_TOKEN",
    "Hidden",
    "Secret",
    "StatusRange",
    "Statuses",
    "is_hidden",
    "parse_probe_path",
    "parse_token",
]

LEAST_TOKEN = 16
"""The fewest characters of a token: 64 bits, if each were a hexadecimal digit."""

_ALL = range(100, 600)
_RANGE = re.compile(r"([0-9]{3}) ?- ?([0-9]{3})")
_CLASS = re.compile("([1-5])xx", re.IGNORECASE)
_TOKEN = re.compile(r"[!-~]+")
_TARGET = re.compile(r"/[!-~]*")
_STATUS = "must be a status from 100 to 599, or a range of them such as `200-399`"


class Hidden:
    """Beside a kind or a mapping: what stands there is not to be shown."""


def is_hidden(root: type[BaseModel], path: Sequence[str | int]) -> bool:
    """Tell if what stands at `path`, in a file whose model is `root`, is not to be shown."""
    return any(isinstance(each, Hidden) for field in fields_along(root, path) for each in field.metadata)


class Secret(Text, Hidden):
    """Text that is not to be shown, not even where it is wrong."""

    def worded(self, value: object) -> object:
        return self.parse(value)


class StatusRange(Kind):
    """A status, or from one to another, both included: `200`, `200-399`."""

    def parse(self, value: object) -> range:
        if isinstance(value, int) and not isinstance(value, bool) and value in _ALL:
            return range(value, value + 1)
        text = value if isinstance(value, str) else ""
        found = _RANGE.fullmatch(text)
        if found is None or " " in text:
            raise ValueError(f"{_STATUS}{_meant(text)}")
        first, last = int(found[1]), int(found[2])
        if first not in _ALL or last not in _ALL:
            raise ValueError(_STATUS)
        if first > last:
            raise ValueError(f"must be from the smaller to the larger; did you mean `{last}-{first}`?")
        return range(first, last + 1)

    def schema(self) -> dict[str, Any]:
        number = {"type": "integer", "minimum": _ALL[0], "maximum": _ALL[-1]}
        text = {"type": "string", "pattern": f"^[1-5][0-9]{{2}}-[1-5][0-9]{{2}}$|{VARIABLE}"}
        return {"anyOf": [number, text]}


class Statuses(Kind):
    """A set of statuses, written as one `StatusRange` or a list of them."""

    _ITEMS = tuple[Annotated[range, StatusRange()], ...]

    def parse(self, value: object) -> frozenset[int]:
        ranges = (StatusRange().parse(each) for each in (value if isinstance(value, list) else [value]))
        return frozenset(status for each in ranges for status in each)

    def plain(self, value: Collection[int]) -> list[str | int]:
        return [first if first == last else f"{first}-{last}" for first, last in _runs(sorted(value))]

    def schema(self) -> dict[str, Any]:
        item = StatusRange().schema()
        return {"anyOf": [*item["anyOf"], {"type": "array", "items": item, "minItems": 1}]}

    def __get_pydantic_core_schema__(self, _source: object, handler: GetCoreSchemaHandler) -> CoreSchema:
        """Let each item be complained of at its own place."""
        items = handler.generate_schema(Annotated[self._ITEMS, Field(min_length=1)])
        united = core_schema.no_info_after_validator_function(_united, items)
        as_it_is = core_schema.plain_serializer_function_ser_schema(lambda value: value)
        return core_schema.no_info_before_validator_function(_as_list, united, serialization=as_it_is)

    def __get_pydantic_json_schema__(
        self, _core: CoreSchema, _handler: GetJsonSchemaHandler
    ) -> dict[str, Any]:
        return self.schema()


def parse_token(text: str) -> None:
    """Check a token of the admin interface. Raises ValueError, for the user, where `text` is none."""
    if not _TOKEN.fullmatch(text):
        raise ValueError(
            "must have printable ASCII characters only, and no spaces: it is sent in a header field"
        )
    if len(text) < LEAST_TOKEN:
        raise ValueError(f"must have {LEAST_TOKEN} characters at least, or it can be guessed")


def parse_probe_path(text: str) -> None:
    """Check what a probe asks for. Raises ValueError, for the user, where `text` is no path."""
    if "://" in text:
        raise ValueError("must be a path alone, such as `/health`: the upstream has the host")
    if not text.startswith("/"):
        raise ValueError(f"must begin with `/`; did you mean `/{text}`?")
    if not _TARGET.fullmatch(text) or "#" in text:
        raise ValueError("must be a path, with printable ASCII characters only, and no spaces and no `#`")


def _as_list(value: object) -> object:
    return [value] if isinstance(value, str | int) else value


def _united(ranges: tuple[range, ...]) -> frozenset[int]:
    return frozenset(status for each in ranges for status in each)


def _runs(ordered: list[int]) -> Iterator[tuple[int, int]]:
    """Yield the first and last of each run without a gap."""
    start = 0
    for at in range(1, len(ordered) + 1):
        if at == len(ordered) or ordered[at] != ordered[at - 1] + 1:
            yield ordered[start], ordered[at - 1]
            start = at


def _meant(text: str) -> str:
    """Return a question after the range that `text` stands for: `2xx`, one with spaces, one in quotes."""
    if found := _CLASS.fullmatch(text):
        return f"; did you mean `{found[1]}00-{found[1]}99`?"
    if found := _RANGE.fullmatch(text):
        return f"; did you mean `{found[1]}-{found[2]}`?"
    if re.fullmatch("[1-5][0-9]{2}", text):
        return "; leave the quotes out"
    return ""
