"""The admin listener as a whole: what there is, and what is not."""

import asyncio
import json
from itertools import pairwise
from typing import Any

import pytest

from sidecar.control.admin.app import table
from tests.control.admin.conftest import JSON, Admin, problem_of

READS = [row.path for row in table() if row.method == "GET" and row.path != "/events"]
NEEDS = {"/breakers/{name}": "/breakers/database", "/explain": "/explain?url=/orders/1"}


def test_everything_that_outside_programs_rely_on_is_there() -> None:
    assert {(row.method, row.path) for row in table()} == {
        ("GET", "/"),
        ("GET", "/breakers"),
        ("GET", "/breakers/{name}"),
        ("POST", "/breakers/{name}/reset"),
        ("POST", "/breakers/{name}/open"),
        ("POST", "/breakers/{name}/close"),
        ("POST", "/breakers/reset"),
        ("POST", "/api/admin/reset-circuit-breakers"),
        ("GET", "/state"),
        ("GET", "/routes"),
        ("GET", "/upstreams"),
        ("GET", "/bulkheads"),
        ("GET", "/rate-limits"),
        ("GET", "/budgets"),
        ("GET", "/cache"),
        ("DELETE", "/cache"),
        ("GET", "/config"),
        ("POST", "/config/reload"),
        ("GET", "/requests"),
        ("GET", "/explain"),
        ("GET", "/events"),
        ("GET", "/maintenance"),
        ("PUT", "/maintenance"),
        ("DELETE", "/maintenance"),
        ("GET", "/log-level"),
        ("PUT", "/log-level"),
        ("GET", "/openapi.json"),
    }


@pytest.mark.parametrize("path", READS)
async def test_what_can_be_got_can_be_asked_for_with_head(admin: Admin, path: str) -> None:
    asked = NEEDS.get(path, path)

    got, head = await admin.client.get(asked), await admin.client.head(asked)

    assert (got.status, head.status, await head.read()) == (200, 200, b"")
    assert got.content_type == head.content_type
    assert admin.lines == []


@pytest.mark.parametrize("path", [*(path for path in READS if path != "/"), "/nothing"])
async def test_in_a_terminal_the_prompt_stands_on_a_line_of_its_own(admin: Admin, path: str) -> None:
    answer = await (await admin.client.get(NEEDS.get(path, path))).text()

    assert answer == answer.strip() + "\n"
    assert json.loads(answer) != ""


@pytest.mark.parametrize("path", ["/nothing", "/breakers/database/opn", "/breakers/", "/BREAKERS", "/api"])
async def test_what_is_not_there_is_404(admin: Admin, path: str) -> None:
    for method in ("GET", "POST"):
        assert await admin.refusal(method, path) == (404, "not_found")


async def test_a_path_that_is_not_there_is_told_what_it_may_mean(admin: Admin) -> None:
    problem = await problem_of(await admin.client.get("/breaker"))

    assert problem["detail"] == "There is no path `/breaker`; did you mean `/breakers`?"


async def test_a_method_that_is_not_there_is_told_those_that_are(admin: Admin) -> None:
    response = await admin.client.post("/maintenance", headers=JSON)

    assert (response.status, response.headers["Allow"]) == (405, "DELETE, GET, HEAD, PUT")


async def test_two_changes_at_once_are_both_made_one_after_the_other(admin: Admin) -> None:
    acts = ["open", "close"] * 10

    answers = await asyncio.gather(*(admin.ask("POST", f"/breakers/database/{act}") for act in acts))

    assert {status for status, _ in answers} == {200}
    changes = [line for line in admin.lines if line["event"] == "admin.change"]
    assert len(changes) == len(acts)
    for earlier, later in pairwise(changes):
        assert later["before"] == earlier["after"]
    _, now = await admin.ask("GET", "/breakers/database")
    assert changes[-1]["after"] == {key: now[key] for key in ("state", "forced", "forced_for")}


async def test_a_fault_of_ours_is_500_told_and_confined(
    admin: Admin, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(_: str | None) -> int:
        raise ZeroDivisionError("a secret of the inside")

    monkeypatch.setattr(admin.actions, "clear_cache", broken)

    status, problem = await admin.ask("DELETE", "/cache")

    assert (status, problem["code"]) == (500, "internal")
    assert "inside" not in json.dumps(problem)
    (line,) = admin.lines
    assert (line["event"], line["action"], line["outcome"]) == ("admin.fault", "cache.clear", "failed")
    assert isinstance(line["exc_info"], ZeroDivisionError)
    assert admin.live.changes["cache.clear", "failed"] == 1
    assert (await admin.ask("GET", "/breakers"))[0] == 200


async def test_a_connection_that_brings_no_request_is_not_kept_for_ever(
    admin: Admin, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Half a head, sent slowly, does not count as one."""
    runner = admin.client.server.runner
    assert runner is not None
    assert runner.server is not None
    monkeypatch.setitem(runner.server._kwargs, "keepalive_timeout", 0.05)
    host: Any = admin.client.host
    reader, writer = await asyncio.open_connection(host, admin.client.port)

    writer.write(b"GET /breakers HTTP/1.1\r\nHost: loc")

    assert await reader.read() == b""
    writer.close()
