"""Whoever calls a stage by another name, or puts it elsewhere, is told its key and its place."""

import pytest

from sidecar.config.guesses import GUESSES, guessed
from sidecar.config.model import Config, Defaults, Limits, RouteConfig, UpstreamConfig


@pytest.mark.parametrize(
    ("word", "key"),
    [
        ("retries", "retry"),
        ("retry_policy", "retry"),
        ("circuit_breaker", "breaker"),
        ("circuit-breakers", "breaker"),
        ("circuitBreaker", "breaker"),
        ("rate_limits", "rate_limit"),
        ("ratelimit", "rate_limit"),
        ("caching", "cache"),
        ("fallbacks", "fallback"),
        ("bulkheads", "bulkhead"),
        ("RETRY", "retry"),
        ("chaos", "fault"),
        ("timeouts", "timeout"),
    ],
)
@pytest.mark.parametrize("model", [Defaults, RouteConfig])
def test_where_stages_stand_the_right_key_is_proposed(
    word: str, key: str, model: type[Defaults | RouteConfig]
) -> None:
    assert guessed(word, model) == f"did you mean `{key}`?"


def test_elsewhere_the_place_is_told_as_well() -> None:
    assert guessed("retries", Config) == "`retry` stands in a route, or in `defaults` for all of them"
    assert (
        guessed("breaker", UpstreamConfig) == "`breaker` stands in a route, or in `defaults` for all of them"
    )


def test_at_the_top_there_are_those_that_are_shared() -> None:
    assert (
        guessed("circuit_breakers", Config)
        == "did you mean `breakers`, where those are that routes share by name?"
    )
    assert (
        guessed("bulkhead", Config) == "did you mean `bulkheads`, where those are that routes share by name?"
    )


def test_a_mode_is_of_a_stage() -> None:
    said = "`mode` stands in `breaker`, `bulkhead` or `rate_limit`; `off` in the place of a stage switches it off"

    assert guessed("mode", RouteConfig) == said
    assert guessed("mode", Limits) is None


@pytest.mark.parametrize("model", [Config, RouteConfig, Limits])
def test_of_other_words_nothing_is_guessed(model: type[Config | RouteConfig | Limits]) -> None:
    assert guessed("logging", model) is None


def test_every_guess_is_of_a_key_of_routes() -> None:
    assert GUESSES.keys() <= RouteConfig.model_fields.keys()
