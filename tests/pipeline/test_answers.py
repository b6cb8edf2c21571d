"""Every error in every format: the same facts, nothing of the inside, and nothing that a page would execute."""

import html
import json
import re
from email.utils import parsedate_to_datetime

import pytest

from sidecar.errors import (
    AttemptTimeout,
    BadResponse,
    BodyTooLarge,
    BreakerOpen,
    BulkheadFull,
    ClientError,
    ConnectFailed,
    Disconnected,
    HeadTooLarge,
    Internal,
    LoopDetected,
    Maintenance,
    MethodRefused,
    NoRoute,
    NotCached,
    NotImplementedCoding,
    Overloaded,
    QueueTimeout,
    RateLimited,
    Refused,
    RequestBodyTimeout,
    RequestError,
    RequestHeadTimeout,
    TargetTooLong,
    TotalTimeout,
    UpstreamFailed,
    UpstreamIdle,
    VersionRefused,
)
from sidecar.message import Headers, Reply
from sidecar.pipeline.answers import Answers, Format, max_forwards_answer
from tests.support.exchanges import a_request

BROWSER = (b"Accept", b"text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8")

# What each kind answers: its status, and its RFC 9209 error type, whose recommended status is ours wherever it has one.
TABLE: dict[type[RequestError], tuple[int, str, str]] = {
    ClientError: (400, "http_request_error", "bad_request"),
    RequestHeadTimeout: (408, "http_request_error", "bad_request"),
    RequestBodyTimeout: (408, "http_request_error", "timeout_idle"),
    MethodRefused: (405, "http_request_denied", "bad_request"),
    BodyTooLarge: (413, "http_request_error", "bad_request"),
    TargetTooLong: (414, "http_request_error", "bad_request"),
    HeadTooLarge: (431, "http_request_error", "bad_request"),
    NotImplementedCoding: (501, "http_request_error", "bad_request"),
    VersionRefused: (505, "http_request_error", "bad_request"),
    LoopDetected: (508, "proxy_loop_detected", "bad_request"),
    NoRoute: (404, "destination_not_found", "no_route"),
    NotCached: (504, "http_request_error", "bad_request"),
    RateLimited: (429, "http_request_denied", "rejected_rate_limit"),
    BulkheadFull: (503, "connection_limit_reached", "rejected_bulkhead_full"),
    QueueTimeout: (503, "connection_limit_reached", "rejected_queue_timeout"),
    BreakerOpen: (503, "destination_unavailable", "rejected_breaker_open"),
    Overloaded: (503, "connection_limit_reached", "rejected_overload"),
    Maintenance: (503, "destination_unavailable", "maintenance"),
    ConnectFailed: (502, "connection_refused", "upstream_connect"),
    AttemptTimeout: (504, "http_response_timeout", "timeout_attempt"),
    Disconnected: (502, "connection_terminated", "upstream_disconnected"),
    BadResponse: (502, "http_protocol_error", "upstream_bad_response"),
    UpstreamIdle: (504, "connection_read_timeout", "timeout_idle"),
    TotalTimeout: (504, "http_response_timeout", "timeout_total"),
    Internal: (500, "proxy_internal_error", "internal"),
}
FORMATS: list[tuple[Format, Headers]] = [
    ("auto", []),
    ("auto", [BROWSER]),
    ("problem+json", [BROWSER]),
    ("seed", []),
    ("text", []),
]
SECRET = "10.1.2.3:5432 /srv/secret.py KeyError('password')"


def explain(
    error: RequestError, fmt: Format = "auto", headers: Headers | None = None, method: str = "GET"
) -> Reply:
    """Answer a request on the route `orders` with `error`."""
    return Answers(fmt).for_error(error, a_request(method, "/x", headers), "orders")


def body_of(reply: Reply) -> str:
    """Give the body as text."""
    assert isinstance(reply.body, bytes)
    return reply.body.decode()


def problem_of(reply: Reply) -> dict[str, object]:
    """Give the body as JSON."""
    problem = json.loads(body_of(reply))
    assert isinstance(problem, dict)
    return problem


def test_the_table_names_every_error_that_a_client_can_see() -> None:
    def leaves(kind: type[RequestError]) -> set[type[RequestError]]:
        children = kind.__subclasses__()
        return {kind}.union(*(leaves(child) for child in children))

    groups = {RequestError, Refused, UpstreamFailed}
    unseen = {kind for kind in leaves(RequestError) if kind.__name__ in ("ClientGone", "ClientStalled")}

    assert set(TABLE) == leaves(RequestError) - groups - unseen


@pytest.mark.parametrize("method", ["GET", "HEAD"])
@pytest.mark.parametrize(("fmt", "headers"), FORMATS, ids=["auto", "browser", "problem+json", "seed", "text"])
@pytest.mark.parametrize("kind", TABLE, ids=lambda kind: kind.__name__)
def test_every_error_is_explained_in_every_format(
    kind: type[RequestError], fmt: Format, headers: Headers, method: str
) -> None:
    status, token, fate = TABLE[kind]

    reply = explain(kind(), fmt, headers, method)

    text = body_of(reply)
    assert reply.status == status
    assert reply.fields.values(b"proxy-status") == [f'sidecar; error={token}; details="{fate}"'.encode()]
    assert reply.extra == ((b"X-Request-ID", b"test-000001"),)
    assert reply.fields.values(b"cache-control") == [b"no-store"]
    assert reply.fields.values(b"x-content-type-options") == [b"nosniff"]
    assert (
        reply.fields.values(b"content-length") == [str(len(text)).encode()] == [b"%d" % (reply.length or 0)]
    )
    assert len(reply.fields.values(b"content-type")) == 1
    (date,) = reply.fields.values(b"date")
    assert parsedate_to_datetime(date.decode()).tzinfo is not None
    for fact in (fate, "test-000001", kind.detail):
        assert fact in html.unescape(text)


@pytest.mark.parametrize(("fmt", "headers"), FORMATS, ids=["auto", "browser", "problem+json", "seed", "text"])
@pytest.mark.parametrize(
    "kind", [kind for kind in TABLE if not issubclass(kind, ClientError)], ids=lambda kind: kind.__name__
)
def test_no_answer_tells_of_the_inside(kind: type[RequestError], fmt: Format, headers: Headers) -> None:
    reply = explain(kind(SECRET), fmt, headers)

    for part in SECRET.split():
        assert part.encode() not in reply.fields.wire
        assert part not in html.unescape(body_of(reply))


def test_what_is_wrong_with_the_clients_own_bytes_is_told() -> None:
    assert (
        problem_of(explain(ClientError("The method is not a token.")))["detail"]
        == "The method is not a token."
    )


def test_a_problem_has_these_members() -> None:
    assert problem_of(explain(BreakerOpen(retry_after=12.2))) == {
        "type": "urn:sidecar:problem:rejected_breaker_open",
        "title": "Service Unavailable",
        "status": 503,
        "detail": "The service has been failing and is given time to recover.",
        "code": "rejected_breaker_open",
        "request_id": "test-000001",
        "route": "orders",
        "retry_after": 13,
    }


def test_the_seed_format_has_the_error_in_an_object_of_its_own() -> None:
    error = problem_of(explain(TotalTimeout(), "seed"))["error"]

    assert isinstance(error, dict)
    assert (error["code"], error["message"]) == ("timeout_total", TotalTimeout.detail)


@pytest.mark.parametrize("route", ["", "_none"])
def test_a_request_without_a_route_names_none(route: str) -> None:
    assert "route" not in problem_of(Answers().for_error(NoRoute(), a_request(), route))


@pytest.mark.parametrize(
    ("accept", "content_type"),
    [
        ([], b"application/problem+json"),
        ([b"*/*"], b"application/problem+json"),
        ([b"application/json"], b"application/problem+json"),
        ([b"application/json, text/html"], b"application/problem+json"),
        ([b"text/html", b"application/problem+json"], b"application/problem+json"),
        ([BROWSER[1]], b"text/html; charset=utf-8"),
        ([b"text/plain", b"text/html"], b"text/html; charset=utf-8"),
        ([b"Text/HTML"], b"text/html; charset=utf-8"),  # RFC 9110 §8.3.1: types are case-insensitive
    ],
)
def test_a_browser_gets_a_page_and_everybody_else_a_problem(accept: list[bytes], content_type: bytes) -> None:
    reply = explain(TotalTimeout(), "auto", [(b"Accept", value) for value in accept])

    assert reply.fields.values(b"content-type") == [content_type]


@pytest.mark.parametrize(
    ("fmt", "content_type"),
    [
        ("problem+json", b"application/problem+json"),
        ("seed", b"application/json"),
        ("text", b"text/plain; charset=utf-8"),
    ],
)
def test_a_format_that_was_chosen_is_used_for_everybody(fmt: Format, content_type: bytes) -> None:
    assert explain(TotalTimeout(), fmt, [BROWSER]).fields.values(b"content-type") == [content_type]


@pytest.mark.parametrize("evil", ['<script>alert("1")</script>', "&lt;<b>'", "{title} %s {0}"])
def test_a_page_shows_what_a_client_sent_and_never_executes_it(evil: str) -> None:
    request = a_request(headers=[BROWSER], request_id=evil.replace(" ", ""))

    page = body_of(Answers().for_error(ClientError(evil), request, evil))

    assert "<script" not in page
    assert "<b>" not in page
    assert re.search(r"<p>(.*?)</p>", page, re.DOTALL) is not None
    assert evil in html.unescape(page)


def test_a_page_loads_nothing_from_anywhere() -> None:
    page = body_of(explain(TotalTimeout(), "auto", [BROWSER]))

    assert re.findall(r"https?:|src=|href=|url\(", page) == []


# --- Retry-After ---


@pytest.mark.parametrize(
    ("seconds", "header"), [(0.0, b"1"), (0.2, b"1"), (1.0, b"1"), (1.1, b"2"), (59.01, b"60")]
)
@pytest.mark.parametrize(("fmt", "headers"), FORMATS, ids=["auto", "browser", "problem+json", "seed", "text"])
def test_whoever_comes_back_when_told_to_does_not_come_too_early(
    seconds: float, header: bytes, fmt: Format, headers: Headers
) -> None:
    reply = explain(RateLimited(retry_after=seconds), fmt, headers)

    assert reply.fields.values(b"retry-after") == [header]


@pytest.mark.parametrize(
    "kind", [kind for kind in TABLE if issubclass(kind, Refused)], ids=lambda kind: kind.__name__
)
def test_every_refusal_says_when_to_come_back(kind: type[Refused]) -> None:
    reply = explain(kind())

    assert len(reply.fields.values(b"retry-after")) == 1
    assert problem_of(reply)["retry_after"] == int(reply.fields.values(b"retry-after")[0])


@pytest.mark.parametrize(
    "kind", [ClientError, NoRoute, BodyTooLarge, Internal], ids=lambda kind: kind.__name__
)
def test_where_waiting_does_not_help_nobody_is_told_to_wait(kind: type[RequestError]) -> None:
    reply = explain(kind())

    assert reply.fields.values(b"retry-after") == []
    assert "retry_after" not in problem_of(reply)


# --- particular answers ---


@pytest.mark.parametrize(
    ("token", "status"),
    [
        ("connection_refused", 502),
        ("connection_terminated", 502),
        ("destination_ip_unroutable", 502),
        ("dns_error", 502),
        ("tls_certificate_error", 502),
        ("tls_protocol_error", 502),
        ("connection_timeout", 504),
        ("dns_timeout", 504),
    ],
)
def test_a_failed_connection_says_how_it_failed(token: str, status: int) -> None:
    reply = explain(ConnectFailed(SECRET, token=token))

    assert (reply.status, problem_of(reply)["status"]) == (status, status)
    assert reply.fields.values(b"proxy-status") == [
        f'sidecar; error={token}; details="upstream_connect"'.encode()
    ]


def test_a_refused_method_comes_with_those_that_are_not() -> None:
    (allowed,) = explain(MethodRefused()).fields.values(b"allow")

    assert b"CONNECT" not in allowed
    assert {b"GET", b"HEAD", b"POST"} <= set(allowed.split(b", "))


def test_an_error_with_a_status_of_no_name_still_has_a_title() -> None:
    class Odd(RequestError):
        status = 599

    assert problem_of(explain(Odd()))["title"] == "Error"


# --- Max-Forwards: 0 ---


def test_options_that_goes_no_further_is_answered_here() -> None:
    reply = max_forwards_answer(a_request("OPTIONS", "*"))

    assert (reply.status, reply.body, reply.length) == (200, b"", 0)
    assert len(reply.fields.values(b"allow")) == 1


def test_trace_that_goes_no_further_gets_its_head_back_without_what_identifies_a_person() -> None:
    headers: Headers = [(b"X-A", b"1"), (b"Cookie", b"id=1"), (b"AUTHORIZATION", b"x"), (b"x-a", b"2")]

    reply = max_forwards_answer(a_request("TRACE", "/p?q", headers))

    assert reply.fields.values(b"content-type") == [b"message/http"]
    assert reply.body == b"TRACE /p?q HTTP/1.1\r\nX-A: 1\r\nx-a: 2\r\n\r\n"
    assert reply.length == len(reply.body)


@pytest.mark.parametrize("fmt", ["problem+json", "seed", "text", "auto"])
def test_what_is_kept_of_one_answer_shows_in_no_other(fmt: Format) -> None:
    """Answers differ by error, route, waiting, format and id; whatever came before, each says its own."""
    answers = Answers(fmt)
    requests = [a_request(headers=headers, request_id=f"id-{n}") for n, headers in enumerate([[], [BROWSER]])]
    errors = [BreakerOpen(retry_after=3), BreakerOpen(retry_after=4), BulkheadFull(), TotalTimeout()]

    def said(one: Answers) -> list[tuple[int, object, object, object]]:
        return [
            (reply.status, reply.body, reply.fields.pairs[1:], reply.extra)
            for route in ("a", "b")
            for error in errors
            for request in requests
            for reply in [one.for_error(error, request, route)]
        ]

    first = said(answers)

    assert said(answers) == first
    assert first == [
        line
        for route in ("a", "b")
        for error in errors
        for request in requests
        for reply in [Answers(fmt).for_error(error, request, route)]
        for line in [(reply.status, reply.body, reply.fields.pairs[1:], reply.extra)]
    ]
    assert all(
        request.request_id in bytes(str(body), "utf-8")
        for request, (_, body, *_) in zip(requests * 8, first, strict=True)
    )


def test_an_id_that_needs_escaping_is_escaped() -> None:
    reply = Answers("problem+json").for_error(BreakerOpen(), a_request(request_id='a"b\\c'))

    assert isinstance(reply.body, bytes)
    assert json.loads(reply.body)["request_id"] == 'a"b\\c'
    assert reply.length == len(reply.body)


def test_the_date_of_an_answer_is_that_of_its_second(monkeypatch: pytest.MonkeyPatch) -> None:
    answers = Answers()
    replies = []
    for second in (1.0, 2.0):
        monkeypatch.setattr("time.time", lambda now=second: now)
        replies.append(answers.for_error(BreakerOpen(), a_request()))

    assert [reply.fields.first(b"date") for reply in replies] == [
        b"Thu, 01 Jan 1970 00:00:01 GMT",
        b"Thu, 01 Jan 1970 00:00:02 GMT",
    ]
