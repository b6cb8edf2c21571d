"""From what is written to what is in force: presets, inheritance, profile and defaults, each value with its origin.

Short forms are written out first. A value in force is then, in this order, what the file says at that key; what
the `preset` beside it says; for a route, what `defaults` says at the same key, itself or by a preset; what the
profile says; the default. All of it happens before validation and on text as a person would write it, so a value
is checked by the same rules wherever it came from, and `origins` need not be kept by hand.

Inheritance goes key by key, at any depth. A name, a list, `off` or any other scalar is taken or replaced whole.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from sidecar.config.alternatives import OFF, Short
from sidecar.config.kinds import Kind
from sidecar.config.model import Config, Defaults, RouteConfig, UpstreamConfig
from sidecar.config.observing import HealthConfig
from sidecar.config.policies import (
    IDEMPOTENT,
    STALE,
    TRIGGERS,
    BreakerConfig,
    BulkheadConfig,
    FallbackStep,
    RetryConfig,
    StoreConfig,
)
from sidecar.config.presets import PRESETS
from sidecar.config.shape import Shape, plain_field, shape_of
from sidecar.config.tree import Node, Origin, from_data

__all__ = ["ANY_PATH", "PROFILES", "complete"]

ANY_PATH = "/**"
_DEFAULT = Origin("default")

PROFILES: Mapping[str, Mapping[str, str | int]] = {
    "development": {
        "access_log": "all",
        "drain_timeout": "1s",
        "breaker.consecutive_failures": 10,
    },
    "testing": {
        "access_log": "errors",
        "drain_timeout": "1s",
        "upstreams.NAME.connect_timeout": "1s",
        "timeout.attempt": "2s",
        "timeout.total": "5s",
        "retry.base": "10ms",
        "retry.max": "100ms",
        "retry.retry_after.max": "1s",
        "breaker.consecutive_failures": 2,
        "breaker.open_for": "1s",
        "bulkhead.queue_timeout": "200ms",
    },
    "production": {},
}
"""What a profile says at which key, wherever that stands. `production` is what the models say."""

# What has the same keys at several places is called the same at all of them.
_CALLED: Mapping[type[BaseModel], str] = {
    BreakerConfig: "breaker",
    BulkheadConfig: "bulkhead",
    Defaults: "",
    RouteConfig: "",
    UpstreamConfig: "upstreams.NAME",
}
# Of two keys that may not contradict, the one that is left out follows the one that is written.
_PAIRS: Mapping[type[BaseModel], tuple[str, str]] = {
    BreakerConfig: ("open_for", "open_max"),
    HealthConfig: ("timeout", "interval"),
    RetryConfig: ("base", "max"),
    StoreConfig: ("max_body", "max_bytes"),
}


def complete(root: Node) -> None:
    """Work into the tree of a file what it leaves unsaid.

    What is malformed stays as it is, for validation to find.
    """
    defaults = root.entries.get("defaults", Node({}, _DEFAULT))
    routes = root.entries.get("routes")
    each_route = routes.items if routes else []
    for stages in (defaults, *each_route):
        _write_out_steps(stages)
    for stage, settings in _settings(root, (defaults, *each_route)):
        _put_preset_in(settings, PRESETS[stage])
    for route in each_route:
        _inherit(
            route, {key: defaults.entries[key] for key in Defaults.model_fields if key in defaults.entries}
        )
        _match_any_path(route)
    _Filler(root).fill(root, Config, "")


class _Filler:
    """Puts in defaults, under one profile."""

    def __init__(self, root: Node) -> None:
        profile = root.entries.get("profile")
        name = str(profile.value) if profile else "production"
        self._says = PROFILES.get(name, {})
        self._origin = Origin("profile", name)

    def fill(self, node: Node, model: type[BaseModel], where: str) -> None:
        """Give the mapping `node` what `model` has a default for, and so on below."""
        where = _CALLED.get(model, where)
        if model is BreakerConfig:
            _name_no_other_trigger(node)
        for name, field in model.model_fields.items():
            here = f"{where}.{name}".removeprefix(".")
            if name not in node.entries and (default := self._default(field, here)):
                # `entries` of what is no mapping is a dict of nobody's: what is put there is lost, as it should be.
                node.entries[name] = _agreeing(default, node, model, name)
            if name in node.entries:
                self._fill_below(node.entries[name], shape_of(field), here)

    def _fill_below(self, node: Node, shape: Shape, here: str) -> None:
        if shape.model is None:
            return
        if shape.form == "model":
            self.fill(node, shape.model, here)
            return
        for each in (*node.entries.values(), *node.items):
            self.fill(each, shape.model, f"{here}.*")

    def _default(self, field: FieldInfo, here: str) -> Node | None:
        if here in self._says:
            return Node(self._says[here], self._origin)
        if field.is_required():
            return None
        below = shape_of(field).model is not None and field.default is not None
        value = {} if below else plain_field(field, field.default)
        return None if value is None else from_data(value, _DEFAULT)


def _write_out_steps(stages: Node) -> None:
    """Give the steps of a fallback their long form: `stale` alone, and text where there is one main key."""
    fallback = stages.entries.get("fallback")
    for step in fallback.items if fallback else ():
        if step.value == STALE:
            step.value = {STALE: Node({}, step.origin)}
        if "upstream" in step.entries:
            step.entries.setdefault("methods", from_data(list(IDEMPOTENT), _DEFAULT))
        for key, field in FallbackStep.model_fields.items():
            below = step.entries.get(key)
            short = next((each for each in field.metadata if isinstance(each, Short)), None)
            if short and below and isinstance(below.value, str):
                below.value = {short.key: Node(below.value, below.origin)}


def _settings(root: Node, each_stages: Iterable[Node]) -> Iterator[tuple[str, Node]]:
    """Yield each mapping that may name a preset, with the stage that it is for."""
    for key, stage in (("breakers", "breaker"), ("bulkheads", "bulkhead")):
        if shared := root.entries.get(key):
            yield from ((stage, settings) for settings in shared.entries.values())
    for stages in each_stages:
        yield from ((stage, stages.entries[stage]) for stage in PRESETS if stage in stages.entries)


def _put_preset_in(settings: Node, presets: Mapping[str, Mapping[str, object]]) -> None:
    """Put the values of the preset that `settings` names in its place, where there is one of that name."""
    named = settings.entries.get("preset")
    values = presets.get(str(named.value)) if named else None
    if named and values is not None:
        del settings.entries["preset"]
        origin = Origin("preset", str(named.value), named.origin.mark, named.origin.path)
        _inherit(settings, from_data(dict(values), origin).entries)


def _inherit(own: Node, inherited: Mapping[str, Node]) -> None:
    """Give the mapping `own` what it leaves out of `inherited`, and so on below."""
    for key, node in inherited.items():
        mine = own.entries.setdefault(
            key, Node({}, node.origin, node.key) if isinstance(node.value, dict) else node
        )
        _inherit(mine, node.entries)


def _match_any_path(route: Node) -> None:
    """Give a route without a path the one that every request has."""
    match = route.entries.setdefault("match", Node({}, _DEFAULT))
    if not match.entries.keys() & {"path", "path_regex"}:
        match.entries["path"] = Node(ANY_PATH, _DEFAULT)


def _name_no_other_trigger(breaker: Node) -> None:
    """Switch the default trigger of a breaker off where another one is named."""
    if any(key in breaker.entries and breaker.entries[key].value != OFF for key in TRIGGERS):
        breaker.entries.setdefault(TRIGGERS[0], Node(OFF, _DEFAULT))


def _agreeing(default: Node, among: Node, model: type[BaseModel], name: str) -> Node:
    """Return what is in force at a key that is left out: the default, or what its partner in `among` asks for."""
    pair: Sequence[str] = _PAIRS.get(model, ())
    partner = among.entries.get(pair[name == pair[0]]) if name in pair else None
    if partner is None:
        return default
    kind = next(each for each in model.model_fields[name].metadata if isinstance(each, Kind))
    try:
        mine, other = (kind.parse(each.value) for each in (default, partner))
    except ValueError:
        return default
    contradict = mine > other if name == pair[0] else mine < other  # type: ignore[operator] # both are amounts
    return Node(partner.value, default.origin) if contradict else default
