"""Keys of later versions are known by their own name where they will stand, and by other names anywhere."""

import pytest
from pydantic import BaseModel

from sidecar.config.later import GUESSES, LATER, belongs_to_a_later_version
from sidecar.config.model import Config, Limits, RouteConfig


def test_the_keys_themselves_are_known_where_they_will_stand() -> None:
    assert all(belongs_to_a_later_version(key, model) for model, keys in LATER.items() for key in keys)
    assert not belongs_to_a_later_version("admin", Limits)


@pytest.mark.parametrize(
    "word",
    [
        "retries",
        "circuit_breaker",
        "circuit-breakers",
        "circuitBreaker",
        "rate_limits",
        "ratelimit",
        "caching",
        "fallbacks",
        "bulkhead",
        "bulkheads",
        "RETRY",
    ],
)
@pytest.mark.parametrize("model", [Config, RouteConfig])
def test_what_people_call_a_stage_is_known_at_every_level(
    word: str, model: type[Config | RouteConfig]
) -> None:
    assert belongs_to_a_later_version(word, model)


def test_no_guess_is_a_key_of_this_version() -> None:
    """Else a misspelt key of this version would be taken for one of the next."""
    models: set[type[BaseModel]] = {*LATER, Limits}
    keys = {key.replace("_", "") for model in models for key in model.model_fields}

    assert not keys & frozenset().union(*GUESSES.values())
