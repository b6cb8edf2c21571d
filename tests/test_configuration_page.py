"""`docs/configuration.md` says of every key what the program says: kind, range, default, meaning.

The tables of the page stand between `<!-- keys: MODEL -->` and `<!-- end -->`. When one of these tests fails because
the vocabulary has changed, the right table is in its message.
"""

import re
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel
from pydantic.fields import FieldInfo

from sidecar.config import model, observing, policies
from sidecar.config.alternatives import NamedOr, Off, OneOrMany, Short, WordOr
from sidecar.config.complete import PROFILES
from sidecar.config.http_kinds import FieldName, FieldValue, LimitKey, RetryOn, Status
from sidecar.config.kinds import (
    Choice,
    Count,
    Duration,
    File,
    Kind,
    Name,
    Number,
    Only,
    Percent,
    RateOf,
    Size,
    Switch,
    Text,
)
from sidecar.config.lint import RULES
from sidecar.config.observing_kinds import Statuses
from sidecar.config.presets import PRESETS
from sidecar.config.schema import json_schema
from sidecar.config.shape import Model, plain_field, shape_of
from sidecar.config.state_field import StateField

PAGE = (Path(__file__).parents[1] / "docs" / "configuration.md").read_text()
TABLES = dict(re.findall(r"<!-- keys: (\w+) -->\n(.*?)<!-- end -->", PAGE, re.DOTALL))
MODELS = [
    each
    for module in (model, policies, observing)
    for name in module.__all__
    if isinstance(each := getattr(module, name), type) and issubclass(each, Model) and each is not Model
]


@pytest.mark.parametrize("each", MODELS, ids=lambda each: each.__name__)
def test_the_page_has_the_keys_of_every_mapping(each: type[BaseModel]) -> None:
    assert TABLES.get(each.__name__, "").strip() == table(each)


def test_the_page_has_no_mapping_that_the_program_does_not_have() -> None:
    assert set(TABLES) == {each.__name__ for each in MODELS}


def test_the_page_and_the_schema_know_the_same_keys() -> None:
    """The schema is what `sidecar schema` prints."""
    schema = json_schema()
    known = [schema, *schema["$defs"].values()]
    keys = {key for each in known for key in each.get("properties", {})}

    assert {
        key for text in TABLES.values() for key in re.findall(r"^\| `(\w+)` ", text, re.MULTILINE)
    } == keys


def test_the_page_says_what_the_profiles_change() -> None:
    section = PAGE.partition("## Profiles")[2].partition("\n## ")[0]
    said = {
        (profile, key, value)
        for profile, key, value in re.findall(
            r"^\| `(\w+)` \| `([\w.]+)` \| `(\w+)` \|$", section, re.MULTILINE
        )
    }
    # What a profile says although the default is the same needs no row.
    same = {("testing", "access_log", "errors")}

    assert said | same == {
        (profile, key, str(value)) for profile, changes in PROFILES.items() for key, value in changes.items()
    }


def test_the_page_has_every_warning() -> None:
    section = PAGE.partition("## Warnings")[2]

    assert re.findall(r"^\| `([\w-]+)` \| (.+) \|$", section, re.MULTILINE) == [
        (each.id, each.why) for _, each in sorted(RULES.items())
    ]


def test_the_page_has_the_numbers_of_every_preset() -> None:
    section = PAGE.partition("## Presets")[2].partition("\n## ")[0]
    rows = re.findall(r"^\| `(\w+)` \| (.+?) \| `(.+)` \|$", section, re.MULTILINE)
    said = {
        (stage, name): values for stage, names, values in rows for name in re.findall(r"`([\w-]+)`", names)
    }

    assert said == {
        (stage, name): numbers(values)
        for stage, presets in PRESETS.items()
        for name, values in presets.items()
    }


def numbers(values: object) -> str:
    """What a preset says as one would write it, but for the triggers that it switches off."""
    if isinstance(values, dict):
        return ", ".join(
            f"{key}: {{{numbers(each)}}}" if isinstance(each, dict) else f"{key}: {numbers(each)}"
            for key, each in values.items()
            if each != "off"
        )
    return f"[{', '.join(map(str, values))}]" if isinstance(values, list) else str(values)


def table(each: type[BaseModel]) -> str:
    head = "| key | value | default | meaning |\n|---|---|---|---|"
    return "\n".join([head, *(row(name, field) for name, field in each.model_fields.items())])


def row(name: str, field: FieldInfo) -> str:
    return f"| `{name}` | {value_of(name, field)} | {default_of(field)} | {field.description} |"


def default_of(field: FieldInfo) -> str:
    if field.is_required():
        return "required"
    default = plain_field(field, field.default)
    if default is None or default in ([], {}) or (shape_of(field).model is not None and default != "off"):
        return ""
    if isinstance(default, list):
        return f"`[{', '.join(map(str, default))}]`"
    return f"`{default}`".replace("`True`", "`true`").replace("`False`", "`false`")


def value_of(name: str, field: FieldInfo) -> str:
    form, below = shape_of(field)
    if below is not None:
        link = f"[{below.__name__}](#{below.__name__.lower()})"
        forms = {"model": link, "map": f"names, each with {link}", "list": f"a list of {link}"}[form]
        return forms + "".join(shorter(each) for each in field.metadata)
    if any(isinstance(each, OneOrMany) for each in field.metadata):
        return "text or a list of it"
    for each in field.metadata:
        if isinstance(each, WordOr):
            return ", ".join(f"`{word}`" for word in each.words) + " or a list of text"
    kinds = [each for each in field.metadata if isinstance(each, Kind)]
    if kinds:
        return kind_in_words(kinds[0])
    return {
        "retry_on": f"a list of {kind_in_words(RetryOn())}",
        "count": "a list of statuses, 400 to 599, and `5xx`",
        "when": "a list of these words",
    }.get(name, "a list of text" if "tuple" in str(field.annotation) else "names, each with text")


def shorter(form: object) -> str:
    """The words for what may stand instead of a mapping."""
    match form:
        case NamedOr():
            return ", a name, or `off`"
        case Off():
            return ", or `off`"
        case Short():
            return f", or its `{form.key}` alone"
        case _:
            return ""


def kind_in_words(kind: Any) -> str:
    match kind:
        case Duration() | Size():
            what = "duration" if isinstance(kind, Duration) else "size"
            return f"{what}, `{kind.low}` to `{kind.high}`" + (", or `off`" if kind.off else "")
        case Count():
            return f"number, {kind.low} to {kind.high}" + (", or `off`" if kind.off else "")
        case Number():
            return f"number, {kind.low:g} to {kind.high:g}, with decimals"
        case Percent():
            return f"percentage, `{kind.low}` to `{kind.high}`" + (", or `off`" if kind.off else "")
        case RateOf():
            return f"rate, up to {kind.most}, per `{kind.low}` to `{kind.high}`"
        case Status():
            return "a status"
        case RetryOn():
            return "the words in the last column, and statuses, 400 to 599"
        case LimitKey():
            return "`client_ip`, `route`, `global` or `header:NAME`"
        case FieldName() | FieldValue() | StateField():
            return "the name of a header field" + (", or `off`" if kind.off else "")
        case Only():
            return f"`{kind.number}`"
        case Switch():
            return "`true` or `false`"
        case Choice():
            return ", ".join(f"`{word}`" for word in kind.schema()["anyOf"][0]["enum"])
        case Name():
            return "a name"
        case File():
            return "a file"
        case Statuses():
            return "a status, a range such as `200-399`, or a list of these"
        case Text():
            return "text" + (", or `off`" if kind.off else "")
        case _:
            return "text"
