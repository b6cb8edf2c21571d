"""What is asked: bodies within their bounds, JSON that means one thing, and no word that nobody knows."""

import asyncio
import gzip
import json
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.control.admin.app import table
from sidecar.control.admin.asking import MAX_BODY, object_in, seconds
from sidecar.control.admin.problem import Problem
from tests.control.admin.conftest import JSON, Admin, Start, problem_of

MAINTENANCE = next(row for row in table() if row.action == "maintenance.begin")


@pytest.mark.parametrize(
    ("body", "code"),
    [
        (b"{", "bad_json"),
        (b"nonsense", "bad_json"),
        (b"[]", "bad_json"),
        (b'"text"', "bad_json"),
        (b"null", "bad_json"),
        (b"\xff\xfe", "bad_json"),
        (b'{"route": null, "route": "orders"}', "bad_json"),
        (b"[" * 60_000, "bad_json"),
        (b"1" * 60_000, "bad_json"),
        (b'{"rout": "orders"}', "unknown_key"),
        (b'{"route": 7}', "bad_value"),
        (b'{"retry_after": 60}', "bad_value"),
        (b'{"retry_after": "60"}', "bad_value"),
        (b'{"retry_after": "0s"}', "bad_value"),
        (b'{"retry_after": "169h"}', "bad_value"),
    ],
)
async def test_a_body_that_is_not_right_is_400_and_changes_nothing(
    admin: Admin, body: bytes, code: str
) -> None:
    assert await admin.refusal("PUT", "/maintenance", data=body) == (400, code)
    assert admin.actions.done == []
    assert [(line["event"], line["action"], line["code"]) for line in admin.lines] == [
        ("admin.refused", "maintenance.begin", code)
    ]


async def test_an_unknown_key_is_told_what_it_may_mean(admin: Admin) -> None:
    response = await admin.client.put("/maintenance", data=b'{"retry-after": "1m"}', headers=JSON)

    problem = await problem_of(response)
    assert problem["detail"] == "There is no key `retry-after` here; did you mean `retry_after`?"


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("POST", "/breakers/database/open?tll=30s"),
        ("POST", "/breakers/database/reset?ttl=30s"),
        ("GET", "/breakers?name=database"),
        ("DELETE", "/cache?routes=orders"),
        ("GET", "/requests?fates=ok"),
    ],
)
async def test_a_parameter_that_nobody_knows_is_400(admin: Admin, method: str, path: str) -> None:
    assert await admin.refusal(method, path) == (400, "unknown_parameter")
    assert admin.live.guards.breakers["database"].forced is None


@pytest.mark.parametrize(
    "path", ["/requests?route=", "/explain?url=", "/explain?url=/&header=", "/events?snapshot="]
)
async def test_a_parameter_without_a_value_is_400(admin: Admin, path: str) -> None:
    assert await admin.refusal("GET", path) == (400, "bad_value")


async def test_a_parameter_given_twice_is_400(admin: Admin) -> None:
    assert await admin.refusal("POST", "/breakers/database/open?ttl=1s&ttl=2s") == (400, "bad_value")


@pytest.mark.parametrize("ttl", ["30", "", "0s", "-1s", "1d", "8761h", "forever", "1e3s", "٣s", "1s "])
async def test_a_ttl_that_is_no_duration_is_400(admin: Admin, ttl: str) -> None:
    assert await admin.refusal("POST", "/breakers/database/open", params={"ttl": ttl}) == (400, "bad_value")
    assert admin.live.guards.breakers["database"].forced is None


def test_a_duration_without_its_unit_is_told_what_it_may_mean() -> None:
    with pytest.raises(Problem, match=r"`ttl` must be a duration.*; did you mean `30s` or `30ms`\?$"):
        seconds("30", "ttl", most="1h")


# --- size and time ---


async def test_a_body_may_have_64_kib_and_no_more(admin: Admin) -> None:
    fits = b'{"route": null}'.ljust(MAX_BODY)

    within = await admin.client.put("/maintenance", data=fits, headers=JSON)
    assert within.status == 200
    admin.actions.done.clear()

    assert await admin.refusal("PUT", "/maintenance", data=fits + b" ") == (413, "body_too_large")
    assert admin.actions.done == []


async def test_a_body_of_unknown_length_has_the_same_bound(admin: Admin) -> None:
    async def pieces() -> Any:
        for _ in range(100):
            yield b" " * 1024

    assert await admin.refusal("PUT", "/maintenance", data=pieces()) == (413, "body_too_large")


async def test_a_small_body_that_unpacks_to_a_large_one_is_413(admin: Admin) -> None:
    packed = gzip.compress(b" " * 10_000_000)
    assert len(packed) < MAX_BODY

    answer = await admin.refusal(
        "PUT", "/maintenance", data=packed, headers={**JSON, "Content-Encoding": "gzip"}
    )

    assert answer == (413, "body_too_large")


async def test_a_body_that_is_not_packed_as_it_says_is_400(admin: Admin) -> None:
    answer = await admin.refusal(
        "PUT", "/maintenance", data=b"{}", headers={**JSON, "Content-Encoding": "gzip"}
    )

    assert answer == (400, "bad_body")


@pytest.mark.parametrize("sent", [b"", b'{"route"'])
async def test_a_client_that_does_not_get_on_with_its_body_gets_408(start: Start, sent: bytes) -> None:
    admin = await start(body_seconds=0.05)
    host: Any = admin.client.host
    reader, writer = await asyncio.open_connection(host, admin.client.port)
    head = b"PUT /maintenance HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: 20\r\n\r\n"

    writer.write(head + sent)
    answer = await reader.readuntil(b"\r\n\r\n")
    writer.close()

    assert answer.startswith(b"HTTP/1.1 408 ")
    assert b"Connection: close\r\n" in answer
    assert admin.actions.done == []
    assert [(line["event"], line["status"]) for line in admin.lines] == [("admin.refused", 408)]


# --- whatever comes ---


JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.floats() | st.text() | st.integers(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=8,
)


@given(st.binary() | JSON_VALUES.map(lambda value: json.dumps(value).encode()))
def test_no_body_does_more_than_be_refused(body: bytes) -> None:
    with suppress(Problem):
        assert object_in(body, MAINTENANCE).keys() <= {"route", "retry_after"}


@given(JSON_VALUES)
def test_no_value_is_a_duration_that_is_none(value: object) -> None:
    with suppress(Problem):
        assert 0 < seconds(value, "ttl", most="1h") <= 3600
