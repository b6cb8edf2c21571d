"""From a configuration to what answers requests: everything the file says, and nothing that it does not."""

import asyncio
import dataclasses
import re
from pathlib import Path
from typing import Any

import pytest
import trustme

from sidecar.config.load import load_text
from sidecar.config.model import RouteConfig, Timeouts
from sidecar.errors import StartFailed
from sidecar.message import Reply
from sidecar.pipeline.assemble import Policy
from sidecar.pipeline.stages.attempt import AttemptStage
from sidecar.runtime.engine import Engine, build
from sidecar.telemetry.record import Record
from tests.support.exchanges import a_request

TEXT = """
version: 1
upstreams:
  orders: {url: http://127.0.0.1:1, max_connections: 7}
  files: {url: unix:///nowhere/app.sock}
defaults: {timeout: {attempt: 2s, total: 3s, idle: off}, retry: off}
errors: {format: seed}
access_log: all
routes:
  - {name: one, match: {path: /one/**, methods: [GET]}, upstream: orders}
  - {name: two, match: {path: /two/*, host: api.example.com}, upstream: orders, timeout: {attempt: off, body: 1h}}
  - {name: three, match: {path_regex: "/[0-9]+", headers: {X-Tenant: "*"}}, upstream: files, max_body: 1KiB}
"""


def an_engine(text: str = TEXT, lines: list[Record] | None = None) -> Engine:
    """Build the engine of a configuration; what it logs goes to `lines`."""
    told: list[Record] = [] if lines is None else lines

    def fail(exchange: object, fault: Exception) -> None:
        raise fault

    return build(load_text(text), asyncio.get_running_loop(), line=told.append, on_fault=fail)


async def ask(engine: Engine, method: str = "GET", target: str = "/", **more: Any) -> Reply:
    """Ask, and end the reply."""
    reply = await engine.dispatcher(a_request(method, target, **more))
    reply.close()
    return reply


async def test_each_route_has_the_stages_that_its_settings_ask_for() -> None:
    engine = an_engine()

    assert [pipeline.route for pipeline in engine.dispatcher.pipelines] == ["one", "two", "three"]
    one, two, three = [" / ".join(pipeline.describe()) for pipeline in engine.dispatcher.pipelines]
    assert one == "record / attempt timeout 2s"
    assert re.fullmatch(r"record / bounds idle off, .*3600s.* / total deadline 3s / attempt", two)
    assert three == "record / bounds idle off, request body 1024 bytes / attempt timeout 2s"


def test_every_key_of_a_route_reaches_its_pipeline() -> None:
    """A key that is accepted and does nothing is worse than one that is refused: `engine` must hand each one on."""
    keys = (set(RouteConfig.model_fields) - {"name", "match", "timeout"}) | set(Timeouts.model_fields)
    made_of_several = {
        "rate_limit_key",
        "rate_limit_fields",
        "breaker_header",
        "budget",
        "store",
        "invalidates",
        "others",
        "shadow",
    }

    assert {field.name for field in dataclasses.fields(Policy)} == keys | {"route"} | made_of_several


async def test_there_is_one_pool_and_one_histogram_for_each_upstream() -> None:
    engine = an_engine()

    assert set(engine.pools) == set(engine.seconds) == {"orders", "files"}
    assert [str(pool.open) for pool in engine.pools.values()] == ["0", "0"]
    attempts = [pipeline.find(AttemptStage) for pipeline in engine.dispatcher.pipelines]
    assert [stage.seconds for stage in attempts if stage is not None] == [
        engine.seconds["orders"],
        engine.seconds["orders"],
        engine.seconds["files"],
    ]


@pytest.mark.parametrize(
    ("request_of", "route"),
    [
        ({"target": "/one/a/b"}, "one"),
        ({"target": "/one", "method": "POST"}, "_none"),
        ({"target": "/two/x", "host": b"api.example.com"}, "two"),
        ({"target": "/two/x", "host": b"other.example.com"}, "_none"),
        ({"target": "/42", "headers": [(b"x-tenant", b"a")]}, "three"),
        ({"target": "/42"}, "_none"),
    ],
)
async def test_a_request_is_matched_by_all_that_the_route_names(
    request_of: dict[str, Any], route: str
) -> None:
    engine = an_engine()

    await ask(engine, **request_of)

    assert [record.route for record in engine.recorder.records()] == [route]


async def test_an_upstream_that_is_not_there_is_a_502_in_the_format_that_was_chosen() -> None:
    lines: list[Record] = []
    engine = an_engine(lines=lines)

    reply = await ask(engine, target="/one")

    assert reply.status == 502
    assert reply.fields.first(b"content-type") == b"application/json"
    assert [(record.route, str(record.fate), record.upstream) for record in lines] == [
        ("one", "upstream_connect", "orders")
    ]


async def test_no_answer_of_a_dead_upstream_names_its_address() -> None:
    engine = an_engine()

    for reply in (
        await ask(engine, target="/one"),
        await ask(engine, target="/42", headers=[(b"X-Tenant", b"a")]),
    ):
        assert isinstance(reply.body, bytes)
        assert re.search(rb"127\.0\.0\.1|nowhere|sock|refused by|Errno", reply.body) is None
        assert re.search(rb"127\.0\.0\.1|nowhere|\.sock|Errno", reply.fields.wire) is None


async def test_a_tls_file_that_is_none_any_more_stops_the_start(tmp_path: Path) -> None:
    ca = tmp_path / "ca.pem"
    ca.write_bytes(trustme.CA().cert_pem.bytes())
    text = """
version: 1
upstreams: {secure: {url: "https://127.0.0.1:1", tls: {ca: %s}}}
routes: [{name: all, upstream: secure}]
"""
    loaded = load_text(text % ca)
    ca.write_text("")

    with pytest.raises(StartFailed, match=r"upstreams\.secure\.tls"):
        build(loaded, asyncio.get_running_loop(), line=print, on_fault=lambda _, __: None)


async def test_ids_are_made_for_requests_that_have_none() -> None:
    engine = an_engine()

    assert engine.new_id() != engine.new_id()


async def test_an_engine_that_was_aborted_answers_and_asks_nobody() -> None:
    engine = an_engine()

    engine.abort()

    assert (await ask(engine, target="/one")).status in (502, 503)
