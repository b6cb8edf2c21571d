"""The description that is served: it is OpenAPI, it tells no name of this sidecar, and what it says is true.

The last by schemathesis, which makes requests from it, right and wrong ones, and holds every answer against it.
"""

import asyncio
import json
import threading
from collections.abc import Iterator
from typing import Any

import pytest
import schemathesis
from aiohttp import web
from hypothesis import HealthCheck, given, settings
from hypothesis.errors import Unsatisfiable
from jsonschema import Draft202012Validator
from schemathesis import GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    negative_data_rejection,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
    unsupported_method,
)

from sidecar.config.observing import AdminConfig
from sidecar.control.admin.app import admin_app, table
from sidecar.control.admin.openapi import description
from sidecar.control.explain import explain_json
from sidecar.telemetry.rates import Rates
from tests.control.admin.conftest import TOKEN, YAML, Admin, Start
from tests.support.actions import RecordingActions
from tests.support.live import live_from

CHECKS: list[Any] = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    negative_data_rejection,
    unsupported_method,
]
ENDLESS = "/events"
OPERATIONS = [(row.method, row.path) for row in table() if row.path != ENDLESS]


async def test_it_is_served_as_it_is_made_from_the_table(admin: Admin) -> None:
    status, served = await admin.ask("GET", "/openapi.json")

    assert (status, served) == (200, json.loads(json.dumps(description(table()))))
    assert {(method.upper(), path) for path, item in served["paths"].items() for method in item} == {
        (row.method, row.path) for row in table()
    }


async def test_it_tells_no_name_of_this_sidecar_and_needs_no_token(start: Start) -> None:
    admin = await start(YAML.replace("orders", "swordfish"), token=TOKEN)

    response = await admin.client.get("/openapi.json")

    assert response.status == 200
    assert "swordfish" not in await response.text()


def test_every_schema_in_it_is_one() -> None:
    def schemas(value: Any) -> Iterator[Any]:
        if isinstance(value, dict):
            yield from (each for key, each in value.items() if key == "schema")
            for each in value.values():
                yield from schemas(each)
        elif isinstance(value, list):
            for each in value:
                yield from schemas(each)

    found = list(schemas(description(table())))
    for schema in found:
        Draft202012Validator.check_schema(schema)
    assert len(found) > 100


def test_every_operation_has_an_id_of_its_own() -> None:
    ids = [
        operation["operationId"]
        for item in description(table())["paths"].values()
        for operation in item.values()
    ]

    assert len(ids) == len(set(ids)) == len(table())


def test_a_body_is_described_with_all_its_keys_and_no_others() -> None:
    operation = description(table())["paths"]["/maintenance"]["put"]

    schema = operation["requestBody"]["content"]["application/json"]["schema"]
    assert (set(schema["properties"]), schema["additionalProperties"]) == ({"route", "retry_after"}, False)
    assert operation["requestBody"]["required"] is False


@pytest.fixture(scope="module")
def served() -> Iterator[str]:
    """Serve an admin listener from a loop and a thread of its own; give where."""
    place: list[str] = []
    bound, over = threading.Event(), threading.Event()

    async def serve() -> None:
        live = live_from(YAML)
        rates = Rates(live, asyncio.get_running_loop())
        app = admin_app(
            live, RecordingActions(live), rates, explain_json, AdminConfig(token=TOKEN), lambda _, **__: None
        )
        runner = web.AppRunner(app)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        host, port = runner.addresses[0]
        place.append(f"http://{host}:{port}")
        bound.set()
        await asyncio.to_thread(over.wait)
        await runner.cleanup()

    thread = threading.Thread(target=lambda: asyncio.run(serve()))
    thread.start()
    assert bound.wait(10)
    yield place[0]
    over.set()
    thread.join(10)
    assert not thread.is_alive()


@pytest.fixture(scope="module")
def schema(served: str) -> Any:
    """Give what schemathesis understands of the description."""
    return schemathesis.openapi.from_url(f"{served}/openapi.json")


@pytest.mark.parametrize("mode", list(GenerationMode))
@pytest.mark.parametrize(("method", "path"), OPERATIONS)
def test_what_it_says_is_true(schema: Any, method: str, path: str, mode: GenerationMode) -> None:
    operation = schema[path][method]
    answered: set[int] = set()

    @given(case=operation.as_strategy(generation_mode=mode))
    @settings(
        max_examples=8,
        deadline=None,
        database=None,
        derandomize=True,
        suppress_health_check=list(HealthCheck),
    )
    def hold(case: Any) -> None:
        if mode is GenerationMode.POSITIVE and case.path_parameters:
            case.path_parameters = {
                "name": "database"
            }  # no other name is known, and 404 would be all there is
        known = {"Authorization": f"Bearer {TOKEN}"}
        answered.add(case.call_and_validate(headers=known, checks=CHECKS, timeout=5).status_code)

    try:
        hold()
    except Unsatisfiable:  # nothing about it can be wrong
        assert mode is GenerationMode.NEGATIVE
        return
    assert answered
    assert answered <= {200, 400, 404}


def test_a_stream_is_described_though_it_never_ends(schema: Any) -> None:
    operation = schema[ENDLESS]["GET"].definition.raw

    assert list(operation["responses"]["200"]["content"]) == ["text/event-stream"]
    assert "503" in operation["responses"]
