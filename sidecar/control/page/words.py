"""What the page says in place of codes: a person who reads it in a bad hour should not have to look a word up.

Each vocabulary is closed, and each word of it is here; a test holds that. `GROUPS` is what the bars are made of, but that
an answer of 500 and above is never good nor rescued, whatever its fate: to the caller it is a failure.
"""

from typing import Literal

from sidecar.fate import MEANINGS, Fate, WhyNotRetried
from sidecar.policy.trip import Cause

__all__ = ["CAUSES", "GROUPS", "RESULTS", "WHY", "Group", "words"]

Group = Literal["good", "rescued", "refused", "failed", "client"]

GROUPS: dict[Fate, Group] = {
    Fate.OK: "good",
    Fate.OK_AFTER_RETRY: "rescued",
    Fate.CACHE_FRESH: "good",
    Fate.CACHE_STALE: "good",
    Fate.COALESCED: "good",
    Fate.FALLBACK_STALE: "rescued",
    Fate.FALLBACK_STATIC: "rescued",
    Fate.FALLBACK_MOCK: "rescued",
    Fate.FALLBACK_UPSTREAM: "rescued",
    Fate.FALLBACK_REDIRECT: "rescued",
    Fate.REJECTED_RATE_LIMIT: "refused",
    Fate.REJECTED_BREAKER_OPEN: "refused",
    Fate.REJECTED_BULKHEAD_FULL: "refused",
    Fate.REJECTED_QUEUE_TIMEOUT: "refused",
    Fate.REJECTED_OVERLOAD: "refused",
    Fate.TIMEOUT_ATTEMPT: "failed",
    Fate.TIMEOUT_TOTAL: "failed",
    Fate.TIMEOUT_IDLE: "failed",
    Fate.UPSTREAM_CONNECT: "failed",
    Fate.UPSTREAM_DISCONNECTED: "failed",
    Fate.UPSTREAM_BAD_RESPONSE: "failed",
    Fate.UPSTREAM_STATUS: "failed",
    Fate.CLIENT_GONE: "client",
    Fate.BAD_REQUEST: "client",
    Fate.NO_ROUTE: "client",
    Fate.MAINTENANCE: "refused",
    Fate.INTERNAL: "failed",
}

# Why a failed request was not tried again, after "Not tried again: ".
WHY: dict[WhyNotRetried, str] = {
    WhyNotRetried.METHOD: "its method may not be repeated without harm",
    WhyNotRetried.BODY_TOO_LARGE: "its body is too large to be kept for another attempt",
    WhyNotRetried.BUDGET: "the retry budget was used up",
    WhyNotRetried.DEADLINE: "there was no time left for it",
    WhyNotRetried.BREAKER_OPEN: "the circuit breaker had opened",
    WhyNotRetried.RETRIES_SPENT: "all its retries had been used",
    WhyNotRetried.HEAD_SENT: "its answer had already begun",
    WhyNotRetried.OVERLOAD: "there was no slot or connection for another attempt",
    WhyNotRetried.TOLD_NOT_TO: "the upstream said that it would be of no use",
}

# What came of one attempt, as attempts and breakers call it. Statuses are numbers, and not here.
RESULTS: dict[str, str] = {
    "ok": "answered",
    "status_5xx": "a 5xx answer",
    "slow_call": "too slow an answer",
    "trial_timed_out": "a trial that nobody decided in time",
    "request_broke": "the request broke off",
    "cancelled": "given up",
    Fate.TIMEOUT_ATTEMPT.value: "no answer in time",
    Fate.TIMEOUT_TOTAL.value: "no answer in time",
    Fate.TIMEOUT_IDLE.value: "an answer that stood still",
    Fate.UPSTREAM_CONNECT.value: "no connection",
    Fate.UPSTREAM_DISCONNECTED.value: "a connection that broke",
    Fate.UPSTREAM_BAD_RESPONSE.value: "an answer that is not HTTP",
    Fate.REJECTED_OVERLOAD.value: "no free connection",
}

# Why a breaker changed, after "because ".
CAUSES: dict[Cause, str] = {
    "consecutive_failures": "too many requests in a row failed",
    "failures_in_window": "too many requests failed",
    "failure_rate": "too large a share of the requests failed",
    "slow_call_rate": "too large a share of the answers was slow",
    "open_time_over": "its open time was over",
    "probe_passed": "the health probes were good again",
    "trial_succeeded": "the trials went well",
    "trial_failed": "a trial failed",
    "trial_timed_out": "a trial was not decided in time",
    "forced": "an operator held it so",
    "reset": "an operator reset it",
    "force_expired": "the time that an operator had set was over",
}


def words() -> dict[str, dict[str, str]]:
    """Give all of them as JSON types."""
    return {
        "meanings": {fate.value: meaning.replace("`", "") for fate, meaning in MEANINGS.items()},
        "groups": {fate.value: group for fate, group in GROUPS.items()},
        "why": {why.value: text for why, text in WHY.items()},
        "results": RESULTS,
        "causes": {str(cause): text for cause, text in CAUSES.items()},
    }
