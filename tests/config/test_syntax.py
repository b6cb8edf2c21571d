"""PyYAML behind its gate: events, or one fault of ours."""

import pytest

from sidecar.config.syntax import SyntaxFault, events
from sidecar.config.tree import Mark


def test_events_end_with_the_text() -> None:
    assert [type(event).__name__ for event in events("a")] == [
        "StreamStartEvent",
        "DocumentStartEvent",
        "ScalarEvent",
        "DocumentEndEvent",
        "StreamEndEvent",
    ]


@pytest.mark.parametrize(
    ("text", "mark"),
    [
        ("a: [", Mark(1, 5)),  # PyYAML's parser
        ("a: @", Mark(1, 4)),  # its scanner
        ("a\nb\x00", Mark(2, 2)),  # its reader
        ('a: "\\UFFFFFFFF"', Mark(1, 7)),  # chr(), which it does not guard
        ("%YAML 1." + "9" * 5000, Mark(1, 9)),  # int(), which it does not guard
        ('a: "\\uD800"', Mark(1, 4)),  # what it lets pass
    ],
)
def test_whatever_fails_is_one_fault_with_its_place(text: str, mark: Mark) -> None:
    with pytest.raises(SyntaxFault) as fault:
        list(events(text))

    assert fault.value.mark == mark
