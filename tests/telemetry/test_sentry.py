"""Faults told to Sentry: what a real HTTP endpoint gets, what it never gets, and what it costs when it is dead."""

import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from time import monotonic
from typing import Any

import pytest

from sidecar.config.load import load_text
from sidecar.errors import StartFailed
from sidecar.telemetry.sentry import Reporter, make_reporter
from sidecar.version import VERSION
from tests.support.receivers import Receiver, nobody, sentry, silent


def a_fault(text: str = "why", cause: BaseException | None = None) -> BaseException:
    """Raise and catch a fault, in a frame whose local variables hold what nobody may see."""

    def fail(authorization: str, cookie: dict[str, str]) -> None:
        raise ValueError(text) from cause

    with pytest.raises(ValueError) as caught:  # noqa: PT011 -- whatever its text is
        fail("Bearer hunter2", {"session": "hunter2"})
    return caught.value


@contextmanager
def reporting(**settings: Any) -> Iterator[tuple[Reporter, Receiver]]:
    with sentry() as there:
        reporter = Reporter(there.dsn, **({"environment": "testing"} | settings))
        try:
            yield reporter, there
        finally:
            reporter.close(5)


def test_a_fault_arrives_with_its_stack_and_its_tags() -> None:
    with reporting() as (reporter, there):
        reporter.report(a_fault("boom"), route="orders", request_id="abc-000001")
        (event,) = there.wait_for(1, "events")

    (told,) = event["exception"]["values"]
    assert (told["type"], told["value"]) == ("ValueError", "boom")
    assert told["stacktrace"]["frames"][-1]["function"] == "fail"
    assert "raise ValueError(text)" in told["stacktrace"]["frames"][-1]["context_line"]
    assert event["tags"] == {"route": "orders", "request_id": "abc-000001"}
    assert (event["environment"], event["release"]) == ("testing", f"resilience-sidecar@{VERSION}")
    assert there.posts[0][0] == "/api/7/envelope/"


def test_the_whole_chain_of_exceptions_is_told() -> None:
    with reporting() as (reporter, there):
        reporter.report(a_fault("outer", cause=KeyError("inner")))
        (event,) = there.wait_for(1, "events")

    assert [each["type"] for each in event["exception"]["values"]] == ["KeyError", "ValueError"]


def test_no_local_variable_no_request_and_no_quoted_text_leaves_the_machine() -> None:
    texts = [
        "no field 'hunter2' here",
        "Authorization: Basic hunter2",
        "Bearer hunter2 refused",
        "GET http://user:hunter2@host/path?token=hunter2",
        "password=hunter2",
        "[(b'Cookie', b'hunter2')]",
    ]
    with reporting() as (reporter, there):
        for text in texts[:5]:
            reporter.report(a_fault(text, cause=KeyError("hunter2")))
        there.wait_for(5, "events")
        threading.Event().wait(1.05)  # five a second
        reporter.report(a_fault(texts[5]))
        events = there.wait_for(6, "events")

    assert len(events) == 6
    for event in events:
        sources = [
            frame.pop(key, None)
            for told in event["exception"]["values"]
            for frame in told["stacktrace"]["frames"]
            for key in ("context_line", "pre_context", "post_context")
        ]
        assert any(sources), "lines of this very file, which do have the word"
        assert "hunter2" not in str(event)
        assert set(event) <= {
            "environment",
            "event_id",
            "exception",
            "level",
            "platform",
            "release",
            "sdk",
            "server_name",
            "tags",
            "timestamp",
        }


def test_the_sdk_patches_nothing() -> None:
    import asyncio
    import logging
    import threading as threads

    before = (
        sys.excepthook,
        logging.Logger.callHandlers,
        threads.Thread.start,
        threads.excepthook,
        asyncio.BaseEventLoop.create_task,
        asyncio.BaseEventLoop.run_forever,
    )
    with reporting():
        after = (
            sys.excepthook,
            logging.Logger.callHandlers,
            threads.Thread.start,
            threads.excepthook,
            asyncio.BaseEventLoop.create_task,
            asyncio.BaseEventLoop.run_forever,
        )
        import sentry_sdk

        assert not sentry_sdk.get_client().is_active(), "nobody else's exceptions become ours"

    assert after == before


@pytest.mark.parametrize(("sample", "sent"), [(0.0, 0), (1.0, 3)])
def test_a_share_of_the_faults_is_sent(sample: float, sent: int) -> None:
    with reporting(sample=sample) as (reporter, there):
        for _ in range(3):
            reporter.report(a_fault())

    assert len(there.events()) == sent


def test_a_fault_in_every_request_is_told_five_times_a_second_and_the_rest_is_counted() -> None:
    with reporting() as (reporter, there):
        fault = a_fault()
        began = monotonic()
        for _ in range(1000):
            reporter.report(fault)
        assert monotonic() - began < 0.9, "within one second, or this test says nothing"

    assert len(there.events()) in (5, 10), "a second may have ended among them"
    assert reporter.dropped == 1000 - len(there.events())


@pytest.mark.parametrize("dead", ["nobody", "silent"])
def test_a_dead_sentry_keeps_nobody_waiting(dead: str) -> None:
    with silent() as holding:
        reporter = Reporter((holding if dead == "silent" else nobody()).dsn, environment="testing")
        began = monotonic()
        for _ in range(100):
            reporter.report(a_fault())
        assert monotonic() - began < 0.5
        began = monotonic()
        reporter.close(0.5)
        assert monotonic() - began < 1.5


def test_what_cannot_be_told_is_counted_and_the_next_one_is_told() -> None:
    class Odd(Exception):
        def __str__(self) -> str:
            raise ZeroDivisionError

    with reporting() as (reporter, there):
        reporter.report(Odd())
        reporter.report(a_fault("boom"))

    assert "boom" in [event["exception"]["values"][-1]["value"] for event in there.events()]


def test_reports_go_to_sentry_and_not_to_a_proxy_of_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    with sentry() as proxy:
        for name in ("http_proxy", "HTTP_PROXY", "https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"):
            monkeypatch.setenv(name, f"http://{proxy.address}")
        for name in ("no_proxy", "NO_PROXY"):
            monkeypatch.delenv(name, raising=False)
        with reporting() as (reporter, there):
            reporter.report(a_fault("boom"))
            there.wait_for(1, "events")

        assert proxy.posts == []


# --- from the configuration ---

CONFIG = """
version: 1
profile: production
listen: {{admin: "off"}}
upstreams: {{service: {{url: "http://127.0.0.1:9"}}}}
routes: [{{name: all, match: {{path: /**}}, upstream: service}}]
telemetry: {telemetry}
"""


@pytest.mark.parametrize("telemetry", ['"off"', "{}", '{sentry: "off"}'])
def test_without_a_dsn_there_is_no_reporter(telemetry: str) -> None:
    config = load_text(CONFIG.format(telemetry=telemetry), env={}).config

    assert make_reporter(config.telemetry, config.profile) is None


@pytest.mark.parametrize(("more", "environment"), [("", "production"), (", environment: blue", "blue")])
def test_reports_name_the_environment_or_the_profile(more: str, environment: str) -> None:
    with sentry() as there:
        config = load_text(
            CONFIG.format(telemetry=f"{{sentry: {{dsn: '{there.dsn}'{more}}}}}"), env={}
        ).config
        reporter = make_reporter(config.telemetry, config.profile)
        assert reporter is not None
        reporter.report(a_fault())
        (event,) = there.wait_for(1, "events")
        reporter.close(5)

    assert event["environment"] == environment


def test_a_dsn_that_is_none_is_said_without_it() -> None:
    with pytest.raises(StartFailed) as failed:
        Reporter("http://hunter2", environment="testing")

    assert str(failed.value) == "telemetry.sentry.dsn is not a DSN"
    assert failed.value.__cause__ is None


def test_without_the_extra_the_start_fails_with_a_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "sentry_sdk", None)

    with pytest.raises(StartFailed) as failed:
        Reporter("http://key@127.0.0.1/1", environment="testing")

    assert "pip install 'resilience-sidecar[sentry]'" in str(failed.value)
