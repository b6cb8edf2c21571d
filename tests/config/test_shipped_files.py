"""The files in `config/` load without warnings, and the reference has every key, with its default."""

import re
from pathlib import Path
from typing import get_args

import pytest

from sidecar.config.load import load_file, load_text
from sidecar.config.model import Config, Profile
from sidecar.config.shape import Shape, plain, shape_of
from tests.config.certificates import write_certificates

CONFIG = Path(__file__).parents[2] / "config"
SHIPPED = sorted(CONFIG.glob("*.yaml"))
REFERENCE = CONFIG / "sidecar.yaml"


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.name)
def test_a_shipped_file_loads_without_warnings(path: Path) -> None:
    """Whatever the environment: nothing is needed from it."""
    assert load_file(path, {}).warnings == ()


def test_there_is_a_file_for_every_profile_beside_the_reference_and_the_demo() -> None:
    profiles = {f"{profile}.yaml": profile for profile in get_args(Profile)}

    assert {path.name for path in SHIPPED} == {"demo.yaml", "sidecar.yaml", *profiles}
    assert {name: load_file(CONFIG / name, {}).config.profile for name in profiles} == profiles


def test_the_reference_says_the_defaults() -> None:
    """What it says is what would be in force without it."""
    least = """\
version: 1
upstreams: {orders: {url: http://127.0.0.1:9000}}
routes: [{name: list-orders, upstream: orders}]
"""

    assert plain(load_file(REFERENCE, {}).config) == plain(load_text(least, env={}).config)


def test_the_reference_has_every_key() -> None:
    written = set(re.findall(r"^[ #-]*([a-z_]+):", REFERENCE.read_text(), re.MULTILINE))

    assert keys(Shape("model", Config)) - written == set()


def test_the_reference_can_be_used_with_its_comments_taken_for_keys(tmp_path: Path) -> None:
    """What is commented out in it is right as well: every line of it, with the files that it names.

    Of what excludes each other one is left, and what production refuses needs another profile.
    """
    text = REFERENCE.read_text().replace("http://127.0.0.1:9000", "https://127.0.0.1")
    text = text.replace("profile: production", "profile: development")
    text = text.replace("upstreams:   ", "upstreams:\n  standby: {url: http://127.0.0.1:9001}\n#", 1)
    text = re.sub(r"^( {0,6})# ( *(?:(?:- )?[a-z_]+|X-[A-Za-z-]+):.*)$", r"\1\2", text, flags=re.MULTILINE)
    text = re.sub(r"^ +(?:path: /\*\*|truncate:) .*\n", "", text, flags=re.MULTILINE)
    text = re.sub(r"^(telemetry:) \{\}", r"\1", text, flags=re.MULTILINE)
    tls = tmp_path / "tls"
    tls.mkdir()
    write_certificates(tls / "server.pem", tls / "server.key", tls / "clients.pem")
    write_certificates(tls / "client.pem", tls / "client.key", tls / "ca.pem")
    (tmp_path / "mock.json").write_text("{}")
    (tmp_path / "sidecar.yaml").write_text(text)
    secrets = {
        "SIDECAR_ADMIN_TOKEN": "0123456789abcdef",
        "OTEL_API_KEY": "k",
        "SENTRY_DSN": "https://a1@sentry.example/7",
    }

    config = load_file(tmp_path / "sidecar.yaml", secrets).config

    assert config.listen.tls is not None
    assert config.upstreams["orders"].tls is not None
    assert config.upstreams["orders"].health is not None
    assert plain(config.upstreams["orders"].health) == {
        "path": "/",
        "method": "GET",
        "host": "orders.example",
        "interval": "10s",
        "timeout": "2s",
        "expect": ["200-299"],
        "fall": 3,
        "rise": 2,
        "jitter": "10%",
    }
    assert config.breakers["database"].header == "X-Database-Status"
    assert config.admin.token == "0123456789abcdef"
    assert config.telemetry is not None
    assert plain(config.telemetry) == {
        "otel": {
            "endpoint": "http://127.0.0.1:4318",
            "service_name": "sidecar",
            "sample": "100%",
            "headers": {"X-API-Key": "k"},
            "timeout": "5s",
        },
        "sentry": {"dsn": "https://a1@sentry.example/7", "environment": "live", "sample": "100%"},
    }
    (route,) = config.routes
    assert plain(route.match) == {
        "path_regex": "/v[0-9]+/orders",
        "host": ["api.example.com", "*.example.com"],
        "methods": ["GET", "HEAD"],
        "headers": {"X-Tenant": "acme", "X-Debug": "*"},
    }
    assert route.max_body == 10 << 20
    assert (route.breaker, route.bulkhead) == ("database", "reads")
    assert None not in (route.retry, route.rate_limit, route.cache, route.fault)
    assert [next(iter(plain(step))) for step in route.fallback or ()] == [
        "stale",
        "upstream",
        "static",
        "mock",
        "redirect",
    ]


def keys(shape: Shape) -> set[str]:
    if shape.model is None:
        return set()
    fields = shape.model.model_fields
    return set(fields).union(*(keys(shape_of(field)) for field in fields.values()))
