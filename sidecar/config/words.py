"""How complaints are worded: values shown, alternatives offered, key paths written, all on one line."""

import difflib
import json
import re
from collections.abc import Iterable

__all__ = ["closest", "did_you_mean", "key_path", "listing", "one_line", "shown"]

Path = tuple[str | int, ...]

_SHOWN_CHARACTERS = 60
_SHORTEST_PREFIX = 3
_SIMPLE_KEY = re.compile(r"[A-Za-z0-9_-]+")


def shown(value: object) -> str:
    """Return what a person would know `value` by: the text itself, shortened, or the word for its form."""
    if isinstance(value, dict):
        return "a mapping"
    if isinstance(value, list):
        return "a list"
    text = value if isinstance(value, str) else json.dumps(value)
    short = text if len(text) <= _SHOWN_CHARACTERS else text[: _SHOWN_CHARACTERS - 1] + "…"
    return f"`{one_line(short)}`" if text else "empty text"


def one_line(text: str) -> str:
    """Return `text` with everything escaped that would not print as one character on the same line."""
    return "".join(char if char.isprintable() else ascii(char)[1:-1] for char in text)


def listing(words: Iterable[str]) -> str:
    """Return the words as `a`, `b` or `c`."""
    *rest, last = [f"`{word}`" for word in words]
    return f"{', '.join(rest)} or {last}" if rest else last


def did_you_mean(word: str, candidates: Iterable[str]) -> str:
    """Return `; did you mean `x`?` with the candidate most like `word`, or nothing where none is alike."""
    meant = closest(word, candidates)
    return "" if meant is None else f"; did you mean `{meant}`?"


def closest(word: str, candidates: Iterable[str]) -> str | None:
    """Return the candidate most like `word`, None where none is alike.

    Case does not count, nor do `-` and `_`; and who writes `prod` means what begins so.
    """
    loose = {_loose(candidate): candidate for candidate in candidates}
    wanted = _loose(word)
    longer = [each for each in loose if each.startswith(wanted) and len(wanted) >= _SHORTEST_PREFIX]
    alike = longer or difflib.get_close_matches(wanted, loose, n=1)
    return loose[alike[0]] if alike else None


def _loose(word: str) -> str:
    return word.lower().replace("-", "_")


def key_path(path: Path) -> str:
    """Return `routes[0].timeout.attempt` for its steps; `(file)` for none; odd keys become `["a b"]`."""
    text = ""
    for step in path:
        if isinstance(step, str) and _SIMPLE_KEY.fullmatch(step):
            text += f".{step}" if text else step
        else:
            text += f"[{json.dumps(step, ensure_ascii=False)}]"
    return text or "(file)"
