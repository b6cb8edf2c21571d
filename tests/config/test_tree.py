"""The tree that a file is read into: what stands where, and where to point."""

from sidecar.config.complete import complete
from sidecar.config.reader import read
from sidecar.config.tree import Mark, Node, data, spot

TEXT = """\
version: 1
limits: {head: 16KiB}
defaults:
  timeout: {idle: off}
routes:
  - name: r
"""


def tree() -> Node:
    root = read(TEXT, "f", {}).root
    assert root is not None
    complete(root)
    return root


def test_a_written_value_is_pointed_at() -> None:
    assert spot(tree(), ("limits", "head")) == (Mark(2, 16), ("limits", "head"))


def test_the_key_of_a_written_value_is_pointed_at_where_asked() -> None:
    assert spot(tree(), ("limits", "head"), key=True) == (Mark(2, 10), ("limits", "head"))


def test_an_item_has_no_key_to_be_pointed_at() -> None:
    assert spot(tree(), ("routes", 0), key=True) == (Mark(6, 5), ("routes", 0))


def test_of_what_is_written_nowhere_the_nearest_above_is_pointed_at() -> None:
    assert spot(tree(), ("limits", "target")) == (Mark(2, 9), ("limits",))
    assert spot(tree(), ("listen", "traffic")) == (Mark(1, 1), ())
    assert spot(tree(), ("routes", 5, "name")) == (Mark(5 + 1, 3), ("routes",))


def test_an_inherited_value_is_pointed_at_where_it_is_written() -> None:
    assert spot(tree(), ("routes", 0, "timeout", "idle")) == (Mark(4, 19), ("defaults", "timeout", "idle"))


def test_reading_puts_scalars_into_lists_and_mappings() -> None:
    root = read('a: [1, -0.5, 1e3, true, null-ish, "1", .5, +1, 1.]\nb: {c: ""}', "f", {}).root

    assert root is not None
    assert data(root) == {
        "a": [1, -0.5, 1000.0, True, "null-ish", "1", ".5", "+1", "1."],
        "b": {"c": ""},
    }
