"""A missing `:` or `,` is named where it should stand; where something else is wrong, nothing is guessed."""

import time

import pytest

from sidecar.config.syntax import SyntaxFault, events
from sidecar.config.tree import Mark


def fault(text: str) -> tuple[Mark, str]:
    with pytest.raises(SyntaxFault) as refusal:
        list(events(text))
    return refusal.value.mark, refusal.value.message.removeprefix("not valid YAML: ")


@pytest.mark.parametrize(
    ("text", "mark", "key"),
    [
        ("version 1\nupstreams:\n", Mark(1, 1), "version"),
        ("version\nupstreams:\n", Mark(1, 1), "version"),
        ("version 1\r\nupstreams:\r\n", Mark(1, 1), "version"),
        ("version 1\rupstreams:\r", Mark(1, 1), "version"),
        ("# a\x85# b\u2028version 1\nupstreams:\n", Mark(3, 1), "version"),
        ("\ufeffversion 1\nupstreams:\n", Mark(1, 1), "version"),
        ("version 1  # a: b\nupstreams:\n", Mark(1, 1), "version"),
        ("version 1\n\n# of: which\nupstreams:\n", Mark(1, 1), "version"),
        ("a: 1\nb 2\nc: 3\n", Mark(2, 1), "b"),
        ("a: 1\nb 2\n", Mark(2, 1), "b"),
        ("a:\n  url http://a:80\n  b: 1\n", Mark(2, 3), "url"),
        ("a:\n  - name b\n    c: 1\n", Mark(2, 5), "name"),
    ],
)
def test_a_missing_colon_is_named_with_its_key(text: str, mark: Mark, key: str) -> None:
    assert fault(text) == (mark, f"`:` is missing after the key `{key}`")


@pytest.mark.parametrize(
    "text",
    [
        "a: b: c\n",
        "a: b\n  c: d\n",  # too deep
        "a: b\n c: d\n",
        "a words\n   and more: 1\n",  # text, in two lines
        "1 2\na: 3\n",
        "- a\nb: 1\n",
        "  a: 1\nb: 2\n",
        "b: 1\n'quoted text'\nc: 1\n",
    ],
)
def test_another_fault_is_not_taken_for_a_missing_colon(text: str) -> None:
    assert "is missing" not in fault(text)[1]


@pytest.mark.parametrize(
    ("text", "mark", "word"),
    [
        ("a: {b: 1 c: 2}", Mark(1, 10), "c"),
        ("# a\x85# b\u2028a: {b: 1 c: 2}", Mark(3, 10), "c"),
        ("\ufeffa: {b: 1 c: 2}", Mark(1, 10), "c"),
        ("a: {b: one two c: 2}", Mark(1, 16), "c"),
        ("a: {b: http://h:1 c: 2}", Mark(1, 19), "c"),
        ("a: {\n  b: 1\n  c: 2\n}\n", Mark(3, 3), "c"),
        ("a: {b: {c: 1} d: 2}", Mark(1, 15), "d"),
        ("a: [{b: 1} {c: 2}]", Mark(1, 12), "{"),
        ("a: ['b' 'c']", Mark(1, 9), "'"),
        ('a: {b: "c" d: 1}', Mark(1, 12), "d"),
    ],
)
def test_a_missing_comma_is_named_with_what_it_should_precede(text: str, mark: Mark, word: str) -> None:
    assert fault(text) == (mark, f"`,` is missing before `{word}`")


@pytest.mark.parametrize(
    "text",
    [
        "a: {b: 1\nc: 2\n",  # it is the brace that is missing
        "a: {b: {c: 1}\nd: 2\n",
        "a: {b: c: d}",
        "a: {b: /{id}/c}",
        "a: {b: ${C}}",
        "a: [b\nc: 2\n",
        "a: [",
    ],
)
def test_another_fault_is_not_taken_for_a_missing_comma(text: str) -> None:
    assert "is missing" not in fault(text)[1]


@pytest.mark.parametrize(
    "text",
    [
        "a" + " " * 200_000 + "b\nc: 1\n",
        "a: {b: c" + " " * 200_000 + "d: 1}",
        "a: {" + ": " * 50_000 + "}",
        "a: [{b: 1}" + " " * 200_000 + "]]",
        "x\n" + "\n" * 100_000 + "c: 1\n",
    ],
)
def test_looking_back_takes_no_longer_than_parsing(text: str) -> None:
    """Text of this size parses in a second or two; looking back must not make it minutes."""
    begin = time.process_time()
    with pytest.raises(SyntaxFault):
        list(events(text))

    assert time.process_time() - begin < 15
