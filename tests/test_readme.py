"""What the README's tables say is what the program does; each table is compared whole.

Its commands and their output are run by `test_tour`.
"""

import re
import tomllib
from itertools import chain
from pathlib import Path

from sidecar import errors
from sidecar.cli import main
from sidecar.config.load import load_text
from sidecar.config.model import RouteConfig
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
from sidecar.fate import MEANINGS, Fate, WhyNotRetried
from sidecar.pipeline import assemble

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()
SOURCES = {path: path.read_text() for path in (ROOT / "sidecar").rglob("*.py")}
LEAST = "version: 1\nupstreams: {a: {url: http://a}}\nroutes: [{name: r, upstream: a}]\n"


def section(title: str) -> str:
    """What stands under a heading, up to the next one of its level."""
    _, found, rest = README.partition(f"\n## {title}\n")
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


def test_the_fates_of_later_versions_are_named_as_such() -> None:
    table = {word.strip("`") for word, _ in rows(section("Fates"))}
    prose = section("Fates").rpartition("|\n")[2]

    assert set(re.findall(r"`([a-z_]+)`", prose)) == {str(fate) for fate in Fate} - table


def test_whoever_was_refused_finds_each_fate_that_is_no_answer() -> None:
    """All but those with which the client got an answer of the service, a copy, or what stands in for it."""
    fates, _, words = section("Why was I refused?").partition("`why_not_retried` is one of these")
    told = [word for cell, _ in rows(fates) for word in re.findall(r"`(\w+)`", cell)]
    answered = re.compile("ok|ok_after_retry|cache_.*|coalesced|fallback_.*")

    assert len(told) == len(set(told))
    assert set(told) == {str(fate) for fate in possible_fates() if not answered.fullmatch(fate)}
    assert {cell.strip("`") for cell, _ in rows(words)} == {str(word) for word in WhyNotRetried}


def test_the_metrics_to_look_at_are_there() -> None:
    """In «Why was I refused?», as in the rest of the prose, none is named that the table does not have."""
    names = {cell.strip("`") for cell, *_ in rows(section("Metrics")) if cell.startswith("`sidecar_")}

    prose = README.replace(section("Five minutes"), "")

    assert set(re.findall(r"\bsidecar_[a-z_]*[a-z]", prose)) - names == set()


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
