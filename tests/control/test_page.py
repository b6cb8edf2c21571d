"""The page as it stands in the files: whole in itself, held by its policy, and with a word for every code."""

import re
from base64 import b64encode
from collections.abc import Iterator
from hashlib import sha256
from html.parser import HTMLParser
from importlib.resources import files

import pytest

from sidecar.control.page import PROGRAM, page_csp, page_html
from sidecar.control.page.words import CAUSES, GROUPS, RESULTS, WHY, words
from sidecar.fate import MEANINGS, Fate, WhyNotRetried
from sidecar.pipeline.stages.attempt import RESULTS as ATTEMPT_RESULTS
from sidecar.policy.trip import CAUSES as BREAKER_CAUSES

FOLDER = files("sidecar.control.page")
MARKUP = FOLDER.joinpath("page.html").read_text("utf-8")
STYLE = FOLDER.joinpath("page.css").read_text("utf-8")
SCRIPTS = {name: FOLDER.joinpath(name).read_text("utf-8") for name in PROGRAM}
CODE = "".join(SCRIPTS.values())


class Elements(HTMLParser):
    """Every element with its attributes, and the text of those that have but text."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.all: list[tuple[str, dict[str, str | None]]] = []
        self.inline: dict[str, str] = {}
        self._in: str | None = None
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = dict(attrs)
        self.all.append((tag, found))
        if tag in ("script", "style"):
            self._in = found.get("id") or tag

    def handle_endtag(self, tag: str) -> None:
        self._in = None

    def handle_data(self, data: str) -> None:
        if self._in is not None:
            self.inline[self._in] = self.inline.get(self._in, "") + data


PAGE = Elements(page_html().decode())


def hashed(text: str) -> str:
    return f"'sha256-{b64encode(sha256(text.encode()).digest()).decode()}'"


def directives() -> dict[str, str]:
    return {name: rest for name, _, rest in (each.partition(" ") for each in page_csp().split("; "))}


# --- whole in itself ---


def test_nothing_is_loaded_from_anywhere() -> None:
    links = [
        value
        for _, attributes in PAGE.all
        for name, value in attributes.items()
        if name in ("src", "href", "srcset", "action", "data", "poster", "background") and value
    ]

    assert [link for link in links if not link.startswith(("#", "data:image/svg+xml,"))] == []
    assert re.findall(r"@import|url\(|@font-face|src:", STYLE) == []
    assert re.findall(r"\bimport\b|https?:|\bWebSocket|XMLHttpRequest|sendBeacon|EventSource\(", CODE) == []


def test_what_it_asks_for_is_relative_to_where_it_came_from() -> None:
    """So it works behind any prefix that something in front of it may add."""
    asked = re.findall(r"""fetch\(\s*(["`][^"`]*["`]|\w+)""", CODE)
    paths = re.findall(r"""\["(?:GET|POST|PUT|DELETE)", ["`]([^"`]*)""", CODE)

    assert asked == ["path", '"events?snapshot=1s"']
    assert len(paths) == 11
    assert [path for path in paths if path.startswith(("/", "http", "."))] == []


def test_it_is_the_same_at_every_time() -> None:
    assert page_html() == page_html()


def test_every_part_is_in_it_once() -> None:
    page = page_html().decode()

    assert [name for name, text in SCRIPTS.items() if page.count(text) != 1] == []
    assert page.count(STYLE) == 1
    assert "/*style*/" not in page
    assert "/*program*/" not in page
    assert "/*words*/" not in page


# --- its policy ---


def test_the_policy_lets_exactly_this_style_and_this_program_run() -> None:
    assert directives() == {
        "default-src": "'none'",
        "style-src": hashed(PAGE.inline["style"]),
        "script-src": hashed(PAGE.inline["script"]),
        "img-src": "data:",
        "connect-src": "'self'",
        "base-uri": "'none'",
        "form-action": "'none'",
        "frame-ancestors": "'none'",
        "require-trusted-types-for": "'script'",
        "trusted-types": "'none'",
    }


def test_nothing_in_it_needs_what_the_policy_forbids() -> None:
    inline = [
        (tag, name)
        for tag, attributes in PAGE.all
        for name in attributes
        if name == "style" or name.startswith("on")
    ]

    assert inline == []
    assert re.findall(r"""setAttribute\(["'](?:style|on)""", CODE) == []
    assert re.findall(r"\beval\(|\bFunction\(|setTimeout\(\s*[\"'`]|javascript:", CODE) == []


def test_no_text_becomes_markup() -> None:
    ways = r"innerHTML|outerHTML|insertAdjacentHTML|setHTML|document\.write|DOMParser|createContextualFragment|srcdoc"

    assert re.findall(ways, CODE) == []


def test_no_word_can_end_the_block_that_it_stands_in() -> None:
    assert "<" not in PAGE.inline["words"]


# --- what the files say of each other ---


def test_every_element_that_the_program_names_is_there() -> None:
    present = {attributes["id"] for _, attributes in PAGE.all if "id" in attributes}
    named = set(re.findall(r'byId\("([\w-]+)"\)', CODE)) | set(
        re.findall(r"querySelector\(\"#([\w-]+)", CODE)
    )

    assert named - present == set()


def templates() -> Iterator[tuple[str, set[str]]]:
    for name, inside in re.findall(r'<template id="([\w-]+)">(.*?)</template>', MARKUP, re.DOTALL):
        yield name, set(re.findall(r'data-f="([\w-]+)"', inside))


# What a program keeps of its own with a row, beside the elements of its template.
OWN = {"node", "level", "text", "wanted"}


@pytest.mark.parametrize(("template", "parts"), list(templates()))
def test_every_part_of_a_row_that_the_program_changes_is_in_its_template(
    template: str, parts: set[str]
) -> None:
    (found,) = re.findall(rf'"{template}", \(row,(.*?)\n(?:  )?\}}\)', CODE, re.DOTALL)
    used = set(re.findall(r"\brow\.(\w+)", found)) - OWN

    assert used - parts == set()


def test_every_action_has_a_button_and_every_button_an_action() -> None:
    others = MARKUP + "".join(text for name, text in SCRIPTS.items() if name != "actions.js")
    offered = set(re.findall(r'data-action="([\w-]+)"', MARKUP))
    known = set(re.findall(r'^  "([\w-]+)": \{$', SCRIPTS["actions.js"], re.MULTILINE))

    assert offered - known == set()
    assert {action for action in known if f'"{action}"' not in others} == set()


def test_people_who_do_not_see_are_told_what_everything_is() -> None:
    labels = {attributes.get("for") for tag, attributes in PAGE.all if tag == "label"}
    fields = [
        attributes["id"] for tag, attributes in PAGE.all if tag in ("input", "select") and "id" in attributes
    ]
    dialogs = [attributes for tag, attributes in PAGE.all if tag == "dialog"]
    headings = [tag for tag, _ in PAGE.all if tag in ("h1", "h2", "h3")]

    assert set(fields) - labels == set()
    assert all("aria-labelledby" in attributes and "aria-describedby" in attributes for attributes in dialogs)
    assert ("html", {"lang": "en"}) in PAGE.all
    assert headings.count("h1") == 1
    assert all("aria-hidden" in attributes for tag, attributes in PAGE.all if tag == "svg")


# --- words ---


def test_every_fate_has_a_group_and_a_meaning() -> None:
    assert set(GROUPS) == set(Fate)
    assert set(words()["meanings"]) == {fate.value for fate in MEANINGS}


def test_every_reason_and_every_cause_has_its_words() -> None:
    assert set(WHY) == set(WhyNotRetried)
    assert set(CAUSES) == set(BREAKER_CAUSES)


def test_every_result_of_an_attempt_has_its_words() -> None:
    assert {str(each) for each in ATTEMPT_RESULTS} - set(RESULTS) == set()


# --- contrast (WCAG 2.2, 1.4.3 and 1.4.11) ---

SCHEMES = {
    "light": re.findall(
        r"--([\w-]+): (#[0-9a-f]{6});", STYLE.partition("@media (prefers-color-scheme: dark)")[0]
    ),
    "dark": re.findall(
        r"--([\w-]+): (#[0-9a-f]{6});",
        STYLE.partition("@media (prefers-color-scheme: dark)")[2].partition("\n}\n")[0],
    ),
}

TEXT = [
    *[(text, ground) for text in ("ink", "soft") for ground in ("ground", "card", "sunk")],
    *[("ink", f"{level}-tint") for level in ("warn", "bad")],
    *[(level, f"{level}-tint") for level in ("good", "note", "warn", "bad")],
    *[(level, "card") for level in ("good", "note", "warn", "bad", "blue")],
    *[("on-sign", level) for level in ("good", "note", "warn", "bad", "blue")],
    ("blue", "ground"),
    ("ground", "ink"),
]

SHAPES = [
    *[(f"fill-{group}", "card") for group in ("good", "rescued", "refused", "failed")],
    ("soft", "card"),
]


def luminance(colour: str) -> float:
    parts = [int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)]
    red, green, blue = (
        each / 12.92 if each <= 0.04045 else ((each + 0.055) / 1.055) ** 2.4 for each in parts
    )
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def contrast(one: str, other: str) -> float:
    high, low = sorted((luminance(one), luminance(other)), reverse=True)
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize(("pairs", "least"), [(TEXT, 4.5), (SHAPES, 3.0)])
def test_contrast(scheme: str, pairs: list[tuple[str, str]], least: float) -> None:
    colours = dict(SCHEMES[scheme])
    weak = {
        pair: round(contrast(colours[pair[0]], colours[pair[1]]), 2)
        for pair in pairs
        if contrast(colours[pair[0]], colours[pair[1]]) < least
    }

    assert weak == {}
