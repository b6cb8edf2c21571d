"""Warnings about what is seen and steered: each speaks up where it should, and only there."""

import pytest

from sidecar.config.load import load_text

HIDDEN = "a secret is written here; put it into the environment, as in"


def warnings(top: str, upstream: str = "", route: str = "", **env: str) -> list[str]:
    text = f"""\
version: 1
upstreams: {{a: {{url: http://127.0.0.1:9000, {upstream}}}}}
routes: [{{name: r, upstream: a, {route}}}]
{top}
"""
    return [str(each).split(": ", 1)[1] for each in load_text(text, name="f", env=env).warnings]


def test_readiness_that_depends_on_others_is_warned_of() -> None:
    assert warnings("readiness: {require_upstream: true}", "health: {}") == [
        (
            "readiness.require_upstream: warning[readiness-upstream]: while the upstreams fail, nothing is sent here "
            "any more: no fallback, no stored copy and no answer that says why"
        )
    ]
    assert warnings("readiness: {require_upstream: false}", "health: {}") == []


def test_secrets_that_stand_in_the_file_are_warned_of() -> None:
    assert warnings("""\
admin: {token: 0123456789abcdef}
telemetry:
  otel: {endpoint: "http://c:4318", headers: {X-A: b}}
  sentry: {dsn: "https://a1@sentry.example/7"}
""") == [
        f"admin.token: warning[secret-in-file]: {HIDDEN} `${{SIDECAR_ADMIN_TOKEN}}`",
        f"telemetry.otel.headers.X-A: warning[secret-in-file]: {HIDDEN} `${{OTEL_TOKEN}}`",
        f"telemetry.sentry.dsn: warning[secret-in-file]: {HIDDEN} `${{SENTRY_DSN}}`",
    ]


def test_secrets_of_the_environment_are_not() -> None:
    secrets = """\
admin: {token: "${T}"}
telemetry:
  otel: {endpoint: "http://c:4318", headers: {X-A: "Bearer ${T}"}}
  sentry: {dsn: "https://${K}@sentry.example/7"}
"""

    assert warnings(secrets, T="0123456789abcdef", K="a1") == []


def test_a_default_in_the_file_is_a_secret_in_the_file() -> None:
    (warning,) = warnings('admin: {token: "${T:-0123456789abcdef}"}')

    assert warning.startswith("admin.token: warning[secret-in-file]: ")


def test_a_log_of_requests_that_are_not_observed_is_warned_of() -> None:
    nothing = "warning[telemetry-off]: does nothing: with `telemetry: off` no request is counted, recorded or logged"

    assert warnings("telemetry: off\naccess_log: all\nrecords: 5") == [
        f"access_log: {nothing}",
        f"records: {nothing}",
    ]
    assert warnings("telemetry: off\naccess_log: off\nrecords: 0") == []
    assert warnings("telemetry: off\nprofile: development") == []
    assert warnings("access_log: all") == []


def test_probes_all_the_time_are_warned_of() -> None:
    assert warnings("", "health: {interval: 500ms, timeout: 100ms}") == [
        (
            "upstreams.a.health.interval: warning[quick-probe]: asks every 500ms; seconds are enough, "
            "`fall` bad ones tell"
        )
    ]
    assert warnings("", "health: {interval: 1s}") == []


def test_queries_in_the_log_are_warned_of() -> None:
    assert warnings("log: {query: true}") == [
        (
            "log.query: warning[logged-query]: what a query holds is then in the log, but for values whose names "
            "sound like secrets"
        )
    ]


def test_a_sample_of_lines_that_are_not_written_is_warned_of() -> None:
    assert warnings("log: {sample: 10%}") == [
        (
            "log.sample: warning[idle-sample]: is of the good answers, which get a line with `access_log: all` only, "
            "not `errors`"
        )
    ]
    assert warnings("log: {sample: 10%}\naccess_log: all") == []
    assert warnings("log: {sample: 10%}\nprofile: development") == []
    assert warnings("log: {sample: 100%}") == []


@pytest.mark.parametrize("settings", ['{token: "${T}"}', "{hosts: [a.example]}"])
def test_settings_of_an_admin_address_that_is_off_are_warned_of(settings: str) -> None:
    token = "0123456789abcdef"
    admin = f"admin: {settings}"

    assert warnings(f"{admin}\nlisten: {{admin: off}}", T=token) == [
        "admin: warning[idle-admin]: does nothing: `listen.admin` is off"
    ]
    assert warnings(admin, T=token) == []


def test_fields_that_no_answer_gets_are_warned_of() -> None:
    never = "warning[idle-header]: is on no answer: `headers` is off"

    assert warnings("breakers: {b: {header: X-B}}\nheaders: off", route="breaker: b") == [
        f"breakers.b.header: {never}"
    ]
    assert warnings("headers: off", route="breaker: {header: X-B}") == [f"routes[0].breaker.header: {never}"]
    assert warnings("headers: off\ndefaults: {breaker: {header: X-B}}") == [
        f"defaults.breaker.header: {never}"
    ]
    assert warnings("headers: off", route="breaker: {}") == []
    assert warnings("headers: minimal", route="breaker: {header: X-B}") == []


def test_the_port_of_the_other_protocol_is_warned_of() -> None:
    assert warnings("telemetry: {otel: {endpoint: 'http://c:4317'}}") == [
        (
            "telemetry.otel.endpoint: warning[grpc-port]: 4317 is the port of OTLP over gRPC; over HTTP, as it is "
            "sent here, it is 4318"
        )
    ]
    assert warnings("telemetry: {otel: {endpoint: 'http://c:4318'}}") == []
