"""Reloading by request: what came of it, and that it does not depend on who asked staying."""

import asyncio

from aiohttp import ClientResponse

from sidecar.control.actions import Reloaded
from tests.control.admin.conftest import JSON, Admin, until


def asked_to_reload(admin: Admin) -> "asyncio.Task[ClientResponse]":
    """Ask, and go on."""

    async def ask() -> ClientResponse:
        return await admin.client.post("/config/reload", headers=JSON)

    return asyncio.get_running_loop().create_task(ask())


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
    asked = asked_to_reload(admin)
    await until(lambda: bool(admin.actions.done))

    asked.cancel()
    await asyncio.gather(asked, return_exceptions=True)
    await until(lambda: admin.connections == 0)
    assert admin.lines == []
    admin.actions.gate.set()
    await until(lambda: bool(admin.lines))

    assert admin.actions.done == [("reload",), ("reloaded",)]
    assert [(line["event"], line["action"]) for line in admin.lines] == [("admin.change", "config.reload")]


async def test_while_it_runs_others_are_answered(admin: Admin) -> None:
    admin.actions.gate.clear()
    asked = asked_to_reload(admin)
    await until(lambda: bool(admin.actions.done))

    status, _ = await admin.ask("POST", "/breakers/database/open")
    admin.actions.gate.set()

    assert (status, (await asked).status) == (200, 200)
