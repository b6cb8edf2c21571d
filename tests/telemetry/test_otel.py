"""Traces: a span for each request and each attempt, as a real collector gets them, and at no request's cost."""

import asyncio
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from time import monotonic, time_ns
from typing import Any

import pytest

from sidecar.config.address import parse_endpoint
from sidecar.config.load import load_text
from sidecar.counts import Histogram
from sidecar.errors import ConnectFailed, Disconnected, StartFailed
from sidecar.message import Headers, Reply, Request
from sidecar.pipeline.assemble import Policy, assemble
from sidecar.pipeline.exchange import Exchange
from sidecar.pipeline.stage import compose
from sidecar.pipeline.stages.trace import TraceStage
from sidecar.policy.breaker import Breaker, BreakerSettings
from sidecar.policy.retry import RetrySettings
from sidecar.telemetry.ids import TraceContext, trace_context
from sidecar.telemetry.otel import Tracer, make_tracer
from sidecar.version import VERSION
from tests.support.exchanges import Got, Route, a_request, some_parts
from tests.support.receivers import Receiver, Seen, collector, nobody, silent
from tests.support.upstream import Step, Upstream, answer, fail, stream
from tests.support.virtual_time import in_virtual_time

TRACE = "0af7651916cd43dd8448eb211c80319c"
CALLER = "b7ad6b7169203331"
SAMPLED = f"00-{TRACE}-{CALLER}-01".encode()
NOT_SAMPLED = f"00-{TRACE}-{CALLER}-00".encode()
SECRETS: Headers = [(b"Authorization", b"Bearer hunter2"), (b"Cookie", b"session=hunter2")]


@contextmanager
def traced(**settings: Any) -> Iterator[tuple[Tracer, Receiver]]:
    """Give a tracer and its collector; at the end everything has been sent."""
    with collector() as there:
        tracer = Tracer(there.url, **settings)
        try:
            yield tracer, there
        finally:
            tracer.close(5)


async def ask(tracer: Tracer, request: Request, *script: Step, **policy: Any) -> tuple[Got, Upstream]:
    """Ask a route `orders` whose upstream `db` plays a script, all of it traced."""
    upstream = Upstream(*script)
    terminal = compose(
        [TraceStage(tracer.attempts_at("db", parse_endpoint("http://db.internal:9000")))], upstream
    )
    settings = {"attempt": None, "total": None, "idle": None} | policy
    route = Route(assemble(Policy("orders", "db", **settings), some_parts(), Histogram(), terminal))
    loop = asyncio.get_running_loop()
    request.task = asyncio.current_task()
    sink: Callable[[Exchange], None] = tracer.sink(route.done.append)
    reply = await route.pipeline.call(Exchange(request, "orders", loop.time, sink))
    got = Got(reply.status, [*reply.fields.pairs, *reply.extra])
    error: BaseException | None = None
    try:
        while (
            reply.body is not None
            and not isinstance(reply.body, bytes)
            and (piece := await reply.body.read())
        ):
            got.body += piece
    except Disconnected as broke:
        error = broke
    reply.close(error)
    return got, upstream


def a_call(traceparent: bytes | None, target: str = "/orders/7?token=hunter2", **more: Any) -> Request:
    headers = [*SECRETS, *([(b"traceparent", traceparent)] if traceparent is not None else [])]
    return a_request("GET", target, headers, client="192.0.2.7", host=b"shop.example:8080", **more)


def by_kind(spans: list[Seen], kind: str) -> list[Seen]:
    return [span for span in spans if span.kind == kind]


def test_a_request_is_a_span_and_its_attempt_one_below_it() -> None:
    before = time_ns()
    with traced(service_name="shop-sidecar") as (tracer, there):

        @in_virtual_time
        async def play() -> None:
            await ask(tracer, a_call(SAMPLED), answer(200, b"hello", after=2))

        play()

    request, attempt = there.spans()
    assert (request.name, request.kind, request.trace, request.parent) == (
        "GET orders",
        "server",
        TRACE,
        CALLER,
    )
    assert (attempt.name, attempt.kind, attempt.trace, attempt.parent) == ("GET", "client", TRACE, request.id)
    assert (request.error, attempt.error) == (False, False)
    assert request.attributes == {
        "http.request.method": "GET",
        "http.route": "orders",
        "http.response.status_code": 200,
        "url.path": "/orders/7",
        "url.scheme": "http",
        "network.protocol.version": "1.1",
        "server.address": "shop.example",
        "server.port": 8080,
        "client.address": "192.0.2.7",
        "sidecar.fate": "ok",
        "sidecar.request_id": "test-000001",
    }
    assert attempt.attributes == {
        "http.request.method": "GET",
        "http.response.status_code": 200,
        "url.full": "http://db.internal:9000/orders/7",
        "network.protocol.version": "1.1",
        "server.address": "db.internal",
        "server.port": 9000,
        "sidecar.upstream": "db",
    }
    assert request.resource["service.name"] == "shop-sidecar"
    assert request.resource["service.version"] == VERSION
    assert before - 3_000_000_000 < request.start <= attempt.start
    assert attempt.end - attempt.start == pytest.approx(2e9, abs=1e3)
    assert (tracer.exported, tracer.failed, tracer.dropped, tracer.faults) == (2, 0, 0, 0)


def test_each_attempt_has_its_number_and_what_came_of_it() -> None:
    with traced() as (tracer, there):

        @in_virtual_time
        async def play() -> None:
            script = (fail(ConnectFailed()), answer(503), answer(200))
            await ask(tracer, a_call(SAMPLED), *script, retry=RetrySettings(retries=2))

        play()

    spans = there.spans()
    (request,), attempts = by_kind(spans, "server"), by_kind(spans, "client")
    told = [
        (
            span.attributes.get("http.request.resend_count"),
            span.attributes.get("http.response.status_code"),
            span.attributes.get("error.type"),
            span.error,
            span.parent == request.id,
        )
        for span in attempts
    ]
    assert told == [
        (None, None, "upstream_connect", True, True),
        (1, 503, "upstream_status", True, True),
        (2, 200, None, False, True),
    ]
    assert len({span.id for span in spans}) == 4
    assert (request.attributes["sidecar.fate"], request.error) == ("ok_after_retry", False)


def test_a_request_that_was_refused_has_a_span_with_its_fate_and_none_below() -> None:
    with traced() as (tracer, there):

        @in_virtual_time
        async def play() -> None:
            breaker = Breaker("db", BreakerSettings(), lambda: 0.5)
            breaker.force_open(0.0, None)
            await ask(tracer, a_call(SAMPLED), breaker=breaker)

        play()

    (request,) = there.spans()
    assert (
        request.error,
        request.attributes["error.type"],
        request.attributes["http.response.status_code"],
    ) == (
        True,
        "rejected_breaker_open",
        503,
    )


def test_a_body_that_breaks_is_an_error_whatever_its_head_said() -> None:
    with traced() as (tracer, there):

        @in_virtual_time
        async def play() -> None:
            await ask(tracer, a_call(SAMPLED), stream([(1, b"one")], breaks=Disconnected()))

        play()

    assert [(span.error, span.attributes["error.type"]) for span in there.spans()] == [
        (True, "upstream_disconnected")
    ] * 2


@pytest.mark.parametrize(("status", "error"), [(200, False), (404, False), (429, False), (500, True)])
def test_what_the_upstream_says_of_its_caller_is_no_error(status: int, error: bool) -> None:
    with traced() as (tracer, there):

        @in_virtual_time
        async def play() -> None:
            await ask(tracer, a_call(SAMPLED), answer(status))

        play()

    assert [span.error for span in there.spans()] == [error] * 2


@pytest.mark.parametrize(("traceparent", "sample"), [(NOT_SAMPLED, 1.0), (None, 0.0)])
def test_what_is_not_sampled_has_no_span(traceparent: bytes | None, sample: float) -> None:
    with traced(sample=sample) as (tracer, there):

        @in_virtual_time
        async def play() -> None:
            await ask(tracer, a_call(traceparent), fail(ConnectFailed()), answer(200), retry=RetrySettings())

        play()

    assert there.spans() == []
    assert tracer.exported == 0


@pytest.mark.parametrize(("sample", "flags"), [(0.0, b"00"), (1.0, b"01")])
def test_a_request_without_a_trace_begins_one_and_the_upstream_is_told(sample: float, flags: bytes) -> None:
    with traced(sample=sample) as (tracer, there):
        request = a_call(None)
        sent: list[bytes] = []

        async def noting(exchange: Exchange) -> Reply:
            sent.extend(value for name, value in exchange.request.extra if name == b"traceparent")
            raise ConnectFailed

        @in_virtual_time
        async def play() -> None:
            route = compose([TraceStage(tracer.attempts_at("db", parse_endpoint("http://db:9000")))], noting)
            exchange = Exchange(
                request, "orders", asyncio.get_running_loop().time, tracer.sink(lambda _: None)
            )
            for _ in range(2):
                with pytest.raises(ConnectFailed):
                    await route(exchange)
            exchange.finish(ConnectFailed())

        play()

    assert [each[53:] for each in sent] == [flags] * 2
    assert len({each[3:35] for each in sent}) == 1, "one trace"
    assert len({each[36:52] for each in sent}) == (2 if flags == b"01" else 1), "a parent for each attempt"
    assert [(span.kind, span.parent == "") for span in there.spans()] == (
        [("server", True), ("client", False), ("client", False)] if flags == b"01" else []
    )


def test_the_record_of_a_request_finds_the_trace_that_was_begun_for_it() -> None:
    with traced() as (tracer, there):
        found: list[TraceContext | None] = []
        sink = tracer.sink(lambda exchange: found.append(trace_context(exchange.request)))
        exchange = Exchange(a_call(None), "orders", monotonic, sink)
        exchange.finish(None)

    (context,) = found
    (span,) = there.spans()
    assert context is not None
    assert (context.trace_id, context.parent_id) == (span.trace, span.id)


def test_a_trace_whose_context_was_made_by_the_wire_has_no_parent() -> None:
    with traced() as (tracer, there):
        made = tracer.new_traceparent()

        @in_virtual_time
        async def play() -> None:
            await ask(tracer, a_call(made), answer(200))

        play()

    request, attempt = there.spans()
    _, trace, span, flags = made.decode().split("-")
    assert (request.trace, request.id, request.parent, flags) == (trace, span, "", "01")
    assert (attempt.trace, attempt.parent) == (trace, span)


@pytest.mark.parametrize(("traceparent", "parents"), [(SAMPLED, [CALLER]), (NOT_SAMPLED, []), (None, [])])
def test_what_is_fetched_behind_an_answer_stands_beside_the_request_that_caused_it(
    traceparent: bytes | None, parents: list[str]
) -> None:
    with traced() as (tracer, there):

        @in_virtual_time
        async def play() -> None:
            route = compose(
                [TraceStage(tracer.attempts_at("db", parse_endpoint("http://db:9000")))],
                Upstream(answer(200)),
            )
            exchange = Exchange(
                a_call(traceparent), "orders", asyncio.get_running_loop().time, lambda _: None
            )
            exchange.behind = True
            (await route(exchange)).close()

        play()
        assert tracer._open == {}

    assert [span.parent for span in there.spans()] == parents


@pytest.mark.parametrize(("sample", "low", "high"), [(0.0, 0, 0), (0.25, 400, 600), (1.0, 2000, 2000)])
def test_of_the_traces_that_begin_here_a_share_is_sampled(sample: float, low: int, high: int) -> None:
    tracer = Tracer(nobody().url, sample=sample)

    made = [tracer.new_traceparent() for _ in range(2000)]

    assert low <= sum(each.endswith(b"-01") for each in made) <= high
    assert len(set(made)) == 2000
    assert all(len(each) == 55 for each in made)
    tracer.close(0)


def test_sidecars_agree_on_which_traces_are_sampled() -> None:
    some, more = Tracer(nobody().url, sample=0.2), Tracer(nobody().url, sample=0.5)

    for _ in range(500):
        _, trace, _, flags = some.new_traceparent().decode().split("-")
        if flags == "01":
            assert int(trace[16:], 16) < 0.5 * 2**64, "who samples more has it too"
    some.close(0)
    more.close(0)


def test_nothing_secret_is_in_a_span() -> None:
    with traced() as (tracer, there):

        @in_virtual_time
        async def play() -> None:
            request = a_call(SAMPLED, "/orders/7?token=hunter2&q=hunter2", body=b"hunter2")
            await ask(tracer, request, answer(200, b"hunter2", headers=[(b"Set-Cookie", b"hunter2")]))

        play()

    assert len(there.spans()) == 2
    assert not any(b"hunter2" in body for _, _, body in there.posts)


def test_a_strangers_words_are_bounded_and_make_no_names() -> None:
    with traced() as (tracer, there):

        @in_virtual_time
        async def play() -> None:
            headers = [(b"traceparent", SAMPLED)]
            request = a_request("X" * 500, "/" + "x" * 9000, headers, host=b"h" * 9000)
            await ask(tracer, request, answer(200))

        play()

    request, attempt = there.spans()
    assert (request.name, attempt.name) == ("HTTP orders", "HTTP")
    assert request.attributes["http.request.method"] == "_OTHER"
    assert max(len(str(value)) for span in (request, attempt) for value in span.attributes.values()) < 1100


def test_the_collector_gets_the_fields_that_it_asks_for() -> None:
    with traced(headers={"X-Api-Key": "for the collector"}) as (tracer, there):

        @in_virtual_time
        async def play() -> None:
            await ask(tracer, a_call(SAMPLED), answer(200))

        play()

    assert there.posts[0][1]["x-api-key"] == "for the collector"
    assert there.posts[0][1]["content-type"] == "application/x-protobuf"


def test_spans_go_to_the_collector_and_not_to_a_proxy_of_the_environment_nor_with_its_passwords(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    netrc = tmp_path / "netrc"
    netrc.write_text("machine 127.0.0.1 login someone password hunter2\n")
    netrc.chmod(0o600)
    with collector() as proxy:
        monkeypatch.setenv("NETRC", str(netrc))
        for name in ("http_proxy", "HTTP_PROXY", "https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"):
            monkeypatch.setenv(name, f"http://{proxy.address}")
        for name in ("no_proxy", "NO_PROXY"):
            monkeypatch.delenv(name, raising=False)
        with traced(headers={"X-Api-Key": "for the collector"}) as (tracer, there):
            an_ended_exchange(tracer)

        assert (len(there.spans()), proxy.posts) == (1, [])
    assert "authorization" not in there.posts[0][1]


# --- a collector that is not well ---


def an_ended_exchange(tracer: Tracer) -> None:
    """Play a request that asked no upstream."""
    exchange = Exchange(a_call(SAMPLED), "orders", monotonic, tracer.sink(lambda _: None))
    exchange.status = 503
    exchange.finish(None)


@pytest.mark.parametrize("dead", ["nobody", "silent"])
def test_a_dead_collector_costs_spans_and_nobody_waits_for_it(dead: str) -> None:
    with silent() as holding:
        tracer = Tracer((holding if dead == "silent" else nobody()).url)
        slowest = 0.0
        for _ in range(3000):
            began = monotonic()
            an_ended_exchange(tracer)
            slowest = max(slowest, monotonic() - began)
        waiting = 3000 - tracer.dropped - tracer.failed
        began = monotonic()
        tracer.close(0.5)
        took = monotonic() - began

    assert slowest < 0.25
    assert took < 1.5
    assert (tracer.exported, tracer.dropped + tracer.failed) == (0, 3000)
    assert waiting <= 2048, "what waits is bounded"


def test_what_a_collector_refuses_is_counted_and_the_log_is_told_once() -> None:
    told: list[tuple[str, dict[str, object]]] = []
    with collector(status=400) as there:
        tracer = Tracer(there.url, tell=lambda event, **fields: told.append((event, fields)))
        for _ in range(300):
            an_ended_exchange(tracer)
        deadline = monotonic() + 10
        while tracer.failed < 300 and monotonic() < deadline:
            threading.Event().wait(0.01)
        tracer.close(5)

    assert (tracer.exported, tracer.failed, tracer.dropped) == (0, 300, 0)
    assert [event for event, _ in told] == ["telemetry.traces_lost"]


def test_a_fault_of_tracing_is_no_fault_of_the_request(monkeypatch: pytest.MonkeyPatch) -> None:
    def fault(*_: object) -> None:
        raise ZeroDivisionError

    with traced() as (tracer, _):
        monkeypatch.setattr("sidecar.telemetry.otel.trace_context", fault)

        @in_virtual_time
        async def play() -> None:
            got, _ = await ask(tracer, a_call(SAMPLED), answer(200, b"hello"))
            assert got.status == 200

        play()

    assert tracer.faults == 2


def test_no_request_is_remembered_when_it_is_over() -> None:
    with traced() as (tracer, _):

        @in_virtual_time
        async def play() -> None:
            for status in (200, 500):
                await ask(tracer, a_call(SAMPLED), answer(status))

        play()
        assert tracer._open == {}


# --- from the configuration ---

CONFIG = """
version: 1
listen: {{admin: "off"}}
upstreams: {{service: {{url: "http://127.0.0.1:9"}}}}
routes: [{{name: all, match: {{path: /**}}, upstream: service}}]
telemetry: {telemetry}
"""


@pytest.mark.parametrize("telemetry", ['"off"', "{}", '{otel: "off"}'])
def test_without_a_collector_there_is_no_tracer(telemetry: str) -> None:
    config = load_text(CONFIG.format(telemetry=telemetry), env={}).config

    assert make_tracer(config.telemetry, "http", lambda _, **__: None) is None


def test_the_configuration_says_where_to_and_under_which_name() -> None:
    with collector() as there:
        otel = (
            f"{{otel: {{endpoint: 'http://{there.address}', service_name: shop, headers: {{X-Key: abc}}}}}}"
        )
        config = load_text(CONFIG.format(telemetry=otel), env={}).config
        tracer = make_tracer(config.telemetry, "https", lambda _, **__: None)
        assert tracer is not None
        an_ended_exchange(tracer)
        tracer.close(5)

        (span,) = there.spans()
    assert (span.resource["service.name"], span.attributes["url.scheme"]) == ("shop", "https")
    assert there.posts[0][1]["x-key"] == "abc"


def test_a_variable_that_opentelemetry_does_not_take_is_a_sentence_and_no_traceback() -> None:
    """It reads some when it is imported, so this needs a process of its own."""
    program = """
from sidecar.errors import StartFailed
from sidecar.telemetry.otel import Tracer
try:
    Tracer("http://127.0.0.1:9/v1/traces").close(0)
except StartFailed as failed:
    print(failed)
"""
    env = {**os.environ, "OTEL_SPAN_ATTRIBUTE_COUNT_LIMIT": "many"}
    ended = subprocess.run(
        [sys.executable, "-c", program], env=env, capture_output=True, text=True, check=False
    )

    assert (ended.returncode, ended.stderr) == (0, "")
    assert ended.stdout.startswith(
        "telemetry.otel: OpenTelemetry does not start; is there a wrong value in an OTEL_*"
    )
    assert "OTEL_SPAN_ATTRIBUTE_COUNT_LIMIT" in ended.stdout
    assert len(ended.stdout.splitlines()) == 1


def test_without_the_extra_the_start_fails_with_a_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "opentelemetry", None)

    with pytest.raises(StartFailed) as failed:
        Tracer("http://127.0.0.1:4318/v1/traces")

    assert "pip install 'resilience-sidecar[otel]'" in str(failed.value)
