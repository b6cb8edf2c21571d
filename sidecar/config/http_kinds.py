"""The kinds of scalar that speak of HTTP: statuses, names and values of header fields, places to redirect to.

What ends up in a message head is checked here for what could end the head or add a field to it: no value has a
control character, so there is no CR, LF or NUL in any of them.
"""

# ruff: noqa: D102 -- Kind documents what the kinds override

import re
from collections.abc import Collection, Iterable
from typing import Any

from sidecar.config.kinds import VARIABLE, Kind, Text
from sidecar.config.pattern import parse_header
from sidecar.config.words import did_you_mean, listing
from sidecar.policy.fallback import Static
from sidecar.policy.templates import check_location

__all__ = [
    "CONDITIONS",
    "AnyText",
    "ContentType",
    "FieldName",
    "FieldValue",
    "LimitKey",
    "Location",
    "RetryOn",
    "Status",
    "statuses",
]

CONDITIONS = ("connect_error", "reset", "attempt_timeout", "bad_response")
"""What can go wrong with an attempt that gets no answer, in the words of `retry_on`."""

_CLASS_5XX = "5xx"
_FIELD = r"[A-Za-z0-9!#$%&'*+.^_`|~-]+"
_KEYS = ("client_ip", "route", "global")
_HEADER = "header:"
_ANY_HEADER = f"`{_HEADER}` and the name of a field, such as `{_HEADER}X-API-Key`"
_ADDRESS = frozenset(
    {"ip", "client", "address", "clientaddress", "remoteaddr", "remoteaddress", "sourceip", "srcip"}
)
_ADDRESS |= {"binaryremoteaddr", "$remoteaddr", "$binaryremoteaddr", "peerip", "remoteip", "perip", "src"}
_TYPE = re.compile(rf"{_FIELD}/{_FIELD}(?:[ \t]*;[ \t]*{_FIELD}=(?:{_FIELD}|\"[^\"\\\x00-\x1f\x7f]*\"))*")


def statuses(written: Iterable[str | int]) -> frozenset[int]:
    """Return the statuses among the items of a list of them, with those that `5xx` stands for."""
    found: set[int] = set()
    for each in written:
        if each == _CLASS_5XX:
            found.update(range(500, 600))
        elif isinstance(each, int):
            found.add(each)
    return frozenset(found)


class Status(Kind):
    """The status of a response, within `range` or one of them; with `classes`, `5xx` stands for all of these."""

    def __init__(self, allowed: Collection[int], rule: str, *, classes: bool = False) -> None:
        self._allowed = allowed
        self._rule = rule
        self._classes = classes

    def parse(self, value: object) -> int | str:
        if self._classes and value == _CLASS_5XX:
            return _CLASS_5XX
        if isinstance(value, bool) or not isinstance(value, int) or value not in self._allowed:
            raise ValueError(f"must be {self._rule}{_hint(value, self._allowed)}")
        return value

    def schema(self) -> dict[str, Any]:
        word = f"^{_CLASS_5XX}$|{VARIABLE}" if self._classes else VARIABLE
        if isinstance(self._allowed, range):
            number = {"type": "integer", "minimum": self._allowed[0], "maximum": self._allowed[-1]}
        else:
            number = {"enum": sorted(self._allowed)}
        return {"anyOf": [number, {"type": "string", "pattern": word}]}


class RetryOn(Kind):
    """What makes an attempt worth repeating: a word for having no answer, a status, or `5xx`."""

    _statuses = range(400, 600)

    def parse(self, value: object) -> int | str:
        if isinstance(value, int) and not isinstance(value, bool) and value in self._statuses:
            return value
        words = (*CONDITIONS, _CLASS_5XX)
        if value in words:
            assert isinstance(value, str)  # noqa: S101 -- the words are
            return value
        if value == "4xx":
            raise ValueError(
                "`4xx` cannot be retried as a class: what the client did wrong stays wrong; "
                "name those that pass by themselves, such as 429"
            )
        hint = _hint(value, self._statuses) or did_you_mean(str(value), words)
        raise ValueError(f"must be {listing(words)}, or a status from 400 to 599{hint}")

    def schema(self) -> dict[str, Any]:
        words = "|".join((*CONDITIONS, _CLASS_5XX))
        return {
            "anyOf": [
                {"type": "integer", "minimum": self._statuses[0], "maximum": self._statuses[-1]},
                {"type": "string", "pattern": f"^(?:{words})$|{VARIABLE}"},
            ]
        }


class AnyText(Text):
    """Text of any kind, also none at all: the body of an answer."""

    def __init__(self) -> None:
        super().__init__(str)

    def parse(self, value: object) -> object:
        return value if value == "" else super().parse(value)

    def schema(self) -> dict[str, Any]:
        return {"type": "string"}


class FieldName(Text):
    """The name of a header field. With `own`, also of one that the sidecar sets itself."""

    def __init__(self, *, own: bool = True) -> None:
        super().__init__(_any_field if own else _other_field, pattern=f"^{_FIELD}$")


class FieldValue(Text):
    """The value of a header field."""

    def __init__(self) -> None:
        super().__init__(_field_value)


class ContentType(Text):
    """A media type, such as `application/json` or `text/plain; charset=utf-8` (RFC 9110 §8.3.1)."""

    def __init__(self) -> None:
        super().__init__(_media_type, pattern="/")


class Location(Text):
    """Where a redirect leads: a URL or a path, with `{path}`, `{query}` and the like in it."""

    def __init__(self) -> None:
        super().__init__(_location, pattern="^/|^[hH][tT][tT][pP][sS]?://")


class LimitKey(Text):
    """What requests are counted by."""

    def __init__(self) -> None:
        super().__init__(_limit_key, pattern=f"^(?:client_ip|route|global|{_HEADER}{_FIELD})$")


def _hint(value: object, allowed: Collection[int]) -> str:
    quoted = isinstance(value, str) and re.fullmatch("[1-9][0-9]{2}", value) and int(value) in allowed
    return "; leave the quotes out" if quoted else ""


def _any_field(name: str) -> None:
    parse_header(name, "*")


def _other_field(name: str) -> None:
    parse_header(name, "*")
    if name.lower() == "content-type":
        raise ValueError("the type is told by `content_type`")
    Static(fields=((name.encode(), b""),))


def _field_value(value: str) -> None:
    parse_header("X", value)


def _media_type(text: str) -> None:
    if not _TYPE.fullmatch(text):
        raise ValueError("must be a media type, such as `application/json` or `text/html`")


def _location(text: str) -> None:
    try:
        check_location(text.encode())
    except ValueError as error:
        places = "with no other places in it than `{path}` and `{query}`"
        raise ValueError(f"must be a URL with its host, or a path on this host, {places}") from error


def _limit_key(text: str) -> None:
    if text in _KEYS:
        return
    if text.lower().startswith(_HEADER):
        name = text.removeprefix(_HEADER)
        if name == text or not name:
            raise ValueError(f"must be {_ANY_HEADER}")
        parse_header(name, "*")
        return
    words = (*_KEYS, f"{_HEADER}NAME")
    raise ValueError(f"must be {listing(words)}{_key_meant(text)}")


def _key_meant(text: str) -> str:
    """Return a question after the key that `text` stands for: what others call it, or the name of a field alone."""
    word = text.lower().replace("-", "").replace("_", "")
    if word in _ADDRESS:
        return "; did you mean `client_ip`?"
    if word in {"header", "headers", "httpheader", "requestheader"}:
        return f"; write {_ANY_HEADER}"
    if "-" in text and re.fullmatch(_FIELD, text) and not did_you_mean(text, _KEYS):
        return f"; did you mean `{_HEADER}{text}`?"
    return did_you_mean(text, _KEYS)
