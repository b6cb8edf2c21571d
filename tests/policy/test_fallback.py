"""Which failure has a fallback, by which word, and which step is for it."""

import pytest

from sidecar.errors import (
    AttemptTimeout,
    BadResponse,
    BodyTooLarge,
    BreakerOpen,
    BulkheadFull,
    ClientError,
    ClientGone,
    ClientStalled,
    ConnectFailed,
    Disconnected,
    Internal,
    Maintenance,
    NoRoute,
    Overloaded,
    QueueTimeout,
    RateLimited,
    RequestBodyTimeout,
    RequestError,
    TotalTimeout,
    UpstreamFailed,
    UpstreamIdle,
)
from sidecar.fate import Fate
from sidecar.policy.fallback import (
    CAUSES,
    READS,
    SERVER_ERROR,
    FallbackStep,
    Mock,
    Redirect,
    Stale,
    Static,
    Upstream,
    cause_of,
)

HERE = b"https://backup.example"
EVERY_STEP = [Stale(), Static(), Mock(), Upstream("b"), Redirect(HERE)]


@pytest.mark.parametrize(
    ("error", "cause"),
    [
        (BreakerOpen(), "breaker_open"),
        (AttemptTimeout(), "timeout"),
        (TotalTimeout(), "timeout"),
        (UpstreamIdle(), "timeout"),
        (ConnectFailed(), "connect_error"),
        (ConnectFailed(token="connection_timeout"), "connect_error"),
        (Disconnected(), "disconnected"),
        (BadResponse(), "disconnected"),
        (UpstreamFailed(), "disconnected"),
        (BulkheadFull(), "bulkhead_full"),
        (QueueTimeout(), "bulkhead_full"),
        (Overloaded(), "overload"),
    ],
)
def test_a_failure_of_the_upstream_and_a_refusal_inside_have_a_cause(error: RequestError, cause: str) -> None:
    assert cause_of(error) == cause


@pytest.mark.parametrize(
    "error",
    [
        ClientError(),
        BodyTooLarge(),
        RequestBodyTimeout(),
        NoRoute(),
        RateLimited(),
        Maintenance(),
        ClientGone(),
        ClientStalled(),
        Internal(),
    ],
)
def test_the_clients_own_excess_and_faults_of_ours_have_none(error: RequestError) -> None:
    assert cause_of(error) is None


def test_the_causes_are_these_words() -> None:
    assert CAUSES == (
        "breaker_open",
        "timeout",
        "connect_error",
        "disconnected",
        "5xx",
        "bulkhead_full",
        "overload",
    )
    assert SERVER_ERROR == "5xx"


def test_each_step_has_its_source_and_its_fate() -> None:
    assert [(step.source, step.fate) for step in EVERY_STEP] == [
        ("stale", Fate.FALLBACK_STALE),
        ("static", Fate.FALLBACK_STATIC),
        ("mock", Fate.FALLBACK_MOCK),
        ("upstream", Fate.FALLBACK_UPSTREAM),
        ("redirect", Fate.FALLBACK_REDIRECT),
    ]


@pytest.mark.parametrize("step", EVERY_STEP, ids=lambda step: step.source)
@pytest.mark.parametrize("cause", CAUSES)
def test_a_step_is_for_every_cause_unless_it_names_some(step: FallbackStep, cause: str) -> None:
    assert step.applies(cause, b"GET")


def test_a_step_that_names_causes_is_for_no_other() -> None:
    step = Static(when=frozenset({"timeout", "5xx"}))

    assert [cause for cause in CAUSES if step.applies(cause, b"GET")] == ["timeout", "5xx"]


METHODS = [b"GET", b"HEAD", b"OPTIONS", b"TRACE", b"PUT", b"DELETE", b"POST", b"PATCH", b"BREW"]


@pytest.mark.parametrize("step", EVERY_STEP, ids=lambda step: step.source)
def test_a_failed_post_never_looks_done(step: FallbackStep) -> None:
    expected = METHODS[:6] if step.source == "upstream" else METHODS[:2]

    assert [method for method in METHODS if step.applies("timeout", method)] == expected


@pytest.mark.parametrize(
    "step",
    [
        Static(methods=frozenset({b"POST"})),
        Mock(methods=frozenset({b"POST"})),
        Upstream("b", methods=frozenset({b"POST"})),
        Redirect(HERE, 307, methods=frozenset({b"POST"})),
    ],
    ids=lambda step: step.source,
)
def test_a_step_that_names_methods_is_for_those(step: FallbackStep) -> None:
    assert [method for method in METHODS if step.applies("timeout", method)] == [b"POST"]


def test_a_stored_copy_may_be_for_fewer_methods_but_never_for_others() -> None:
    assert not Stale(methods=frozenset({b"GET"})).applies("timeout", b"HEAD")
    with pytest.raises(ValueError, match=r"^copies are kept of answers to GET, and serve GET and HEAD only$"):
        Stale(methods=READS | {b"POST"})


@pytest.mark.parametrize("make", [Stale, Static, Mock, lambda when: Upstream("b", when=when)])
def test_an_unknown_cause_is_refused(make: type[Static]) -> None:
    with pytest.raises(
        ValueError, match=r"^no such cause: 4xx, open; there are breaker_open, timeout, connect"
    ):
        make(when=frozenset({"open", "timeout", "4xx"}))


def test_a_redirect_refuses_an_unknown_cause_too() -> None:
    with pytest.raises(ValueError, match="no such cause"):
        Redirect(HERE, when=frozenset({"open"}))


def test_the_defaults_are_these() -> None:
    stale, static, mock, upstream = Stale(), Static(), Mock(), Upstream("b")

    assert (stale.max_age, stale.override_origin) == (300, False)
    assert (static.status, static.content_type, static.body, static.fields) == (
        200,
        b"text/plain; charset=utf-8",
        b"",
        (),
    )
    assert (mock.status, mock.content_type, mock.body, mock.fields) == (200, b"application/json", b"", ())
    assert (upstream.timeout, upstream.max_concurrent) == (5, 10)
    assert Redirect(HERE).status == 302


ANSWERS = [Static, Mock]


@pytest.mark.parametrize("make", ANSWERS)
@pytest.mark.parametrize("status", [200, 204, 205, 207, 303, 305, 404, 503, 599])
def test_a_status_that_says_something_alone_can_be_configured(make: type[Static], status: int) -> None:
    assert make(status).status == status


@pytest.mark.parametrize("make", ANSWERS)
@pytest.mark.parametrize("status", [0, 100, 199, 206, 304, 600])
def test_a_status_that_makes_no_answer_is_refused(make: type[Static], status: int) -> None:
    with pytest.raises(
        ValueError, match=rf"^{status} cannot be answered: a status is 200 to 599, without 206 and"
    ):
        make(status)


@pytest.mark.parametrize("make", ANSWERS)
@pytest.mark.parametrize("status", [204, 205])
def test_a_status_without_a_body_is_not_given_one(make: type[Static], status: int) -> None:
    with pytest.raises(ValueError, match=rf"^a {status} has no body$"):
        make(status, body=b"x")


@pytest.mark.parametrize("make", ANSWERS)
@pytest.mark.parametrize(
    "value", [b"", b"text/html\r\nSet-Cookie: a=b", b"text/html\n", b" text/html", b"text/\x00"]
)
def test_a_content_type_that_is_no_field_value_is_refused(make: type[Static], value: bytes) -> None:
    with pytest.raises(
        ValueError, match=r"^the content type must be written in one line of visible characters$"
    ):
        make(content_type=value)


@pytest.mark.parametrize("make", ANSWERS)
@pytest.mark.parametrize("value", [b"", b"1", b"a, b", b"a\tb", b"\xc3\xa9", b"~!"])
def test_fields_can_be_added(make: type[Static], value: bytes) -> None:
    assert make(fields=((b"X-Notice", value),)).fields == ((b"X-Notice", value),)


@pytest.mark.parametrize("make", ANSWERS)
@pytest.mark.parametrize("value", [b"a\r\nSet-Cookie: a=b", b"a\n", b" a", b"a ", b"\x7f", b"a\x00b"])
def test_a_value_that_would_break_the_head_is_refused(make: type[Static], value: bytes) -> None:
    with pytest.raises(
        ValueError, match=r"^the value of X-Notice must be written in one line of visible char"
    ):
        make(fields=((b"X-Notice", value),))


@pytest.mark.parametrize("make", ANSWERS)
@pytest.mark.parametrize("name", [b"", b"X Notice", b"X:", b"X\r\nY", b"\xe9"])
def test_a_name_that_is_no_token_is_refused(make: type[Static], name: bytes) -> None:
    with pytest.raises(ValueError, match=r"^'.*' is not the name of a header field$"):
        make(fields=((b"X-First", b"1"), (name, b"1")))


@pytest.mark.parametrize(
    "name",
    [
        b"Age",
        b"Cache-Control",
        b"Cache-Status",
        b"Connection",
        b"Content-Length",
        b"Content-Type",
        b"Date",
        b"Keep-Alive",
        b"Proxy-Connection",
        b"Proxy-Status",
        b"TE",
        b"Trailer",
        b"TRANSFER-ENCODING",
        b"Upgrade",
        b"X-Content-Type-Options",
        b"X-Fallback-Source",
        b"X-Request-ID",
        b"x-system-degraded",
    ],
)
def test_the_marks_of_an_outage_and_the_framing_cannot_be_configured(name: bytes) -> None:
    with pytest.raises(ValueError, match=rf"^{name.decode()} is set by the proxy itself$"):
        Static(fields=((name, b"1"),))


@pytest.mark.parametrize("status", [302, 303, 307])
def test_a_redirect_passes_with_the_outage(status: int) -> None:
    assert Redirect(HERE, status).status == status


@pytest.mark.parametrize("status", [200, 300, 301, 304, 308])
def test_a_redirect_that_would_be_remembered_is_refused(status: int) -> None:
    with pytest.raises(ValueError, match=rf"^{status} is no passing redirect; there are 302, 303 and 307$"):
        Redirect(HERE, status)


def test_a_redirect_that_a_client_could_bend_is_refused() -> None:
    with pytest.raises(ValueError, match="a redirect leads to"):
        Redirect(b"/{path}")
