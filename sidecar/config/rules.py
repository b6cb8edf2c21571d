"""What a lint rule is, and the list of all of them.

A rule is a generator with a decorator: `@rule("id", "why it matters")`. It looks at a valid `Config` and yields
where and what. Registering is all that a new one needs; ids are what people grep for, so they are never given a
new meaning.
"""

from collections.abc import Callable, Iterator
from typing import NamedTuple

from sidecar.config.model import Config
from sidecar.config.tree import Path

__all__ = ["RULES", "Check", "Rule", "Suspicion", "rule"]


class Suspicion(NamedTuple):
    """What a rule found, at the first of `paths` whose value is written, else above the first of them.

    With `own`, it is only worth a warning where a route says it itself: of what all routes inherit, some may have no use.
    With `written`, it is only worth one where someone wrote the value at one of `paths`, and with `literal` where it
    stands in the file itself, not in a variable.
    """

    message: str
    paths: tuple[Path, ...]
    at_key: bool = False
    own: bool = False
    written: bool = False
    literal: bool = False


Check = Callable[[Config], Iterator[Suspicion]]


class Rule(NamedTuple):
    """A rule and the reason for having it."""

    id: str
    why: str
    check: Check


RULES: dict[str, Rule] = {}


def rule(rule_id: str, why: str) -> Callable[[Check], Check]:
    """Register the decorated generator as the check of a new rule."""

    def register(check: Check) -> Check:
        RULES[rule_id] = Rule(rule_id, why, check)
        return check

    return register
