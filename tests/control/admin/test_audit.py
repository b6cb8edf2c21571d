"""Every change and every refusal of one: a line, a count, an event. Strangers cannot bury them."""

import asyncio
from typing import Any

from sidecar.control.admin.audit import LINES_PER_SECOND
from tests.control.admin.conftest import JSON, TOKEN, Admin, Start

KNOWN = {"Authorization": f"Bearer {TOKEN}"}


def told(admin: Admin) -> list[dict[str, Any]]:
    """Give what the hub was told of."""
    return [dict(event.data) for event in admin.live.hub.recent if event.kind == "admin"]


async def test_a_change_is_told_with_who_what_before_and_after(admin: Admin) -> None:
    await admin.ask("POST", "/breakers/database/open?ttl=30s")

    assert admin.lines == [
        {
            "event": "admin.change",
            "action": "breaker.open",
            "target": "database",
            "client": "127.0.0.1",
            "by": "loopback",
            "before": {"state": "CLOSED", "forced": None, "forced_for": None},
            "after": {"state": "OPEN", "forced": "open", "forced_for": 30.0},
            "outcome": "done",
        }
    ]
    assert told(admin) == [
        {"action": "breaker.open", "target": "database", "who": "127.0.0.1 (loopback)", "outcome": "done"}
    ]
    assert admin.live.changes["breaker.open", "done"] == 1


async def test_a_refused_change_is_told_with_why(admin: Admin) -> None:
    await admin.ask("POST", "/breakers/databas/open")

    assert admin.lines == [
        {
            "event": "admin.refused",
            "action": "breaker.open",
            "target": "databas",
            "client": "127.0.0.1",
            "by": "loopback",
            "method": "POST",
            "status": 404,
            "code": "unknown_name",
            "why": "There is no breaker called `databas`; did you mean `database`?",
            "outcome": "refused",
        }
    ]
    assert told(admin) == [
        {"action": "breaker.open", "target": "databas", "who": "127.0.0.1 (loopback)", "outcome": "refused"}
    ]
    assert admin.live.changes["breaker.open", "refused"] == 1


async def test_a_method_that_nothing_takes_is_405_and_told(admin: Admin) -> None:
    for method in ("TRACE", "PATCH", "OPTIONS", "POST", "DELETE"):
        assert await admin.refusal(method, "/breakers") == (405, "method_not_allowed")

    assert [(line["action"], line["target"], line["method"], line["status"]) for line in admin.lines] == [
        ("unknown", "/breakers", method, 405) for method in ("TRACE", "PATCH", "OPTIONS", "POST", "DELETE")
    ]
    assert admin.live.changes["unknown", "refused"] == 5


async def test_bytes_that_are_no_request_are_400_and_told(admin: Admin) -> None:
    host: Any = admin.client.host
    for sent in (
        b"JUGGLE /breakers/database/open HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\r\n\r\n",
    ):
        reader, writer = await asyncio.open_connection(host, admin.client.port)
        writer.write(sent)
        answer = await reader.read()
        writer.close()
        assert answer.startswith(b"HTTP/1.0 400 ")

    assert [(line["event"], line["by"], line["status"], line["code"]) for line in admin.lines] == [
        ("admin.refused", "stranger", 400, "malformed")
    ] * 2
    assert admin.live.guards.breakers["database"].forced is None


async def test_looking_is_told_only_of_those_who_were_kept_out(start: Start) -> None:
    admin = await start(token=TOKEN)

    for path, headers in (("/breakers", KNOWN), ("/breakers/nothing", KNOWN), ("/breakers", {})):
        await admin.ask("GET", path, headers=headers)

    assert [(line["event"], line["action"], line["by"], line["status"]) for line in admin.lines] == [
        ("admin.refused", "read", "stranger", 401)
    ]
    assert admin.live.changes["read", "refused"] == 1


async def test_what_can_be_counted_is_there_at_0_from_the_start(admin: Admin) -> None:
    assert set(admin.live.changes.values()) == {0}
    assert {action for action, _ in admin.live.changes} == {
        "breaker.open",
        "breaker.close",
        "breaker.reset",
        "breakers.reset",
        "cache.clear",
        "config.reload",
        "log_level.set",
        "maintenance.begin",
        "maintenance.end",
        "read",
        "unknown",
    }


async def test_strangers_cannot_bury_the_log_nor_wash_away_the_events(start: Start) -> None:
    admin = await start(token=TOKEN)
    clock = [1000.0]
    admin.live.now = lambda: clock[0]

    for _ in range(30):
        await admin.ask("POST", "/breakers/database/open")
    assert (len(admin.lines), len(told(admin))) == (LINES_PER_SECOND, 1)
    clock[0] += 1.0
    await admin.ask("POST", "/breakers/database/open")

    assert len(admin.lines) == LINES_PER_SECOND + 1
    assert admin.lines[-1]["suppressed"] == 30 - LINES_PER_SECOND
    assert admin.live.changes["breaker.open", "refused"] == 31
    assert len(told(admin)) == 2


async def test_who_is_known_gets_a_line_for_each_refusal(start: Start) -> None:
    admin = await start(token=TOKEN)

    for _ in range(LINES_PER_SECOND + 5):
        await admin.ask("POST", "/breakers/x/open", headers=KNOWN)

    assert len(admin.lines) == len(told(admin)) == LINES_PER_SECOND + 5


async def test_a_name_in_a_line_is_short_and_on_one_line(admin: Admin) -> None:
    await admin.client.post(f"/breakers/a%0Ab%1B[31m{'x' * 4000}/open", headers=JSON)

    (line,) = admin.lines
    assert len(line["target"]) <= 140
    assert line["target"].startswith("a\\nb\\x1b[31mxxx")
    assert "\n" not in str(line["why"])
