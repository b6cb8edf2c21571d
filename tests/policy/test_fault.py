"""Whom an injected fault hits."""

import pytest

from sidecar.message import NO_FIELDS, Fields, Headers, Request
from sidecar.policy.fault import KINDS, FaultSettings, is_hit


@pytest.mark.parametrize(
    ("percent", "u", "hit"),
    [
        (0.0, 0.0, False),
        (10.0, 0.0, True),
        (10.0, 0.099, True),
        (10.0, 0.1, False),
        (0.5, 0.004, True),
        (0.5, 0.005, False),
        (100.0, 0.999999, True),
    ],
)
def test_it_hits_so_many_percent(percent: float, u: float, hit: bool) -> None:
    assert is_hit(FaultSettings(reset=True, percent=percent), Request(b"GET", b"/", NO_FIELDS), u) is hit


@pytest.mark.parametrize(
    ("headers", "any_value", "this_value"),
    [
        ([], False, False),
        ([(b"X-Other", b"yes")], False, False),
        ([(b"X-Fault", b"no")], True, False),
        ([(b"X-FAULT", b"yes")], True, True),
        ([(b"X-Fault", b"no"), (b"X-Fault", b"yes")], True, True),
        ([(b"X-Fault", b"Yes")], True, False),
        ([(b"X-Fault", b"")], True, False),
    ],
)
def test_it_hits_those_only_who_carry_the_field(headers: Headers, any_value: bool, this_value: bool) -> None:
    request = Request(b"GET", b"/", Fields(headers))

    assert is_hit(FaultSettings(reset=True, header=(b"x-fault", None)), request, 0.5) is any_value
    assert is_hit(FaultSettings(reset=True, header=(b"x-fault", b"yes")), request, 0.5) is this_value


def test_of_those_who_carry_the_field_it_hits_so_many_percent() -> None:
    request = Request(b"GET", b"/", Fields([(b"X-Fault", b"1")]))
    chosen = FaultSettings(reset=True, percent=20.0, header=(b"x-fault", None))

    assert [is_hit(chosen, request, u) for u in (0.19, 0.2)] == [True, False]


def test_by_default_nothing_is_done_and_to_all() -> None:
    assert FaultSettings() == FaultSettings(None, None, False, None, 100.0, None)


def test_the_kinds_are_a_closed_set() -> None:
    assert KINDS == ("delay", "abort", "reset", "truncate")
