"""Whom `sidecar healthcheck` asks, as read from a URL or from a configuration."""

import pytest

from sidecar.cli.probe import Target


@pytest.mark.parametrize(
    ("url", "target"),
    [
        ("http://127.0.0.1:9900/health/live", Target("127.0.0.1", 9900, "/health/live")),
        ("http://127.0.0.1:9900/health?verbose=1", Target("127.0.0.1", 9900, "/health?verbose=1")),
        ("http://localhost:9900", Target("localhost", 9900, "/health/ready")),
        ("http://localhost:9900/", Target("localhost", 9900, "/health/ready")),
        ("http://ops.internal", Target("ops.internal", 80, "/health/ready")),
        ("http://[::1]:9900", Target("::1", 9900, "/health/ready")),
        ("unix:///run/ops.sock", Target("localhost", 0, "/health/ready", socket_path="/run/ops.sock")),
    ],
)
def test_a_url_names_whom_to_ask_and_for_what(url: str, target: Target) -> None:
    assert Target.parse(url) == target


@pytest.mark.parametrize(
    "url",
    [
        "",
        "127.0.0.1:9900",
        "https://127.0.0.1:9900",
        "http://",
        "http://:9900",
        "http://127.0.0.1:port",
        "http://127.0.0.1:65536",
        "http://[::1",
        "http://127.0.0.1:9900/a b",
        "http://127.0.0.1:9900/\r\nX: y",
        "http://bücher.example",
        "unix:run/ops.sock",
        "unix://run/ops.sock",
        "file:///run/ops.sock",
    ],
)
def test_what_cannot_be_asked_is_refused(url: str) -> None:
    with pytest.raises(ValueError, match=r"\S"):
        Target.parse(url)


@pytest.mark.parametrize(
    ("host", "port", "path", "url"),
    [
        ("0.0.0.0", 9900, None, "http://127.0.0.1:9900/health/ready"),
        ("", 9900, None, "http://127.0.0.1:9900/health/ready"),
        ("::", 9900, None, "http://[::1]:9900/health/ready"),
        ("10.0.0.5", 1, None, "http://10.0.0.5:1/health/ready"),
        ("", 0, "/run/ops.sock", "unix:///run/ops.sock"),
    ],
)
def test_a_listener_is_asked_where_this_machine_reaches_it(
    host: str, port: int, path: str | None, url: str
) -> None:
    assert str(Target.of_listener(host, port, path)) == url
