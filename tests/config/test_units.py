"""Durations, sizes, rates and ratios read as they look, and what is printed reads as the same."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.config.units import (
    DURATION,
    MAX_BYTES,
    MAX_SECONDS,
    RATE,
    RATIO,
    SIZE,
    Rate,
    parse_duration,
    parse_rate,
    parse_ratio,
    parse_size,
    show_duration,
    show_rate,
    show_ratio,
    show_size,
)

NO_DURATION = "must be a duration with its unit, such as `500ms`, `15s`, `5m` or `1h`"
NO_SIZE = "must be a size with its unit, such as `512B`, `64KiB` or `10MB`"
NO_RATE = "must be a rate, a whole number per duration, such as `100/1m` or `10/s`"
DURATIONS = st.from_regex(DURATION, fullmatch=True)
SIZES = st.from_regex(SIZE, fullmatch=True)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("500ms", 0.5),
        ("15s", 15.0),
        ("5m", 300.0),
        ("1h", 3600.0),
        ("1.5s", 1.5),
        ("0.1s", 0.1),
        ("0s", 0.0),
        ("0.001ms", 1e-6),
        ("007s", 7.0),
    ],
)
def test_a_duration_is_read_in_seconds(text: str, seconds: float) -> None:
    assert parse_duration(text) == seconds


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.0, "0s"),
        (0.5, "500ms"),
        (0.0015, "1.5ms"),
        (1.5, "1500ms"),
        (60.0, "1m"),
        (90.0, "90s"),
        (3600.0, "1h"),
        (86400.0, "24h"),
        (1e9, "1000000000s"),
    ],
)
def test_a_duration_is_printed_in_the_largest_unit_that_gives_a_whole_number(
    seconds: float, text: str
) -> None:
    assert show_duration(seconds) == text


@pytest.mark.parametrize(
    ("text", "rule"),
    [
        ("15", NO_DURATION + "; did you mean `15s` or `15ms`?"),
        ("15 s", NO_DURATION + "; did you mean `15s`?"),
        ("2 Minutes", NO_DURATION + "; did you mean `2m`?"),
        ("1d", NO_DURATION + "; did you mean `24h`?"),
        ("1.5 days", NO_DURATION + "; did you mean `36h`?"),
        ("2w", NO_DURATION + "; did you mean `336h`?"),
        ("1 fortnight", NO_DURATION),
        ("-1s", NO_DURATION),
        ("1m30s", NO_DURATION),
        ("", NO_DURATION),
        ("1s\n", NO_DURATION + "; did you mean `1s`?"),
        ("٣s", NO_DURATION),
        ("1.2345s", "must be of 16 digits and three decimals at most"),
        ("12345678901234567s", "must be of 16 digits and three decimals at most"),
        ("277778h", "must be less than 31 years"),
    ],
)
def test_what_is_no_duration_is_refused_with_the_rule_and_what_may_be_meant(text: str, rule: str) -> None:
    with pytest.raises(ValueError, match=f"^{re.escape(rule)}$"):
        parse_duration(text)


@given(DURATIONS)
def test_a_printed_duration_reads_as_the_same(text: str) -> None:
    try:
        seconds = parse_duration(text)
    except ValueError:
        return  # too long: there is nothing to print

    assert parse_duration(show_duration(seconds)) == seconds


@given(st.integers(min_value=0, max_value=int(MAX_SECONDS) * 10**6))
def test_every_microsecond_survives_printing(microseconds: int) -> None:
    seconds = microseconds / 10**6

    assert parse_duration(show_duration(seconds)) == seconds


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("0B", 0),
        ("512B", 512),
        ("1KB", 1000),
        ("64KiB", 65536),
        ("10MB", 10_000_000),
        ("1MiB", 1048576),
        ("1.5KiB", 1536),
        ("2GB", 2_000_000_000),
        ("2GiB", 2 << 30),
    ],
)
def test_a_size_is_read_in_bytes(text: str, size: int) -> None:
    assert parse_size(text) == size


@pytest.mark.parametrize(
    ("size", "text"),
    [
        (0, "0B"),
        (1, "1B"),
        (1000, "1KB"),
        (1024, "1KiB"),
        (10 << 20, "10MiB"),
        (10_000_000, "10MB"),
        (1536, "1536B"),
        (3 << 30, "3GiB"),
    ],
)
def test_a_size_is_printed_in_the_largest_unit_that_fits(size: int, text: str) -> None:
    assert show_size(size) == text


@pytest.mark.parametrize(
    ("text", "rule"),
    [
        ("64", NO_SIZE + "; did you mean `64B` or `64KiB`?"),
        ("64kb", NO_SIZE + "; did you mean `64KB`?"),
        ("64k", NO_SIZE + "; did you mean `64KiB` or `64KB`?"),
        ("64Ki", NO_SIZE + "; did you mean `64KiB`?"),
        ("64 bytes", NO_SIZE + "; did you mean `64B`?"),
        ("big", NO_SIZE),
        ("0.5B", "must be a whole number of bytes"),
        ("0.3KiB", "must be a whole number of bytes"),
        ("9999999999999999B", "must be less than 8 million GiB"),
    ],
)
def test_what_is_no_size_is_refused_with_the_rule_and_what_may_be_meant(text: str, rule: str) -> None:
    with pytest.raises(ValueError, match=f"^{re.escape(rule)}$"):
        parse_size(text)


@given(SIZES)
def test_a_printed_size_reads_as_the_same(text: str) -> None:
    try:
        size = parse_size(text)
    except ValueError:
        return  # half a byte, or too large

    assert parse_size(show_size(size)) == size


@given(st.integers(min_value=0, max_value=MAX_BYTES))
def test_every_number_of_bytes_survives_printing(size: int) -> None:
    assert parse_size(show_size(size)) == size


@pytest.mark.parametrize(
    ("text", "rate"), [("100/1m", Rate(100, 60.0)), ("1/500ms", Rate(1, 0.5)), ("5/60s", Rate(5, 60.0))]
)
def test_a_rate_is_a_number_per_duration(text: str, rate: Rate) -> None:
    assert parse_rate(text) == rate


@pytest.mark.parametrize(
    ("text", "rule"),
    [
        ("100", NO_RATE + "; did you mean `100/1s` or `100/1m`?"),
        ("100/min", NO_RATE + "; did you mean `100/1m`?"),
        ("100 / 2 Minutes", NO_RATE + "; did you mean `100/2m`?"),
        ("100rps", NO_RATE + "; did you mean `100/1s`?"),
        ("100 rpm", NO_RATE + "; did you mean `100/1m`?"),
        ("10r/s", NO_RATE + "; did you mean `10/1s`?"),
        ("100 per minute", NO_RATE + "; did you mean `100/1m`?"),
        ("5 requests every 1.5 sec", NO_RATE + "; did you mean `5/1.5s`?"),
        ("1000/day", NO_RATE + "; did you mean `1000/24h`?"),
        ("100/", NO_RATE),
        ("100/month", NO_RATE),
        ("/1m", NO_RATE),
        ("-1/1m", NO_RATE),
        ("1.5/1m", NO_RATE),
        ("1/1m/1m", NO_RATE),
        ("0/1m", "must be at least 1 per duration"),
        ("0/m", "must be at least 1 per duration"),
        ("1/0s", "must be per a duration longer than `0s`"),
        ("1/277778h", "must be less than 31 years"),
    ],
)
def test_what_is_no_rate_is_refused_with_the_rule_and_what_may_be_meant(text: str, rule: str) -> None:
    with pytest.raises(ValueError, match=f"^{re.escape(rule)}$"):
        parse_rate(text)


@given(st.from_regex(RATE, fullmatch=True))
def test_a_printed_rate_reads_as_the_same(text: str) -> None:
    try:
        rate = parse_rate(text)
    except ValueError:
        return  # nothing per something, something per nothing, or too long

    assert parse_rate(show_rate(rate)) == rate


@pytest.mark.parametrize(
    ("value", "ratio"),
    [("20%", 0.2), ("0%", 0.0), ("100%", 1.0), ("0.5%", 0.005), (0.2, 0.2), (0, 0.0), (1, 1.0)],
)
def test_a_ratio_is_a_percentage_or_a_number_from_0_to_1(value: str | float, ratio: float) -> None:
    assert parse_ratio(value) == ratio


@pytest.mark.parametrize(
    ("value", "rule"),
    [
        ("0.2", "must be a ratio, such as `20%` or `0.2`"),
        ("20 %", "must be a ratio, such as `20%` or `0.2`"),
        (True, "must be a ratio, such as `20%` or `0.2`"),
        ("101%", "must be a ratio from `0%` to `100%`, or from `0` to `1`"),
        (20, "must be a ratio from `0%` to `100%`, or from `0` to `1`"),
        (-0.1, "must be a ratio from `0%` to `100%`, or from `0` to `1`"),
        (float("nan"), "must be a ratio from `0%` to `100%`, or from `0` to `1`"),
    ],
)
def test_what_is_no_ratio_is_refused_with_the_rule(value: str | float, rule: str) -> None:
    with pytest.raises(ValueError, match=f"^{re.escape(rule)}$"):
        parse_ratio(value)


@given(st.floats(min_value=0, max_value=1) | st.from_regex(RATIO, fullmatch=True))
def test_a_printed_ratio_reads_as_the_same(value: str | float) -> None:
    try:
        ratio = parse_ratio(value)
    except ValueError:
        return  # more than 100 %

    assert parse_ratio(show_ratio(ratio)) == ratio


def test_a_ratio_is_printed_as_a_percentage_where_that_is_exact() -> None:
    assert [show_ratio(0.2), show_ratio(0.005), show_ratio(1 / 3)] == ["20%", "0.5%", 1 / 3]
