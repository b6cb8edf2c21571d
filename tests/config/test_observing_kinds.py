"""Statuses in ranges, tokens, paths of probes, and what is never shown."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.config.model import Config
from sidecar.config.observing_kinds import Statuses, is_hidden, parse_probe_path, parse_token

OK = range(200, 300)


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        (200, {200}),
        ("200-299", {*OK}),
        ([200], {200}),
        ([204, "200-202", 200], {200, 201, 202, 204}),
        (["200-399"], {*range(200, 400)}),
        (["100-599"], {*range(100, 600)}),
        (["301-301"], {301}),
    ],
)
def test_statuses_and_ranges_are_a_set(written: object, meant: set[int]) -> None:
    assert Statuses().parse(written) == meant


@pytest.mark.parametrize(
    "written", [99, 600, True, 200.0, "200", "2xx", "200-", "-299", "299-200", "99-200", "500-600", "", None]
)
def test_what_is_no_status_is_refused_alone_and_in_a_list(written: object) -> None:
    for value in (written, [204, written]):
        with pytest.raises(ValueError, match=r"^must be "):
            Statuses().parse(value)


@given(st.sets(st.integers(100, 599), min_size=1))
def test_statuses_are_written_so_that_they_read_as_the_same(statuses: set[int]) -> None:
    kind = Statuses()

    assert kind.parse(kind.plain(statuses)) == statuses


def test_statuses_are_written_as_few_ranges() -> None:
    assert Statuses().plain({204, 304, *range(206, 209), *OK}) == ["200-299", 304]


@pytest.mark.parametrize("token", ["0123456789abcdef", "~" * 500, "with:every=sign+/._-!"])
def test_a_token_is_what_a_field_can_carry(token: str) -> None:
    parse_token(token)


@pytest.mark.parametrize(
    ("token", "rule"),
    [
        ("0123456789abcde", "must have 16 characters at least"),
        ("0123456789 abcdef", "must have printable ASCII"),
        ("0123456789abcdefé", "must have printable ASCII"),
        ("0123456789abcdef\n", "must have printable ASCII"),
    ],
)
def test_a_token_that_can_be_guessed_or_not_be_sent_is_refused_and_not_repeated(
    token: str, rule: str
) -> None:
    with pytest.raises(ValueError, match=rf"^{rule}") as refusal:
        parse_token(token)

    assert token not in str(refusal.value)


@pytest.mark.parametrize("path", ["/", "/health", "/health?full=1&a=%20", "//"])
def test_a_probe_asks_for_a_path_with_its_query(path: str) -> None:
    parse_probe_path(path)


@pytest.mark.parametrize("path", ["", "health", "http://a/health", "/a b", "/a\r\nX: y", "/é", "/a#b"])
def test_a_probe_asks_for_nothing_else(path: str) -> None:
    with pytest.raises(ValueError, match=r"^must "):
        parse_probe_path(path)


def test_what_is_hidden_is_so_by_its_place() -> None:
    otel = ("telemetry", "otel")

    assert [
        is_hidden(Config, path)
        for path in (
            ("admin", "token"),
            ("telemetry", "sentry", "dsn"),
            (*otel, "headers"),
            (*otel, "headers", "X-A"),
            (*otel, "headers", "X A", "[key]"),
        )
    ] == [True] * 5
    assert [
        is_hidden(Config, path)
        for path in (
            (),
            ("admin",),
            ("admin", "hosts", 0),
            (*otel, "endpoint"),
            ("breakers", "a b", "[key]"),
            ("routes", 0, "match", "headers", "X A", "[key]"),
            ("nothing", "of", "it"),
        )
    ] == [False] * 7
