"""pydantic's findings as complaints that a person understands, each at its place in the file.

pydantic is asked for what it does well: all findings at once, each with its location. None of its words are
used.
"""

from collections.abc import Mapping

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from sidecar.config.alternatives import OFF, NamedOr, Off
from sidecar.config.elsewhere import known_as
from sidecar.config.emptiness import left_open
from sidecar.config.guesses import guessed
from sidecar.config.kinds import AFFIRMATIONS, NEGATIONS, Kind
from sidecar.config.model import Config, ErrorsConfig, Listen, Match, Timeouts, UpstreamConfig
from sidecar.config.observing import (
    AdminConfig,
    HealthConfig,
    LogConfig,
    OtelConfig,
    ReadinessConfig,
    ReloadConfig,
    SentryConfig,
)
from sidecar.config.observing_kinds import is_hidden
from sidecar.config.policies import (
    STALE,
    STEPS,
    BreakerConfig,
    BulkheadConfig,
    CacheConfig,
    FallbackStep,
    FaultConfig,
    MockStep,
    RateLimitConfig,
    RedirectStep,
    RetryAfterConfig,
    RetryBudgetConfig,
    RetryConfig,
    SlowCall,
    StaleStep,
    StaticStep,
    UpstreamStep,
)
from sidecar.config.reader import Document
from sidecar.config.shape import field_at, has_required, model_at
from sidecar.config.tree import Node, data, step
from sidecar.config.words import Path, closest, did_you_mean, listing, shown
from sidecar.config.yamltext import scalar

__all__ = ["complain_about"]

_KEY = ("[key]",)  # what pydantic appends to the location of a mapping whose key is wrong
_FORMS = {
    "model_type": "must be a mapping of keys",
    "dict_type": "must be a mapping of names",
    "tuple_type": "must be a list",
}
_DASHES = "; each item of a list begins with `- `"
# What one means who writes a scalar where a mapping belongs.
_MAIN_KEYS: Mapping[type[BaseModel], str] = {
    BreakerConfig: "consecutive_failures",
    BulkheadConfig: "max_concurrent",
    CacheConfig: "fresh_for",
    ErrorsConfig: "format",
    FaultConfig: "delay",
    HealthConfig: "path",
    Listen: "traffic",
    LogConfig: "level",
    Match: "path",
    MockStep: "body",
    OtelConfig: "endpoint",
    RateLimitConfig: "limit",
    RedirectStep: "location",
    RetryAfterConfig: "max",
    RetryBudgetConfig: "ratio",
    RetryConfig: "retries",
    SlowCall: "duration",
    StaleStep: "max_age",
    StaticStep: "body",
    Timeouts: "attempt",
    UpstreamConfig: "url",
    UpstreamStep: "name",
}
# Where that is to switch something on, which by default is off.
_SWITCHES: Mapping[type[BaseModel], str] = {ReadinessConfig: "require_upstream", ReloadConfig: "watch"}


def complain_about(error: ValidationError, root: Node, document: Document) -> None:
    """Add to `document` what pydantic found in the tree `root`."""
    for details in error.errors(include_url=False, include_input=False):
        location = details["loc"]
        node, rest = _nearest(root, location)
        if details["type"] == "missing":
            document.about(node, "is required", below=rest)
        elif details["type"] == "extra_forbidden":
            document.about(node, _unknown(location, root, document), at_key=True)
        elif details["type"] != "too_short":
            document.about(
                node,
                _wrong(details, root, document),
                at_key=rest == _KEY,
                discreet=is_hidden(Config, location),
            )
        elif node.value in ([], {}):  # pydantic counts only what is right in it
            document.about(node, "must not be empty")


def _nearest(root: Node, location: Path) -> tuple[Node, Path]:
    """Return the node at `location` or nearest above it, and the steps that did not exist."""
    node = root
    for depth, key in enumerate(location):
        below = step(node, key)
        if below is None:
            return node, location[depth:]
        node = below
    return node, ()


def _unknown(location: Path, root: Node, document: Document) -> str:
    *above, last = location
    key = str(last)
    model = model_at(Config, above)
    known = model.model_fields
    open_key = left_open(_nearest(root, tuple(above))[0], key, frozenset(known), document)
    if open_key:
        return f"unknown key; if it is part of `{open_key}`, indent it below"
    if guess := known_as(key, model) or guessed(key, model):
        return f"unknown key; {guess}"
    return "unknown key" + (did_you_mean(key, known) or f"; here can be {listing(known)}")


def _wrong(details: ErrorDetails, root: Node, document: Document) -> str:
    if details["type"] == "value_error":
        return str(details["ctx"]["error"])
    location = details["loc"]
    value = data(_nearest(root, location)[0])
    rule = _FORMS[details["type"]] + _or_shorter(location)
    if details["type"] == "model_type" and model_at(Config, location) is FallbackStep:
        rule = f"must be `{STALE}` or a mapping of keys"
    hint = ""
    if details["type"] == "tuple_type":
        hint = _DASHES if isinstance(value, dict) else f"; write `[{value}]` for one"
    elif details["type"] == "model_type" and not _follows_an_open_one(location, root, document):
        hint = _as_mapping(value, model_at(Config, location))
    if _forms(location) and isinstance(value, bool | str) and value in NEGATIONS:
        hint = f"; did you mean `{OFF}`?"
    if details["type"] == "model_type" and _may_be_secret(value, model_at(Config, location)):
        return f"{rule}{hint}"
    return f"{rule}, not {shown(value)}{hint}"


def _may_be_secret(value: object, model: type[BaseModel]) -> bool:
    """Tell if the scalar `value` in the place of a `model` may be what is not to be shown in it."""
    return not isinstance(value, bool) and any(is_hidden(model, (key,)) for key in model.model_fields)


def _forms(location: Path) -> tuple[Off, ...]:
    """Return what may also stand at `location`, where it is not only a mapping or a list."""
    field = field_at(Config, location)
    return tuple(each for each in field.metadata if isinstance(each, Off)) if field else ()


def _or_shorter(location: Path) -> str:
    """Return the words for those."""
    forms = _forms(location)
    named = ", a name" if any(isinstance(each, NamedOr) for each in forms) else ""
    return f"{named} or `{OFF}`" if forms else ""


def _follows_an_open_one(location: Path, root: Node, document: Document) -> bool:
    """Tell if the value at `location`, in a mapping of names, may belong to an empty one above it."""
    if not location:
        return False
    *above, key = location
    parent = _nearest(root, tuple(above))[0]
    names = frozenset(name for name, node in parent.entries.items() if node.origin.path in document.bad)
    return isinstance(key, str) and left_open(parent, key, names, document) is not None


def _as_mapping(value: object, model: type[BaseModel]) -> str:
    """Return a question after the mapping that the scalar `value` stands for, where that is plain to see."""
    if model is AdminConfig:
        return "; the address stands in `listen: {admin: …}`"
    if model is SentryConfig:
        return "; write `{dsn: …}`"
    if isinstance(value, bool | str) and value in AFFIRMATIONS and not has_required(model):
        return (
            f"; did you mean `{{{_SWITCHES[model]}: true}}`?"
            if model in _SWITCHES
            else "; did you mean `{}`?"
        )
    if not isinstance(value, str | int | float):
        return ""
    if value == OFF:
        return "; did you mean `{mode: off}`?" if "mode" in model.model_fields else ""
    key, colon, rest = str(value).partition(":")
    if colon and key in model.model_fields:
        return f"; did you mean {shown(f'{key}: {rest}')}?"
    if model is FallbackStep:
        return _as_step(str(value))
    key = _MAIN_KEYS.get(model, "")
    kinds = [kind for kind in model.model_fields[key].metadata if isinstance(kind, Kind)] if key else []
    meant = [each for kind in kinds for each in ([value] if kind.accepts(value) else kind.meant(value))]
    words = " or ".join(shown(f"{{{key}: {scalar(each)}}}") for each in meant)
    return f"; did you mean {words}?" if words else ""


def _as_step(word: str) -> str:
    """Return a question after the step of a fallback that is called `word`, or nearly."""
    meant = word if word in FallbackStep.model_fields else closest(word, STEPS)
    if meant is None:
        return ""
    return f"; did you mean `{meant}`?" if meant == STALE else f"; did you mean {shown(f'{{{meant}: …}}')}?"
