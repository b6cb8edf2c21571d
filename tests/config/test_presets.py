"""Presets: exactly the numbers of the guides that they come from, under whatever else is said."""

from typing import Any

import pytest

from sidecar.config.load import Loaded, load_text
from sidecar.config.presets import PRESETS
from sidecar.config.shape import plain

UPSTREAM = "version: 1\nupstreams: {a: {url: http://127.0.0.1:9000}}\n"


def load(text: str) -> Loaded:
    return load_text(UPSTREAM + text, name="f", env={})


def in_force(stage: str, settings: str, top: str = "") -> dict[str, Any]:
    """What a route has whose stage has these settings."""
    loaded = load(f"{top}\nroutes: [{{name: r, upstream: a, {stage}: {settings}}}]\n")
    found: dict[str, Any] = plain(getattr(loaded.config.routes[0], stage))
    return found


TRIGGERS = ("consecutive_failures", "failures_in_window", "failure_rate", "slow_call")


@pytest.mark.parametrize(
    ("name", "trigger", "open_for", "rest"),
    [
        ("seed-dashboard", {"consecutive_failures": 5}, "30s", {"successes": 1}),
        ("seed-db", {"failures_in_window": 3}, "15s", {"window": "30s", "min_requests": 5}),
        ("seed-cache", {"failures_in_window": 5}, "10s", {"window": "1m", "min_requests": 10}),
        ("seed-auth", {"consecutive_failures": 3}, "20s", {}),
        ("seed-external", {"consecutive_failures": 5}, "30s", {}),
        ("seed-mobile", {"consecutive_failures": 5}, "1m", {}),
        ("seed-mobile-external", {"consecutive_failures": 3}, "2m", {}),
        ("seed-dev", {"consecutive_failures": 10}, "30s", {"successes": 3}),
        ("seed-test", {"consecutive_failures": 2}, "1s", {"successes": 3}),
        ("seed-prod", {"consecutive_failures": 5}, "1m", {"successes": 3}),
        ("seed-frontend", {"consecutive_failures": 5}, "1m", {"successes": 2}),
        ("dev", {"consecutive_failures": 10}, "30s", {"successes": 3}),
        ("test", {"consecutive_failures": 2}, "1s", {"successes": 3}),
        ("prod", {"consecutive_failures": 5}, "1m", {"successes": 3}),
    ],
)
@pytest.mark.parametrize("profile", ["development", "testing", "production"])
def test_a_breaker_has_the_numbers_of_its_guide_under_every_profile(
    name: str, trigger: dict[str, int], open_for: str, rest: dict[str, Any], profile: str
) -> None:
    rest = {"window": "30s", "min_requests": 10, "successes": 2} | rest

    assert in_force("breaker", f"{{preset: {name}}}", f"profile: {profile}") == {
        **dict.fromkeys(TRIGGERS, "off"),
        **trigger,
        "window": rest["window"],
        "min_requests": rest["min_requests"],
        "open_for": open_for,
        "open_multiplier": 1,
        "open_jitter": "0%",
        "open_max": "5m",
        "count": [500, 502, 503, 504],
        "half_open": {"max_concurrent": 1, "successes": rest["successes"], "max_wait": "30s"},
        "header": "off",
        "mode": "enforce",
    }


@pytest.mark.parametrize(
    ("stage", "name", "numbers"),
    [
        ("retry", "seed-dashboard", {"max": "4s", "jitter": "none"}),
        ("retry", "seed-mobile", {"max": "4s", "jitter": "full"}),
        ("retry", "seed-prod", {"max": "5m", "jitter": "none"}),
        (
            "retry",
            "seed-frontend",
            {
                "max": "30s",
                "jitter": "none",
                "retry_on": ["connect_error", "reset", "attempt_timeout", "5xx"],
            },
        ),
        ("bulkhead", "seed-frontend", {"max_concurrent": 10, "max_queue": 100}),
        ("rate_limit", "seed-mobile", {"limit": "100/1m", "key": "client_ip"}),
        (
            "rate_limit",
            "seed-frontend",
            {"limit": "100/1m", "algorithm": "sliding_window", "key": "client_ip", "fields": "both"},
        ),
        ("cache", "seed-frontend", {"fresh_for": "1m", "stale_while_revalidate": "4m"}),
    ],
)
def test_the_other_stages_have_the_numbers_of_their_guides(
    stage: str, name: str, numbers: dict[str, Any]
) -> None:
    doubling = {"retries": 3, "strategy": "exponential", "base": "1s", "multiplier": 2}

    found = in_force(stage, f"{{preset: {name}}}", "profile: testing")

    assert found == found | numbers | (doubling if stage == "retry" else {})


def test_every_preset_can_be_used_in_every_place() -> None:
    for stage, presets in PRESETS.items():
        for name in presets:
            routes = "routes: [{name: r, upstream: a}]\n"
            places = [f"defaults: {{{stage}: {{preset: {name}}}}}\n{routes}"]
            if stage in {"breaker", "bulkhead"}:
                places.append(f"{stage}s: {{x: {{preset: {name}}}}}\n{routes}")
            for text in places:
                assert f"preset {name}" in {str(origin) for origin in load(text).origins.values()}


def test_every_value_tells_which_preset_it_is_from() -> None:
    loaded = load("""\
profile: testing
breakers: {x: {preset: seed-db, open_for: 20s}}
routes: [{name: r, upstream: a, breaker: x}]
""")

    origins = {
        path[2]: str(origin) for path, origin in loaded.origins.items() if path[:2] == ("breakers", "x")
    }

    assert origins == {
        "consecutive_failures": "preset seed-db",
        "failures_in_window": "preset seed-db",
        "failure_rate": "preset seed-db",
        "slow_call": "preset seed-db",
        "window": "preset seed-db",
        "min_requests": "preset seed-db",
        "open_for": "f:4",
        "open_multiplier": "preset seed-db",
        "open_jitter": "preset seed-db",
        "open_max": "default",
        "count": "default",
        "half_open": "default",
        "header": "default",
        "mode": "default",
    }


def test_what_means_the_same_is_the_same_with_or_without_a_preset() -> None:
    routes = "routes: [{name: r, upstream: a, bulkhead: {%s}}]\n"

    assert load(routes % "preset: seed-frontend").digest == load(routes % "max_concurrent: 10").digest


def test_a_route_s_preset_goes_before_what_its_defaults_say_and_they_fill_the_rest() -> None:
    top = "defaults: {breaker: {failure_rate: 10%, open_for: 5s, count: [503], half_open: {max_wait: 1s}}}"

    found = in_force("breaker", "{preset: prod}", top)

    assert found == found | {
        "consecutive_failures": 5,
        "failure_rate": "off",
        "open_for": "1m",
        "count": [503],
        "half_open": {"max_concurrent": 1, "successes": 3, "max_wait": "1s"},
    }


def test_a_preset_under_defaults_is_inherited_by_what_it_says() -> None:
    found = in_force("breaker", "{open_for: 7s}", "defaults: {breaker: {preset: seed-auth}}")

    assert found == found | {"consecutive_failures": 3, "open_for": "7s", "open_jitter": "0%"}


def test_a_trigger_beside_a_preset_joins_the_preset_s_own() -> None:
    found = in_force("breaker", "{preset: seed-auth, failure_rate: 50%}")

    assert found == found | {"consecutive_failures": 3, "failure_rate": "50%"}
