"""The documents hold together: examples load, commands and options exist, links lead somewhere.

What the README says of the program's behaviour is compared elsewhere: its tables in `test_readme`, its five minutes
in `test_tour`, the reference of keys in `test_configuration_page`.
"""

import re
from pathlib import Path
from typing import NamedTuple

import click
import pytest
import yaml

from sidecar.cli import main
from sidecar.config.load import load_text

ROOT = Path(__file__).parents[1]
README = ROOT / "README.md"
PAGES = [
    README,
    ROOT / "CONTRIBUTING.md",
    ROOT / "CHANGELOG.md",
    *sorted((ROOT / "docs").rglob("*.md")),
    *sorted((ROOT / "deploy").rglob("*.md")),
]

# Commands that stand outside the five minutes, which `test_tour` runs whole; and why nothing here runs them.
ARGUED = {
    "make demo": "starts `sidecar demo`, which tests/cli/test_demo.py runs; the target is in tests/cli/test_makefile.py",
    "make test": "runs the tests, of which this is one",
}

_FENCE = re.compile(
    r"^(?P<indent> *)(?P<fence>```+)(?P<info>[^\n`]*)\n(?P<text>.*?)^ *(?P=fence) *$",
    re.MULTILINE | re.DOTALL,
)
_LINK = re.compile(r"\[[^\]\n]*\]\((?P<target>[^)\s]+)\)")
_INLINE = re.compile(r"`([^`\n]+)`")


class Block(NamedTuple):
    """A fenced block. `info` is what stands behind its opening fence: a language, and perhaps marks."""

    page: str
    line: int
    info: list[str]
    text: str

    def __str__(self) -> str:
        return f"{self.page}:{self.line}"


def blocks(page: Path) -> list[Block]:
    text = page.read_text()
    name = str(page.relative_to(ROOT))
    return [
        Block(
            name,
            text.count("\n", 0, found.start()) + 1,
            found["info"].split(),
            re.sub(rf"^{found['indent']}", "", found["text"], flags=re.MULTILINE),
        )
        for found in _FENCE.finditer(text)
    ]


def prose(page: Path) -> str:
    """Give a page without its fenced blocks."""
    return _FENCE.sub("", page.read_text())


def examples() -> list[Block]:
    """Give the YAML blocks that are configurations: whole ones, and those that say to be `part` of one."""
    found = [block for page in PAGES for block in blocks(page) if block.info[:1] in (["yaml"], ["yml"])]
    return [block for block in found if _is_whole(block) or "part" in block.info]


def _is_whole(block: Block) -> bool:
    return re.search(r"^version:", block.text, re.MULTILINE) is not None


def completed(block: Block) -> str:
    """Add what a part leaves out: the version, an upstream, a route."""
    if _is_whole(block):
        return block.text
    there = yaml.safe_load(block.text)
    rest = {
        "version": "version: 1",
        "upstreams": "upstreams: {orders: {url: http://127.0.0.1:9000}}",
        "routes": "routes: [{name: everything, upstream: orders}]",
    }
    return "\n".join([block.text, *(line for key, line in rest.items() if key not in there)])


@pytest.mark.parametrize("block", examples(), ids=str)
def test_every_configuration_in_the_documents_loads(block: Block) -> None:
    """And without a warning: what people copy should be right."""
    loaded = load_text(completed(block), name=str(block), env={}, base=ROOT)

    assert loaded.warnings == ()


def test_there_are_configurations_in_the_documents() -> None:
    """Else the test above would be content with nothing."""
    assert {"README.md", "docs/configuration.md"} <= {block.page for block in examples()}


def commands(block: Block) -> list[str]:
    """Give the commands of a block: the lines after a `$`; without any, all lines but comments."""
    text = block.text.replace("\\\n", " ")
    if block.info[:1] == ["console"]:
        lines = [line[2:] for line in text.splitlines() if line.startswith("$ ")]
    else:
        lines = [line for line in text.splitlines() if line.strip() and not line.startswith("#")]
    return [re.split(r"\s+#\s", line)[0].strip() for line in lines]


def command_blocks(page: Path) -> list[Block]:
    """Give the blocks for a shell; one without a language counts if it starts with one of our commands."""
    shells = (["console"], ["sh"], ["bash"], ["shell"])
    return [
        block
        for block in blocks(page)
        if block.info[:1] in shells or (not block.info and block.text.startswith(("make ", "sidecar ")))
    ]


def test_every_command_of_the_readme_is_run_by_a_test_or_argued() -> None:
    text = README.read_text()
    tour = text.partition("\n## Five minutes\n")
    first = tour[0].count("\n") + 2
    last = first + tour[2].partition("\n## ")[0].count("\n")

    outside = [
        command
        for block in command_blocks(README)
        if not (block.info[:1] == ["console"] and first <= block.line <= last)
        for command in commands(block)
    ]

    assert [command for command in outside if command not in ARGUED] == []
    assert [command for command in ARGUED if command not in outside] == []


def test_every_make_target_named_is_there() -> None:
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    named = {
        (str(page.relative_to(ROOT)), found)
        for page in PAGES
        for code in [*_INLINE.findall(prose(page)), *(block.text for block in command_blocks(page))]
        for found in re.findall(r"(?:^|[;&(]\s*)make ([a-z]+)", code, re.MULTILINE)
    }

    assert {(page, target) for page, target in named if target not in targets} == set()
    assert ("README.md", "demo") in named


def sidecar_calls(page: Path) -> list[str]:
    """Give what follows the word `sidecar` where it is called: in inline code and in blocks for a shell."""
    codes = [
        *_INLINE.findall(prose(page)),
        *(line for block in command_blocks(page) for line in commands(block)),
    ]
    calls = [re.search(r"(?:^|[\s/|])sidecar ((?:[a-z-]|\[).*)", code) for code in codes]
    return [call[1].partition(" | ")[0] for call in calls if call is not None]


def options_of(command: click.Command) -> set[str]:
    context = click.Context(command, info_name=command.name)
    return {
        option
        for parameter in command.get_params(context)
        if isinstance(parameter, click.Option)
        for option in parameter.opts
    }


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_command_and_option_named_is_in_the_help(page: Path) -> None:
    unknown = []
    for call in sidecar_calls(page):
        words = call.split()
        command = main.commands.get(words[0]) if not words[0].startswith("-") else main
        if command is None:
            unknown.append(call)
            continue
        known = options_of(command) | set(command.get_help_option_names(click.Context(command)))
        unknown += [call for word in words if word.startswith("--") and word.partition("=")[0] not in known]
    assert unknown == []


def test_every_option_in_the_readme_s_prose_belongs_to_some_command() -> None:
    """Options that are named alone, as in «`--strict` lets warnings fail too»."""
    known = {option for command in [main, *main.commands.values()] for option in options_of(command)}
    alone = {code.split()[0] for code in _INLINE.findall(prose(README)) if code.startswith("--")}

    assert alone - known == set()
    assert alone


def slug(heading: str) -> str:
    """Give the anchor of a heading, as GitHub makes it."""
    text = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading).replace("`", "").strip().lower()
    return re.sub(r"[^\w\- ]", "", text).replace(" ", "-")


def anchors(page: Path) -> set[str]:
    return {slug(found) for found in re.findall(r"^#+ (.+)$", prose(page), re.MULTILINE)}


def links(page: Path) -> list[str]:
    text = re.sub(r"`[^`\n]*`", "", prose(page))
    found = [link["target"] for link in _LINK.finditer(text)]
    return [target for target in found if not re.match(r"(https?|mailto):", target)]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_link_within_the_project_leads_somewhere(page: Path) -> None:
    broken = []
    for target in links(page):
        path, _, anchor = target.partition("#")
        goal = (page.parent / path).resolve() if path else page
        inside = goal.is_relative_to(ROOT)
        if not (inside and goal.exists()) or (anchor and anchor not in anchors(goal)):
            broken.append(target)
    assert broken == []


def test_the_readme_s_links_are_found() -> None:
    """Else the test above would be content with nothing."""
    assert "docs/benchmarks.md" in links(README)
    assert "#seeing-and-steering" in links(README)
