"""Whether a failed attempt is repeated: each reason against it, their order, and the wait."""

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from sidecar.errors import (
    AttemptTimeout,
    BadResponse,
    ConnectFailed,
    Disconnected,
    UpstreamFailed,
    UpstreamIdle,
)
from sidecar.fate import WhyNotRetried
from sidecar.message import IDEMPOTENT, NO_FIELDS, Fields, Headers, Request
from sidecar.policy.retry import CONDITIONS, SHORTEST_ATTEMPT, RetryPolicy, RetrySettings, time_to_keep

EVERY = RetrySettings(conditions=CONDITIONS)
METHODS = (b"GET", b"HEAD", b"OPTIONS", b"TRACE", b"PUT", b"DELETE", b"POST", b"PATCH", b"BREW")


def a_request(method: bytes = b"GET", headers: Headers | None = None) -> Request:
    """Make a request of which only method and fields count."""
    return Request(method, b"/", Fields(headers or []))


def objection(
    request: Request | None = None,
    retry: int = 1,
    *,
    settings: RetrySettings = EVERY,
    sent: bool = True,
    gone: int = 0,
    headers: Headers | None = None,
) -> WhyNotRetried | None:
    """Ask whether anything speaks against a retry."""
    fields = NO_FIELDS if headers is None else Fields(headers)
    return RetryPolicy(settings).objection(request or a_request(), retry, sent=sent, gone=gone, fields=fields)


def test_the_defaults_are_those_of_the_manual() -> None:
    assert RetrySettings() == RetrySettings(
        retries=2,
        strategy="exponential",
        base=0.1,
        multiplier=2.0,
        max=2.0,
        jitter="full",
        conditions=frozenset({"connect_error", "reset", "attempt_timeout"}),
        statuses=frozenset({502, 503, 504}),
        methods=frozenset({b"GET", b"HEAD", b"OPTIONS", b"TRACE", b"PUT", b"DELETE"}),
        require=None,
        body_buffer=1024 * 1024,
        retry_after_max=30.0,
    )


# --- what went wrong ---


@pytest.mark.parametrize(
    ("error", "word"),
    [
        (ConnectFailed(), "connect_error"),
        (Disconnected(), "reset"),
        (Disconnected(head_seen=True), "reset"),
        (AttemptTimeout(), "attempt_timeout"),
        (BadResponse(), "bad_response"),
        (UpstreamIdle(), None),
        (UpstreamFailed(), None),
    ],
)
def test_each_failure_has_its_word(error: UpstreamFailed, word: str | None) -> None:
    assert RetryPolicy(EVERY).condition(error) == word


@pytest.mark.parametrize(
    ("error", "word"),
    [
        (ConnectFailed(), "connect_error"),
        (Disconnected(), "reset"),
        (AttemptTimeout(), "attempt_timeout"),
        (BadResponse(), "bad_response"),
    ],
)
def test_only_the_conditions_that_are_named_count(error: UpstreamFailed, word: str) -> None:
    only = RetryPolicy(RetrySettings(conditions=frozenset({word})))
    others = RetryPolicy(RetrySettings(conditions=CONDITIONS - {word}))

    assert (only.condition(error), others.condition(error)) == (word, None)


def test_the_conditions_are_a_closed_set() -> None:
    assert frozenset({"connect_error", "reset", "attempt_timeout", "bad_response"}) == CONDITIONS


# --- methods ---


@pytest.mark.parametrize("method", METHODS)
def test_by_default_only_idempotent_methods_are_repeated(method: bytes) -> None:
    assert RetryPolicy(EVERY).repeatable(a_request(method)) == (method in IDEMPOTENT)
    assert objection(a_request(method)) == (None if method in IDEMPOTENT else WhyNotRetried.METHOD)


@pytest.mark.parametrize("method", METHODS)
def test_a_route_may_opt_in_to_every_method(method: bytes) -> None:
    assert objection(a_request(method), settings=replace(EVERY, methods=None)) is None


@pytest.mark.parametrize("method", METHODS)
def test_a_route_may_name_its_methods(method: bytes) -> None:
    settings = replace(EVERY, methods=frozenset({b"GET", b"POST"}))

    assert objection(a_request(method), settings=settings) == (
        None if method in (b"GET", b"POST") else WhyNotRetried.METHOD
    )


@pytest.mark.parametrize("method", METHODS)
def test_what_never_left_us_may_be_repeated_whatever_its_method(method: bytes) -> None:
    assert objection(a_request(method), sent=False) is None
    assert objection(a_request(method), sent=False, settings=replace(EVERY, methods=frozenset())) is None


@pytest.mark.parametrize(
    ("method", "headers", "why"),
    [
        (b"POST", [(b"Idempotency-Key", b"8e03978e")], None),
        (b"POST", [(b"IDEMPOTENCY-KEY", b"")], None),
        (b"POST", [(b"Idempotency", b"8e03978e")], WhyNotRetried.METHOD),
        (b"POST", [], WhyNotRetried.METHOD),
        (b"PATCH", [], WhyNotRetried.METHOD),
        (b"GET", [], None),
        (b"PUT", [], None),
    ],
)
def test_with_require_a_repeated_post_must_carry_its_key(
    method: bytes, headers: Headers, why: WhyNotRetried | None
) -> None:
    settings = replace(EVERY, methods=None, require=b"idempotency-key")

    assert objection(a_request(method, headers), settings=settings) == why


def test_a_key_alone_does_not_opt_in() -> None:
    request = a_request(b"POST", [(b"Idempotency-Key", b"8e03978e")])

    assert objection(request, settings=replace(EVERY, require=b"idempotency-key")) == WhyNotRetried.METHOD


# --- the other reasons ---


@pytest.mark.parametrize(
    ("retries", "retry", "why"),
    [
        (2, 1, None),
        (2, 2, None),
        (2, 3, WhyNotRetried.RETRIES_SPENT),
        (0, 1, WhyNotRetried.RETRIES_SPENT),
        (1, 1, None),
    ],
)
def test_there_are_no_more_retries_than_configured(
    retries: int, retry: int, why: WhyNotRetried | None
) -> None:
    assert objection(retry=retry, settings=replace(EVERY, retries=retries)) == why


@pytest.mark.parametrize(
    ("gone", "why"), [(0, None), (999, None), (1000, None), (1001, WhyNotRetried.BODY_TOO_LARGE)]
)
def test_a_body_of_which_more_went_through_than_is_kept_is_not_repeated(
    gone: int, why: WhyNotRetried | None
) -> None:
    assert objection(a_request(b"PUT"), gone=gone, settings=replace(EVERY, body_buffer=1000)) == why


@pytest.mark.parametrize(("gone", "why"), [(0, None), (1, WhyNotRetried.BODY_TOO_LARGE)])
def test_of_a_post_nothing_is_kept_so_nothing_may_have_gone(gone: int, why: WhyNotRetried | None) -> None:
    assert objection(a_request(b"POST"), gone=gone, sent=False) == why


@pytest.mark.parametrize(
    ("headers", "told"),
    [
        ([], False),
        ([(b"X-Should-Retry", b"false")], True),
        ([(b"x-should-retry", b"FALSE")], True),
        ([(b"X-Should-Retry", b"true")], False),
        ([(b"X-Should-Retry", b"")], False),
        ([(b"X-Upstream-Attempts", b"1")], False),
        ([(b"X-Upstream-Attempts", b"2")], True),
        ([(b"X-Upstream-Attempts", b"10")], True),
        ([(b"X-Upstream-Attempts", b"0")], False),
        ([(b"X-Upstream-Attempts", b"01")], False),
        ([(b"X-Upstream-Attempts", b"02")], True),
        ([(b"X-Upstream-Attempts", b"two")], False),
        ([(b"X-Upstream-Attempts", b"")], False),
        ([(b"X-Upstream-Attempts", b"-2")], False),
        ([(b"X-Upstream-Attempts", b"9" * 5000)], True),
        ([(b"x-envoy-attempt-count", b"1")], False),
        ([(b"X-Envoy-Attempt-Count", b"3")], True),
        ([(b"x-envoy-attempt-count", b"1"), (b"X-Upstream-Attempts", b"2")], True),
        ([(b"X-Upstream-Attempts", b"1"), (b"X-Upstream-Attempts", b"2")], True),
        ([(b"X-Retry-Attempt", b"2")], False),
    ],
)
def test_what_a_nearer_layer_has_retried_or_forbids_is_not_retried(headers: Headers, told: bool) -> None:
    assert objection(headers=headers) == (WhyNotRetried.TOLD_NOT_TO if told else None)


def test_of_several_reasons_the_first_in_the_documented_order_is_told() -> None:
    settings = replace(EVERY, body_buffer=10)
    asked: dict[str, Any] = {
        "request": a_request(b"POST"),
        "retry": 3,
        "gone": 11,
        "headers": [(b"X-Should-Retry", b"false")],
    }
    found = []
    mended: list[dict[str, Any]] = [
        {},
        {"retry": 2},
        {"request": a_request(b"PUT")},
        {"gone": 10},
        {"headers": []},
    ]
    for mend in mended:
        asked |= mend
        found.append(objection(settings=settings, **asked))

    assert found == [
        WhyNotRetried.RETRIES_SPENT,
        WhyNotRetried.METHOD,
        WhyNotRetried.BODY_TOO_LARGE,
        WhyNotRetried.TOLD_NOT_TO,
        None,
    ]


# --- the wait ---


def chances(*numbers: float) -> Callable[[], float]:
    """Give these random numbers, in their order, and no more."""
    left = list(numbers)
    return lambda: left.pop(0)


def wait(
    *numbers: float,
    retry: int = 1,
    previous: float = 0.0,
    retry_after: float | None = None,
    room: float = math.inf,
    settings: RetrySettings | None = None,
) -> float | None:
    """Ask for the wait, with these random numbers: a base of 4 s, doubled up to 10 s."""
    policy = RetryPolicy(settings or RetrySettings(base=4, max=10))
    return policy.wait(retry, previous, chances(*numbers), retry_after=retry_after, room=room)


def test_without_a_retry_after_the_wait_is_the_back_off() -> None:
    assert [wait(0.5, retry=retry) for retry in (1, 2, 3)] == [2, 4, 5]


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        (RetrySettings(strategy="linear", base=1, max=9, jitter="none"), 3),
        (RetrySettings(strategy="fixed", base=2, max=9, jitter="none"), 2),
        (RetrySettings(strategy="exponential", base=1, multiplier=3, max=99, jitter="none"), 9),
        (RetrySettings(strategy="exponential", base=1, multiplier=3, max=7, jitter="none"), 7),
        (RetrySettings(strategy="decorrelated", base=2, max=99), 11),
        (RetrySettings(strategy="fixed", base=4, max=9, jitter="equal"), 3),
    ],
)
def test_every_setting_of_the_back_off_counts(settings: RetrySettings, expected: float) -> None:
    u = 0.5
    previous = (2 * expected - 2) / 3  # for the decorrelated one: the middle of 2 and 3 * previous

    assert wait(u, retry=3, previous=previous, settings=settings) == expected


@pytest.mark.parametrize(("room", "expected"), [(2, 2), (1.99, None), (0, None), (-1, None), (math.inf, 2)])
def test_a_back_off_that_does_not_fit_before_the_deadline_is_not_begun(
    room: float, expected: float | None
) -> None:
    assert wait(0.5, room=room) == expected


@pytest.mark.parametrize(("u", "expected"), [(0, 20), (0.5, 25), (0.75, 27.5)])
def test_a_retry_after_is_lengthened_so_that_not_all_come_back_at_once(u: float, expected: float) -> None:
    assert wait(0.5, u, retry_after=20) == expected


def test_a_retry_after_shorter_than_the_back_off_changes_nothing() -> None:
    assert wait(0.75, 0.5, retry_after=1) == 3
    assert wait(0.75, 0.5, retry_after=0) == 3


def test_a_retry_after_that_only_its_jitter_makes_longer_than_the_back_off() -> None:
    assert wait(0.75, 0.8, retry_after=2.5) == 3.5


@pytest.mark.parametrize(
    ("asked", "expected"), [(20, 30), (29, 30), (30, 30), (30.5, None), (math.inf, None)]
)
def test_a_retry_after_is_never_waited_for_longer_than_its_maximum(
    asked: float, expected: float | None
) -> None:
    settings = RetrySettings(base=4, max=10, retry_after_max=30)

    assert wait(0, 1, retry_after=asked, settings=settings) == expected


@pytest.mark.parametrize(("room", "expected"), [(25, 25), (24, 24), (20, 20), (19.99, None), (math.inf, 25)])
def test_a_retry_after_that_does_not_fit_before_the_deadline_is_not_waited_for(
    room: float, expected: float | None
) -> None:
    assert wait(0, 0.5, retry_after=20, room=room) == expected


def test_a_back_off_longer_than_the_retry_after_has_to_fit_too() -> None:
    assert wait(0.5, 0, retry_after=1, room=2) == 2
    assert wait(0.5, 0, retry_after=1, room=1.5) is None


# --- what a wait leaves to the attempt ---


@pytest.mark.parametrize(
    ("took", "total", "keep"),
    [
        (0.0, 15.0, SHORTEST_ATTEMPT),
        (0.3, 15.0, 0.3),
        (10.0, 15.0, 1.5),
        (1.5, 15.0, 1.5),
        (0.0, 0.1, 0.01),
        (10.0, None, 10.0),
        (0.0, None, SHORTEST_ATTEMPT),
    ],
)
def test_a_wait_leaves_the_attempt_the_time_that_the_last_one_took_but_no_more_than_a_tenth(
    took: float, total: float | None, keep: float
) -> None:
    assert time_to_keep(took, total) == pytest.approx(keep)


def test_the_shortest_attempt_is_fifty_milliseconds() -> None:
    assert SHORTEST_ATTEMPT == 0.05
