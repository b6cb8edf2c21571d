"""PyYAML's event parser behind one gate: events, or one fault that says in plain words what to do."""

from collections.abc import Iterator
from typing import Any

import yaml

from sidecar.config.absent import absent_colon, absent_comma
from sidecar.config.tree import Mark

__all__ = ["SyntaxFault", "events", "mark_of"]

_INDENT = "check the indentation, and put the value in quotes if it has signs of YAML in it"
_FLOW = (
    "it opens at line LINE and is not closed, or a value in it needs quotes because of its `{`, `[` or `:`"
)

# PyYAML's context or problem, as far as it is the same for every file, and what a person can do about it.
_HINTS = {
    "while scanning an alias": 'a value that begins with `*` needs quotes, as in `"*"`',
    "while scanning an anchor": 'a value that begins with `&` needs quotes, as in `"&"`',
    "while parsing a flow mapping": "in `{…}`: " + _FLOW,
    "while parsing a flow sequence": "in `[…]`: " + _FLOW,
    "while parsing a flow node": 'a value with `:` or `[` in front needs quotes, as in `"[::1]:80"`',
    "while scanning a quoted scalar": "the quote that opens here is not closed",
    "mapping values are not allowed here": f"`: ` cannot be here; {_INDENT}",
    "while parsing a block mapping": f"this does not fit the mapping of line LINE; {_INDENT}",
    "while parsing a block collection": f"this does not fit the list of line LINE; {_INDENT}",
    "while scanning a simple key": "a key needs `: ` after it",
    "while scanning for the next token": "a value that begins with this character needs quotes",
}

_TAB = "found character '\\t' that cannot start any token"
# What is not closed is known at the end of the file, and mended where it opens.
_OPENED_AT_CONTEXT = {"while scanning a quoted scalar"}


class SyntaxFault(Exception):
    """The text is not YAML."""

    def __init__(self, mark: Mark, message: str) -> None:
        super().__init__(message)
        self.mark = mark
        self.message = message


def events(text: str) -> Iterator[Any]:
    """Yield the events of `text`. Raises SyntaxFault, and nothing else, where it is not YAML."""
    loader: Any = None  # PyYAML has half of its types
    try:
        loader = yaml.SafeLoader(text)
        while loader.check_event():
            event = loader.get_event()
            _check_characters(event)
            yield event
    except yaml.reader.ReaderError as error:
        raise SyntaxFault(
            _mark_at(text, error.position), f"U+{error.character:04X} cannot be in a YAML file"
        ) from error
    except yaml.MarkedYAMLError as error:
        raise (_missing(text, error) or _explained(text, error)) from error
    except (ValueError, OverflowError) as error:
        # An escape such as "\UFFFFFFFF" or a number of a directive goes through chr() and int() unguarded.
        mark = mark_of(loader.get_mark()) if loader else Mark(1, 1)
        raise SyntaxFault(mark, "not valid YAML: an escape or a number is out of range") from error


def mark_of(mark: Any) -> Mark:
    """Return PyYAML's mark, which counts from 0, as ours."""
    return Mark(mark.line + 1, mark.column + 1)


def _missing(text: str, error: yaml.MarkedYAMLError) -> SyntaxFault | None:
    """Return the fault of a sign that is not there, at the place where it should be."""
    absent = absent_colon(text, error) or absent_comma(text, error)
    return SyntaxFault(*absent) if absent else None


def _explained(text: str, error: yaml.MarkedYAMLError) -> SyntaxFault:
    at = error.context_mark if error.context in _OPENED_AT_CONTEXT else error.problem_mark
    if error.problem == _TAB and at:
        indents = not text[: at.index].rpartition("\n")[2].strip()
        rule = "a tab cannot indent; use spaces" if indents else "a tab cannot stand here; use a space"
        return SyntaxFault(mark_of(at), f"not valid YAML: {rule}")
    return SyntaxFault(mark_of(at), _explain(error))


def _explain(error: yaml.MarkedYAMLError) -> str:
    hint = _HINTS.get(error.problem or "") or _HINTS.get(error.context or "")
    if hint is None:
        return f"not valid YAML: {error.problem}"
    opened = mark_of(error.context_mark).line if error.context_mark else 0
    return "not valid YAML: " + hint.replace("LINE", str(opened))


def _check_characters(event: yaml.Event) -> None:
    """Refuse half a character, which an escape can make: it could be neither printed nor hashed."""
    text = event.value if isinstance(event, yaml.ScalarEvent) else ""
    half = next((char for char in text if "\ud800" <= char <= "\udfff"), None)
    if half is not None:
        raise SyntaxFault(mark_of(event.start_mark), f"U+{ord(half):04X} is half of a character, not one")


def _mark_at(text: str, position: int) -> Mark:
    before = text[:position]
    return Mark(before.count("\n") + 1, position - before.rfind("\n"))
