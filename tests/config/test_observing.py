"""What is seen and steered: what the keys mean to the program, and what they mean together."""

import pytest

from sidecar.config.address import Address
from sidecar.config.load import load_text
from sidecar.config.model import Config
from sidecar.config.observing import HealthConfig
from sidecar.errors import ConfigError

LEAST = "version: 1\nupstreams: {a: {url: http://127.0.0.1:9000}}\nroutes: [{name: r, upstream: a}]\n"


def load(more: str) -> Config:
    return load_text(LEAST + more, env={}).config


def health(settings: str) -> HealthConfig | None:
    return (
        load_text(
            LEAST.replace(
                "{url: http://127.0.0.1:9000}", f'{{url: "http://127.0.0.1:9000", health: {settings}}}'
            ),
            env={},
        )
        .config.upstreams["a"]
        .health
    )


def test_values_are_what_the_program_works_with() -> None:
    config = load("""\
listen: {admin: "[::1]:0"}
headers: seed
admin: {token: 0123456789abcdef, hosts: [sidecar.internal, "a.example:8443"]}
telemetry:
  otel: {endpoint: "http://127.0.0.1:4318", sample: 5%, headers: {X-A: b}, timeout: 500ms}
  sentry: {dsn: "https://a1@sentry.example/7", sample: 50%}
log: {format: json, level: error, sample: 0.1%, query: true}
reload: {watch: true}
""")

    assert config.listen.admin == Address("::1", 0)
    assert config.headers == "seed"
    assert config.admin.model_dump() == {
        "token": "0123456789abcdef",
        "hosts": ("sidecar.internal", "a.example:8443"),
    }
    assert config.telemetry is not None
    assert config.telemetry.model_dump() == {
        "otel": {
            "endpoint": "http://127.0.0.1:4318",
            "service_name": "sidecar",
            "sample": 0.05,
            "headers": {"X-A": "b"},
            "timeout": 0.5,
        },
        "sentry": {"dsn": "https://a1@sentry.example/7", "environment": None, "sample": 0.5},
    }
    assert config.telemetry.otel is not None
    assert config.telemetry.otel.traces_url == "http://127.0.0.1:4318/v1/traces"
    assert config.log.model_dump() == {"format": "json", "level": "error", "sample": 0.001, "query": True}
    assert config.reload.watch is True


def test_the_settings_of_a_probe_are_what_the_program_works_with() -> None:
    settings = health(
        "{path: '/health?full', method: HEAD, host: b, interval: 1m, expect: [200-204, 304], jitter: 0%}"
    )

    assert settings is not None
    assert settings.model_dump() == {
        "path": "/health?full",
        "method": "HEAD",
        "host": "b",
        "interval": 60.0,
        "timeout": 2.0,
        "expect": {200, 201, 202, 203, 204, 304},
        "fall": 3,
        "rise": 2,
        "jitter": 0.0,
    }


def test_what_is_off_is_none() -> None:
    config = load("listen: {admin: off}\ntelemetry: off\n")

    assert (config.listen.admin, config.telemetry) == (None, None)
    assert health("off") is None


@pytest.mark.parametrize(
    ("written", "timeout", "interval"),
    [
        ("{interval: 1s}", 1.0, 1.0),
        ("{timeout: 15s}", 15.0, 15.0),
        ("{interval: 5s}", 2.0, 5.0),
        ("{timeout: 1s, interval: 1s}", 1.0, 1.0),
    ],
)
def test_of_timeout_and_interval_the_one_that_is_left_out_follows(
    written: str, timeout: float, interval: float
) -> None:
    settings = health(written)

    assert settings is not None
    assert (settings.timeout, settings.interval) == (timeout, interval)


@pytest.mark.parametrize(
    "address", ["127.0.0.1:1", "127.9.9.9:1", "localhost:1", '"[::1]:1"', "unix:///a", "off"]
)
def test_an_admin_address_of_this_machine_needs_no_token(address: str) -> None:
    assert load(f"listen: {{admin: {address}}}\n").admin.token is None


@pytest.mark.parametrize(
    "address", ['":1"', "0.0.0.0:1", '"[::]:1"', "10.0.0.1:1", "a.example:1", "0.0.0.0:0"]
)
def test_one_that_others_reach_is_refused_without_a_token(address: str) -> None:
    with pytest.raises(ConfigError) as refusal:
        load(f"listen: {{admin: {address}}}\n")
    (problem,) = refusal.value.problems
    config = load(f"listen: {{admin: {address}}}\nadmin: {{token: 0123456789abcdef}}\n")

    assert problem.startswith("<text>:4:17: listen.admin: can be reached from other machines, so")
    assert config.admin.token == "0123456789abcdef"


@pytest.mark.parametrize(
    "told_by", ["upstreams: {a: {url: http://a, health: {}}}", "defaults: {breaker: {}}"]
)
def test_readiness_may_ask_for_what_a_probe_or_a_breaker_tells(told_by: str) -> None:
    text = (
        LEAST.replace("upstreams: {a: {url: http://127.0.0.1:9000}}\n", "")
        if "upstreams" in told_by
        else LEAST
    )

    config = load_text(f"{text}{told_by}\nreadiness: {{require_upstream: true}}\n", env={}).config

    assert config.readiness.require_upstream is True
