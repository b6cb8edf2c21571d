"""Keys as other programs call them: the key here is proposed, not the one that is spelt alike."""

import re

import pytest
from pydantic import BaseModel

from sidecar.config.elsewhere import ELSEWHERE, known_as
from sidecar.config.model import Config, Limits, Match, RouteConfig, Timeouts, UpstreamConfig
from sidecar.config.policies import (
    BreakerConfig,
    BulkheadConfig,
    CacheConfig,
    MockStep,
    RateLimitConfig,
    RetryConfig,
)


@pytest.mark.parametrize(
    ("model", "word", "key"),
    [
        (BreakerConfig, "failure_threshold", "consecutive_failures"),
        (BreakerConfig, "failureThreshold", "consecutive_failures"),
        (BreakerConfig, "threshold", "consecutive_failures"),
        (BreakerConfig, "failure-rate-threshold", "failure_rate"),
        (BreakerConfig, "reset_timeout", "open_for"),
        (BreakerConfig, "waitDurationInOpenState", "open_for"),
        (BreakerConfig, "minimumNumberOfCalls", "min_requests"),
        (BulkheadConfig, "queue", "max_queue"),
        (BulkheadConfig, "maxConcurrentCalls", "max_concurrent"),
        (BulkheadConfig, "timeout", "queue_timeout"),
        (RetryConfig, "on", "retry_on"),
        (RetryConfig, "backoff", "strategy"),
        (RetryConfig, "initial_delay", "base"),
        (RateLimitConfig, "rps", "limit"),
        (CacheConfig, "ttl", "fresh_for"),
        (MockStep, "content", "body"),
        (UpstreamConfig, "address", "url"),
        (Match, "method", "methods"),
        (RouteConfig, "service", "upstream"),
    ],
)
def test_the_key_that_is_called_otherwise_elsewhere_is_proposed(
    model: type[BaseModel], word: str, key: str
) -> None:
    assert known_as(word, model) == f"did you mean `{key}`?"


@pytest.mark.parametrize(
    ("model", "word", "meant"),
    [
        (RetryConfig, "attempts", "write `retries`, which is one less: it does not count the first attempt"),
        (RetryConfig, "per_try_timeout", "write `timeout: {attempt: …}` in the route"),
        (BreakerConfig, "success_threshold", "write `half_open: {successes: …}`"),
        (RateLimitConfig, "period", "write it into `limit`, behind the `/`"),
        (CacheConfig, "max_entries", "write `store: {max_entries: …}` at the top"),
        (Timeouts, "connect", "write `connect_timeout` in the upstream"),
        (Match, "prefix", "write `path: /…/**`"),
    ],
)
def test_where_it_is_more_than_another_word_that_is_told(
    model: type[BaseModel], word: str, meant: str
) -> None:
    assert known_as(word, model) == meant


@pytest.mark.parametrize("model", [BreakerConfig, Limits, Config])
def test_of_other_words_nothing_is_known(model: type[BaseModel]) -> None:
    assert known_as("colour", model) is None


def test_a_word_of_one_mapping_means_nothing_in_another() -> None:
    assert known_as("attempts", BreakerConfig) is None


@pytest.mark.parametrize("model", ELSEWHERE, ids=lambda model: model.__name__)
def test_every_key_that_is_proposed_is_there_and_no_word_is_a_key_already(model: type[BaseModel]) -> None:
    keys = {key.replace("_", "") for key in model.model_fields}
    proposed = {meant for meant in ELSEWHERE[model].values() if not meant.startswith("write ")}

    assert proposed <= model.model_fields.keys()
    assert not keys & ELSEWHERE[model].keys()
    assert all(re.fullmatch("[a-z0-9]+", word) for word in ELSEWHERE[model])
