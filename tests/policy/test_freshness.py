"""How old a response is, and how long it is fresh."""

import pytest

from sidecar.message import Fields
from sidecar.policy.cache_response import Told, told
from sidecar.policy.cache_settings import CacheSettings
from sidecar.policy.freshness import EXPLICIT, GUESSED, age_on_arrival, fresh_seconds, said_seconds

WHEN = 784111777
AT = (b"Date", b"Sun, 06 Nov 1994 08:49:37 GMT")
LATER = (b"Expires", b"Sun, 06 Nov 1994 08:50:37 GMT")


def a_response(*pairs: tuple[bytes, bytes], control: bytes | None = None) -> Told:
    return told(Fields([*pairs, *([(b"Cache-Control", control)] if control is not None else [])]))


# --- age ---


@pytest.mark.parametrize(
    ("fields", "wall", "delay", "age"),
    [
        ([], WHEN + 50, 0.0, 0),
        ([], WHEN + 50, 2.5, 2.5),
        ([AT], WHEN + 0.9, 0.0, 0),
        ([AT], WHEN + 50.9, 0.0, 50),
        ([AT], WHEN - 50, 0.0, 0),
        ([AT], WHEN - 50, 1.0, 1.0),
        ([(b"Age", b"20")], WHEN, 2.0, 22.0),
        ([AT, (b"Age", b"20")], WHEN + 50, 2.0, 50),
        ([AT, (b"Age", b"70")], WHEN + 50, 2.0, 72.0),
    ],
)
def test_the_age_on_arrival_is_the_larger_of_what_date_and_age_say(
    fields: list[tuple[bytes, bytes]], wall: float, delay: float, age: float
) -> None:
    assert age_on_arrival(a_response(*fields), wall, delay) == age


# --- freshness ---


@pytest.mark.parametrize(
    ("fields", "control", "seconds"),
    [
        ([AT, LATER], b"s-maxage=1, max-age=2", 1),
        ([AT, LATER], b"max-age=2", 2),
        ([AT, LATER], None, 60),
        ([AT, LATER], b"public", 60),
        ([LATER], None, 50),
        ([(b"Expires", b"0")], None, 0),
        ([AT, (b"Expires", b"0")], None, 0),
        ([AT], None, None),
        ([], b"s-maxage=0, max-age=9", 0),
    ],
)
def test_how_long_an_answer_says_to_be_fresh(
    fields: list[tuple[bytes, bytes]], control: bytes | None, seconds: float | None
) -> None:
    assert said_seconds(a_response(*fields, control=control), WHEN + 10.7) == seconds


@pytest.mark.parametrize(
    ("status", "control", "fresh_for", "override", "seconds"),
    [
        (200, b"max-age=10", None, False, 10),
        (200, b"max-age=10", 99.0, False, 10),
        (200, b"max-age=10", 99.0, True, 104.0),
        (200, b"max-age=10", None, True, 10),
        (200, None, None, False, 0),
        (200, None, 99.0, False, 104.0),
        (200, None, 0.0, False, 0),
        (200, b"no-cache, max-age=10", 99.0, False, 0),
        (200, b"no-cache, max-age=10", 99.0, True, 104.0),
        (200, b"no-cache, max-age=10", None, True, 10),
        (200, b"no-cache", None, True, 0),
        (404, b"max-age=10", 99.0, False, 10),
        (404, b"max-age=10", 99.0, True, 10),
        (404, None, 99.0, False, 0),
        (404, None, 99.0, True, 0),
    ],
)
def test_what_the_origin_says_goes_before_what_the_route_says_unless_overridden(
    status: int, control: bytes | None, fresh_for: float | None, override: bool, seconds: float
) -> None:
    settings = CacheSettings(fresh_for=fresh_for, override_origin=override)

    response = a_response(control=control)

    assert fresh_seconds(response, status, said_seconds(response, WHEN), 5.0, settings) == seconds


def test_what_may_be_kept_is_a_closed_list() -> None:
    assert sorted(EXPLICIT) == [200, 203, 204, 300, 301, 308, 404, 405, 410, 414, 501]
    assert sorted(GUESSED) == [200, 203, 204, 301, 308]
