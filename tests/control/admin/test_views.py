"""What is in force, as it is seen: the same JSON as on the live page, and the configuration without its secrets."""

import json

import pytest

from sidecar.config import show
from sidecar.config.load import load_text
from sidecar.telemetry import snapshot as snapshots
from tests.control.admin.conftest import YAML, Admin, Start

PASSWORD = "correct-horse-battery"
SECRETS = YAML.replace(
    "version: 1\n",
    f"""version: 1
admin: {{token: {PASSWORD}-staple}}
telemetry: {{otel: {{endpoint: "http://127.0.0.1:4318", headers: {{X-Key: {PASSWORD}}}}}}}
""",
).replace("match: {path: /search}", "match: {path: /search, headers: {Authorization: " + PASSWORD + "}}")


@pytest.mark.parametrize(
    ("path", "key"),
    [
        ("/routes", "routes"),
        ("/upstreams", "upstreams"),
        ("/breakers", "breakers"),
        ("/bulkheads", "bulkheads"),
        ("/rate-limits", "rate_limits"),
        ("/budgets", "budgets"),
        ("/cache", "cache"),
    ],
)
async def test_each_part_is_that_of_the_whole_state(admin: Admin, path: str, key: str) -> None:
    admin.live.now, admin.live.wall = (lambda: 100.0), (lambda: 1000.0)

    _, part = await admin.ask("GET", path)
    _, whole = await admin.ask("GET", "/state")

    assert part == whole[key]
    assert part


async def test_the_state_has_what_the_live_page_shows(admin: Admin) -> None:
    _, whole = await admin.ask("GET", "/state")

    assert [each["name"] for each in whole["routes"]] == ["orders", "search", "all"]
    assert set(whole) >= {
        "at",
        "version",
        "uptime",
        "status",
        "message",
        "ready",
        "config",
        "process",
        "refused",
    }


async def test_the_configuration_is_told_with_where_it_comes_from(admin: Admin) -> None:
    status, said = await admin.ask("GET", "/config")

    loaded = admin.live.loaded
    assert status == 200
    assert (said["hash"], said["source"], said["profile"]) == (loaded.digest, "<text>", "production")
    assert said["config"]["breakers"]["database"]["open_for"] == "30s"
    assert said["origins"]["breakers.database.open_for"] == "<text>:6"
    assert said["origins"]["routes[0].timeout.total"] == "default"


@pytest.mark.parametrize("media", ["text/yaml", "application/yaml", "application/x-yaml"])
async def test_whoever_accepts_yaml_gets_what_the_command_prints(admin: Admin, media: str) -> None:
    response = await admin.client.get("/config", headers={"Accept": f"{media}, */*;q=0.1"})

    assert (response.content_type, response.charset) == (media, "utf-8")
    assert await response.text() == show.effective(admin.live.loaded)


async def test_no_secret_leaves_by_any_way(start: Start) -> None:
    admin = await start(SECRETS)

    as_json = await (await admin.client.get("/config")).text()
    as_yaml = await (await admin.client.get("/config", headers={"Accept": "text/yaml"})).text()

    assert PASSWORD not in as_json + as_yaml
    shown = json.loads(as_json)["config"]
    assert as_json.count('"***"') == as_yaml.count('"***"') == 3
    assert shown["admin"]["token"] == shown["routes"][1]["match"]["headers"]["Authorization"] == "***"


async def test_after_a_reload_the_new_one_is_told(admin: Admin) -> None:
    await admin.ask("GET", "/config")

    admin.live.loaded = load_text(YAML.replace("open_for: 30s", "open_for: 40s"), env={})
    admin.live.loaded_at = 1234.5678

    _, said = await admin.ask("GET", "/config")
    text = await (await admin.client.get("/config", headers={"Accept": "text/yaml"})).text()
    assert said["config"]["breakers"]["database"]["open_for"] == "40s"
    assert (said["loaded_at"], said["hash"]) == (1234.568, admin.live.loaded.digest)
    assert "open_for: 40s" in text


async def test_a_part_and_the_page_agree_on_words(admin: Admin) -> None:
    _, breakers = await admin.ask("GET", "/breakers")

    assert breakers == snapshots.breakers_json(admin.live)
