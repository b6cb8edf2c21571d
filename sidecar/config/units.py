"""Durations, sizes, rates and ratios: text in, numbers out, and back again.

A number without its unit is refused, because `timeout: 30` has been read as seconds by one person and as
milliseconds by the next one. One spelling per unit, so that `grep` finds them all: `ms s m h`, `B KB MB GB`
(powers of 1000) and `KiB MiB GiB` (powers of 1024). Amounts are computed in decimal, so that `0.1s` is the
float nearest to 0.1.

For every value `x` of its kind: `parse_…(show_…(x)) == x`. The patterns are also what the JSON Schema says;
they use nothing but what Python's and ECMAScript's regular expressions have in common. Amounts have at most
three decimals: a microsecond is the finest step, and up to `MAX_SECONDS` a float keeps it exactly.
"""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal

__all__ = [
    "DURATION",
    "MAX_BYTES",
    "MAX_SECONDS",
    "RATE",
    "RATIO",
    "SIZE",
    "Rate",
    "UnitError",
    "parse_duration",
    "parse_rate",
    "parse_ratio",
    "parse_size",
    "proposal",
    "show_duration",
    "show_rate",
    "show_ratio",
    "show_size",
]

MAX_SECONDS = 10.0**9  # 31 years: as microseconds still below 2**53
MAX_BYTES = 2**53

_AMOUNT = r"[0-9]{1,16}(?:\.[0-9]{1,3})?"
DURATION = rf"{_AMOUNT}(?:ms|s|m|h)"
SIZE = rf"{_AMOUNT}(?:B|KB|MB|GB|KiB|MiB|GiB)"
RATE = rf"[0-9]{{1,9}}/(?:{_AMOUNT})?(?:ms|s|m|h)"
RATIO = rf"{_AMOUNT}%"

_SECONDS = {"h": Decimal(3600), "m": Decimal(60), "s": Decimal(1), "ms": Decimal("0.001")}
_BYTES = {
    "GiB": 1024**3,
    "GB": 1000**3,
    "MiB": 1024**2,
    "MB": 1000**2,
    "KiB": 1024,
    "KB": 1000,
    "B": 1,
}
_SPLIT = re.compile(r"([0-9]+(?:\.[0-9]+)?)\s*([A-Za-z]*)")
# `100/min`, `10 r/s`, `100 requests per minute`, `100rps`, `5/10 sec`, `100`
_LOOSE_RATE = re.compile(
    r"(?P<count>[0-9]{1,9}) ?(?:r|req|reqs|requests?)? ?"
    r"(?:(?:/|p|per|a|an|each|every) ?(?P<per>(?:[0-9]{1,9}(?:\.[0-9]{1,3})?)? ?[a-z]+))?"
)

# What people write, in lower case, and what they may mean by it.
_LOOSE_DURATIONS = {
    "": ("s", "ms"),
    **dict.fromkeys(("ms", "msec", "msecs", "millis", "millisecond", "milliseconds"), ("ms",)),
    **dict.fromkeys(("s", "sec", "secs", "second", "seconds"), ("s",)),
    **dict.fromkeys(("m", "min", "mins", "minute", "minutes"), ("m",)),
    **dict.fromkeys(("h", "hr", "hrs", "hour", "hours"), ("h",)),
}
# Units that there are not, in hours.
_LONGER = {
    **dict.fromkeys(("d", "day", "days"), 24),
    **dict.fromkeys(("w", "wk", "wks", "week", "weeks"), 168),
}
_LOOSE_SIZES = {
    "": ("B", "KiB"),
    **{unit.lower(): (unit,) for unit in _BYTES},
    **{unit: (unit.upper() + "iB", unit.upper() + "B") for unit in "kmg"},
    **{unit + "i": (unit.upper() + "iB",) for unit in "kmg"},
    **dict.fromkeys(("byte", "bytes"), ("B",)),
}


@dataclass(frozen=True, slots=True)
class Rate:
    """`limit` events in any `per` seconds."""

    limit: int
    per: float


class UnitError(ValueError):
    """`rule` is broken. With another unit the text could be one of `meant`, whatever its range."""

    def __init__(self, rule: str, meant: Sequence[str] = ()) -> None:
        super().__init__(proposal(rule, meant))
        self.rule = rule
        self.meant = meant


def proposal(rule: str, meant: Iterable[str]) -> str:
    """Return the rule, and what may be meant instead."""
    words = " or ".join(f"`{each}`" for each in meant)
    return f"{rule}; did you mean {words}?" if words else rule


def parse_duration(text: str) -> float:
    """Return seconds for `500ms`, `1.5s`, `5m` or `1h`. Raise ValueError, in plain words, for all else."""
    if not re.fullmatch(DURATION, text):
        example = "a duration with its unit, such as `500ms`, `15s`, `5m` or `1h`"
        raise _unit_error(text, example, _SECONDS, _LOOSE_DURATIONS)
    amount, unit = _split(text)
    seconds = float(amount * _SECONDS[unit])
    if seconds > MAX_SECONDS:
        raise ValueError("must be less than 31 years")
    return seconds


def show_duration(seconds: float) -> str:
    """Return the text that reads as `seconds`: the largest unit that gives a whole number, else `ms`."""
    exact = round(Decimal(repr(seconds)), 6)
    whole = (unit for unit, factor in _SECONDS.items() if exact % factor == 0 and (exact or unit == "s"))
    unit = next(whole, "ms")
    return _plain(exact / _SECONDS[unit]) + unit


def parse_size(text: str) -> int:
    """Return bytes for `512B`, `64KiB` or `10MB`. Raise ValueError for all else, half a byte too."""
    if not re.fullmatch(SIZE, text):
        example = "a size with its unit, such as `512B`, `64KiB` or `10MB`"
        raise _unit_error(text, example, _BYTES, _LOOSE_SIZES)
    amount, unit = _split(text)
    size = amount * _BYTES[unit]
    if size % 1:
        raise ValueError("must be a whole number of bytes")
    if size > MAX_BYTES:
        raise ValueError("must be less than 8 million GiB")
    return int(size)


def show_size(size: int) -> str:
    """Return the text that reads as `size` bytes with the smallest whole number in front."""
    unit = next(unit for unit, factor in _BYTES.items() if size % factor == 0 and (size or unit == "B"))
    return f"{size // _BYTES[unit]}{unit}"


def parse_rate(text: str) -> Rate:
    """Return the rate of `100/1m` or `10/s`, a whole number from 1 per duration. Raise ValueError for all else."""
    if not re.fullmatch(RATE, text):
        rule = "must be a rate, a whole number per duration, such as `100/1m` or `10/s`"
        raise UnitError(rule, list(_rates_like(text)))
    count, _, per = text.partition("/")
    if not int(count):
        raise ValueError("must be at least 1 per duration")
    seconds = parse_duration(per if per[:1].isdigit() else f"1{per}")
    if not seconds:
        raise ValueError("must be per a duration longer than `0s`")
    return Rate(int(count), seconds)


def show_rate(rate: Rate) -> str:
    """Return the text that reads as `rate`."""
    return f"{rate.limit}/{show_duration(rate.per)}"


def parse_ratio(value: str | float) -> float:
    """Return a number from 0 to 1 for `20%` or `0.2`. Raise ValueError for all else; `20` is not 20 %."""
    if isinstance(value, str) and re.fullmatch(RATIO, value):
        ratio = float(Decimal(value[:-1]) / 100)
    elif isinstance(value, (str, bool)):
        raise ValueError("must be a ratio, such as `20%` or `0.2`")
    else:
        ratio = float(value)
    if not 0 <= ratio <= 1:
        raise ValueError("must be a ratio from `0%` to `100%`, or from `0` to `1`")
    return ratio


def show_ratio(ratio: float) -> str | float:
    """Return what reads as `ratio`: a percentage where three decimals do, else the number itself."""
    percent = f"{_plain(Decimal(repr(ratio)) * 100)}%"
    return percent if re.fullmatch(RATIO, percent) else ratio


def _plain(amount: Decimal) -> str:
    """Return `amount` without exponent and without trailing zeros."""
    return f"{amount.normalize():f}"


def _split(text: str) -> tuple[Decimal, str]:
    match = _SPLIT.fullmatch(text)
    assert match  # noqa: S101 -- only called with text that one of the patterns above has accepted
    return Decimal(match[1]), match[2]


def _unit_error(
    text: str, example: str, units: Iterable[str], loose: Mapping[str, tuple[str, ...]]
) -> UnitError:
    """Return the rule that `text` breaks, and what may be meant if its unit is missing or misspelt."""
    match = _SPLIT.fullmatch(text.strip())
    if match is None:
        return UnitError(f"must be {example}")
    if match[2] in units and text == match[1] + match[2]:
        return UnitError("must be of 16 digits and three decimals at most")
    return UnitError(f"must be {example}", _meant(match[1], match[2].lower(), loose))


def _meant(amount: str, unit: str, loose: Mapping[str, tuple[str, ...]]) -> list[str]:
    """Return the amount with the units that `unit` may stand for, or as hours where they are not that long."""
    if loose is _LOOSE_DURATIONS and unit in _LONGER:
        return [f"{_plain(Decimal(amount) * _LONGER[unit])}h"]
    return [f"{amount}{known}" for known in loose.get(unit, ())]


def _rates_like(text: str) -> Iterator[str]:
    """Yield the rates that `text` may stand for; a number alone is per second or per minute."""
    match = _LOOSE_RATE.fullmatch(" ".join(text.lower().split()))
    if match is None:
        return
    if match["per"] is None:
        yield from (f"{match['count']}/{unit}" for unit in ("1s", "1m"))
        return
    per = match["per"] if match["per"][0].isdigit() else f"1{match['per'].lstrip()}"
    amount, unit = _split(per)
    yield from (f"{match['count']}/{each}" for each in _meant(str(amount), unit, _LOOSE_DURATIONS))
