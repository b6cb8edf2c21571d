"""Collectors and DSNs: what is accepted, and where traces are posted."""

import pytest

from sidecar.config.collectors import parse_collector, parse_dsn, traces_url


@pytest.mark.parametrize(
    "text",
    [
        "http://127.0.0.1:4318",
        "https://collector.example",
        "https://collector.example/",
        "HTTPS://collector.example/otlp/v1/traces",
        "http://[::1]:4318",
        "http://my_collector:4318",
    ],
)
def test_the_url_of_a_collector_is_accepted(text: str) -> None:
    parse_collector(text)


@pytest.mark.parametrize(
    "text",
    [
        *("", "collector", "collector:4318", "grpc://c:4318", "unix:///run/c.sock", "http://", "http:///v1"),
        *("http://c:0", "http://c:99999", "http://c:x", "http://[::1", "http://::1:4318", "http://010.0.0.1"),
        *(
            "http://c?a=b",
            "http://c/?",
            "http://c#a",
            "http://a b",
            "http://c/\x7f",
            "http://u:p@c",
            "http://é",
        ),
    ],
)
def test_what_is_no_url_of_a_collector_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"^must "):
        parse_collector(text)


@pytest.mark.parametrize(
    ("endpoint", "url"),
    [
        ("http://c:4318", "http://c:4318/v1/traces"),
        ("http://c:4318/", "http://c:4318/v1/traces"),
        ("https://c/otlp/v1/traces", "https://c/otlp/v1/traces"),
        ("https://c/otlp/", "https://c/otlp/"),
    ],
)
def test_traces_go_to_the_path_of_the_protocol_where_none_is_named(endpoint: str, url: str) -> None:
    assert traces_url(endpoint) == url


@pytest.mark.parametrize(
    "text",
    [
        "https://0123456789abcdef@o1.ingest.sentry.example/42",
        "http://key@127.0.0.1:9000/1",
        "https://key:secret@sentry.example/a/b/7",
    ],
)
def test_a_dsn_is_accepted(text: str) -> None:
    parse_dsn(text)


@pytest.mark.parametrize(
    "text",
    [
        *("", "hunter2", "https://sentry.example/hunter2", "https://hunter2@sentry.example"),
        *(
            "https://hunter2@sentry.example/",
            "https://hunter2@sentry.example/abc",
            "https://@sentry.example/1",
        ),
        *(
            "ftp://hunter2@sentry.example/1",
            "https://hunter2@/1",
            "https://hunter2@a b/1",
            "https://hunter2@a:0/1",
        ),
        *(
            "https://hunter2@a/1?b=c",
            "https://hunter2@a/1#b",
            "https://hun ter2@a/1",
            "https://hunter2@a:x/1",
        ),
    ],
)
def test_what_is_no_dsn_is_refused_and_not_repeated(text: str) -> None:
    with pytest.raises(ValueError, match=r"^must ") as refusal:
        parse_dsn(text)

    assert "hunter2" not in str(refusal.value)
