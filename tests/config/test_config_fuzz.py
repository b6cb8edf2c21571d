"""Whatever a file holds: a configuration, or a ConfigError with lines of one form. Nothing else escapes."""

import re
from pathlib import Path
from typing import Any

import yaml
from hypothesis import example, given, settings
from hypothesis import strategies as st
from jsonschema import Draft202012Validator

from sidecar.config.load import Loaded, load_text
from sidecar.config.reader import read
from sidecar.config.schema import json_schema
from sidecar.config.show import SECRET, effective
from sidecar.config.tree import data
from sidecar.errors import ConfigError

# A file takes milliseconds and, where something else has the processor, sometimes more.
UNHURRIED = settings(deadline=None)
LINE = re.compile(r"f\.yaml:[1-9][0-9]*:[1-9][0-9]*: (\(file\)|[^:]*(\[\".*\"\][^:]*)*): \S.*")
ROOT = Path(__file__).parents[2]
SEEDS = [path.read_text() for path in sorted((ROOT / "config").glob("*.yaml"))]
SEEDS += [
    path.read_bytes().decode(errors="replace")
    for path in sorted((ROOT / "tests/config/broken").glob("*.yaml"))
]
VALIDATOR = Draft202012Validator(json_schema())
ENV = {"A": "1", "HOST": "b.example", "EMPTY": ""}

# Bits that mean something to YAML or to this grammar, so that a mutation is not just noise.
BITS = st.sampled_from(
    [
        *("\n", "  ", "\t", ": ", "- ", "#", "{", "}", "[", "]", ",", "'", '"', "|\n", "? ", "\\"),
        *("&a ", "*a ", "!!str ", "---\n", "...\n", "%YAML 1.1\n", "<<", "\\U00110000"),
        *("\x00", "\x85", "\u2028", "\ufeff", "\ud800", "${", "${A}", "${NOPE}", "$${", "off", "null", "~"),
        *(
            "0",
            "-1",
            "1e9",
            "010",
            "15s",
            "0s",
            "99h",
            "1KiB",
            "true",
            "/**",
            "/{a}",
            "routes:",
            "version: 1\n",
        ),
    ]
)


def load(text: str) -> Loaded | None:
    """Load, and check the form of every complaint."""
    try:
        return load_text(text, name="f.yaml", env=ENV)
    except ConfigError as error:
        problems = error.problems
    assert problems
    assert [line for line in problems if not LINE.fullmatch(line) or not line.isprintable()] == []
    return None


@UNHURRIED
@given(st.text())
@example('"\\UFFFFFFFF"')
@example("%YAML 1.1" + "9" * 5000 + "\n---\na")
@example("%TAG ! %ff\n---\na")
@example("a: " + "9" * 5000)
@example("[" * 3000)
def test_any_text_is_refused_in_the_one_form(text: str) -> None:
    assert load(text) is None


@UNHURRIED
@given(st.lists(BITS | st.text(max_size=3), max_size=30))
def test_any_mixture_of_yaml_is_refused_in_the_one_form(bits: list[str]) -> None:
    load("".join(bits))


@st.composite
def mutated(draw: st.DrawFn) -> str:
    text = draw(st.sampled_from(SEEDS))
    for _ in range(draw(st.integers(min_value=1, max_value=4))):
        start = draw(st.integers(min_value=0, max_value=len(text)))
        end = min(len(text), start + draw(st.integers(min_value=0, max_value=12)))
        text = text[:start] + draw(BITS | st.text(max_size=3)) + text[end:]
    return text


@UNHURRIED
@given(mutated())
def test_a_damaged_file_is_a_configuration_or_is_refused_in_the_one_form(text: str) -> None:
    loaded = load(text)

    if loaded is not None:
        assert load_text(effective(loaded), env={}).digest == loaded.digest


# --- files that are right ---------------------------------------------------------------------------------

DURATIONS = st.sampled_from(["10ms", "500ms", "1.5s", "15s", "59.999s", "${A}s", "1m", "0.5m"])
LIMITS = DURATIONS | st.sampled_from(["off", "0s", "24h", "0h"])
SIZES = st.sampled_from(["1KiB", "1.5KiB", "2KB", "${A}MiB", "0.01MB", "65536B"])
BODIES = SIZES | st.sampled_from(["off", "1B", "1024GiB"])
NAMES = st.from_regex(r"[A-Za-z][A-Za-z0-9_.-]{0,9}|[0-9][a-z]{2}", fullmatch=True)
SEGMENTS = st.sampled_from(["a", "b", "*", "{id}", "a.b-c~", "%2F", "$", "'", "!"])
PATHS = st.builds(
    lambda parts, end: "/" + "/".join(dict.fromkeys(parts)) + end,
    st.lists(SEGMENTS, min_size=1, max_size=3),
    st.sampled_from(["", "/", "/**"]),
)
TIMEOUTS = st.fixed_dictionaries({}, optional=dict.fromkeys(("attempt", "total", "idle", "body"), LIMITS))
MATCHES = st.fixed_dictionaries(
    {},
    optional={
        "host": st.sampled_from(["a.example", "*.example", "[::1]", "${HOST}"])
        | st.lists(st.sampled_from(["a.example", "b_c.example.", "${HOST}"]), min_size=1),
        "methods": st.lists(st.sampled_from(["GET", "HEAD", "M-SEARCH"]), min_size=1),
        "headers": st.dictionaries(
            st.sampled_from(["X-A", "x-b", "Cookie"]),
            st.sampled_from(["*", "a: b #c", "é", '"', "\\", "5", "true", "$${A}"]),
            min_size=1,
        ),
    },
)
LISTENERS = st.fixed_dictionaries(
    {},
    optional={
        "traffic": st.sampled_from(["0.0.0.0:8080", ":0", "[::1]:80", "unix:///a", "${HOST}:81"]),
        "ops": st.sampled_from([":0", "localhost:9901", "[::]:9902", "unix:///b c"]),
    },
)
OTHERS = {
    "profile": st.sampled_from(["development", "testing", "production", "${NOPE:-testing}"]),
    "listen": LISTENERS,
    "limits": st.fixed_dictionaries(
        {},
        optional={
            "connections": st.integers(1, 10**6) | st.just("${A}"),
            "head": SIZES,
            "target": SIZES,
            "fields": st.integers(1, 10**4),
            "head_timeout": DURATIONS,
            "keepalive_timeout": DURATIONS,
            "half_close_grace": DURATIONS,
        },
    ),
    "defaults": st.fixed_dictionaries({}, optional={"timeout": TIMEOUTS, "max_body": BODIES}),
    "errors": st.fixed_dictionaries(
        {}, optional={"format": st.sampled_from(["auto", "problem+json", "seed", "text"])}
    ),
    "access_log": st.sampled_from(["off", "errors", "all"]),
    "records": st.integers(0, 10**5) | st.just("${A}"),
    "trusted_proxies": st.lists(st.sampled_from(["10.0.0.0/8", "192.0.2.7", "fd00::/8", "0.0.0.0/0"])),
    "drain_timeout": DURATIONS,
}
UPSTREAMS = st.fixed_dictionaries(
    {
        "url": st.sampled_from(
            ["http://h", "https://[::1]:1", "unix:///s", "http://a_b.example:80/", "http://${HOST}"]
        )
    },
    optional={
        "connect_timeout": DURATIONS,
        "max_connections": st.integers(1, 10**5),
        "idle_timeout": DURATIONS,
    },
)


@st.composite
def right(draw: st.DrawFn) -> dict[str, Any]:
    """A configuration that breaks no rule, as it would be written."""
    upstreams: dict[str, dict[str, Any]] = draw(st.dictionaries(NAMES, UPSTREAMS, min_size=1, max_size=3))
    for upstream in upstreams.values():
        if upstream["url"].startswith("https") and draw(st.booleans()):
            upstream["tls"] = {"verify": draw(st.booleans()), "server_name": "a.example"}
    routes: list[dict[str, Any]] = []
    for name in draw(st.lists(NAMES, min_size=1, max_size=4, unique=True)):
        route: dict[str, Any] = {
            "name": name,
            "upstream": draw(st.sampled_from(sorted(upstreams))),
            "match": draw(MATCHES),
        }
        path: dict[str, str] = draw(
            st.fixed_dictionaries({}, optional={"path": PATHS}) | st.just({"path_regex": "/[ab]+${A}"})
        )
        route["match"].update(path)
        route.update(draw(st.fixed_dictionaries({}, optional={"timeout": TIMEOUTS, "max_body": BODIES})))
        routes.append(route)
    others = draw(st.fixed_dictionaries({}, optional=OTHERS))
    return {**others, "version": 1, "upstreams": upstreams, "routes": routes}


@UNHURRIED
@given(right())
def test_what_is_right_loads_and_the_schema_accepts_it_and_printing_keeps_it(value: dict[str, Any]) -> None:
    text = yaml.safe_dump(value, allow_unicode=True, sort_keys=False, width=1000)

    loaded = load(text)

    assert loaded is not None
    as_written = read(text.replace("${", "$${"), "f", {}).root
    assert as_written is not None
    assert list(VALIDATOR.iter_errors(data(as_written))) == []
    if SECRET not in effective(loaded):
        assert load_text(effective(loaded), env={}).digest == loaded.digest
