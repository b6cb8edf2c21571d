"""The vocabulary is closed, public, and written down: programs outside match on these words."""

from sidecar.errors import RequestError
from sidecar.fate import MEANINGS, Fate, WhyNotRetried


def test_the_fates_are_these_words() -> None:
    assert [str(fate) for fate in Fate] == [
        "ok",
        "ok_after_retry",
        "cache_fresh",
        "cache_stale",
        "coalesced",
        "fallback_stale",
        "fallback_static",
        "fallback_mock",
        "fallback_upstream",
        "fallback_redirect",
        "rejected_rate_limit",
        "rejected_breaker_open",
        "rejected_bulkhead_full",
        "rejected_queue_timeout",
        "rejected_overload",
        "timeout_attempt",
        "timeout_total",
        "timeout_idle",
        "upstream_connect",
        "upstream_disconnected",
        "upstream_bad_response",
        "upstream_status",
        "client_gone",
        "bad_request",
        "no_route",
        "maintenance",
        "internal",
    ]


def test_the_reasons_not_to_retry_are_these_words() -> None:
    assert [str(reason) for reason in WhyNotRetried] == [
        "method",
        "body_too_large",
        "budget",
        "deadline",
        "breaker_open",
        "retries_spent",
        "head_sent",
        "overload",
        "told_not_to",
    ]


def test_every_fate_is_explained() -> None:
    assert list(MEANINGS) == list(Fate)
    assert all(MEANINGS.values())


def test_every_fate_that_is_an_error_has_an_error_that_brings_it() -> None:
    def fates_below(kind: type[RequestError]) -> set[Fate]:
        return {kind.fate}.union(*(fates_below(child) for child in kind.__subclasses__()))

    good = {fate for fate in Fate if fate.startswith(("ok", "cache", "coalesced", "fallback"))}

    assert fates_below(RequestError) == set(Fate) - good - {Fate.UPSTREAM_STATUS}
