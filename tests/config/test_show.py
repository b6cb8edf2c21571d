"""`sidecar config` prints what is in force: each value with its origin, loadable again, without secrets."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.config.environ import escape
from sidecar.config.load import load_file, load_text
from sidecar.config.reader import read
from sidecar.config.show import effective
from sidecar.config.tree import data
from sidecar.config.yamltext import quoted, scalar

SHIPPED = sorted((Path(__file__).parents[2] / "config").glob("*.yaml"))


def test_the_whole_text() -> None:
    loaded = load_text(
        """\
version: 1
profile: testing
listen: {traffic: "[::1]:0", ops: :9900}
upstreams:
  a: {url: "${URL}", idle_timeout: 90s}
defaults: {timeout: {total: off}}
routes:
  - name: first
    match: {path: "/a/{id}", host: [a.example, "${HOST}"], headers: {X-Tenant: "5", Authorization: Basic abc}}
    upstream: a
    max_body: 1536B
""".replace(":9900", '":9900"'),
        name="dir/f.yaml",
        env={"URL": "http://127.0.0.1:9000/", "HOST": "b.example"},
    )

    assert (
        effective(loaded)
        == f"""\
# in force: dir/f.yaml, profile testing
# hash: {loaded.digest}
version: 1                                                # dir/f.yaml:1
profile: testing                                          # dir/f.yaml:2
listen:
  traffic: "[::1]:0"                                      # dir/f.yaml:3
  ops: ":9900"                                            # dir/f.yaml:3
  admin: 127.0.0.1:9901                                   # default
limits:
  connections: 10000                                      # default
  head: 32KiB                                             # default
  target: 8KiB                                            # default
  fields: 100                                             # default
  head_timeout: 10s                                       # default
  keepalive_timeout: 75s                                  # default
  half_close_grace: 1s                                    # default
upstreams:
  a:
    url: http://127.0.0.1:9000                            # env URL
    connect_timeout: 1s                                   # profile testing
    max_connections: 256                                  # default
    idle_timeout: 90s                                     # dir/f.yaml:5
    health: off                                           # default
breakers: {{}}
bulkheads: {{}}
store:
  max_bytes: 64MiB                                        # default
  max_entries: 10000                                      # default
  max_body: 1MiB                                          # default
defaults:
  timeout:
    attempt: 2s                                           # profile testing
    total: off                                            # dir/f.yaml:6
    idle: 1m                                              # default
    body: off                                             # default
  max_body: off                                           # default
  retry:
    retries: 2                                            # default
    strategy: exponential                                 # default
    base: 10ms                                            # profile testing
    multiplier: 2                                         # default
    max: 100ms                                            # profile testing
    jitter: full                                          # default
    retry_on: [connect_error, reset, attempt_timeout, 502, 503, 504]  # default
    methods: idempotent                                   # default
    body_buffer: 1MiB                                     # default
    retry_after:
      max: 1s                                             # profile testing
    budget:
      ratio: 20%                                          # default
      min_per_second: 1                                   # default
      window: 10s                                         # default
  breaker: off                                            # default
  bulkhead: off                                           # default
  rate_limit: off                                         # default
  cache: off                                              # default
  fallback: off                                           # default
  fault: off                                              # default
routes:
  - name: first                                           # dir/f.yaml:8
    match:
      path: "/a/{{id}}"                                     # dir/f.yaml:9
      host: [a.example, b.example]                        # dir/f.yaml:9, env HOST
      headers:
        X-Tenant: "5"                                     # dir/f.yaml:9
        Authorization: "***"                              # dir/f.yaml:9
    upstream: a                                           # dir/f.yaml:10
    timeout:
      attempt: 2s                                         # profile testing
      total: off                                          # dir/f.yaml:6
      idle: 1m                                            # default
      body: off                                           # default
    max_body: 1536B                                       # dir/f.yaml:11
    retry:
      retries: 2                                          # default
      strategy: exponential                               # default
      base: 10ms                                          # profile testing
      multiplier: 2                                       # default
      max: 100ms                                          # profile testing
      jitter: full                                        # default
      retry_on: [connect_error, reset, attempt_timeout, 502, 503, 504]  # default
      methods: idempotent                                 # default
      body_buffer: 1MiB                                   # default
      retry_after:
        max: 1s                                           # profile testing
      budget:
        ratio: 20%                                        # default
        min_per_second: 1                                 # default
        window: 10s                                       # default
    breaker: off                                          # default
    bulkhead: off                                         # default
    rate_limit: off                                       # default
    cache: off                                            # default
    fallback: off                                         # default
    fault: off                                            # default
errors:
  format: auto                                            # default
headers: minimal                                          # default
admin:
  hosts: []                                               # default
readiness:
  require_upstream: false                                 # default
telemetry:
  otel: off                                               # default
  sentry: off                                             # default
log:
  format: auto                                            # default
  level: info                                             # default
  sample: 100%                                            # default
  query: false                                            # default
access_log: errors                                        # profile testing
records: 1000                                             # default
trusted_proxies: []                                       # default
reload:
  watch: false                                            # default
drain_timeout: 1s                                         # profile testing
"""
    )


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.name)
def test_what_is_printed_can_be_loaded_and_means_the_same(path: Path) -> None:
    loaded = load_file(path, {})

    again = load_text(effective(loaded), env={})

    assert (again.digest, again.config) == (loaded.digest, loaded.config)


def test_values_of_variables_that_look_secret_are_not_printed() -> None:
    text = """\
version: 1
upstreams: {a: {url: http://127.0.0.1:9000}}
routes: [{name: r, upstream: a, match: {path: "/${SHARED_SECRET}", host: ["${HOST_TOKEN}", b.example],
          headers: {X-A: "${A_KEY:-hunter2}", X-B: "${B}"}},
          fallback: [{static: {headers: {Set-Cookie: hunter2}, body: "${B_TOKEN:-hunter2}"}}],
          fault: {reset: true, header: {X-Api-Key: hunter2}, allow_in_production: true}}]
"""
    env = {"SHARED_SECRET": "hunter2", "HOST_TOKEN": "hunter2", "B": "shown"}

    printed = effective(load_text(text, env=env))

    assert "hunter2" not in printed
    assert [line.split("#")[0].strip() for line in printed.splitlines() if "***" in line] == [
        'path: "***"',
        'host: ["***", b.example]',
        'X-A: "***"',
        'body: "***"',
        'Set-Cookie: "***"',
        'X-Api-Key: "***"',
    ]


def test_a_token_a_dsn_and_the_fields_for_a_collector_are_secrets_wherever_they_come_from() -> None:
    text = """\
version: 1
upstreams: {a: {url: http://127.0.0.1:9000}}
routes: [{name: r, upstream: a}]
admin: {token: hunter2-hunter2-hunter2}
telemetry:
  otel: {endpoint: "http://127.0.0.1:4318", headers: {X-Team: "${TEAM}", X-Other: hunter2}}
  sentry: {dsn: "https://hunter2@sentry.example/7", environment: live}
"""

    loaded = load_text(text, env={"TEAM": "hunter2"})
    printed = effective(loaded)

    assert "hunter2" not in printed + repr(loaded.config)
    assert [line.split("#")[0].strip() for line in printed.splitlines() if "***" in line] == [
        'token: "***"',
        'X-Team: "***"',
        'X-Other: "***"',
        'dsn: "***"',
    ]
    assert "environment: live" in printed


def test_a_long_line_does_not_push_every_comment_away() -> None:
    url = "http://" + "a" * 60
    text = f"version: 1\nupstreams: {{a: {{url: {url}}}}}\nroutes: [{{name: r, upstream: a}}]\n"

    lines = effective(load_text(text, name="f", env={})).splitlines()

    assert "version: 1".ljust(56) + "  # f:1" in lines
    assert f"    url: {url}  # f:2" in lines


@given(st.text(max_size=30))
def test_any_text_is_written_so_that_it_reads_as_the_same(text: str) -> None:
    try:
        text.encode()
    except UnicodeEncodeError:
        return  # half a character is refused wherever it comes from

    for written in (scalar(escape(text)), quoted(escape(text))):
        document = read(f"[{written}, {written}]", "f", {})
        assert document.root is not None
        assert data(document.root) == [text, text]


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (True, "true"),
        (5, "5"),
        (0.5, "0.5"),
        ("off", "off"),
        ("true", '"true"'),
        ("5", '"5"'),
        ("null", '"null"'),
        ("", '""'),
        ("/**", "/**"),
        ("*.example", '"*.example"'),
        ("a: b", '"a: b"'),
        ("a #b", '"a #b"'),
        ("a:", '"a:"'),
        ("é\n", '"é\\U0000000A"'),
    ],
)
def test_quotes_stand_only_where_they_are_needed(value: object, text: str) -> None:
    assert scalar(value) == text
