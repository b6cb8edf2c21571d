"""Log, traces and reports of a real sidecar: what arrives, and that nothing waits for whoever should take it."""

import json
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from time import monotonic
from typing import Any

import pytest

from tests.support.receivers import collector, nobody, sentry, silent

from .kit import App, Sidecar, arguments, ask, config, dial, pause, sidecar, until

TRACE = "0af7651916cd43dd8448eb211c80319c"
CALLER = "b7ad6b7169203331"
TRACED = {"traceparent": f"00-{TRACE}-{CALLER}-01", "tracestate": "vendor=a:b,other=1"}

# What `python -m sidecar` does, with a fault in it: a request for /boom meets an exception that nobody foresaw.
_FAULTY = """
from sidecar.pipeline import assemble
compose = assemble.compose
def composed(stages, terminal):
    def broken(exchange):
        secret = "hunter" + str(2)  # lines of code may go with a report: they have none
        authorization = "Bearer " + secret
        if exchange.request.path == b"/boom":
            raise RuntimeError(f"no way with '{secret}'")
        return terminal(exchange)
    return compose(stages, broken)
assemble.compose = composed
from sidecar.cli import main
main(prog_name="sidecar")
"""


def sent_upstream(answer: Any) -> dict[str, str]:
    """Give the fields that the upstream got, by their names in small letters."""
    return {name.lower(): value for name, value in answer.json()["fields"]}


# --- the log ---


def test_a_failure_has_a_line_with_all_that_was_decided(tmp_path: Path) -> None:
    route = "breaker: {consecutive_failures: 1}, retry: {retries: 1}"
    with sidecar(config(f"http://{nobody().address}", route=route), tmp_path) as proxy:
        answer = ask(proxy.traffic, "/a?token=hunter2", headers={**TRACED, "Authorization": "hunter2"})
        (line,) = until(lambda: proxy.events("request"), "the line of the request")

    assert answer.status in (502, 503)
    assert (line["level"], line["route"], line["path"], line["status"]) == (
        "warning",
        "all",
        "/a",
        answer.status,
    )
    assert (line["trace_id"], line["request_id"]) == (TRACE, answer.fields["x-request-id"])
    assert line["breaker"] == {"name": "all", "before": "CLOSED", "after": "OPEN"}
    assert line["why_not_retried"] == "breaker_open"
    assert [attempt["result"] for attempt in line["attempts"]] == ["upstream_connect"]
    assert 0 < line["deadline_left_ms"] <= 15_000
    assert line["upstream_ms"] <= line["total_ms"]
    assert "hunter2" not in proxy.said


def test_the_query_is_written_if_asked_for_and_never_its_secrets(app: App, tmp_path: Path) -> None:
    more = "access_log: all\nlog: {query: true}"
    with sidecar(config(app.url, more=more), tmp_path) as proxy:
        ask(proxy.traffic, "/hello?page=2&access_token=hunter2")
        (line,) = until(lambda: proxy.events("request"), "the line of the request")

    assert (line["path"], line["query"]) == ("/hello", "page=2&access_token=***")
    assert "hunter2" not in proxy.said


def test_of_good_answers_a_share_is_written_and_of_failures_all_are(app: App, tmp_path: Path) -> None:
    more = "access_log: all\nlog: {sample: 0%}"
    with sidecar(config(app.url, more=more), tmp_path) as proxy:
        for _ in range(5):
            ask(proxy.traffic, "/hello")
            ask(proxy.traffic, "/status/503")
        until(lambda: len(proxy.events("request")) >= 5, "the lines of the failures")

    assert [line["fate"] for line in proxy.events("request")] == ["upstream_status"] * 5


@pytest.mark.parametrize(("level", "events"), [("warning", {"request"}), ("error", set())])
def test_the_level_decides_what_is_written(app: App, tmp_path: Path, level: str, events: set[str]) -> None:
    """Nothing tells that it is up, so its own port does."""
    port = nobody().address.rpartition(":")[2]
    text = config(app.url, traffic=f"127.0.0.1:{port}", more=f"access_log: all\nlog: {{level: {level}}}")
    with Sidecar(arguments(text, tmp_path)) as proxy:
        until(lambda: _answers(f"127.0.0.1:{port}"), "an answer")
        ask(f"127.0.0.1:{port}", "/status/503")
        pause(0.2)
        assert proxy.stop() == 0

    assert {json.loads(line)["event"] for line in proxy.out} == events


def _answers(address: str) -> bool:
    try:
        return ask(address, "/hello").status == 200
    except OSError:
        return False


def test_no_request_waits_for_a_log_that_nobody_reads(app: App, tmp_path: Path) -> None:
    with Sidecar(arguments(config(app.url, more="access_log: all"), tmp_path), read_out=False) as proxy:
        proxy.out.append(proxy.stdout.readline())
        proxy.take_addresses(proxy.first_json("traffic"))
        slowest = 0.0
        for _ in range(1000):  # some 500 KB of lines; a pipe holds 64
            began = monotonic()
            assert ask(proxy.traffic, "/hello").status == 200
            slowest = max(slowest, monotonic() - began)

    assert slowest < 1.0


def test_a_hostile_request_makes_one_line_that_prints(app: App, tmp_path: Path) -> None:
    """What HTTP lets through: bytes beyond ASCII, which are control characters in Latin-1, in path and fields."""
    more = "access_log: all\nlog: {format: console, query: true}"
    port = nobody().address.rpartition(":")[2]
    text = config(app.url, traffic=f"127.0.0.1:{port}", more=more)
    with Sidecar(arguments(text, tmp_path)) as proxy:
        until(lambda: _answers(f"127.0.0.1:{port}"), "an answer")
        hostile = b"GET /hello\x9b2J\x85?a=\x9d0;x\x9c&b=%0d%0a[info] HTTP/1.1\r\nHost: a\r\nX-Request-ID: \x9b\r\n\r\n"
        with dial(f"127.0.0.1:{port}") as client:
            client.sendall(hostile)
            assert client.recv(1 << 16).startswith(b"HTTP/1.1 ")
        until(lambda: sum(" request " in line for line in tuple(proxy.out)) >= 2, "two lines")
        assert proxy.stop() == 0

    assert all(line.removesuffix("\n").isprintable() for line in proxy.out)
    assert all(re.match(r"\d\d:\d\d:\d\d\.\d+ \[", line) for line in proxy.out)


# --- traces ---


def test_a_request_is_traced_from_its_caller_to_its_upstream(app: App, tmp_path: Path) -> None:
    with collector() as there:
        otel = f"telemetry: {{otel: {{endpoint: 'http://{there.address}', service_name: shop}}}}"
        with sidecar(config(app.url, more=otel), tmp_path) as proxy:
            sent = sent_upstream(ask(proxy.traffic, "/what?token=hunter2", headers=TRACED))
            request, attempt = there.wait_for(2)

    assert (request.name, request.kind, request.trace, request.parent) == ("GET all", "server", TRACE, CALLER)
    assert (attempt.kind, attempt.trace, attempt.parent) == ("client", TRACE, request.id)
    assert sent["traceparent"] == f"00-{TRACE}-{attempt.id}-01"
    assert sent["tracestate"] == TRACED["tracestate"]
    assert request.start <= attempt.start <= attempt.end <= request.end + 1_000_000
    assert request.resource["service.name"] == "shop"
    assert not any(b"hunter2" in body for _, _, body in there.posts)


def test_a_trace_that_begins_here_goes_on_and_is_sampled_as_configured(app: App, tmp_path: Path) -> None:
    for sample, flags in (("100%", "01"), ("0%", "00")):
        with collector() as there:
            otel = f"telemetry: {{otel: {{endpoint: 'http://{there.address}', sample: {sample}}}}}"
            with sidecar(config(app.url, more=otel), tmp_path) as proxy:
                sent = sent_upstream(ask(proxy.traffic, "/what"))
            spans = there.spans()

        assert sent["traceparent"].endswith(f"-{flags}")
        assert [(span.kind, span.parent == "") for span in spans] == (
            [("server", True), ("client", False)] if flags == "01" else []
        )


def test_without_a_collector_the_context_is_passed_on_as_it_came(app: App, tmp_path: Path) -> None:
    with sidecar(config(app.url), tmp_path) as proxy:
        sent = sent_upstream(ask(proxy.traffic, "/what", headers=TRACED))

    assert {name: sent[name] for name in TRACED} == TRACED


def test_what_is_not_sent_yet_is_sent_at_the_end(app: App, tmp_path: Path) -> None:
    with collector() as there:
        otel = f"telemetry: {{otel: {{endpoint: 'http://{there.address}'}}}}"
        with sidecar(config(app.url, more=otel), tmp_path) as proxy:
            for _ in range(20):
                ask(proxy.traffic, "/hello")

        assert len(there.spans()) == 40


@contextmanager
def dead(kind: str) -> Iterator[str]:
    """Give the address of what does not answer."""
    with silent() as holding:
        yield (holding if kind == "silent" else nobody()).address


@pytest.mark.parametrize("kind", ["nobody", "silent"])
def test_a_dead_collector_and_a_dead_sentry_slow_nothing_and_nobody(
    app: App, tmp_path: Path, kind: str
) -> None:
    with dead(kind) as address:
        more = f"telemetry: {{otel: {{endpoint: 'http://{address}'}}, sentry: {{dsn: '${{SENTRY_DSN}}'}}}}"
        with _faulty(config(app.url, more=more), tmp_path, f"http://key@{address}/1") as proxy:
            slowest = 0.0
            for number in range(600):
                began = monotonic()
                boom = number % 50 == 0
                assert ask(proxy.traffic, "/boom" if boom else "/hello").status == (500 if boom else 200)
                slowest = max(slowest, monotonic() - began)
            began = monotonic()
            assert proxy.stop() == 0
            took = monotonic() - began

    assert slowest < 1.0
    assert took < 5.0
    assert "".join(proxy.err) == ""


# --- faults ---


@contextmanager
def _faulty(text: str, folder: Path, dsn: str) -> Iterator[Sidecar]:
    """Run a sidecar with a fault in it."""
    command = arguments(text, folder)
    with Sidecar([sys.executable, "-c", _FAULTY, *command[3:]], env={"SENTRY_DSN": dsn}) as proxy:
        proxy.take_addresses(proxy.first_json("traffic"))
        yield proxy
        assert proxy.stop() == 0


def test_a_fault_is_told_to_sentry_without_what_nobody_may_know(app: App, tmp_path: Path) -> None:
    with sentry() as there:
        more = "telemetry: {sentry: {dsn: '${SENTRY_DSN}', environment: blue}}"
        with _faulty(config(app.url, more=more), tmp_path, there.dsn) as proxy:
            answer = ask(
                proxy.traffic,
                "/boom?token=hunter2",
                headers={"Authorization": "Bearer hunter2", "Cookie": "session=hunter2"},
            )
            (event,) = there.wait_for(1, "events")

    assert answer.status == 500
    (told,) = event["exception"]["values"]
    assert (told["type"], told["value"]) == ("RuntimeError", "no way with '***'")
    assert event["tags"] == {"route": "all", "request_id": answer.fields["x-request-id"]}
    assert event["environment"] == "blue"
    assert "hunter2" not in json.dumps(event)
    assert "publickey" not in proxy.said, "the DSN is in no line"
