"""The JSON Schema accepts what the loader accepts, and refuses what an editor can know to be wrong."""

import json
from pathlib import Path

import pytest
from jsonschema import Draft202012Validator

from sidecar.config.load import load_text
from sidecar.config.reader import read
from sidecar.config.schema import json_schema
from sidecar.config.tree import data
from sidecar.errors import ConfigError

SHIPPED = sorted((Path(__file__).parents[2] / "config").glob("*.yaml"))
UPSTREAM = "upstreams: {a: {url: http://a}}\n"
ROUTE = "routes: [{name: r, upstream: a}]\n"
LEAST = f"version: 1\n{UPSTREAM}{ROUTE}"
VALIDATOR = Draft202012Validator(json_schema())


def as_written(text: str) -> object:
    """What an editor sees: the file without its variables put in."""
    document = read(text.replace("${", "$${"), "f", {})
    assert document.root is not None
    return data(document.root)


def accepted(text: str) -> bool:
    return VALIDATOR.is_valid(as_written(text))


def loadable(text: str) -> bool:
    try:
        load_text(text, env={})
    except ConfigError:
        return False
    return True


def test_the_schema_is_one() -> None:
    Draft202012Validator.check_schema(json_schema())


def test_the_schema_can_be_printed() -> None:
    assert json.loads(json.dumps(json_schema())) == json_schema()


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.name)
def test_shipped_files_are_accepted(path: Path) -> None:
    assert accepted(path.read_text())


def test_a_variable_may_stand_for_any_scalar() -> None:
    assert accepted("""\
version: 1
profile: ${A}
listen: {traffic: "${A}"}
limits: {connections: "${A:-5}", head: "${A}", head_timeout: "${A}s"}
upstreams: {a: {url: "${A}", tls: {verify: "${A}"}}}
defaults: {max_body: "${A}"}
routes: [{name: "${A}", upstream: "${A}", match: {path: "${A}", methods: ["${A}"]}}]
trusted_proxies: ["${A}"]
""")


@pytest.mark.parametrize(
    "change",
    [
        "foo: 1",
        "drain_timeout: 30",
        "drain_timeout: 30 s",
        "drain_timeout: off",
        "records: '5'",
        "records: -1",
        "records: 100001",
        "profile: prod",
        "access_log: false",
        "listen: {trafic: ':80'}",
        "listen: {traffic: 8080}",
        "listen: {traffic: localhost}",
        "limits: {head: 64}",
        "limits: {head: 64k}",
        "defaults: {timeout: 5s}",
        "defaults: {timeout: {connect: 5s}}",
        "defaults: {retry: 3}",
        "breakers: {a: off}",
        "telemetry: {}",
        "trusted_proxies: 10.0.0.0/8",
        "errors: {format: html}",
    ],
)
def test_what_an_editor_can_know_to_be_wrong_is_refused(change: str) -> None:
    text = f"{LEAST}{change}\n"

    assert (loadable(text), accepted(text)) == (False, False)


@pytest.mark.parametrize(
    "text",
    [
        f"version: 2\n{UPSTREAM}{ROUTE}",
        f"{UPSTREAM}{ROUTE}",
        f"version: 1\n{UPSTREAM}",
        f"version: 1\n{ROUTE}",
        f"version: 1\nupstreams: {{}}\n{ROUTE}",
        f"version: 1\nupstreams: {{a: {{}}}}\n{ROUTE}",
        f"version: 1\nupstreams: {{a: {{url: a}}}}\n{ROUTE}",
        f"version: 1\nupstreams: {{a: {{url: http://a, health: {{}}}}}}\n{ROUTE}",
        f"version: 1\nupstreams: {{a: {{url: http://a}}, b c: {{url: http://a}}}}\n{ROUTE}",
        f"version: 1\n{UPSTREAM}routes: []",
        f"version: 1\n{UPSTREAM}routes: {{}}",
        f"version: 1\n{UPSTREAM}routes: [{{upstream: a}}]",
        f"version: 1\n{UPSTREAM}routes: [{{name: _none, upstream: a}}]",
        f"version: 1\n{UPSTREAM}{ROUTE}listen: {{tls: {{certificate: a}}}}",
        f"version: 1\n{UPSTREAM}{ROUTE[:-3]}, match: {{path: a}}}}]",
        f"version: 1\n{UPSTREAM}{ROUTE[:-3]}, match: {{host: []}}}}]",
        f"version: 1\n{UPSTREAM}{ROUTE[:-3]}, match: {{methods: GET}}}}]",
        f"version: 1\n{UPSTREAM}{ROUTE[:-3]}, match: {{headers: {{A: 1}}}}}}]",
        f"version: 1\n{UPSTREAM}{ROUTE[:-3]}, match: {{path: /a, path_regex: /b}}}}]",
    ],
)
def test_what_is_missing_or_of_the_wrong_form_is_refused(text: str) -> None:
    assert (loadable(text), accepted(text)) == (False, False)


def test_defaults_are_told_as_one_would_write_them() -> None:
    schema = json_schema()
    limits, upstream, timeouts = (schema["$defs"][name] for name in ("Limits", "UpstreamConfig", "Timeouts"))

    assert {name: each["default"] for name, each in limits["properties"].items()} == {
        "connections": 10000,
        "head": "32KiB",
        "target": "8KiB",
        "fields": 100,
        "head_timeout": "10s",
        "keepalive_timeout": "75s",
        "half_close_grace": "1s",
    }
    assert "default" not in upstream["properties"]["url"]
    assert timeouts["properties"]["body"]["default"] == "off"
    assert schema["properties"]["trusted_proxies"]["default"] == []


def test_every_key_is_explained() -> None:
    schema = json_schema()
    models = [schema, *schema["$defs"].values()]

    unexplained = [
        name
        for model in models
        for name, each in model["properties"].items()
        if "description" not in each
        and "description" not in schema["$defs"].get(each.get("$ref", "").removeprefix("#/$defs/"), {})
    ]

    assert unexplained == []


def test_no_title_repeats_a_key() -> None:
    schema = json_schema()
    properties = [model["properties"] for model in (schema, *schema["$defs"].values())]

    assert [name for each in properties for name, key in each.items() if "title" in key] == []
