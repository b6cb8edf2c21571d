"""The kinds of scalar in the vocabulary.

Each is one object that knows its kind from all sides: `parse` what a person wrote, or raise ValueError with
the rule that it breaks; `plain` what `parse` would read as the same value (None where the value is written by
leaving its key out); `schema` what an editor may accept, which is everything that `parse` accepts and as
little else as JSON Schema can say.

A kind stands in `Annotated[type, Kind()]`; pydantic calls it through its two hooks. Whatever a person reads
about a wrong scalar is worded here and in the modules that parse it: pydantic words nothing.
"""

# ruff: noqa: D102 -- Kind documents what the kinds override

import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Network, IPv6Network, ip_interface
from pathlib import Path
from typing import Any, TypeVar

from pydantic import GetCoreSchemaHandler, GetJsonSchemaHandler, ValidationInfo
from pydantic_core import CoreSchema, core_schema

from sidecar.config import units
from sidecar.config.words import did_you_mean, listing, shown

__all__ = [
    "AFFIRMATIONS",
    "NAME",
    "NEGATIONS",
    "VARIABLE",
    "Choice",
    "Count",
    "Duration",
    "File",
    "Kind",
    "Name",
    "Number",
    "Only",
    "Percent",
    "RateOf",
    "Size",
    "Switch",
    "Text",
    "parse_network",
]

NAME = r"[A-Za-z0-9][A-Za-z0-9_.-]{0,62}"
# What the environment puts in may be anything, so editors let pass all text that mentions it.
VARIABLE = r"\$\{"

_Amount = TypeVar("_Amount", int, float, units.Rate)

_INTEGER = re.compile(r"0|-?[1-9][0-9]{0,17}")
_DECIMAL = re.compile(r"-?[0-9]{1,9}(\.[0-9]{1,9})?")
_OFF = "off"
NEGATIONS = (False, "no", "none", "never", "disabled")
"""What people write who mean `off`."""
AFFIRMATIONS = (True, "on", "yes", "default", "defaults", "enabled")
"""What people write who mean a stage with its defaults."""
_TRUE = ("true", "yes", "y", "on", "1")
_FALSE = ("false", "no", "n", "off", "0")


class Kind(ABC):
    """A kind of scalar."""

    @abstractmethod
    def parse(self, value: object) -> object:
        """Return what `value`, as read from YAML, means. Raise ValueError where it breaks a rule."""

    def plain(self, value: Any) -> object:
        """Return what `parse` reads as `value`, or None."""
        return value

    @abstractmethod
    def schema(self) -> dict[str, Any]:
        """Return the JSON Schema of what `parse` accepts, before the environment is put in."""

    def worded(self, value: object) -> object:
        """Return `parse(value)`. Where it raises that something `must be` so, add what it is instead."""
        try:
            return self.parse(value)
        except ValueError as error:
            rule, semicolon, hint = str(error).partition(";")
            if not rule.startswith("must be "):
                raise
            raise ValueError(f"{rule}, not {shown(value)}{semicolon}{hint}") from error

    def accepts(self, value: object) -> bool:
        """Tell if `parse` has no complaint, so that `value` can be proposed."""
        try:
            self.parse(value)
        except ValueError:
            return False
        return True

    def meant(self, value: object) -> Sequence[str]:
        """Return what `parse` proposes instead of `value`, and would accept."""
        try:
            self.parse(value)
        except units.UnitError as error:
            return error.meant
        except ValueError:
            pass
        return ()

    def __get_pydantic_core_schema__(self, _source: object, _handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.no_info_plain_validator_function(self.worded)

    def __get_pydantic_json_schema__(
        self, _core: CoreSchema, _handler: GetJsonSchemaHandler
    ) -> dict[str, Any]:
        return self.schema()


@dataclass(frozen=True, slots=True)
class Duration(Kind):
    """A time in seconds, from `low` to `high`. With `off`, `off` and zero mean None: no limit."""

    low: str
    high: str
    off: bool = False

    def parse(self, value: object) -> float | None:
        if value == _OFF:
            _switch_off(allowed=self.off)
            return None
        seconds = _with_unit(self, value, units.parse_duration, off=self.off)
        if self.off and not seconds:
            return None
        if not units.parse_duration(self.low) <= seconds <= units.parse_duration(self.high):
            raise ValueError(_range(self.low, self.high, off=self.off))
        return seconds

    def plain(self, value: float | None) -> str | None:
        return _off(self) if value is None else units.show_duration(value)

    def schema(self) -> dict[str, Any]:
        return _pattern(units.DURATION, off=self.off)


@dataclass(frozen=True, slots=True)
class Size(Kind):
    """A number of bytes, from `low` to `high`. With `off`, `off` means None: no limit."""

    low: str
    high: str
    off: bool = False

    def parse(self, value: object) -> int | None:
        if value == _OFF:
            _switch_off(allowed=self.off)
            return None
        size = _with_unit(self, value, units.parse_size, off=self.off)
        if not units.parse_size(self.low) <= size <= units.parse_size(self.high):
            raise ValueError(_range(self.low, self.high, off=self.off))
        return size

    def plain(self, value: int | None) -> str | None:
        return _off(self) if value is None else units.show_size(value)

    def schema(self) -> dict[str, Any]:
        return _pattern(units.SIZE, off=self.off)


@dataclass(frozen=True, slots=True)
class Count(Kind):
    """A whole number from `low` to `high`. With `off`, `off` means None."""

    low: int
    high: int
    off: bool = False

    def parse(self, value: object) -> int | None:
        if self.off and value == _OFF:
            return None
        if not isinstance(value, int) or isinstance(value, bool) or not self.low <= value <= self.high:
            hint = "; leave the quotes out" if isinstance(value, str) and _INTEGER.fullmatch(value) else ""
            if self.off and (value in NEGATIONS or value == 0):
                hint = f"; did you mean `{_OFF}`?"
            raise ValueError(f"must be a whole number from {self.low} to {self.high}{hint}")
        return value

    def plain(self, value: int | None) -> int | str | None:
        return _off(self) if value is None else value

    def schema(self) -> dict[str, Any]:
        number = {"type": "integer", "minimum": self.low, "maximum": self.high}
        return {
            "anyOf": [number, {"type": "string", "pattern": f"^off$|{VARIABLE}" if self.off else VARIABLE}]
        }


@dataclass(frozen=True, slots=True)
class Number(Kind):
    """A number from `low` to `high`, which may have decimals."""

    low: float
    high: float

    def parse(self, value: object) -> float:
        if (
            isinstance(value, bool)
            or not isinstance(value, int | float)
            or not self.low <= value <= self.high
        ):
            hint = "; leave the quotes out" if isinstance(value, str) and _DECIMAL.fullmatch(value) else ""
            raise ValueError(f"must be a number from {self.low:g} to {self.high:g}{hint}")
        return float(value)

    def plain(self, value: float) -> int | float:
        return int(value) if value.is_integer() else value

    def schema(self) -> dict[str, Any]:
        return _or_variable({"type": "number", "minimum": self.low, "maximum": self.high})


@dataclass(frozen=True, slots=True)
class Percent(Kind):
    """A part of a whole, from `low` to `high` percent, as a number from 0 to 1. With `off`, `off` means None."""

    low: str = "0%"
    high: str = "100%"
    off: bool = False

    def parse(self, value: object) -> float | None:
        if self.off and value == _OFF:
            return None
        text = _as_written(value)
        if not isinstance(value, str) or not re.fullmatch(units.RATIO, text):
            raise units.UnitError("must be a percentage, such as `20%`", self._meant(text, value))
        if not self._percent(self.low) <= self._percent(text) <= self._percent(self.high):
            raise ValueError(f"must be from `{self.low}` to `{self.high}`")
        return units.parse_ratio(text)

    def plain(self, value: float | None) -> str | None:
        return _off(self) if value is None else str(units.show_ratio(value))

    def schema(self) -> dict[str, Any]:
        return _pattern(units.RATIO, off=self.off)

    def _meant(self, text: str, value: object) -> list[str]:
        """Return what a number without its sign may mean: percents above one, below it either."""
        if isinstance(value, bool) or not re.fullmatch(r"[0-9]{1,3}(\.[0-9]{1,3})?", text.strip(" %")):
            return [_OFF] if self.off and value in NEGATIONS else []
        amount = float(text.strip(" %"))
        meant = (
            [f"{amount:g}%"]
            if "%" in text or amount > 1
            else [f"{round(amount * 100, 1):g}%", f"{amount:g}%"]
        )
        return [each for each in dict.fromkeys(meant) if self.accepts(each)]

    @staticmethod
    def _percent(text: str) -> float:
        return float(text[:-1])


@dataclass(frozen=True, slots=True)
class RateOf(Kind):
    """So many in so long, such as `100/1m` or `10/s`: from 1 to `most`, in any time from `low` to `high`."""

    most: int
    low: str
    high: str

    def parse(self, value: object) -> units.Rate:
        rate = _with_unit(self, value, units.parse_rate, off=False)
        if rate.limit > self.most:
            raise ValueError(f"must be {self.most} at most")
        if not units.parse_duration(self.low) <= rate.per <= units.parse_duration(self.high):
            raise ValueError(f"must be per `{self.low}` to `{self.high}`")
        return rate

    def plain(self, value: units.Rate) -> str:
        return units.show_rate(value)

    def schema(self) -> dict[str, Any]:
        return _pattern(units.RATE)


@dataclass(frozen=True, slots=True)
class Only(Kind):
    """One number that cannot be another."""

    number: int
    meaning: str

    def parse(self, value: object) -> int:
        if value == str(self.number):
            raise ValueError("must be a number; leave the quotes out")
        if value != self.number or isinstance(value, bool):
            raise ValueError(f"must be `{self.number}`, {self.meaning}")
        return self.number

    def schema(self) -> dict[str, Any]:
        return {"const": self.number}


class Switch(Kind):
    """`true` or `false`, and none of the other words that YAML 1.1 has for them."""

    def parse(self, value: object) -> bool:
        if not isinstance(value, bool):
            raise ValueError(f"must be `true` or `false`{self._hint(value)}")  # noqa: TRY004 -- pydantic collects ValueErrors
        return value

    @staticmethod
    def _hint(value: object) -> str:
        if value in ("true", "false"):
            return "; leave the quotes out"
        word = _as_written(value).lower()
        meant = "true" if word in _TRUE else "false" if word in _FALSE else None
        return f"; did you mean `{meant}`?" if meant else ""

    def schema(self) -> dict[str, Any]:
        return _or_variable({"type": "boolean"})


class Choice(Kind):
    """One of some words."""

    def __init__(self, *words: str) -> None:
        self._words = words

    def parse(self, value: object) -> str:
        if isinstance(value, str) and value in self._words:
            return value
        word = _OFF if value in NEGATIONS else str(value)
        raise ValueError(f"must be {listing(self._words)}{did_you_mean(word, self._words)}")

    def schema(self) -> dict[str, Any]:
        return _or_variable({"enum": list(self._words)})


class Name(Kind):
    """The name of a route or an upstream: a label in metrics, logs and headers."""

    def parse(self, value: object) -> str:
        text = _text(value)
        if not re.fullmatch(NAME, text):
            reserved = "; those that begin with `_` are reserved" if text.startswith("_") else ""
            what = "a name: up to 63 ASCII letters, digits, `_`, `.` and `-`, a letter or digit first"
            raise ValueError(f"must be {what}{reserved}")
        return text

    def schema(self) -> dict[str, Any]:
        return _pattern(NAME)


@dataclass(frozen=True, slots=True)
class Text(Kind):
    """Text that `read` understands. The value is what `read` returns, or the text itself where `as_written`.

    `pattern` is what all such text has in common, for editors. With `off`, `off` means None.
    """

    read: Callable[[str], object]
    as_written: bool = True
    pattern: str = "."
    off: bool = False

    def parse(self, value: object) -> object:
        if self.off and value == _OFF:
            return None
        if self.off and value in NEGATIONS:
            raise ValueError(f"must be text; did you mean `{_OFF}`?")
        text = _as_written(value) or _text(value)
        meaning = self.read(text)  # of a number, to say what is wrong with more than its missing quotes
        return _text(value) if self.as_written or not isinstance(value, str) else meaning

    def plain(self, value: object) -> str | None:
        return _off(self) if value is None else str(value)

    def schema(self) -> dict[str, Any]:
        return {"type": "string", "pattern": f"{self.pattern}|{'^off$|' if self.off else ''}{VARIABLE}"}


class File(Kind):
    """The absolute name of a file that can be read. A relative one starts where the configuration file is."""

    def parse(self, value: object) -> str:
        return _readable(Path(_text(value)).absolute())

    def schema(self) -> dict[str, Any]:
        return {"type": "string", "minLength": 1}

    def __get_pydantic_core_schema__(self, _source: object, _handler: GetCoreSchemaHandler) -> CoreSchema:
        def from_base(value: object, info: ValidationInfo) -> object:
            base: Path = info.context["base"] if info.context else Path()
            return self.worded(str(base / value) if isinstance(value, str) and value else value)

        return core_schema.with_info_plain_validator_function(from_base)


def parse_network(text: str) -> IPv4Network | IPv6Network:
    """Read an address or a network in CIDR form. Raises ValueError, for the user, where `text` is none."""
    try:
        interface = ip_interface(text)
    except ValueError as error:
        raise ValueError(
            "must be an address or a network, such as `10.0.0.0/8`, `192.0.2.7` or `fd00::/8`"
        ) from error
    if interface.ip != interface.network.network_address:
        raise ValueError(
            f"must be a network without bits beyond its length; did you mean `{interface.network}`?"
        )
    return interface.network


def _readable(path: Path) -> str:
    """Return the name of a file that can be read now. A directory cannot, nor can a pipe, which may hang."""
    try:
        if not path.is_file():
            path.stat()
            raise ValueError(f"names no regular file ({shown(str(path))})")
        path.open("rb").close()
    except OSError as error:
        raise ValueError(f"cannot be read: {error.strerror} ({shown(str(path))})") from error
    return str(path)


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise ValueError("must be text" + ("" if isinstance(value, dict | list) else "; put it in quotes"))  # noqa: TRY004 -- pydantic collects ValueErrors
    if not value:
        raise ValueError("must not be empty")
    return value


def _as_written(value: object) -> str:
    """Return the text of a number, so that what is missing behind it can be named."""
    return str(value) if isinstance(value, str | int | float) else ""


def _with_unit(kind: Kind, value: object, read: Callable[[str], _Amount], *, off: bool) -> _Amount:
    """Return what `read` makes of `value`. Where it may be misspelt, propose only what `kind` would accept."""
    text = _as_written(value)
    try:
        return read(text)
    except units.UnitError as error:
        meant = [each for each in error.meant if kind.accepts(each)]
        if off and text and (value in NEGATIONS or not text.strip("0.")):
            meant = [_OFF]
        raise units.UnitError(error.rule, meant) from error


def _off(kind: Duration | Size | Count | Percent | Text) -> str | None:
    """Return what reads as None: a word where there is one for it, else nothing."""
    return _OFF if kind.off else None


def _switch_off(*, allowed: bool) -> None:
    if not allowed:
        raise ValueError("cannot be switched off")


def _range(low: str, high: str, *, off: bool) -> str:
    return f"must be from `{low}` to `{high}`" + ("; `off` switches the limit off" if off else "")


def _pattern(pattern: str, *, off: bool = False) -> dict[str, Any]:
    return {"type": "string", "pattern": f"^(?:{pattern}{'|off' if off else ''})$|{VARIABLE}"}


def _or_variable(schema: dict[str, Any]) -> dict[str, Any]:
    return {"anyOf": [schema, {"type": "string", "pattern": VARIABLE}]}
