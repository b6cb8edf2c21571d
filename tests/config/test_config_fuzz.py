"""Whatever a file holds: a configuration, or a ConfigError with lines of one form. Nothing else escapes."""

import re
from pathlib import Path
from typing import Any

import yaml
from hypothesis import example, given, settings
from hypothesis import strategies as st
from jsonschema import Draft202012Validator

from sidecar.config.load import Loaded, load_text
from sidecar.config.presets import PRESETS
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

    if loaded is not None and SECRET not in effective(loaded):
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
        "ops": st.sampled_from([":0", "localhost:9911", "[::]:9902", "unix:///b c"]),
        "admin": st.sampled_from(["off", "localhost:0", "[::1]:9903", "unix:///c"]),
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
    "errors": st.fixed_dictionaries(
        {}, optional={"format": st.sampled_from(["auto", "problem+json", "seed", "text"])}
    ),
    "headers": st.sampled_from(["minimal", "seed", "off"]),
    "admin": st.fixed_dictionaries(
        {},
        optional={
            "token": st.sampled_from(["0123456789abcdef", "${A}23456789abcdef0"]),
            "hosts": st.lists(st.sampled_from(["a.example", "b_c:80", "[::1]:1", "${HOST}"])),
        },
    ),
    "telemetry": st.just("off")
    | st.fixed_dictionaries(
        {},
        optional={
            "otel": st.just("off")
            | st.fixed_dictionaries(
                {
                    "endpoint": st.sampled_from(
                        ["http://c:4318", "https://${HOST}/v1/traces", "http://[::1]/"]
                    )
                },
                optional={
                    "service_name": st.sampled_from(["a", "é b"]),
                    "sample": st.sampled_from(["0%", "12.5%", "100%"]),
                    "headers": st.just({"X-A": "b"}),
                    "timeout": DURATIONS,
                },
            ),
            "sentry": st.just("off")
            | st.fixed_dictionaries(
                {"dsn": st.sampled_from(["https://a1@s.example/7", "http://k@${HOST}/${A}"])},
                optional={"environment": st.just("live"), "sample": st.just("50%")},
            ),
        },
    ),
    "log": st.fixed_dictionaries(
        {},
        optional={
            "format": st.sampled_from(["auto", "json", "console"]),
            "level": st.sampled_from(["debug", "info", "warning", "error"]),
            "sample": st.sampled_from(["0%", "0.5%", "${A}%"]),
            "query": st.booleans(),
        },
    ),
    "reload": st.fixed_dictionaries({}, optional={"watch": st.booleans()}),
    "access_log": st.sampled_from(["off", "errors", "all"]),
    "records": st.integers(0, 10**5) | st.just("${A}"),
    "trusted_proxies": st.lists(st.sampled_from(["10.0.0.0/8", "192.0.2.7", "fd00::/8", "0.0.0.0/0"])),
    "drain_timeout": DURATIONS,
}
STORES = st.fixed_dictionaries(
    {},
    optional={
        "max_bytes": st.sampled_from(["1MiB", "1GiB"]),
        "max_entries": st.integers(1, 100),
        "max_body": st.sampled_from(["1B", "1MB"]),
    },
)
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
        "health": st.just("off")
        | st.fixed_dictionaries(
            {},
            optional={
                "path": st.sampled_from(["/", "/health?a=b&c", "/${HOST}"]),
                "method": st.sampled_from(["GET", "HEAD"]),
                "host": st.sampled_from(["a.example", "b:80", "${HOST}"]),
                "interval": st.sampled_from(["1s", "1m", "${A}h"]),
                "timeout": st.sampled_from(["10ms", "1s"]),
                "expect": st.sampled_from([200, "200-399", "100-599"])
                | st.lists(st.sampled_from([200, 404, "200-299", "250-350", "503-503"]), min_size=1),
                "fall": st.integers(1, 100) | st.just("${A}"),
                "rise": st.integers(1, 100),
                "jitter": st.sampled_from(["0%", "50%", "${A}%"]),
            },
        ),
    },
)


# What contradicts is left out: `base` is below every `max`, `open_for` below every `open_max`, and a budget, which routes
# share, stands under `defaults` alone.
PERCENTAGES = st.sampled_from(["0.1%", "12.5%", "50%", "${A}%", "100%"])
MODES = st.sampled_from(["enforce", "shadow", "off"])
NAMED_BREAKER, NAMED_BULKHEAD = "a-breaker-of-several", "a-bulkhead-of-several"
RETRIES = st.fixed_dictionaries(
    {},
    optional={
        "retries": st.integers(0, 10) | st.just("${A}"),
        "strategy": st.sampled_from(["exponential", "linear", "fixed", "decorrelated"]),
        "base": st.sampled_from(["1ms", "${A}00ms", "1s"]),
        "multiplier": st.sampled_from([1, 1.5, 2, 10]),
        "max": st.sampled_from(["1s", "300s", "${A}h"]),
        "jitter": st.sampled_from(["full", "equal", "none"]),
        "retry_on": st.lists(
            st.sampled_from(["connect_error", "reset", "attempt_timeout", "bad_response", "5xx", 429, 503]),
            min_size=1,
        ),
        "methods": st.sampled_from(["idempotent", "all", ["GET", "POST"], ["M-SEARCH"]]),
        "require": st.sampled_from(["Idempotency-Key", "x-a"]),
        "body_buffer": SIZES | st.just("0B"),
        "retry_after": st.fixed_dictionaries({}, optional={"max": st.sampled_from(["0s", "1h"])}),
        "preset": st.sampled_from(sorted(PRESETS["retry"])),
    },
)
BUDGETS = st.just("off") | st.fixed_dictionaries(
    {},
    optional={
        "ratio": PERCENTAGES | st.just("0%"),
        "min_per_second": st.sampled_from([0, 0.5, 1, 10]),
        "window": st.sampled_from(["1s", "10m"]),
    },
)
BREAKERS = st.fixed_dictionaries(
    {},
    optional={
        "consecutive_failures": st.integers(1, 10**4) | st.just("${A}"),
        "failures_in_window": st.integers(1, 10**4),
        "failure_rate": PERCENTAGES,
        "slow_call": st.fixed_dictionaries({"duration": DURATIONS}, optional={"rate": PERCENTAGES}),
        "window": st.sampled_from(["1s", "1m"]),
        "min_requests": st.integers(1, 100),
        "open_for": st.sampled_from(["10ms", "30s"]),
        "open_multiplier": st.sampled_from([1, 1.25, 10]),
        "open_jitter": st.sampled_from(["0%", "50%", "${A}%"]),
        "open_max": st.sampled_from(["1h", "24h"]),
        "count": st.lists(st.sampled_from([429, 500, 503, "5xx"]), min_size=1),
        "half_open": st.fixed_dictionaries(
            {},
            optional={
                "max_concurrent": st.integers(1, 9),
                "successes": st.integers(1, 9),
                "max_wait": DURATIONS,
            },
        ),
        "header": st.sampled_from(["off", "X-A-Status", "x-b-status"]),
        "mode": MODES,
        "preset": st.sampled_from(sorted(PRESETS["breaker"])),
    },
)
BULKHEADS = st.fixed_dictionaries(
    {},
    optional={
        "max_concurrent": st.integers(1, 10**5),
        "max_queue": st.integers(0, 10**5) | st.just("${A}"),
        "queue_timeout": DURATIONS,
        "order": st.sampled_from(["fifo", "lifo", "adaptive"]),
        "target": DURATIONS,
        "adaptive": st.sampled_from(["off", {"min": 1, "max": 1}, {"min": "${A}", "max": 200}]),
        "mode": MODES,
        "preset": st.sampled_from(sorted(PRESETS["bulkhead"])),
    },
)
RATE_LIMITS = st.fixed_dictionaries(
    {"limit": st.sampled_from(["10/s", "100/1m", "${A}/500ms", "1000000/24h"])},
    optional={
        "algorithm": st.sampled_from(["token_bucket", "sliding_window"]),
        "key": st.sampled_from(["client_ip", "route", "header:X-Api-Key"]),
        "burst": st.integers(1, 100),
        "max_keys": st.integers(1, 100),
        "fields": st.sampled_from(["both", "standard", "legacy", "off"]),
        "mode": MODES,
        "preset": st.sampled_from(sorted(PRESETS["rate_limit"])),
    },
)
LONG = st.sampled_from(["0s", "1m", "8760h"])
CACHES = st.fixed_dictionaries(
    {},
    optional={
        "fresh_for": LONG | st.just("off"),
        "stale_while_revalidate": LONG,
        "stale_if_error": LONG,
        "coalesce": st.booleans(),
        "override_origin": st.booleans(),
        "preset": st.sampled_from(sorted(PRESETS["cache"])),
    },
)
ANSWERS = st.fixed_dictionaries(
    {},
    optional={
        "status": st.sampled_from([200, 404, 503]),
        "content_type": st.sampled_from(["text/html", "application/json; charset=utf-8", "image/svg+xml"]),
        "body": st.sampled_from(["[]", "a: b #c", "é\n", "$${A}", "{path}", "off"]),
        "headers": st.dictionaries(
            st.sampled_from(["X-A", "Retry-After", "Set-Cookie"]),
            st.sampled_from(["a b", "*", "é"]),
            min_size=1,
        ),
    },
)
CONDITIONS = {
    "when": st.lists(
        st.sampled_from(["breaker_open", "timeout", "5xx", "overload", "connect_error"]), min_size=1
    )
}
METHODS = {"methods": st.lists(st.sampled_from(["GET", "HEAD", "POST"]), min_size=1)}
STEPS = (
    st.just("stale")
    | st.fixed_dictionaries(
        {
            "stale": st.fixed_dictionaries(
                {}, optional={"max_age": st.just("1s"), "override_origin": st.booleans()}
            )
        },
        optional=CONDITIONS,
    )
    | st.fixed_dictionaries({"static": ANSWERS}, optional=CONDITIONS | METHODS)
    | st.fixed_dictionaries(
        {
            "redirect": st.sampled_from(
                [
                    "/sorry?from={path}",
                    {"location": "https://a.example{path}{query}"},
                    {"location": "http://[::1]/", "status": 307},
                ]
            )
        },
        optional=CONDITIONS | METHODS,
    )
)
FAULTS = st.fixed_dictionaries(
    {"allow_in_production": st.just(value=True), "delay": DURATIONS},
    optional={"percent": PERCENTAGES, "header": st.just({"X-A": "*"}), "truncate": SIZES},
)


def stages() -> dict[str, st.SearchStrategy[Any]]:
    """What `defaults` and a route may say."""
    off = st.just("off")
    return {
        "timeout": TIMEOUTS,
        "max_body": BODIES,
        "retry": off | RETRIES,
        "breaker": off | st.just(NAMED_BREAKER) | BREAKERS,
        "bulkhead": off | st.just(NAMED_BULKHEAD) | BULKHEADS,
        "rate_limit": off | RATE_LIMITS,
        "cache": off | CACHES,
        "fallback": off | st.lists(STEPS, min_size=1, max_size=3),
        "fault": off | FAULTS,
    }


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
        route.update(draw(st.fixed_dictionaries({}, optional=stages())))
        if isinstance(route.get("fallback"), list) and draw(st.booleans()):
            route["fallback"].append({"upstream": draw(st.sampled_from(sorted(upstreams)))})
        routes.append(route)
    others = draw(st.fixed_dictionaries({}, optional=OTHERS | {"store": STORES}))
    defaults: dict[str, Any] = draw(st.fixed_dictionaries({}, optional=stages()))
    if isinstance(defaults.get("retry"), dict):
        defaults["retry"]["budget"] = draw(BUDGETS)
    return {
        **others,
        "defaults": defaults,
        "version": 1,
        "upstreams": upstreams,
        "breakers": {NAMED_BREAKER: draw(BREAKERS) | {"header": "X-Shared-Status"}},
        "bulkheads": {NAMED_BULKHEAD: draw(BULKHEADS)},
        "routes": routes,
    }


class Plain(yaml.SafeDumper):
    """Writes what stands at two places twice."""

    def ignore_aliases(self, data: Any) -> bool:
        return True


@UNHURRIED
@given(right())
def test_what_is_right_loads_and_the_schema_accepts_it_and_printing_keeps_it(value: dict[str, Any]) -> None:
    text = yaml.dump(value, Dumper=Plain, allow_unicode=True, sort_keys=False, width=1000)

    loaded = load(text)

    assert loaded is not None
    as_written = read(text.replace("${", "$${"), "f", {}).root
    assert as_written is not None
    assert list(VALIDATOR.iter_errors(data(as_written))) == []
    if SECRET not in effective(loaded):
        assert load_text(effective(loaded), env={}).digest == loaded.digest
