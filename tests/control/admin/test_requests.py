"""Single requests: found by what became of them."""

import asyncio
from typing import Any

import pytest

from sidecar.fate import Fate
from sidecar.message import NO_FIELDS, Request
from sidecar.pipeline.exchange import Exchange
from tests.control.admin.conftest import YAML, Admin, Start


def happen(admin: Admin, number: int, *, route: str, fate: Fate, status: int, method: bytes = b"GET") -> None:
    """Let a request have been answered."""
    request = Request(method, b"/p", NO_FIELDS)
    request.request_id = b"id-%d" % number
    exchange = Exchange(request, route, lambda: 1.0, lambda _: None)
    exchange.fate, exchange.status = fate, status
    exchange.finished_at = 2.0
    admin.live.recorder(exchange)


async def ids(admin: Admin, **asked: Any) -> list[str]:
    """Ask, and give the ids."""
    status, rows = await admin.ask("GET", "/requests", params=asked)
    assert status == 200
    return [row["request_id"] for row in rows]


@pytest.fixture
def busy(admin: Admin) -> Admin:
    """Give one that has had four requests."""
    happen(admin, 1, route="orders", fate=Fate.OK, status=200)
    happen(admin, 2, route="search", fate=Fate.UPSTREAM_STATUS, status=502)
    happen(admin, 3, route="orders", fate=Fate.REJECTED_BREAKER_OPEN, status=503, method=b"POST")
    happen(admin, 4, route="_none", fate=Fate.NO_ROUTE, status=404)
    return admin


async def test_they_are_told_newest_first(busy: Admin) -> None:
    assert await ids(busy) == ["id-4", "id-3", "id-2", "id-1"]


@pytest.mark.parametrize(
    ("asked", "found"),
    [
        ({"fate": "rejected_breaker_open"}, ["id-3"]),
        ({"route": "orders"}, ["id-3", "id-1"]),
        ({"route": "_none"}, ["id-4"]),
        ({"request_id": "id-2"}, ["id-2"]),
        ({"request_id": "id-20"}, []),
        ({"status": "503"}, ["id-3"]),
        ({"status": "5xx"}, ["id-3", "id-2"]),
        ({"method": "post"}, ["id-3"]),
        ({"limit": "2"}, ["id-4", "id-3"]),
        ({"route": "orders", "status": "2XX"}, ["id-1"]),
    ],
)
async def test_they_are_found_by_each_of_their_sides(
    busy: Admin, asked: dict[str, str], found: list[str]
) -> None:
    assert await ids(busy, **asked) == found


@pytest.mark.parametrize(
    ("asked", "why"),
    [
        ({"fate": "breaker_opn"}, "There is no fate called `breaker_opn`"),
        (
            {"fate": "rejected_breaker"},
            "There is no fate called `rejected_breaker`; did you mean `rejected_breaker_open`?",
        ),
        ({"route": "order"}, "There is no route called `order`; did you mean `orders`?"),
        ({"status": "600"}, "`status` must be"),
        ({"status": "5x"}, "`status` must be"),
        ({"status": "٥٠٣"}, "`status` must be"),
        ({"limit": "0"}, "`limit` must be a whole number from 1 to 1000."),
        ({"limit": "1001"}, "`limit` must be"),
        ({"limit": "-1"}, "`limit` must be"),
        ({"limit": "9" * 5000}, "`limit` must be"),
    ],
)
async def test_a_filter_that_is_none_is_400(busy: Admin, asked: dict[str, str], why: str) -> None:
    status, problem = await busy.ask("GET", "/requests", params=asked)

    assert (status, problem["detail"][: len(why)]) == (400, why)


async def test_of_many_no_more_are_told_than_asked_for_and_traffic_has_its_turn(start: Start) -> None:
    admin = await start(YAML.replace("version: 1\n", "version: 1\nrecords: 100000\n"))
    for number in range(20_000):
        happen(admin, number, route="orders", fate=Fate.UPSTREAM_STATUS, status=502)
    turns = 0

    def turn() -> None:
        nonlocal turns
        turns += 1
        loop.call_soon(turn)

    loop = asyncio.get_running_loop()
    loop.call_soon(turn)
    asked = loop.create_task(ids(admin, status="503"))
    found = await asked

    assert found == []
    assert turns >= 20_000 // 200
    assert len(await ids(admin, limit="1000")) == 1000
    assert len(await ids(admin)) == 100


async def test_a_record_says_what_the_log_says(busy: Admin) -> None:
    _, (row,) = await busy.ask("GET", "/requests", params={"request_id": "id-3"})

    (record,) = [each for each in busy.live.recorder.records() if each.request_id == "id-3"]
    assert row == record.as_dict()
    assert {"request_id", "route", "fate", "why_not_retried", "attempts", "total_ms"} <= row.keys()
