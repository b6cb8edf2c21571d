"""Breakers: an operator looks at them, and takes them by the hand."""

import pytest

from tests.control.admin.conftest import JSON, Admin, Start, problem_of

NAMES = """
version: 1
upstreams: {u: {url: "http://127.0.0.1:9"}}
breakers: {reset: {}, open: {}, "0": {}, a.b-c_D: {}}
routes:
  - {name: r, match: {path: /r}, upstream: u, breaker: reset}
  - {name: private, match: {path: /p}, upstream: u, breaker: {}}
"""


async def test_they_are_a_list_and_each_can_be_looked_at(admin: Admin) -> None:
    _, listed = await admin.ask("GET", "/breakers")
    _, one = await admin.ask("GET", "/breakers/database")

    assert [each["name"] for each in listed] == ["database", "db.read-1"]
    assert {**listed[0], "events": []} == one


async def test_one_that_is_forced_says_so_until_it_is_reset(admin: Admin) -> None:
    seen = []
    for act in ("open?ttl=30s", "close", "reset"):
        status, now = await admin.ask("POST", f"/breakers/database/{act}")
        ends = now["forced_for"]
        seen.append((status, now["state"], now["forced"], ends and round(ends)))

    assert seen == [
        (200, "OPEN", "open", 30),
        (200, "CLOSED", "closed", None),
        (200, "CLOSED", None, None),
    ]
    _, now = await admin.ask("GET", "/breakers/database")
    assert [(event["from"], event["to"], event["cause"]) for event in now["events"]] == [
        ("CLOSED", "CLOSED", "reset"),
        ("OPEN", "CLOSED", "forced"),
        ("CLOSED", "OPEN", "forced"),
    ]


async def test_a_ttl_is_a_duration_of_the_configurations_grammar(admin: Admin) -> None:
    _, now = await admin.ask("POST", "/breakers/database/open?ttl=1.5m")

    assert now["forced_for"] == pytest.approx(90, abs=1)


async def test_one_in_shadow_obeys_too(admin: Admin) -> None:
    status, now = await admin.ask("POST", "/breakers/db.read-1/open")

    assert (status, now["state"], now["mode"]) == (200, "OPEN", "shadow")


@pytest.mark.parametrize("name", ["reset", "open", "0", "a.b-c_D", "private"])
async def test_every_name_that_a_configuration_may_give_can_be_called(start: Start, name: str) -> None:
    admin = await start(NAMES)
    encoded = "".join(f"%{byte:02X}" for byte in name.encode())

    status, now = await admin.ask("POST", f"/breakers/{encoded}/open")

    assert (status, now["name"], now["state"]) == (200, name, "OPEN")
    assert [each for each, breaker in admin.live.guards.breakers.items() if breaker.forced] == [name]


@pytest.mark.parametrize("name", ["databas", "DATABASE", "x", "a%2Fb", "%00", "database%20", "%FF"])
@pytest.mark.parametrize("act", ["", "/open", "/close", "/reset"])
async def test_one_that_there_is_not_is_404_and_nothing_changes(admin: Admin, name: str, act: str) -> None:
    response = await admin.client.request("POST" if act else "GET", f"/breakers/{name}{act}", headers=JSON)

    assert response.status == 404
    await problem_of(response)
    assert not any(breaker.forced for breaker in admin.live.guards.breakers.values())


@pytest.mark.parametrize("path", ["/breakers/reset", "/api/admin/reset-circuit-breakers"])
async def test_all_can_be_reset_at_once(admin: Admin, path: str) -> None:
    await admin.ask("POST", "/breakers/db.read-1/open")

    status, said = await admin.ask("POST", path)

    assert (status, said) == (
        200,
        {"message": "2 breakers were reset.", "reset": ["database", "db.read-1"], "changed": ["db.read-1"]},
    )
    assert not any(breaker.forced for breaker in admin.live.guards.breakers.values())
    line = admin.lines[-1]
    assert (line["target"], list(line["before"]), list(line["after"])) == (
        "all",
        ["db.read-1"],
        ["db.read-1"],
    )


async def test_or_one_of_them(admin: Admin) -> None:
    await admin.ask("POST", "/breakers/database/open")
    await admin.ask("POST", "/breakers/db.read-1/open")

    status, said = await admin.ask("POST", "/api/admin/reset-circuit-breakers?name=database")

    assert (status, said["reset"]) == (200, ["database"])
    assert {name: breaker.forced for name, breaker in admin.live.guards.breakers.items()} == {
        "database": None,
        "db.read-1": "open",
    }
    assert await admin.refusal("POST", "/breakers/reset?name=nothing") == (404, "unknown_name")
