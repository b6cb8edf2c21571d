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
from sidecar.config.units import show_duration, show_size
from sidecar.fate import MEANINGS, Fate

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


def test_the_fates_of_this_version_are_those_in_the_table_with_their_meanings() -> None:
    possible = {Fate.OK, Fate.UPSTREAM_STATUS, *(each.fate for each in used_errors())}
    table = {word.strip("`"): meaning for word, meaning in rows(section("Fates"))}

    assert table == {fate: MEANINGS[fate] for fate in possible}


def test_the_fates_of_later_versions_are_named_as_such() -> None:
    table = {word.strip("`") for word, _ in rows(section("Fates"))}
    prose = section("Fates").rpartition("|\n")[2]

    assert set(re.findall(r"`([a-z_]+)`", prose)) == {str(fate) for fate in Fate} - table


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
