"""Plain values as YAML text that this program reads back as the same, and so does any YAML 1.2 reader."""

import re

from sidecar.config.reader import resolve

__all__ = ["quoted", "scalar"]

# Nothing here means anything to YAML, not even within `[…]`; a `:` only before a character that is no space.
_SAFE = re.compile(r"[A-Za-z0-9/](?:[A-Za-z0-9_./%*@+=~-]|:(?=[^\s:,]))*")
_PLAIN_IN_QUOTES = re.compile(r"[^\"\\]")


def scalar(value: object) -> str:
    """Return the text of a bool, number or text, in quotes where it needs them."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if not isinstance(value, str):
        return str(value)
    return value if _SAFE.fullmatch(value) and resolve(value) == value else quoted(value)


def quoted(text: str) -> str:
    """Return `text` in double quotes, with escapes for all that does not print."""
    return '"' + "".join(map(_character, text)) + '"'


def _character(char: str) -> str:
    if char in '"\\':
        return "\\" + char
    return char if char.isprintable() else f"\\U{ord(char):08X}"
