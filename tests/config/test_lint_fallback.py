"""Warnings about fallbacks: each speaks up where it should, and only there."""

from pathlib import Path

import pytest

from sidecar.config import lint_fallback
from sidecar.config.load import load_text


def warnings(settings: str, top: str = "", base: Path | None = None) -> list[str]:
    text = f"""\
version: 1
profile: testing
upstreams: {{a: {{url: http://127.0.0.1:9000}}, b: {{url: http://127.0.0.1:9001}}}}
{top}
routes:
  - {{name: r, match: {{path: /r}}, upstream: a, {settings}}}
  - {{name: s, upstream: b}}
"""
    return [str(each).split(": ", 1)[1] for each in load_text(text, name="f", env={}, base=base).warnings]


@pytest.mark.parametrize("certain", ["static: {}", "mock: {content_type: text/plain}", "redirect: /sorry"])
def test_a_step_after_one_that_always_answers_is_warned_of(certain: str) -> None:
    assert warnings(f"fallback: [stale, {{{certain}}}, stale]") == [
        "routes[0].fallback[2]: warning[step-out-of-reach]: is never reached: step 2, above it, always has an answer"
    ]


@pytest.mark.parametrize(
    "steps",
    [
        "stale, stale",
        "{upstream: b}, {static: {}}",
        "{static: {}, when: [5xx]}, {stale: {}, when: [5xx, timeout]}",
        "{static: {}, methods: [GET]}, {static: {status: 503}}",
        "{static: {}, when: [5xx]}, {static: {}, when: [timeout]}, {static: {}}",
    ],
)
def test_a_step_whose_turn_can_come_is_not(steps: str) -> None:
    assert warnings(f"fallback: [{steps}]") == []


def test_a_step_for_methods_that_the_route_does_not_take_is_warned_of() -> None:
    assert warnings_of_posts("[stale]") == [
        "routes[0].fallback[0]: warning[step-out-of-reach]: is for GET, HEAD, and the route takes only POST, PATCH"
    ]
    assert warnings_of_posts("[{static: {}, methods: [PATCH]}]") == []


def warnings_of_posts(steps: str) -> list[str]:
    text = f"""\
version: 1
upstreams: {{a: {{url: http://127.0.0.1:9000}}}}
routes: [{{name: r, match: {{methods: [POST, PATCH]}}, upstream: a, fallback: {steps}}}]
"""
    return [str(each).split(": ", 1)[1] for each in load_text(text, name="f", env={}).warnings]


def test_what_all_routes_inherit_need_not_be_of_use_to_each() -> None:
    text = """\
version: 1
upstreams: {a: {url: http://127.0.0.1:9000}}
defaults: {fallback: [stale]}
routes: [{name: r, match: {methods: [POST]}, upstream: a}]
"""
    assert load_text(text, env={}).warnings == ()


def test_asking_the_upstream_that_has_failed_is_warned_of() -> None:
    assert warnings("fallback: [{upstream: b}, {upstream: a}, {upstream: {name: a}}]") == [
        "routes[0].fallback[1].upstream: warning[fallback-to-itself]: is the upstream that has failed",
        "routes[0].fallback[2].upstream.name: warning[fallback-to-itself]: is the upstream that has failed",
    ]


def test_an_upstream_of_a_fallback_is_used() -> None:
    text = """\
version: 1
upstreams: {a: {url: http://127.0.0.1:9000}, b: {url: http://127.0.0.1:9001}}
routes: [{name: r, upstream: a, fallback: [{upstream: b}]}]
"""
    assert load_text(text, env={}).warnings == ()


# --- JSON ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["static", "mock"])
@pytest.mark.parametrize(
    "content_type", ["application/json", "application/problem+json; charset=utf-8", "text/JSON"]
)
def test_a_body_that_is_called_json_and_is_none_is_warned_of(kind: str, content_type: str) -> None:
    assert warnings(f'fallback: [{{{kind}: {{content_type: "{content_type}", body: nope}}}}]') == [
        (
            f"routes[0].fallback[0].{kind}.body: warning[fallback-not-json]: `content_type` is `{content_type}`, "
            "and this is no JSON: Expecting value: line 1 column 1 (char 0)"
        )
    ]


def test_no_body_is_no_json_either() -> None:
    assert warnings("fallback: [{mock: {}}]") == [
        (
            "routes[0].fallback[0].mock: warning[fallback-not-json]: `content_type` is `application/json`, "
            "and this is no JSON: it is empty"
        )
    ]
    assert warnings("fallback: [{mock: {status: 204}}]") == []


@pytest.mark.parametrize(
    "answer",
    [
        "{body: nope}",
        "{content_type: text/json-seq, body: nope}",
        "{content_type: application/json, body: '[1]'}",
    ],
)
def test_json_and_what_is_not_called_so_are_right(answer: str) -> None:
    assert warnings(f"fallback: [{{static: {answer}}}]") == []


def test_files_are_read_for_that(tmp_path: Path) -> None:
    (tmp_path / "right.json").write_text('{"a": "é"}')
    (tmp_path / "wrong.json").write_text('{"a": 1,}')
    (tmp_path / "bytes.json").write_bytes(b'"\xff"')
    step = "fallback: [{static: {content_type: application/json, file: %s}}]"
    start = "routes[0].fallback[0].static.file: warning[fallback-not-json]: `content_type` is `application/json`, "

    assert warnings(step % "right.json", base=tmp_path) == []
    (wrong,) = warnings(step % "wrong.json", base=tmp_path)
    assert wrong.startswith(f"{start}and this is no JSON: ")
    (not_text,) = warnings(step % "bytes.json", base=tmp_path)
    assert "can't decode byte 0xff" in not_text


def test_a_file_that_is_gone_in_the_meantime_is_no_json(tmp_path: Path) -> None:
    """Between the check of the file and this look at it."""
    path = tmp_path / "a.json"
    path.write_text("[]")
    text = f"""\
version: 1
upstreams: {{a: {{url: http://127.0.0.1:9000}}}}
routes: [{{name: r, upstream: a, fallback: [{{static: {{content_type: application/json, file: {path}}}}}]}}]
"""
    config = load_text(text, env={}).config
    path.unlink()

    (found,) = lint_fallback.fallback_not_json(config)

    assert found.message == (
        "`content_type` is `application/json`, and this is no JSON: it cannot be read any more: No such file or directory"
    )
