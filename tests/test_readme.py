"""What the tables of README, operations and runbook say is what the program does; each table is compared whole.

The README's commands and their output are run by `test_tour`, and the paths and metrics of a running demo compared there.
"""

import asyncio
import re
import tomllib
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any, get_args

import pytest
import yaml
from prometheus_client.parser import text_string_to_metric_families
from structlog.testing import CapturingLogger

from sidecar import errors
from sidecar.cli import main
from sidecar.config.load import Loaded, load_text
from sidecar.config.model import RouteConfig
from sidecar.config.observing import Headers
from sidecar.config.policies import (
    BreakerConfig,
    BulkheadConfig,
    FaultConfig,
    HalfOpen,
    RateLimitConfig,
    RetryBudgetConfig,
    RetryConfig,
    StaleStep,
)
from sidecar.config.presets import PRESETS
from sidecar.config.units import show_duration, show_size
from sidecar.control.admin.app import table as admin_table
from sidecar.control.health import Copies, detailed_json
from sidecar.control.ops import ops_app
from sidecar.fate import MEANINGS, Fate, WhyNotRetried
from sidecar.message import NO_FIELDS, Request
from sidecar.pipeline import assemble
from sidecar.pipeline.exchange import Exchange
from sidecar.policy.health import Health, HealthSettings
from sidecar.runtime.steering import Steering
from sidecar.telemetry.condition import Status
from sidecar.telemetry.exposition import Registry
from sidecar.telemetry.lag import LagMeter
from sidecar.telemetry.logs import LogControl
from sidecar.telemetry.metrics import registry
from sidecar.telemetry.otel import Tracer
from sidecar.telemetry.rates import Rates
from sidecar.telemetry.record import Recorder
from tests.support.live import live_from, some_live
from tests.support.scrapes import text_of

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()
OPERATIONS = (ROOT / "docs/operations.md").read_text()
RUNBOOK = (ROOT / "docs/runbook.md").read_text()
SOURCES = {path: path.read_text() for path in (ROOT / "sidecar").rglob("*.py")}
LEAST = "version: 1\nupstreams: {a: {url: http://a}}\nroutes: [{name: r, upstream: a}]\n"


def section(title: str, page: str = README) -> str:
    """What stands under a heading, up to the next one of its level."""
    _, found, rest = page.partition(f"\n## {title}\n")
    assert found, title
    return rest.partition("\n## ")[0]


def rows(text: str) -> list[list[str]]:
    """The rows of all tables in `text`, without their heads."""
    bodies = re.findall(r"^\|[-|]+\|\n((?:\|.*\n)+)", text, re.MULTILINE)
    return [
        [cell.strip() for cell in line.strip().strip("|").split("|")]
        for body in bodies
        for line in body.splitlines()
    ]


def used_errors() -> list[type[errors.RequestError]]:
    """The errors that this version can come to. Those left out are only caught, or spoken of, never raised."""
    elsewhere = "\n".join(text for path, text in SOURCES.items() if path.name != "errors.py")
    abstract = {errors.RequestError, errors.UpstreamFailed, errors.Refused}
    named = [getattr(errors, name) for name in errors.__all__ if re.search(rf"\b{name}\b", elsewhere)]
    return [each for each in named if issubclass(each, errors.RequestError) and each not in abstract]


def possible_fates() -> set[Fate]:
    """The fates that this version can come to: those that some stage gives, and those of the errors."""
    elsewhere = "\n".join(text for path, text in SOURCES.items() if path.name not in {"errors.py", "fate.py"})
    given = {fate for fate in Fate if re.search(rf"\bFate\.{fate.name}\b", elsewhere)}
    return given | {each.fate for each in used_errors()}


def test_the_fates_of_this_version_are_those_in_the_table_with_their_meanings() -> None:
    table = {word.strip("`"): meaning for word, meaning in rows(section("Fates"))}

    assert table == {fate: MEANINGS[fate] for fate in possible_fates()}


def test_every_fate_can_happen() -> None:
    """None is a word for what no stage does."""
    assert possible_fates() == set(Fate)


def test_the_runbook_has_an_entry_for_each_fate_and_no_other() -> None:
    entries = re.split(r"^### ", section("By fate", RUNBOOK), flags=re.MULTILINE)[1:]
    meant = {}
    for entry in entries:
        word, *lines = entry.strip().splitlines()
        means, look_at, do = (line for line in lines if line)
        meant[word.strip("`")] = means.removeprefix("- **Means**: ").removesuffix(".")
        assert look_at.startswith("- **Look at**: "), word
        assert do.startswith("- **Do**: "), word

    assert meant == dict(MEANINGS)
    assert list(meant) == list(Fate)


def test_the_runbook_has_every_word_for_why_it_was_not_tried_again() -> None:
    words = {cell.strip("`") for cell, _ in rows(section("Why it was not tried again", RUNBOOK))}

    assert words == {str(word) for word in WhyNotRetried}


def alerts() -> dict[str, dict[str, Any]]:
    groups = yaml.safe_load((ROOT / "deploy/prometheus/alerts.rules.yml").read_text())["groups"]
    return {rule["alert"]: rule for group in groups for rule in group["rules"]}


def test_the_runbook_has_every_alert_and_leads_to_where_it_is_told_what_to_do() -> None:
    table = {cell: severity for cell, severity, _ in rows(section("By alert", RUNBOOK))}

    assert table == {
        f"[{name}](../deploy/prometheus/{rule['annotations']['runbook']})": rule["labels"]["severity"]
        for name, rule in alerts().items()
    }


def test_every_alert_s_runbook_is_there() -> None:
    for name, rule in alerts().items():
        path, _, anchor = rule["annotations"]["runbook"].partition("#")
        told = (ROOT / "deploy/prometheus" / path).read_text()

        assert re.search(rf"^## {anchor}$", told, re.MULTILINE | re.IGNORECASE), name


def test_the_metrics_to_look_at_are_there() -> None:
    """In the runbook, as in all prose, none is named that the table does not have."""
    names = {cell.strip("`") for cell, *_ in rows(section("Metrics", OPERATIONS))}
    prose = "".join((README.replace(section("Five minutes"), ""), OPERATIONS, RUNBOOK))

    assert set(re.findall(r"\bsidecar_[a-z_]*[a-z]", prose)) - names == set()


EVERYTHING = """
version: 1
upstreams: {app: {url: "http://127.0.0.1:9", health: {}}}
defaults:
  {rate_limit: {limit: 5/1m}, cache: {}, retry: {retries: 2}, breaker: {mode: shadow}, bulkhead: {}, fallback: [stale],
   fault: {delay: 1ms, percent: 1%, allow_in_production: true}}
routes: [{name: all, match: {path: /**}, upstream: app}]
"""


def shown() -> set[tuple[str, str, frozenset[str]]]:
    """Name, type and labels of each metric of a sidecar that has everything."""
    loop = asyncio.new_event_loop()
    tracer = Tracer("http://127.0.0.1:9/v1/traces")
    try:
        live = live_from(EVERYTHING, loop)
        live.health = {"app": Health(HealthSettings())}
        live.lag = LagMeter(loop)
        live.changes = {("reset", "done"): 0}
        live.tracer = tracer
        text = text_of(registry(live, Rates(live, loop)))
    finally:
        tracer.close()
        loop.close()
    return {
        (
            family.name + ("_total" if family.type == "counter" else ""),
            family.type,
            frozenset(label for sample in family.samples for label in sample.labels if label != "le"),
        )
        for family in text_string_to_metric_families(text)
        if family.name.startswith("sidecar_")
    }


def test_the_metrics_are_those_in_the_table() -> None:
    table = [
        (name.strip("`"), kind, frozenset(re.findall(r"`(\w+)`", labels)))
        for name, kind, labels, _ in rows(section("Metrics", OPERATIONS).partition("\n### ")[0])
    ]

    assert len(table) == len(set(table))
    assert set(table) == shown()


def test_the_health_paths_are_those_of_the_ops_listener() -> None:
    app = ops_app(some_live(), Registry(lambda: iter(()), lambda: ()))
    served = {route.resource.canonical for route in app.router.routes() if route.resource is not None}
    first = rows(section("Health", OPERATIONS).partition("\nReadiness")[0])

    assert {path for cell, _ in first for path in re.findall(r"`([^`]+)`", cell)} == served


async def test_health_has_the_keys_that_are_told() -> None:
    live = some_live()
    found = await detailed_json(live, Copies(live))
    table = rows(section("Health", OPERATIONS).partition("The body of `/health`:")[2])

    assert [word for cell, _ in table for word in re.findall(r"`(\w+)`", cell)] == list(found)


def test_the_words_for_how_it_is_are_the_program_s() -> None:
    table = section("Health", OPERATIONS).partition("| `status` | means |")[2].partition("\n\n")[0]

    assert re.findall(r"^\| `(\w+)` \|", table, re.MULTILINE) == list(get_args(Status))


def test_the_admin_interface_is_what_is_in_the_table() -> None:
    table, _, _ = section("The admin interface", OPERATIONS).partition("**Who is let in.**")
    said = [(method, path) for method, cell, _ in rows(table) for path in re.findall(r"`([^`]+)`", cell)]

    assert sorted(said) == sorted((endpoint.method, endpoint.path) for endpoint in admin_table())


def test_the_admin_interface_s_parameters_are_told() -> None:
    """Each in the row of its path."""
    said = {
        (method, path): what
        for method, cell, what in rows(
            section("The admin interface", OPERATIONS).partition("**Who is let in.**")[0]
        )
        for path in re.findall(r"`([^`]+)`", cell)
    }

    elsewhere = {"/events", "/breakers/{name}/close"}  # in the prose; as in the row above it
    for each in admin_table():
        told = said[each.method, each.path]
        names = [one.name for one in (*each.query, *each.body)]
        assert each.path in elsewhere or [name for name in names if name not in told] == [], each.path


def test_every_event_of_the_log_is_in_the_table_and_no_other() -> None:
    table = rows(section("The log", OPERATIONS).partition("\n### ")[0])
    said = {word for cell, _, _ in table for word in re.findall(r"`([\w.]+)`", cell)}
    others = {
        ROOT / "sidecar/control/admin/app.py",
        ROOT / "sidecar/telemetry/spans.py",
    }  # actions, attributes
    program = "\n".join(text for path, text in SOURCES.items() if path not in others)
    written = re.findall(
        r"""["']((?:sidecar|request|breaker|upstream|config|admin|telemetry|log)\.[a-z_]+)["']""", program
    )
    keys = {"breaker.open_for", "breaker.consecutive_failures", "telemetry.otel", "telemetry.sentry"}

    assert said == {"request", *written} - keys


def test_the_fields_of_a_request_s_line_are_those_of_its_record() -> None:
    table = rows(section("The log", OPERATIONS).partition("### The line of a request")[2])
    said = [word for cell, _ in table for word in re.findall(r"`(\w+)`", cell)]
    exchange = Exchange(Request(b"GET", b"/", NO_FIELDS), "all", lambda: 0.0, lambda _: None)
    recorder = Recorder(["all"], keep=1, access_log="off", line=lambda _: None)
    recorder(exchange)
    (record,) = recorder.records()

    assert sorted(said) == sorted(set(record.as_dict()) - {"at"})


def test_the_ways_of_headers_are_told_all_of_them() -> None:
    table = rows(section("What answers say", OPERATIONS))

    assert [cell.strip("`") for cell, _ in table] == list(get_args(Headers))


OTHERS = {
    "listen": "listen: {ops: 127.0.0.1:9990}",
    "log.format": "log: {format: console}",
    "telemetry.otel": "telemetry: {otel: {endpoint: 'http://127.0.0.1:9'}}",
    "telemetry.sentry": "telemetry: {sentry: {dsn: 'https://key@127.0.0.1/1'}}",
}


async def test_what_needs_a_restart_is_what_a_reload_refuses() -> None:
    last, _ = rows(section("Reload", OPERATIONS))[-1]
    refused = {}

    async def become(_: Loaded) -> None:
        pytest.fail("it would be in force")

    for key, line in OTHERS.items():
        live = live_from(LEAST)
        load = partial(load_text, LEAST + line, env={})
        steering = Steering(live, CapturingLogger(), LogControl(), load, become)
        refused[key] = "".join((await steering.reload()).lines)

    assert set(re.findall(r"`([\w.]+)`", last)) == set(OTHERS)
    assert [key for key, said in refused.items() if f"{key}" not in said or "restart it" not in said] == []


def test_the_errors_are_those_in_the_table() -> None:
    said = {
        (int(status), code.strip("`"), token.strip("`")) for status, code, token, _ in rows(section("Errors"))
    }
    true = {(each.status, str(each.fate), each.proxy_error) for each in used_errors()}

    assert said == true | {(504, "upstream_connect", "connection_timeout")}


def test_every_word_for_a_failed_connection_is_in_the_table() -> None:
    pool = SOURCES[ROOT / "sidecar/wire/pool.py"]
    said = " ".join(" ".join(row) for row in rows(section("Errors")) if "upstream_connect" in row[1])

    assert set(re.findall(r'(?:token|reason) = "(\w+)"', pool)) == set(re.findall(r"`(\w+)`", said)) - {
        "upstream_connect",
        "connect_timeout",
    }


def test_the_exit_codes_are_those_of_the_help() -> None:
    epilog = main.epilog or ""
    table = [row for row in rows(section("The process")) if row[0].isdigit()]

    assert re.findall(r"^  (\d)  (.+)$", epilog, re.MULTILINE) == [(code, meaning) for code, meaning in table]


def test_the_limits_are_the_defaults() -> None:
    config = load_text(LEAST, env={}).config
    limits, upstream, timeout = config.limits, config.upstreams["a"], config.routes[0].timeout
    assert timeout.attempt is not None
    assert timeout.total is not None
    assert timeout.idle is not None

    assert [row[1] for row in rows(section("Limits and their defaults"))] == [
        str(limits.connections),
        f"{show_size(limits.head)}, {limits.fields} fields",
        show_size(limits.target),
        show_duration(limits.head_timeout),
        f"{limits.keepalive_timeout:g}s",
        show_duration(limits.half_close_grace),
        show_duration(upstream.connect_timeout),
        str(upstream.max_connections),
        f"{upstream.idle_timeout:g}s",
        show_duration(timeout.attempt),
        show_duration(timeout.total),
        f"{timeout.idle:g}s",
        "off",
        show_duration(config.drain_timeout),
        str(config.records),
    ]
    assert (timeout.body, config.routes[0].max_body) == (None, None)


def policies() -> dict[str, list[str]]:
    """The table of policies: by name, whether it is on, and what it does."""
    table = rows(section("Policies").partition("**The order**")[0])
    return {name.strip("`"): rest for name, *rest in table}


def test_the_policies_are_those_of_a_route_and_on_where_they_are() -> None:
    route = load_text(LEAST, env={}).config.routes[0]
    names = [
        name for name in RouteConfig.model_fields if name not in {"name", "match", "upstream", "max_body"}
    ]

    assert {name: on for name, (on, _) in policies().items()} == {
        name: "on" if getattr(route, name) else "off" for name in names
    }


def test_the_numbers_of_the_policies_are_the_defaults() -> None:
    """Every number in the table, in its order."""
    config = load_text(LEAST, env={}).config
    timeout = config.routes[0].timeout
    retry, breaker, bulkhead, half_open = RetryConfig(), BreakerConfig(), BulkheadConfig(), HalfOpen()
    budget = RetryBudgetConfig()
    assert timeout.attempt is not None
    assert timeout.total is not None
    assert timeout.idle is not None
    said = {name: re.findall(r"\d[\w.%]*", what) for name, (_, what) in policies().items()}

    assert said == {
        "timeout": [show_duration(each) for each in (timeout.attempt, timeout.total, timeout.idle)],
        "retry": [
            *map(str, (retry.retries, *sorted(retry.statuses))),
            *map(show_duration, (retry.base, retry.base * retry.multiplier, retry.retry_after.max)),
            f"{budget.ratio:.0%}",
            f"{budget.min_per_second:g}",
        ],
        "breaker": [
            *map(str, (breaker.consecutive_failures, *breaker.count)),
            show_duration(breaker.open_for),
            f"{breaker.open_jitter:.0%}",
            f"{breaker.open_multiplier:g}",
            show_duration(breaker.open_max),
            *map(str, (half_open.max_concurrent, half_open.successes)),
        ],
        "bulkhead": [
            str(bulkhead.max_concurrent),
            str(bulkhead.max_queue),
            show_duration(bulkhead.queue_timeout),
        ],
        "rate_limit": [str(RateLimitConfig.model_fields["max_keys"].default)],
        "cache": [show_size(config.store.max_bytes), show_size(config.store.max_body)],
        "fallback": [show_duration(StaleStep().max_age)],
        "fault": [f"{FaultConfig().percent:.0%}"],
    }
    assert (bulkhead.order, retry.jitter, retry.methods) == ("fifo", "full", "idempotent")
    assert RateLimitConfig.model_fields["algorithm"].default == "token_bucket"
    assert RateLimitConfig.model_fields["key"].default == "client_ip"


def test_the_order_is_that_of_the_program_and_each_place_has_its_reason() -> None:
    (order,) = re.findall(r"```text\n(.*?)```", section("Policies"), re.DOTALL)
    reasons = rows(section("Policies").partition("**The order**")[2])

    *stages, last = re.findall(r"[a-z]+(?: [a-z]+)*", order)

    assert " ".join(order.split()) in " ".join((assemble.__doc__ or "").split())
    assert ([stage for stage, _ in reasons], last) == (stages, "upstream")


def test_the_presets_are_named_all_of_them() -> None:
    _, _, text = section("Policies").partition("There are, ")
    said = {
        part.split("`", 2)[1]: set(re.findall(r"`([\w-]+)`", part.split("`", 2)[2]))
        for part in text.partition(". [")[0].split(";")
    }

    assert said == {stage: set(names) for stage, names in PRESETS.items() if names}


def test_the_fields_of_the_policies_are_in_the_program() -> None:
    """Each field in the tables of what the policies say is one that some stage writes."""
    _, found, tables = section("What goes on, what does not").partition("And what the policies say.")
    program = "\n".join(text for path, text in SOURCES.items() if "pipeline" in path.parts).lower()
    program += SOURCES[ROOT / "sidecar/policy/conditions.py"].lower()
    named = [word for cell, _ in rows(tables) for word in re.findall(r"`([\w-]+)`", cell)]

    assert found
    assert [word for word in named if f'b"{word.lower()}' not in program] == []


def test_the_layout_names_what_is_there_and_all_of_it() -> None:
    text = section("Layout")
    table = rows(text.partition("**Where a request goes**")[0])
    named = {word for cell, *_ in table for word in re.findall(r"`([^`]+)`", cell)}
    base = [ROOT / "sidecar", ROOT]

    assert [word for word in named if not any((folder / word).exists() for folder in base)] == []
    packages = {f"sidecar/{path.parent.name}/" for path in (ROOT / "sidecar").glob("*/__init__.py")}
    modules = {path.name for path in (ROOT / "sidecar").glob("*.py")} - {"__init__.py", "__main__.py"}
    assert packages | modules <= named | {word.removeprefix("sidecar/") for word in named}


def test_the_way_of_a_request_and_what_to_touch_name_files_that_exist() -> None:
    words = re.findall(r"`([\w/]+(?:\.py|\.md|\.yaml|/))`", section("Layout"))

    assert [
        word for word in words if not (ROOT / word).exists() and not (ROOT / "sidecar" / word).exists()
    ] == []


def test_every_dependency_has_its_reason_and_none_is_invented() -> None:
    decision = (ROOT / "docs/adr/0002-dependencies.md").read_text()
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    lists = [project["dependencies"], *project["optional-dependencies"].values()]
    needed = {re.split(r"[<>=;!~ ]", each)[0] for each in chain(*lists)}

    assert set(re.findall(r"`([\w-]+)`", decision)) == needed
