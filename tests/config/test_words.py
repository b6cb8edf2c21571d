"""The words of complaints: short, on one line, and helpful where a word is nearly right."""

import pytest

from sidecar.config.words import closest, did_you_mean, key_path, listing, one_line, shown


@pytest.mark.parametrize(
    ("path", "text"),
    [
        ((), "(file)"),
        (("records",), "records"),
        (("routes", 0, "timeout", "attempt"), "routes[0].timeout.attempt"),
        (("upstreams", "a.b", "url"), 'upstreams["a.b"].url'),
        (("upstreams", "a b"), 'upstreams["a b"]'),
        (('say "so"',), '["say \\"so\\""]'),
        (("",), '[""]'),
        (("é",), '["é"]'),
        ((0,), "[0]"),
    ],
)
def test_a_key_path_can_be_told_apart_from_any_other(path: tuple[str | int, ...], text: str) -> None:
    assert key_path(path) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("text", "`text`"),
        ("", "empty text"),
        (5, "`5`"),
        (0.5, "`0.5`"),
        (True, "`true`"),
        ([1], "a list"),
        ({"a": 1}, "a mapping"),
        ("a\nb", "`a\\nb`"),
        ("x" * 60, "`" + "x" * 60 + "`"),
        ("x" * 61, "`" + "x" * 59 + "…`"),
    ],
)
def test_a_value_is_shown_so_that_it_is_recognised(value: object, text: str) -> None:
    assert shown(value) == text


def test_nothing_can_leave_its_line() -> None:
    assert one_line("a\nb\r\x1b[31m\u2028é") == "a\\nb\\r\\x1b[31m\\u2028é"


@pytest.mark.parametrize(
    ("word", "meant"),
    [
        ("timout", "timeout"),
        ("TIMEOUT", "timeout"),
        ("max-body", "max_body"),
        ("prod", "production"),
        ("Orders", "orders"),
        ("xyz", None),
        ("", None),
        ("pr", None),
    ],
)
def test_the_word_that_may_be_meant_is_offered(word: str, meant: str | None) -> None:
    hint = did_you_mean(word, ["timeout", "max_body", "production", "orders"])

    assert hint == (f"; did you mean `{meant}`?" if meant else "")
    assert closest(word, ["timeout", "max_body", "production", "orders"]) == meant


@pytest.mark.parametrize(
    ("words", "text"), [(["a"], "`a`"), (["a", "b"], "`a` or `b`"), (["a", "b", "c"], "`a`, `b` or `c`")]
)
def test_alternatives_are_listed(words: list[str], text: str) -> None:
    assert listing(words) == text
