"""What is allowed and still not what its author can have meant. Lints warn, errors refuse.

The rules are in the modules `lint_…`, by what they look at.
"""

from dataclasses import dataclass

from sidecar.config import (  # noqa: F401 -- they register
    lint_fallback,
    lint_limits,
    lint_observing,
    lint_policies,
    lint_traffic,
)
from sidecar.config.model import Config
from sidecar.config.rules import RULES
from sidecar.config.tree import Mark, Node, Path, spot, step
from sidecar.config.words import key_path, one_line

__all__ = ["RULES", "Lint", "lint"]


@dataclass(frozen=True, slots=True)
class Lint:
    """One warning. `where` is `file:line:col`, `path` the key path, `id` that of its rule."""

    id: str
    where: str
    path: str
    message: str

    def __str__(self) -> str:
        return one_line(f"{self.where}: {self.path}: warning[{self.id}]: {self.message}")


def lint(config: Config, root: Node, file: str) -> tuple[Lint, ...]:
    """Return all warnings, in the order of the file. `root` is the tree that `config` was made of."""
    found: dict[tuple[Mark, str, str], Lint] = {}
    for each in RULES.values():
        for message, paths, at_key, own, written, literal in each.check(config):
            if literal and not _is_written(root, paths[0], kinds=("file",)):
                continue
            path = next((path for path in paths if _is_written(root, path)), None)
            if path is None:
                if written:
                    continue
                path = paths[0]
            mark, place = spot(root, path, key=at_key)
            if own and place[:2] != path[:2]:
                continue
            # What several routes inherit is written once, so it is warned of once.
            found.setdefault(
                (mark, each.id, key_path(place)),
                Lint(each.id, f"{file}:{mark.line}:{mark.column}", key_path(place), message),
            )
    return tuple(found[key] for key in sorted(found))


def _is_written(root: Node, path: Path, kinds: tuple[str, ...] = ("file", "env")) -> bool:
    node: Node | None = root
    for key in path:
        node = step(node, key) if node else None
    return node is not None and node.origin.kind in kinds
