"""What survived, and what `docs/mutation.md` has to say for it.

A mutant is known by its file and by the lines that it takes away and puts in their place, without their indentation:
numbers change with every edit above them, lines only with their own.
"""

import re
from dataclasses import dataclass

__all__ = ["Change", "argued", "change_of"]

_BLOCK = re.compile(r"^```diff\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_FILE = re.compile(r"^#+ .*`(sidecar/[\w/]+\.py)`", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Change:
    """What a mutant does to `file`."""

    file: str
    removed: tuple[str, ...]
    added: tuple[str, ...]

    def __str__(self) -> str:
        lines = [*(f"-{line}" for line in self.removed), *(f"+{line}" for line in self.added)]
        return "\n".join([self.file, *lines])


def change_of(file: str, diff: str) -> Change:
    """Give the change that a diff shows."""
    lines = [line for line in diff.splitlines() if not line.startswith(("---", "+++"))]
    return Change(file, _lines(lines, "-"), _lines(lines, "+"))


def argued(page: str) -> set[Change]:
    """Give the changes that a page argues: the `diff` blocks, each below the heading that names its file."""
    found = set()
    for block in _BLOCK.finditer(page):
        files = _FILE.findall(page[: block.start()])
        if not files:
            raise ValueError(f"no heading names the file of this change:\n{block[1]}")
        found.add(change_of(files[-1], block[1]))
    return found


def _lines(lines: list[str], sign: str) -> tuple[str, ...]:
    return tuple(line[1:].strip() for line in lines if line.startswith(sign))
