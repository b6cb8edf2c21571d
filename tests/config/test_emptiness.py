"""A key without value: what that means depends on the key, and the key below it is seen in its light."""

import pytest

from sidecar.config.load import load_text
from sidecar.errors import ConfigError

REST = "upstreams: {a: {url: http://127.0.0.1:9000}}\nroutes: [{name: r, upstream: a}]\n"
INDENTED = "are the lines below it indented?"


def problems(text: str, **env: str) -> list[str]:
    with pytest.raises(ConfigError) as refusal:
        load_text(text, name="f", env=env)
    return [problem.split(": ", 1)[1] for problem in refusal.value.problems]


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("version:\n" + REST, "version: is required and has no value"),
        (
            "version: 1\nupstreams:\nroutes: [{name: r, upstream: a}]\n",
            f"upstreams: is required and has no value; {INDENTED}",
        ),
        (
            "version: 1\nupstreams: {a: }\nroutes: [{name: r, upstream: a}]\n",
            f"upstreams.a: must have a value; {INDENTED}",
        ),
        ("version: 1\nlimits:\n" + REST, "limits: has no value (a key that is left out has its default)"),
        ("version: 1\ntrusted_proxies: [null]\n" + REST, "trusted_proxies[0]: has no value"),
        ("version: 1\nrecords: ${N}\n" + REST, "records: has no value: N is empty in the environment"),
    ],
)
def test_what_no_value_means_depends_on_the_key(text: str, problem: str) -> None:
    assert problems(text, N="") == [problem]


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("version: 1\ncolour:\n" + REST, "colour: unknown key; here can be `version`"),
        (
            "version: 1\nretry:\n" + REST,
            "retry: unknown key; `retry` stands in a route, or in `defaults` for all of them",
        ),
        ("version: 1\ncolour: {a: }\n" + REST, "colour: unknown key; here can be `version`"),
    ],
)
def test_of_an_unknown_key_it_is_enough_that_it_is_unknown(text: str, problem: str) -> None:
    (found,) = problems(text)

    assert found.startswith(problem)


def test_unknown_keys_below_an_open_one_are_taken_for_its_part() -> None:
    assert problems("version: 1\nlimits:\nhead: 16KiB\nrecord:\n" + REST + "record_: 1\n") == [
        "limits: has no value (a key that is left out has its default)",
        "head: unknown key; if it is part of `limits`, indent it below",
        "record: unknown key; if it is part of `limits`, indent it below",
        "record_: unknown key; did you mean `records`?",
    ]


def test_a_url_beside_its_upstream_is_no_upstream_called_url() -> None:
    text = "version: 1\nupstreams:\n  a:\n  url: http://127.0.0.1:9000\nroutes: [{name: r, upstream: a}]\n"

    assert problems(text) == [
        f"upstreams.a: must have a value; {INDENTED}",
        "upstreams.url: must be a mapping of keys, not `http://127.0.0.1:9000`",
    ]
