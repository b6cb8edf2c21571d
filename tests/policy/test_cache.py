"""What a shared cache may keep, for how long, and to whom it may give it."""

from typing import Any

import pytest

from sidecar.message import NO_FIELDS, Fields, Headers, Request
from sidecar.policy.cache import (
    MAX_SELECTING,
    REQUEST,
    STALE,
    Asking,
    CacheSettings,
    changed_keys,
    find,
    is_validatable,
    is_worth_keeping,
    judged,
    kept_fields,
    key_of,
    may_keep,
    may_share,
    may_stand_in,
    may_use_meanwhile,
    may_wait,
    usable_copy,
    why_not,
)
from sidecar.policy.cache_control import parse
from sidecar.policy.cache_request import asked
from sidecar.policy.cache_response import Told, told
from sidecar.policy.store import Entry, Store
from tests.support.caches import a_copy as a_copy_of
from tests.support.exchanges import a_body, a_request

KEY = b"r h /"
WHEN = 784111777
DATE = b"Sun, 06 Nov 1994 08:49:37 GMT"


def a_copy(status: int = 200, **more: Any) -> Entry:
    """Make a copy that was stored at 100 and is fresh until 160."""
    return a_copy_of(KEY, status, Fields([]), b"x", **({"stored_at": 100.0, "lifetime": 60.0} | more))


def an_asking(request: Request, asked_at: float = 0.0) -> Asking:
    return Asking(request, KEY, asked(request.fields), b"uri-miss", asked_at)


def judge(told_: Told, status: int = 200, request: Request | None = None, **settings: Any) -> Entry:
    """Judge an answer that came at WHEN, 7 seconds after it was asked for."""
    return judged(an_asking(request or get(), 93.0), status, told_, CacheSettings(**settings), WHEN, 100.0)


def a_response(control: str = "", **more: str) -> Told:
    fields: Headers = [(name.replace("_", "-").encode(), value.encode()) for name, value in more.items()]
    return told(Fields([*fields, *([(b"Cache-Control", control.encode())] if control else [])]))


def get(method: str = "GET", **fields: str) -> Request:
    headers = [(name.replace("_", "-").encode(), value.encode()) for name, value in fields.items()]
    return a_request(method, headers=headers, host=b"h")


# --- looking up ---


def test_a_key_is_route_host_and_target() -> None:
    request = a_request(target="/A?b=C", host=b"Example.COM:80")

    assert key_of("r", request) == b"r example.com:80 /A?b=C"


def test_the_newest_copy_that_vary_lets_stand_is_found() -> None:
    store = Store(100_000, 10)
    plain = a_copy()
    german = a_copy(vary=(b"accept-language",), values=(b"de",))
    english = a_copy(vary=(b"accept-language",), values=(b"en",))

    def found(**fields: str) -> Entry | None:
        request = get(**fields)
        return find(store, KEY, request, asked(request.fields))

    assert found() is None
    for entry in (german, english):
        store.put(entry, 0.0)
    assert [found(accept_language="de"), found(accept_language="en"), found()] == [german, english, None]
    store.put(plain, 0.0)
    assert [found(accept_language="de"), found()] == [plain, plain]


@pytest.mark.parametrize(
    ("control", "age", "why"),
    [
        ("", 59.9, None),
        ("", 60, STALE),
        ("only-if-cached", 59, None),
        ("only-if-cached", 60, STALE),
        ("no-cache", 59, REQUEST),
        ("no-cache", 60, STALE),
        ("max-age=30", 30, None),
        ("max-age=30", 30.1, REQUEST),
        ("max-age=30", 61, STALE),
        ("max-age=90", 61, STALE),
        ("min-fresh=20", 40, None),
        ("min-fresh=20", 40.1, REQUEST),
        ("min-fresh=0", 60, STALE),
        ("max-stale=10", 59, None),
        ("max-stale=10", 70, None),
        ("max-stale=10", 70.1, STALE),
        ("max-stale", 9e8, None),
        ("max-stale, no-cache", 61, STALE),
        ("max-stale, max-age=60", 61, STALE),
        ("max-stale, max-age=61", 61, None),
    ],
)
def test_a_copy_answers_if_it_is_fresh_enough_for_the_request(
    control: str, age: float, why: bytes | None
) -> None:
    cc = asked(Fields([(b"Cache-Control", control.encode())] if control else [])).cc

    assert (REQUEST, STALE) == (b"request", b"stale")
    assert why_not(a_copy(), cc, 100 + age) == why


def test_what_must_be_revalidated_is_stale_for_everybody() -> None:
    assert why_not(a_copy(must_revalidate=True), parse(b"max-stale"), 161.0) == STALE


def test_the_age_on_arrival_counts() -> None:
    copy = a_copy(age_at_store=50.0)

    assert why_not(copy, parse(b""), 109.0) is None
    assert [why_not(copy, asked(Fields([])).cc, at) for at in (109.9, 110.0)] == [None, STALE]


@pytest.mark.parametrize(
    ("fields", "waits"),
    [
        ({}, True),
        ({"accept": "x"}, True),
        ({"if_none_match": "x"}, True),
        ({"cache_control": "max-stale=1"}, True),
        ({"cache_control": "max-age=1"}, False),
        ({"cache_control": "min-fresh=1"}, False),
        ({"cache_control": "no-cache"}, False),
        ({"cache_control": "no-store"}, False),
        ({"cookie": "a"}, False),
        ({"range": "a"}, False),
    ],
)
def test_who_may_get_the_answer_to_anothers_request(fields: dict[str, str], waits: bool) -> None:
    assert may_wait(asked(get(**fields).fields)) is waits


# --- keeping ---


@pytest.mark.parametrize(
    ("told_", "anybody", "somebody"),
    [
        (a_response(), True, False),
        (a_response("max-age=5"), True, False),
        (a_response("no-cache"), True, False),
        (a_response("s-maxage=5"), True, False),
        (a_response("must-revalidate"), True, False),
        (a_response("public"), True, True),
        (a_response("public, private"), False, False),
        (a_response("public, no-store"), False, False),
        (a_response("no-store"), False, False),
        (a_response("private"), False, False),
        (a_response("public", set_cookie="a"), False, False),
        (a_response("public", vary="*"), False, False),
        (a_response("public", vary="a"), True, True),
    ],
)
def test_what_may_be_kept(told_: Told, anybody: bool, somebody: bool) -> None:
    assert may_keep(asked(get().fields), 200, told_) is anybody
    assert may_keep(asked(get(cookie="a").fields), 200, told_) is somebody


@pytest.mark.parametrize(
    ("status", "kept"), [(200, True), (206, False), (302, False), (404, True), (500, False)]
)
def test_what_may_be_kept_by_its_status(status: int, kept: bool) -> None:
    assert may_keep(asked(get().fields), status, a_response("max-age=5")) is kept


def said(entry: Entry) -> tuple[object, ...]:
    return (entry.age_at_store, entry.lifetime, entry.said, entry.must_revalidate, entry.swr, entry.sie)


@pytest.mark.parametrize(
    ("control", "expected"),
    [
        ("", (7.0, 0.0, None, False, 10.0, 20.0)),
        ("max-age=5", (7.0, 5, 5, False, 10.0, 20.0)),
        ("max-age=5, stale-while-revalidate=1", (7.0, 5, 5, False, 1, 20.0)),
        ("max-age=5, stale-if-error=0", (7.0, 5, 5, False, 10.0, 0)),
        ("max-age=5, must-revalidate", (7.0, 5, 5, True, 0.0, 0.0)),
        ("max-age=5, proxy-revalidate", (7.0, 5, 5, True, 0.0, 0.0)),
        ("s-maxage=5", (7.0, 5, 5, True, 0.0, 0.0)),
        ("no-cache", (7.0, 0.0, None, True, 0.0, 0.0)),
    ],
)
def test_what_the_origin_says_of_serving_stale_goes_before_what_the_route_says(
    control: str, expected: tuple[object, ...]
) -> None:
    entry = judge(a_response(control), stale_while_revalidate=10.0, stale_if_error=20.0)

    assert said(entry) == expected


@pytest.mark.parametrize(
    "control",
    [
        "",
        "no-cache",
        "must-revalidate",
        "max-age=5, stale-while-revalidate=1, stale-if-error=1",
        "s-maxage=5, proxy-revalidate",
    ],
)
def test_a_route_that_overrides_the_origin_has_the_say(control: str) -> None:
    entry = judge(
        a_response(control),
        fresh_for=60.0,
        stale_while_revalidate=10.0,
        stale_if_error=20.0,
        override_origin=True,
    )

    assert (said(entry)[:2], said(entry)[3:]) == ((7.0, 67.0), (False, 10.0, 20.0))


def test_expires_counts_from_the_time_of_day_where_there_is_no_date() -> None:
    response = a_response(expires="Sun, 06 Nov 1994 08:50:07 GMT")

    assert said(judge(response))[:3] == (7.0, 30, 30)


@pytest.mark.parametrize(
    ("control", "more", "status", "settings", "kept"),
    [
        ("", {}, 200, {}, False),
        ("max-age=8", {}, 200, {}, True),
        ("max-age=7", {}, 200, {}, False),
        ("max-age=7", {"etag": "x"}, 200, {}, True),
        ("", {"etag": "x"}, 200, {}, True),
        ("", {"last_modified": "x"}, 200, {}, True),
        ("", {"etag": "x"}, 404, {}, False),
        ("max-age=8", {}, 404, {}, True),
        ("max-age=0", {"etag": "x"}, 404, {}, True),
        ("", {}, 200, {"fresh_for": 1.0}, True),
        ("", {}, 404, {"fresh_for": 1.0}, False),
        ("", {}, 200, {"stale_while_revalidate": 0.5}, True),
        ("", {}, 200, {"stale_if_error": 0.5}, True),
        ("", {}, 200, {"keep_for": 1.0}, True),
        ("no-cache", {}, 200, {"keep_for": 1.0}, True),
        ("", {}, 404, {"keep_for": 1.0}, False),
        ("max-age=8", {}, 404, {"keep_for": 1.0}, True),
        ("max-age=8", {}, 200, {"serve_fresh": False}, False),
        ("max-age=8", {}, 200, {"serve_fresh": False, "keep_for": 1.0}, True),
        ("max-age=8", {}, 404, {"serve_fresh": False, "keep_for": 1.0}, False),
    ],
)
def test_a_copy_that_would_never_be_used_is_not_kept(
    control: str, more: dict[str, str], status: int, settings: dict[str, Any], kept: bool
) -> None:
    entry = judge(a_response(control, **more), status, **settings)

    assert is_worth_keeping(entry, CacheSettings(**settings)) is kept


@pytest.mark.parametrize(("length", "kept"), [(MAX_SELECTING, True), (MAX_SELECTING + 1, False)])
def test_what_is_chosen_by_values_of_kilobytes_is_not_kept(length: int, kept: bool) -> None:
    assert MAX_SELECTING == 2048
    response = a_response("max-age=60", vary="X")
    chosen = judge(response, request=get(x="v" * length))
    outside = judge(a_response("max-age=60"), request=get(x_forwarded_host="v" * length))

    assert [is_worth_keeping(entry, CacheSettings(keep_for=1.0)) for entry in (chosen, outside)] == [kept] * 2


@pytest.mark.parametrize(
    ("control", "status", "shared", "overridden"),
    [
        ("", 200, True, True),
        ("", 499, True, True),
        ("", 500, False, False),
        ("max-age=8", 200, True, True),
        ("max-age=7", 200, False, True),
        ("max-age=0", 200, False, True),
        ("no-cache", 200, False, True),
        ("no-cache, max-age=9", 200, False, True),
        ("max-age=7, must-revalidate", 200, False, True),
        ("", 404, True, True),
        ("", 501, False, False),
        ("max-age=8", 501, True, True),
    ],
)
def test_what_may_be_shared_with_those_who_ask_meanwhile(
    control: str, status: int, shared: bool, overridden: bool
) -> None:
    for override, expected in ((False, shared), (True, overridden)):
        response = a_response(control)
        entry = judge(response, status, override_origin=override)
        assert may_share(entry, response, CacheSettings(override_origin=override)) is expected


def test_a_copy_has_what_was_worked_out() -> None:
    response = a_response(
        "public, max-age=60, stale-while-revalidate=1, stale-if-error=2",
        vary="Accept-Language",
        etag='"1"',
        last_modified="then",
        date=DATE.decode(),
    )

    entry = judge(response, 203, get(accept_language="de", x_forwarded_proto="https"))

    assert (entry.key, entry.status, entry.fields, entry.body) == (KEY, 203, NO_FIELDS, b"")
    assert (entry.stored_at, said(entry)) == (100.0, (7.0, 60, 60, False, 1, 2))
    assert (entry.vary, entry.values) == ((b"accept-language",), (b"de",))
    assert (entry.outside, entry.public) == (((b"x-forwarded-proto", b"https"),), True)
    assert (entry.etag, entry.last_modified, entry.date) == (b'"1"', b"then", WHEN)


def test_a_copy_of_what_does_not_vary_is_for_all() -> None:
    entry = judge(a_response("s-maxage=5"))

    assert (entry.vary, entry.values, entry.outside) == ((), (), ())
    assert (entry.must_revalidate, entry.public, entry.date) == (True, False, None)


def test_an_asking_begins_with_nothing() -> None:
    asking = an_asking(get(), 5.0)

    assert (asking.key, asking.why, asking.asked_at) == (KEY, b"uri-miss", 5.0)
    assert (asking.copy, asking.flight, asking.capture) == (None, None, None)


# --- the section of a copy ---


def kept(fields: Headers, extra: Headers, length: int | None) -> tuple[tuple[bytes, bytes], ...]:
    section = Fields(fields)
    return kept_fields(section, tuple(extra), told(section), length).pairs


def test_a_section_that_needs_nothing_is_kept_as_it_is() -> None:
    for length, more in ((5, [(b"content-length", b"5")]), (None, [])):
        section = Fields([(b"Date", DATE), *more])
        assert kept_fields(section, ((b"Date", b"x"), (b"A", b"1")), told(section), length) is section


def test_a_section_is_dated_and_sized_and_rid_of_what_is_not_kept() -> None:
    fields = [(b"A", b"1"), (b"AGE", b"5"), (b"Proxy-Authenticate", b"x")]

    assert kept(fields, [(b"X", b"1"), (b"Date", DATE)], 5) == (
        (b"A", b"1"),
        (b"Date", DATE),
        (b"Content-Length", b"5"),
    )
    assert kept([(b"Date", DATE), (b"Age", b"5"), (b"content-length", b"5")], [(b"Date", b"x")], 5) == (
        (b"Date", DATE),
        (b"content-length", b"5"),
    )
    assert kept([(b"Date", DATE), (b"Age", b"5")], [], None) == ((b"Date", DATE),)
    assert kept([(b"Date", DATE)], [], 0) == ((b"Date", DATE), (b"Content-Length", b"0"))


# --- serving stale ---


def test_a_copy_with_a_validator_can_be_asked_about() -> None:
    copies = [a_copy(), a_copy(etag=b"x"), a_copy(last_modified=b"x")]

    assert [is_validatable(copy) for copy in copies] == [False, True, True]


@pytest.mark.parametrize(
    ("control", "at", "swr", "used"),
    [
        ("", 170.0, 10.0, True),
        ("", 170.1, 10.0, False),
        ("", 160.0, 0.0, False),
        ("", 160.5, 0.5, True),
        ("max-stale=1", 165.0, 10.0, True),
        ("no-cache", 165.0, 10.0, False),
        ("max-age=99", 165.0, 10.0, False),
        ("min-fresh=0", 165.0, 10.0, False),
    ],
)
def test_what_may_be_served_while_it_is_fetched_again(
    control: str, at: float, swr: float, used: bool
) -> None:
    assert may_use_meanwhile(a_copy(swr=swr), parse(control.encode()), at) is used


@pytest.mark.parametrize(
    ("at", "more", "stands_in"),
    [
        (170.0, {"sie": 10.0}, True),
        (170.1, {"sie": 10.0}, False),
        (110.0, {"sie": 10.0}, True),
        (160.5, {"sie": 0.5}, True),
        (110.0, {"sie": 0.0}, False),
        (170.0, {"sie": 10.0, "must_revalidate": True}, False),
    ],
)
def test_what_may_stand_in_for_an_error(at: float, more: dict[str, Any], stands_in: bool) -> None:
    assert may_stand_in(a_copy(**more), at) is stands_in


# --- for the fallback ---


def usable(
    request: Request, copy: Entry, *, now: float = 150.0, max_age: float = 300.0, override: bool = False
) -> bool:
    store = Store(100_000, 10)
    store.put(copy, 0.0)
    found = usable_copy(store, "r", request, now, max_age, override)
    assert found in (None, copy)
    return found is not None


@pytest.mark.parametrize(
    ("request_", "ok"),
    [
        (get(), True),
        (get("HEAD"), True),
        (get("POST"), False),
        (get(range="x"), False),
        (get(cookie="x"), False),
        (get(cache_control="no-cache"), True),
        (a_request(host=b"h", body=a_body()), False),
        (a_request(host=b"other"), False),
        (a_request(host=b"h", target="/other"), False),
    ],
)
def test_a_copy_stands_in_for_requests_that_it_may_be_given_to(request_: Request, ok: bool) -> None:
    assert usable(request_, a_copy()) is ok


@pytest.mark.parametrize(("language", "ok"), [("de", True), ("en", False)])
def test_only_the_copy_that_vary_lets_stand_stands_in(language: str, ok: bool) -> None:
    copy = a_copy(vary=(b"accept-language",), values=(b"de",))

    assert usable(get(accept_language=language), copy) is ok


def test_a_public_copy_may_be_given_to_somebody() -> None:
    assert usable(get(cookie="x"), a_copy(public=True))


@pytest.mark.parametrize(("now", "ok"), [(400.0, True), (400.1, False)])
def test_the_age_of_a_stand_in_counts_from_when_it_was_stored(now: float, ok: bool) -> None:
    assert usable(get(), a_copy(age_at_store=1000.0), now=now) is ok


@pytest.mark.parametrize(
    ("status", "ok"), [(200, True), (301, True), (399, True), (400, False), (404, False)]
)
def test_only_successes_stand_in(status: int, ok: bool) -> None:
    assert usable(get(), a_copy(status=status)) is ok


@pytest.mark.parametrize(
    ("now", "override", "ok"), [(159.0, False, True), (160.0, False, False), (160.0, True, True)]
)
def test_what_must_be_revalidated_stands_in_only_while_fresh_unless_overridden(
    now: float, override: bool, ok: bool
) -> None:
    assert usable(get(), a_copy(must_revalidate=True), now=now, override=override) is ok


# --- changes ---


@pytest.mark.parametrize(
    ("location", "targets"),
    [
        (None, [b"/orders"]),
        (b"/orders/1", [b"/orders", b"/orders/1"]),
        (b"1", [b"/1", b"/orders"]),
        (b"?page=2", [b"/orders", b"/orders?page=2"]),
        (b"http://Example.com/orders/1#top", [b"/orders", b"/orders/1"]),
        (b"https://example.com", [b"/", b"/orders"]),
        (b"http://other.com/orders/1", [b"/orders"]),
        (b"http://example.com:81/x", [b"/orders"]),
        (b"ftp://example.com/x", [b"/orders"]),
        (b"mailto:a@example.com", [b"/orders"]),
        (b"http://[x/", [b"/orders"]),
        (b"/caf\xe9", [b"/caf\xe9", b"/orders"]),
    ],
)
@pytest.mark.parametrize("name", [b"Location", b"content-location"])
def test_a_change_reaches_its_target_and_what_it_names_on_the_same_host(
    name: bytes, location: bytes | None, targets: list[bytes]
) -> None:
    request = a_request("POST", "/orders", host=b"example.COM")
    fields = Fields([(name, location)] if location is not None else [])

    assert changed_keys(request, fields, ("a", "b")) == [
        route + b" example.com " + target for route in (b"a", b"b") for target in targets
    ]
