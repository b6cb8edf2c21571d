"""The field in which a breaker tells its state is one that means nothing yet."""

import pytest

from sidecar.config.load import load_text
from sidecar.config.state_field import StateField


@pytest.mark.parametrize(
    "name", ["X-Database-Status", "x-cache-status", "Breaker", "X-Circuit-Breaker-Orders"]
)
def test_a_name_without_a_meaning_can_be_taken(name: str) -> None:
    assert StateField().parse(name) == name


@pytest.mark.parametrize(
    "name",
    [
        *("Connection", "transfer-encoding", "Keep-Alive", "TE", "Upgrade", "Trailer"),
        *("Via", "Age", "Retry-After", "X-Request-ID", "Proxy-Status", "Cache-Status", "X-System-Degraded"),
        *(
            "X-Circuit-Breaker",
            "RateLimit",
            "X-RateLimit-Remaining",
            "X-Upstream-Attempts",
            "X-Fallback-Source",
        ),
        *(
            "Content-Length",
            "Content-Anything",
            "Set-Cookie",
            "ETag",
            "Location",
            "Server",
            "WWW-Authenticate",
        ),
        *("", "a b", "a:b", "é", "a\nb"),
    ],
)
def test_a_name_that_means_something_cannot(name: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        StateField().parse(name)


def test_one_that_all_routes_inherit_is_one_and_a_route_can_do_without() -> None:
    """An answer is of one route, so the breakers of several may tell their states in one field."""
    loaded = load_text(
        """\
version: 1
upstreams: {a: {url: http://127.0.0.1:9000}}
defaults: {breaker: {header: X-Status}}
routes:
  - {name: r, upstream: a, match: {path: /r}}
  - {name: s, upstream: a, match: {path: /s}, breaker: {header: off}}
  - {name: t, upstream: a}
""",
        env={},
    )

    breakers = [route.breaker for route in loaded.config.routes]

    assert [getattr(breaker, "header", "none") for breaker in breakers] == ["X-Status", None, "X-Status"]
