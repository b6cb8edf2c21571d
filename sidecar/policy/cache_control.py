"""`Cache-Control` (RFC 9111 §5.2), of requests and of responses: the directives that a shared cache acts on.

Where a field leaves room, the reading is the one that serves less from the cache: a number that is none counts as 0
(§4.2.1), of a directive that stands there twice the smaller number counts, and `private` and `no-cache` count for the
whole response even where they name fields (§5.2.2.4 allows it, and says that many caches do so). Numbers may come
quoted. What is not known is ignored, as §5.2.3 demands.
"""

import re
from functools import lru_cache

__all__ = ["NOTHING", "Directives", "parse"]

MOST = 1 << 31  # seconds: what RFC 9111 §1.2.2 has caches take for any larger number
_MOST_DIGITS = 10

_REMEMBER = 256  # bytes: a longer field is read each time, so that strangers cannot fill the memory

_DIRECTIVE = re.compile(
    rb"([!#$%&'*+\-.^_`|~0-9A-Za-z]+)"  # its name, a token (RFC 9110 §5.6.2)
    rb'(?:[ \t]*=[ \t]*(?:"((?:[^"\\]|\\.)*)"|([^ \t,;"]*)))?'  # and an argument, quoted or not
)

_FLAGS = {
    b"no-store": "no_store",
    b"no-cache": "no_cache",
    b"private": "private",
    b"public": "public",
    b"must-revalidate": "must_revalidate",
    b"proxy-revalidate": "proxy_revalidate",
    b"only-if-cached": "only_if_cached",
}
_NUMBERS = {
    b"max-age": "max_age",
    b"s-maxage": "s_maxage",
    b"min-fresh": "min_fresh",
    b"max-stale": "max_stale",
    b"stale-while-revalidate": "stale_while_revalidate",
    b"stale-if-error": "stale_if_error",
}
_NAMES = (*_FLAGS.values(), *_NUMBERS.values())


class Directives:
    """What one message says. Numbers are seconds; None: it does not say. Never changed once made.

    A `max-stale` without a number (any staleness will do) is `MOST`.
    """

    no_store = False
    no_cache = False
    private = False
    public = False
    must_revalidate = False
    proxy_revalidate = False
    only_if_cached = False
    max_age: int | None = None
    s_maxage: int | None = None
    min_fresh: int | None = None
    max_stale: int | None = None
    stale_while_revalidate: int | None = None
    stale_if_error: int | None = None

    def __repr__(self) -> str:
        """Show what is said."""
        said = {
            name: value
            for name in _NAMES
            if (value := getattr(self, name)) is not None and value is not False
        }
        return f"Directives({said})"


NOTHING = Directives()


def parse(value: bytes) -> Directives:
    """Read the value of the field; that of several fields is joined with commas."""
    return _remembered(value) if len(value) <= _REMEMBER else _read(value)


def _read(value: bytes) -> Directives:
    found = Directives()
    for directive in _DIRECTIVE.finditer(value):
        name = directive[1].lower()
        flag = _FLAGS.get(name)
        if flag is not None:
            setattr(found, flag, True)
            continue
        number = _NUMBERS.get(name)
        if number is not None:
            seconds = _seconds(name, directive[2] if directive[2] is not None else directive[3])
            before = getattr(found, number)
            setattr(found, number, seconds if before is None else min(before, seconds))
    return found


_remembered = lru_cache(maxsize=512)(_read)


def _seconds(name: bytes, argument: bytes | None) -> int:
    if argument is None and name == b"max-stale":
        return MOST
    if argument is None or not argument.isdigit():
        return 0
    digits = argument.lstrip(b"0") or b"0"
    return MOST if len(digits) > _MOST_DIGITS else min(int(digits), MOST)
