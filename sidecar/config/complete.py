"""From what is written to what is in force: defaults, profile and inheritance, each value with its origin.

A value in force is, in this order, what the file says at that key; for a route, what `defaults` says at the
same key; what the profile says; the default. All of it happens before validation and on text as a person
would write it, so a value is checked by the same rules wherever it came from, and `origins` need not be kept
by hand.
"""

from collections.abc import Mapping

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from sidecar.config.model import Config, Defaults
from sidecar.config.shape import Shape, plain_field, shape_of
from sidecar.config.tree import Node, Origin, from_data

__all__ = ["ANY_PATH", "PROFILES", "complete"]

ANY_PATH = "/**"
_DEFAULT = Origin("default")

PROFILES: Mapping[str, Mapping[str, str]] = {
    "development": {"access_log": "all", "drain_timeout": "1s"},
    "testing": {
        "access_log": "errors",
        "drain_timeout": "1s",
        "upstreams.*.connect_timeout": "1s",
        "defaults.timeout.attempt": "2s",
        "defaults.timeout.total": "5s",
    },
    "production": {},
}
"""What a profile says at which key. `production` is what the models say."""


def complete(root: Node) -> None:
    """Work into the tree of a file what it leaves unsaid.

    What is malformed stays as it is, for validation to find.
    """
    filler = _Filler(root)
    # `entries` of what is no mapping is a dict of nobody's: what is put there is lost, as it should be.
    defaults = root.entries.setdefault("defaults", Node({}, _DEFAULT))
    filler.fill(defaults, Defaults, "defaults")
    routes = root.entries.get("routes")
    for route in routes.items if routes else ():
        _inherit(defaults, route)
        _match_any_path(route)
    filler.fill(root, Config, "")


class _Filler:
    """Puts in defaults, under one profile."""

    def __init__(self, root: Node) -> None:
        profile = root.entries.get("profile")
        name = str(profile.value) if profile else "production"
        self._says = PROFILES.get(name, {})
        self._origin = Origin("profile", name)

    def fill(self, node: Node, model: type[BaseModel], where: str) -> None:
        """Give the mapping `node` what `model` has a default for, and so on below."""
        for name, field in model.model_fields.items():
            here = f"{where}.{name}".removeprefix(".")
            if name not in node.entries and (default := self._default(field, here)):
                node.entries[name] = default
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
        if field.is_required() or (field.default is None and shape_of(field).model):
            return None
        value = {} if shape_of(field).model else plain_field(field, field.default)
        return None if value is None else from_data(value, _DEFAULT)


def _inherit(defaults: Node, route: Node) -> None:
    """Give a route what `defaults` has at the keys that the route leaves out, one level down as well."""
    for key in Defaults.model_fields.keys() & defaults.entries.keys():
        inherited = defaults.entries[key]
        empty = Node({}, inherited.origin) if isinstance(inherited.value, dict) else inherited
        own = route.entries.setdefault(key, empty)
        for name, node in inherited.entries.items():
            own.entries.setdefault(name, node)


def _match_any_path(route: Node) -> None:
    """Give a route without a path the one that every request has."""
    match = route.entries.setdefault("match", Node({}, _DEFAULT))
    if not match.entries.keys() & {"path", "path_regex"}:
        match.entries["path"] = Node(ANY_PATH, _DEFAULT)
