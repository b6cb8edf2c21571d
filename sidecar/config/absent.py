"""Signs of YAML that are missing: a key's `:`, and the `,` between two entries.

PyYAML stumbles where the next sign stands, often a line below. From there these look back in the text. They
are guesses, so they speak only where nothing else fits, and otherwise leave the word to the general message.
"""

import re

import yaml

from sidecar.config.tree import Mark
from sidecar.config.words import shown

__all__ = ["absent_colon", "absent_comma"]

_WORD = r"[A-Za-z_][A-Za-z0-9_-]*"
_FIRST_WORD = re.compile(rf"(?P<indent> *(?:- +)*)(?P<key>{_WORD})(?P<rest>| .*)")
_COLON = re.compile(r":(?:\s|$)")
_ENTRY = re.compile(rf":\s+(?P<value>[^,{{}}\[\]\s]|[^,{{}}\[\]\s][^,{{}}\[\]]*\S)\s+(?P<key>{_WORD})\s*$")
_BREAK = re.compile(r"\r\n|[\n\r\x85\u2028\u2029]")
_STUMBLED = ("mapping values are not allowed here", "expected <block end>", "expected '<document start>'")
_LOOK_BACK = 500  # characters; matching back over a whole file would take for ever
_CLOSED = re.compile(r"[\]}\"']\s+$")


def absent_colon(text: str, error: yaml.MarkedYAMLError) -> tuple[Mark, str] | None:
    """Return place and message where a line is a key without its `:`."""
    if error.context == "while scanning a simple key" and error.context_mark:
        number, beside = error.context_mark.line, None
    elif str(error.problem).startswith(_STUMBLED) and error.problem_mark:
        beside = error.problem_mark.line
        number = _line_above(text, beside)
    else:
        return None
    lines = _lines(text)
    match = _FIRST_WORD.fullmatch(lines[number]) if number >= 0 else None
    if match is None or _COLON.search(match["rest"].partition(" #")[0]):
        return None
    if beside is not None and _indent(lines[beside]) != len(match["indent"]):
        return None  # a line of text, more likely
    column = len(match["indent"]) + 1
    return Mark(number + 1, column), f"not valid YAML: `:` is missing after the key {shown(match['key'])}"


def absent_comma(text: str, error: yaml.MarkedYAMLError) -> tuple[Mark, str] | None:
    """Return place and message where an entry within `{…}` or `[…]` begins before the last one has ended."""
    problem = error.problem or ""
    opened, stumbled = error.context_mark, error.problem_mark
    if not problem.startswith("expected ',' or ") or not opened or not stumbled:
        return None
    at = stumbled.index
    begin = at
    start = max(opened.index, at - _LOOK_BACK)
    if problem.endswith("got ':'") and (match := _ENTRY.search(text[start:at])):
        begin = start + match.start("key")
    elif not _CLOSED.search(text[start:at]) or not re.match(r"[\w\"'{\[]", text[at:]):
        return None
    place = _place(text, begin)
    if place.line - 1 > opened.line and place.column <= _indent(_lines(text)[opened.line]) + 1:
        return None  # the line is no part of it: the closing sign is missing, not a comma
    word = re.match(_WORD, text[begin:])
    return place, f"not valid YAML: `,` is missing before {shown(word[0] if word else text[begin])}"


def _line_above(text: str, number: int) -> int:
    """Return the number of the line above that is neither empty nor a comment, or -1."""
    lines = _lines(text)[:number]
    while lines and (not lines[-1].strip() or lines[-1].lstrip().startswith("#")):
        lines.pop()
    return len(lines) - 1


def _lines(text: str) -> list[str]:
    """Return the lines as PyYAML counts them, whose marks are looked up here."""
    return _BREAK.split(text.removeprefix("\ufeff"))


def _indent(line: str) -> int:
    return len(line) - len(line.lstrip(" "))


def _place(text: str, index: int) -> Mark:
    before = _lines(text[:index])
    return Mark(len(before), len(before[-1]) + 1)
