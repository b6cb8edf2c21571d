"""Nobody gets another's answer: who is somebody, where he came in, and what pretends to be another request."""

import pytest

from sidecar.message import Fields, Request
from sidecar.policy.cache import find, key_of
from sidecar.policy.cache_request import asked
from sidecar.policy.store import Entry, Store

SOMEBODY = """
Authorization Proxy-Authorization Cookie Cookie2
X-Forwarded-User X-Forwarded-Email X-Forwarded-Groups X-Forwarded-Preferred-Username X-Forwarded-Access-Token
X-Forwarded-Client-Cert X-Auth-Request-User X-Auth-Request-Email X-Auth-Request-Access-Token X-Auth-Token X-Auth-User
X-Remote-User Remote-User Remote-Email Remote-Groups X-User X-User-Id X-User-Email X-UserInfo X-Account-Id X-Email
X-Authenticated-Userid X-Consumer-Username X-Credential-Identifier X-WebAuth-User X-Pomerium-Claim-Email
X-Goog-IAP-JWT-Assertion Cf-Access-Jwt-Assertion X-Amzn-Oidc-Data X-Amzn-Oidc-Identity X-MS-Client-Principal
X-SSL-Client-Cert SSL-Client-S-DN X-Client-Cert X-Client-Verify X-Session-Id X-Session-Token
X-Api-Key Api-Key apikey X-Goog-Api-Key Ocp-Apim-Subscription-Key X-Vault-Token Private-Token X-Amz-Security-Token
X-Access-Token X-CSRF-Token X-XSRF-TOKEN X-Client-Secret
""".split()  # noqa: SIM905 -- a page of names is easier to read than a list of strings

NOBODY = """
Accept Accept-Encoding Accept-Language User-Agent Referer Origin DNT Host Sec-Fetch-Site Sec-CH-UA Save-Data
X-Forwarded-For X-Forwarded-Proto X-Forwarded-Host X-Forwarded-Port X-Forwarded-Prefix X-Request-ID X-Client-Version
Traceparent Tracestate X-Requested-With Pragma If-None-Match X-Tenant X-Amzn-Trace-Id CDN-Loop Via X-Real-IP
""".split()  # noqa: SIM905 -- a page of names is easier to read than a list of strings


@pytest.mark.parametrize("name", SOMEBODY)
@pytest.mark.parametrize("spell", [str, str.lower, str.upper])
def test_who_has_one_of_these_is_somebody(name: str, spell: type[str]) -> None:
    read = asked(Fields([(spell(name).encode(), b"alice")]))

    assert (read.personal, read.plain) == (True, False)


@pytest.mark.parametrize("name", NOBODY)
def test_who_has_one_of_these_is_still_nobody(name: str) -> None:
    assert not asked(Fields([(name.encode(), b"x")])).personal


@pytest.mark.parametrize(
    "name",
    [
        "X-HTTP-Method-Override",
        "X-HTTP-Method",
        "X-Method-Override",
        "X-Original-URL",
        "X-Rewrite-URL",
        "X-Host",
    ],
)
def test_what_a_framework_may_take_for_another_request_is_passed_on(name: str) -> None:
    assert asked(Fields([(name.encode(), b"DELETE")])).passed_on


def a_copy(store: Store, pairs: list[tuple[bytes, bytes]], body: bytes) -> None:
    """Keep an answer that came to a request with these fields."""
    request = a_get(pairs)
    entry = Entry(key_of("r", request), 200, Fields([]), body, 0.0)
    entry.lifetime = 60.0
    entry.outside = asked(request.fields).outside
    assert store.put(entry, 0.0)


def a_get(pairs: list[tuple[bytes, bytes]]) -> Request:
    request = Request(b"GET", b"/", Fields(pairs))
    request.host = b"h.example"
    return request


def found(store: Store, pairs: list[tuple[bytes, bytes]]) -> bytes | None:
    request = a_get(pairs)
    entry = find(store, key_of("r", request), request, asked(request.fields))
    return None if entry is None else entry.body


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ((b"X-Forwarded-Proto", b"http"), (b"X-Forwarded-Proto", b"https")),
        ((b"X-Forwarded-Host", b"a.example"), (b"X-Forwarded-Host", b"evil.example")),
        ((b"X-Forwarded-Prefix", b"/a"), (b"X-Forwarded-Prefix", b"/b")),
        ((b"X-Forwarded-Port", b"80"), (b"X-Forwarded-Port", b"8443")),
        ((b"Forwarded", b"for=192.0.2.1;proto=http"), (b"Forwarded", b"for=192.0.2.1;proto=https")),
        ((b"Forwarded", b"for=192.0.2.1; Host=a"), (b"Forwarded", b"for=192.0.2.1; Host=b")),
    ],
)
def test_another_scheme_or_host_outside_is_another_target(
    one: tuple[bytes, bytes], other: tuple[bytes, bytes]
) -> None:
    store = Store(1 << 20, 10)
    a_copy(store, [one], b"one")

    assert (found(store, [one]), found(store, [other]), found(store, [])) == (b"one", None, None)

    a_copy(store, [other], b"other")
    assert (found(store, [one]), found(store, [other]), store.entries) == (b"one", b"other", 2)


def test_who_it_came_through_makes_no_difference() -> None:
    store = Store(1 << 20, 10)
    a_copy(store, [(b"Forwarded", b"for=192.0.2.1;proto=https;by=x")], b"one")

    assert found(store, [(b"Forwarded", b"by=z;for=192.0.2.99;proto=https")]) == b"one"


def test_a_change_makes_the_copies_of_every_way_in_worthless() -> None:
    store = Store(1 << 20, 10)
    for scheme in (b"http", b"https"):
        a_copy(store, [(b"X-Forwarded-Proto", scheme)], scheme)

    store.invalidate(key_of("r", a_get([])), 1.0)

    assert store.entries == 0


def test_those_who_came_in_elsewhere_do_not_wait_for_each_other() -> None:
    here, there = (asked(Fields([(b"X-Forwarded-Proto", scheme)])) for scheme in (b"http", b"https"))

    assert here.negotiation != there.negotiation
