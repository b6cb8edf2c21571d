"""Rules that concern two keys of the policies at once: names, amounts that contradict, what routes must agree on.

Like `checks`, they look at the tree in force and leave what is none of its kind alone.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from pydantic import BaseModel

from sidecar.config.alternatives import OFF
from sidecar.config.checks import Finding, each_of, is_unknown
from sidecar.config.kinds import AFFIRMATIONS, NEGATIONS, Kind
from sidecar.config.policies import (
    TRIGGERS,
    AdaptiveConfig,
    BreakerConfig,
    BulkheadConfig,
    RateLimitConfig,
    RetryBudgetConfig,
    RetryConfig,
    StoreConfig,
)
from sidecar.config.presets import PRESETS
from sidecar.config.tree import Node
from sidecar.config.words import did_you_mean, shown

__all__ = ["POLICY_CHECKS", "amount", "given", "stages"]

_POOLS = {"breaker": "breakers", "bulkhead": "bulkheads"}
# No more than the second of a model's keys may be the first.
_ORDERED: Mapping[type[BaseModel], Sequence[tuple[str, str]]] = {
    AdaptiveConfig: (("min", "max"),),
    BreakerConfig: (("open_for", "open_max"),),
    RetryConfig: (("base", "max"),),
    StoreConfig: (("max_body", "max_bytes"),),
}
# What is no name, though it could be one.
_SWITCHES = frozenset({*AFFIRMATIONS, *NEGATIONS} - {"default", "defaults"})
_GLOBAL = ("limit", "algorithm", "burst", "max_keys")


def names(root: Node) -> Iterator[Finding]:
    """Find breakers and bulkheads that are named and not defined."""
    for key, place in _POOLS.items():
        known = _entries(root, place)
        for settings in stages(root, key):
            if is_unknown(settings, {*known, OFF}):
                told = shown(settings.value)
                rule = f"no {key} has the name {told}"
                if settings.value in _SWITCHES:
                    rule = f"must be a mapping of keys, a name or `{OFF}`, not {told}"
                yield Finding(settings, f"{rule}{_meant(settings, key, known)}")


def private_names(root: Node) -> Iterator[Finding]:
    """Find routes with a breaker or bulkhead of their own that would be called like a shared one."""
    for key, place in _POOLS.items():
        known = _entries(root, place)
        for route in each_of(root, "routes"):
            name, own = route.entries.get("name"), route.entries.get(key)
            if name and own and isinstance(own.value, dict) and str(name.value) in known:
                yield Finding(
                    name,
                    f"is also a name in `{place}`, and this route has a {key} of its own, which is called like "
                    f"the route; write `{key}: {name.value}` to share that one, or rename one of the two",
                )


def amounts(root: Node) -> Iterator[Finding]:
    """Find amounts that are larger than what bounds them."""
    for model, settings in _every(root):
        for low, high in _ORDERED.get(model, ()):
            one, other = amount(settings, model, low), amount(settings, model, high)
            if one is not None and other is not None and one > other:
                most = shown(settings.entries[high].value)
                yield Finding(settings.entries[low], f"must not be larger than `{high}` ({most})")


def triggers(root: Node) -> Iterator[Finding]:
    """Find breakers that nothing could open."""
    for model, settings in _every(root):
        if model is BreakerConfig and all(
            key in settings.entries and settings.entries[key].value == OFF for key in TRIGGERS
        ):
            yield Finding(
                settings.entries[TRIGGERS[0]],
                "needs another trigger where it is off; `mode: off` switches the breaker off",
            )


def budgets(root: Node) -> Iterator[Finding]:
    """Find routes to one upstream that do not agree on its retry budget."""
    first: dict[object, tuple[Node, Node]] = {}
    for route in each_of(root, "routes"):
        upstream, retry = route.entries.get("upstream"), route.entries.get("retry")
        budget = retry.entries.get("budget") if retry else None
        if upstream is None or retry is None or budget is None or amount(retry, RetryConfig, "retries") == 0:
            continue
        other, theirs = first.setdefault(_scalar(upstream), (route, budget))
        yield from _difference(
            (route, budget),
            (other, theirs),
            RetryBudgetConfig,
            tuple(RetryBudgetConfig.model_fields),
            "routes to one upstream share one budget",
        )


def global_limits(root: Node) -> Iterator[Finding]:
    """Find rate limits with `key: global` that are not the same one."""
    first: tuple[Node, Node] | None = None
    for route in each_of(root, "routes"):
        limit = route.entries.get("rate_limit")
        if limit is None or amount(limit, RateLimitConfig, "key") != "global":
            continue
        first = first or (route, limit)
        why = "limits with `key: global` are one and the same"
        yield from _difference((route, limit), first, RateLimitConfig, _GLOBAL, why)


POLICY_CHECKS: tuple[Callable[[Node], Iterator[Finding]], ...] = (
    names,
    private_names,
    amounts,
    triggers,
    budgets,
    global_limits,
)


def amount(settings: Node, model: type[BaseModel], key: str) -> Any:
    """Return what is said at `key` of a `model`, as the program understands it; None where it does not."""
    node = settings.entries.get(key)
    kinds = (each for each in model.model_fields[key].metadata if isinstance(each, Kind))
    try:
        return next(kinds).parse(node.value) if node else None
    except ValueError:
        return None


def given(node: Node) -> bool:
    """Tell if a value is there because someone wrote it, or a preset's name."""
    return node.origin.written or node.origin.kind == "preset"


def stages(root: Node, key: str) -> Iterator[Node]:
    """Yield what `defaults` and the routes say at `key`."""
    for each in (*filter(None, [root.entries.get("defaults")]), *each_of(root, "routes")):
        if key in each.entries:
            yield each.entries[key]


def _every(root: Node) -> Iterator[tuple[type[BaseModel], Node]]:
    """Yield the mappings of policies, each with its model."""
    if store := root.entries.get("store"):
        yield StoreConfig, store
    for key, model in (("breaker", BreakerConfig), ("bulkhead", BulkheadConfig)):
        for settings in (*each_of(root, _POOLS[key]), *stages(root, key)):
            yield model, settings
            if model is BulkheadConfig and "adaptive" in settings.entries:
                yield AdaptiveConfig, settings.entries["adaptive"]
    for settings in stages(root, "retry"):
        yield RetryConfig, settings


def _difference(
    one: tuple[Node, Node], other: tuple[Node, Node], model: type[BaseModel], keys: Sequence[str], why: str
) -> Iterator[Finding]:
    """Find the first of `keys` at which the settings of two routes differ, where it is written, be it in either."""
    (route, settings), (first, theirs) = one, other
    if OFF in {_scalar(settings), _scalar(theirs)}:
        pairs = [(settings, theirs)] if _scalar(settings) != _scalar(theirs) else []
    else:
        differing = (key for key in keys if _differs(settings, theirs, model, key))
        pairs = [(_at(settings, key), _at(theirs, key)) for key in differing]
    for mine, its in pairs[:1]:
        node, opposite = (its, route) if given(its) and not given(mine) else (mine, first)
        name = opposite.entries.get("name", opposite)
        yield Finding(node, f"differs from what {shown(_scalar(name))} has, and {why}")


def _differs(one: Node, other: Node, model: type[BaseModel], key: str) -> bool:
    """Tell if two settings differ at `key`; where either is none of its kind, that is enough to complain of."""
    amounts = [amount(each, model, key) for each in (one, other)]
    wrong = [key in each.entries for each, known in zip((one, other), amounts, strict=True) if known is None]
    return not any(wrong) and amounts[0] != amounts[1]


def _at(settings: Node, key: str) -> Node:
    return settings.entries.get(key, settings)


def _scalar(node: Node) -> object:
    """Return the value; of a mapping or list, that it is one."""
    return type(node.value) if isinstance(node.value, dict | list) else node.value


def _entries(root: Node, key: str) -> Mapping[str, Node]:
    node = root.entries.get(key)
    return node.entries if node else {}


def _meant(settings: Node, key: str, known: Mapping[str, Node]) -> str:
    name = str(settings.value)
    if name in PRESETS[key]:
        return f"; did you mean `{{preset: {name}}}`?"
    if name in NEGATIONS:
        return f"; did you mean `{OFF}`?"
    if name in AFFIRMATIONS:
        return "; did you mean `{}`?"
    return did_you_mean(name, known)
