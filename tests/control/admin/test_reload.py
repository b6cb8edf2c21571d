"""Reloading by request: what came of it, and that it does not depend on who asked staying."""

import asyncio

from sidecar.control.actions import Reloaded
from tests.control.admin.conftest import JSON, Admin


async def test_what_is_in_force_then_is_told(admin: Admin) -> None:
    admin.actions.reloads = [Reloaded(ok=True, changed=True)]

    answer = await admin.ask("POST", "/config/reload")

    assert answer == (200, {"ok": True, "changed": True, "hash": admin.live.loaded.digest})
    assert [(line["event"], line["action"]) for line in admin.lines] == [("admin.change", "config.reload")]


async def test_a_wrong_configuration_is_400_with_its_lines(admin: Admin) -> None:
    lines = ("sidecar.yaml:3:1: routes: is missing", "sidecar.yaml:9:2: x: what is that?")
    admin.actions.reloads = [Reloaded(ok=False, lines=lines)]

    status, problem = await admin.ask("POST", "/config/reload")

    assert (status, problem["code"], problem["lines"], problem["ok"]) == (
        400,
        "config_refused",
        list(lines),
        False,
    )
    assert problem["detail"] == f"The configuration in force stays: {lines[0]}, and 1 more"
    assert [(line["event"], line["action"], line["why"]) for line in admin.lines] == [
        ("admin.refused", "config.reload", problem["detail"])
    ]


async def test_it_goes_on_when_its_client_leaves(admin: Admin) -> None:
    admin.actions.gate.clear()
    asked = asyncio.ensure_future(admin.client.post("/config/reload", headers=JSON))
    while not admin.actions.done:
        await asyncio.sleep(0)

    asked.cancel()
    await asyncio.gather(asked, return_exceptions=True)
    admin.actions.gate.set()
    while not admin.lines:
        await asyncio.sleep(0)

    assert admin.actions.done == [("reload",), ("reloaded",)]
    assert [(line["event"], line["action"]) for line in admin.lines] == [("admin.change", "config.reload")]


async def test_while_it_runs_others_are_answered(admin: Admin) -> None:
    admin.actions.gate.clear()
    asked = asyncio.ensure_future(admin.client.post("/config/reload", headers=JSON))
    while not admin.actions.done:
        await asyncio.sleep(0)

    status, _ = await admin.ask("POST", "/breakers/database/open")
    admin.actions.gate.set()

    assert (status, (await asked).status) == (200, 200)
