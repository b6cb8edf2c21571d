"""Warnings about retries, breakers and bulkheads: each speaks up where it should, and only there."""

import pytest

from sidecar.config.lint_policies import waiting
from sidecar.config.load import load_text
from sidecar.config.policies import RetryConfig

UPSTREAMS = """\
version: 1
upstreams: {a: {url: http://127.0.0.1:9000}, b: {url: http://127.0.0.1:9001, max_connections: 10}}
"""


def warnings(text: str) -> list[str]:
    """All of them, without the file."""
    found = (str(each) for each in load_text(UPSTREAMS + text, name="f", env={}).warnings)
    return [line.split(": ", 1)[1] for line in found if "[unused-upstream]" not in line]


def of_route(settings: str) -> list[str]:
    return warnings(f"routes:\n  - {{name: r, upstream: a, {settings}}}\n")


# --- retry --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("settings", "seconds"),
    [
        ({"retries": 0}, 0.0),
        ({"retries": 3, "base": "1s", "max": "30s"}, 7.0),
        ({"retries": 3, "base": "1s", "max": "3s"}, 6.0),
        ({"retries": 3, "base": "1s", "multiplier": 3, "max": "1m"}, 13.0),
        ({"retries": 3, "base": "1s", "max": "30s", "strategy": "linear"}, 6.0),
        ({"retries": 3, "base": "1s", "max": "30s", "strategy": "fixed"}, 3.0),
        ({"retries": 3, "base": "1s", "max": "30s", "strategy": "decorrelated"}, 39.0),
    ],
)
def test_the_waiting_of_a_request_is_the_longest_that_it_can_be(
    settings: dict[str, object], seconds: float
) -> None:
    assert waiting(RetryConfig.model_validate(settings)) == seconds


def test_waiting_that_leaves_no_time_for_the_last_retry_is_warned_of() -> None:
    """Three retries with 1, 2 and 4 seconds do not fit into 10 beside an attempt of 4."""
    retry = "retry: {retries: 3, base: 1s, max: 4s}"

    assert of_route(f"{retry}, timeout: {{attempt: 4s, total: 10s}}") == [
        (
            "routes[0].retry.retries: warning[backoff-exceeds-total]: `total` (10s) is over before the last retry: "
            "all waiting takes up to 7s, and one attempt up to 4s"
        )
    ]
    assert of_route(f"{retry}, timeout: {{attempt: 3s, total: 10s}}") == []


def test_of_an_attempt_without_limit_only_the_waiting_counts() -> None:
    retry = "retry: {retries: 3, base: 1s, strategy: fixed, max: 4s}"

    assert of_route(f"{retry}, timeout: {{attempt: off, total: 2900ms}}") == [
        (
            "routes[0].retry.retries: warning[backoff-exceeds-total]: `total` (2900ms) is over before the last retry: "
            "all waiting takes up to 3s"
        )
    ]
    assert of_route(f"{retry}, timeout: {{attempt: off, total: 3s}}") == []


@pytest.mark.parametrize(
    "settings",
    [
        "timeout: {attempt: 10s, total: 10s}",
        "retry: {retries: 0, base: 10s}",
        "retry: {retries: 5, base: 10s}, timeout: {total: off}",
        "retry: off",
    ],
)
def test_waiting_that_is_short_or_never_takes_place_is_not(settings: str) -> None:
    assert of_route(settings) == []


@pytest.mark.parametrize(
    ("breaker", "trigger"),
    [
        ("{consecutive_failures: 3}", "consecutive_failures"),
        ("{failures_in_window: 3, min_requests: 3}", "failures_in_window"),
        ("{failure_rate: 10%, min_requests: 2}", "failure_rate"),
    ],
)
def test_a_breaker_that_one_request_can_open_is_warned_of(breaker: str, trigger: str) -> None:
    assert of_route(f"breaker: {breaker}") == [
        (
            f"routes[0].breaker.{trigger}: warning[retries-trip-breaker]: "
            f"the 3 attempts at one request of `r` can open the breaker (`{trigger}`)"
        )
    ]


@pytest.mark.parametrize(
    "settings",
    [
        "breaker: {}",
        "breaker: {consecutive_failures: 4}",
        "breaker: {consecutive_failures: 3}, retry: {retries: 1}",
        "breaker: {consecutive_failures: 1}, retry: off",
        "breaker: {consecutive_failures: 3, mode: off}",
        "breaker: {failures_in_window: 4, min_requests: 3}",
        "breaker: {failures_in_window: 3, min_requests: 4}",
        "breaker: {failure_rate: 10%, min_requests: 4}",
        "breaker: {slow_call: {duration: 1s}, min_requests: 1}",
    ],
)
def test_a_breaker_that_takes_several_requests_is_not(settings: str) -> None:
    assert of_route(settings) == []


def test_in_tests_one_request_may_open_a_breaker() -> None:
    assert warnings("profile: testing\nroutes: [{name: r, upstream: a, breaker: {}}]\n") == []


def test_a_shared_breaker_is_warned_of_once_for_each_route_that_can_open_it() -> None:
    assert warnings("""\
breakers: {x: {consecutive_failures: 3}}
routes:
  - {name: r, match: {path: /r}, upstream: a, breaker: x}
  - {name: s, upstream: a, breaker: x, retry: {retries: 1}}
""") == [
        (
            "breakers.x.consecutive_failures: warning[retries-trip-breaker]: "
            "the 3 attempts at one request of `r` can open the breaker (`consecutive_failures`)"
        )
    ]


@pytest.mark.parametrize(
    ("settings", "methods"),
    [
        ("retry: {methods: all}", "POST and PATCH"),
        ("retry: {methods: [GET, POST]}", "POST"),
        ("retry: {methods: [LOCK, GET, POST]}, match: {methods: [GET, LOCK]}", "LOCK"),
        ("retry: {methods: all}, match: {methods: [GET, POST]}", "POST"),
    ],
)
def test_repeating_a_post_whoever_asks_is_warned_of(settings: str, methods: str) -> None:
    assert of_route(settings) == [
        (
            f"routes[0].retry.methods: warning[repeats-what-is-not-idempotent]: repeats {methods}; "
            "with `require: Idempotency-Key`, only what says that it may be"
        )
    ]


@pytest.mark.parametrize(
    "settings",
    [
        "retry: {methods: all, require: Idempotency-Key}",
        "retry: {methods: all}, match: {methods: [GET, PUT]}",
        "retry: {methods: [GET, POST]}, match: {methods: [GET]}",
        "retry: {methods: [GET, PUT]}",
        "retry: {methods: all, retries: 0}",
        "match: {methods: [POST]}",
    ],
)
def test_repeating_what_may_be_repeated_is_not(settings: str) -> None:
    assert of_route(settings) == []


def test_retries_that_nothing_bounds_are_warned_of() -> None:
    assert of_route("retry: {retries: 4, budget: off}") == [
        (
            "routes[0].retry.budget: warning[no-retry-budget]: "
            "with `budget: off`, a failing upstream gets up to 5 times its load"
        )
    ]
    assert of_route("retry: {retries: 0, budget: off}") == []


def test_a_budget_of_nothing_is_warned_of() -> None:
    assert of_route("retry: {budget: {ratio: 0%, min_per_second: 0}}") == [
        (
            "routes[0].retry.budget.ratio: warning[idle-retry]: "
            "with `ratio` and `min_per_second` zero, nothing is ever retried; `retry: off` says so"
        )
    ]
    assert of_route("retry: {budget: {ratio: 0%}}") == []
    assert of_route("retry: {budget: {min_per_second: 0}}") == []


@pytest.mark.parametrize("methods", ["idempotent", "[GET, PUT]"])
def test_a_field_that_nothing_needs_is_warned_of(methods: str) -> None:
    assert of_route(f"retry: {{require: X-Key, methods: {methods}}}") == [
        (
            "routes[0].retry.require: warning[idle-retry]: "
            "`require` is for methods that are not idempotent, and `methods` has none of them"
        )
    ]


def test_a_field_that_only_some_of_the_routes_need_is_not() -> None:
    assert (
        warnings("""\
defaults: {retry: {require: X-Key}}
routes:
  - {name: r, match: {path: /r}, upstream: a, retry: {methods: all}}
  - {name: s, match: {path: /s}, upstream: a, retry: {methods: [POST]}}
  - {name: t, upstream: a}
""")
        == []
    )


# --- breaker ------------------------------------------------------------------------------------------------

LIMIT = "rate_limit: {limit: 1/s, key: route}, retry: off"


@pytest.mark.parametrize(
    ("breaker", "needed"),
    [
        ("{failure_rate: 50%, min_requests: 12, window: 10s}", 12),
        ("{failures_in_window: 20, min_requests: 5, window: 10s}", 20),
        ("{slow_call: {duration: 1s}, min_requests: 12, window: 10s}", 12),
    ],
)
def test_a_trigger_that_the_rate_limit_keeps_out_of_reach_is_warned_of(breaker: str, needed: int) -> None:
    """In ten seconds, one a second and the one that the bucket held."""
    assert of_route(f"breaker: {breaker}, {LIMIT}") == [
        (
            f"routes[0].breaker.min_requests: warning[trigger-out-of-reach]: within `window` (10s) it needs {needed} "
            "attempts, and the rate limit lets no more than 11 pass"
        )
    ]


@pytest.mark.parametrize(
    "settings",
    [
        f"breaker: {{failure_rate: 50%, min_requests: 11, window: 10s}}, {LIMIT}",
        f"breaker: {{consecutive_failures: 5, min_requests: 100}}, {LIMIT}",
        (
            "breaker: {failure_rate: 50%, min_requests: 22, window: 10s}, retry: {retries: 1}, "
            "rate_limit: {limit: 1/s, key: route}"
        ),
        "breaker: {failure_rate: 50%, min_requests: 100}, rate_limit: {limit: 1/s}",
        "breaker: {failure_rate: 50%, min_requests: 100}, rate_limit: {limit: 1/s, key: route, mode: shadow}",
        (
            "breaker: {failure_rate: 50%, min_requests: 20, window: 10s}, retry: off, "
            "rate_limit: {limit: 1/s, key: route, burst: 10}"
        ),
        "breaker: {failure_rate: 50%, min_requests: 100}",
    ],
)
def test_a_trigger_within_reach_is_not(settings: str) -> None:
    assert of_route(settings) == []


def test_routes_that_share_a_breaker_reach_its_trigger_together() -> None:
    text = """\
breakers: {x: {failure_rate: 50%, min_requests: NEEDED, window: 10s}}
defaults: {breaker: x, retry: off}
routes:
  - {name: r, match: {path: /r}, upstream: a, rate_limit: {limit: 1/s, key: route}}
  - {name: s, upstream: a, rate_limit: {limit: 1/s, key: route}}
"""
    assert warnings(text.replace("NEEDED", "22")) == []
    assert warnings(text.replace("NEEDED", "23")) == [
        (
            "breakers.x.min_requests: warning[trigger-out-of-reach]: within `window` (10s) it needs 23 attempts, "
            "and the rate limit lets no more than 22 pass"
        )
    ]
    assert (
        warnings(
            text.replace("NEEDED", "23").replace(", rate_limit: {limit: 1/s, key: route}}\n  -", "}\n  -")
        )
        == []
    )


def test_slow_calls_that_are_cut_before_they_are_slow_are_warned_of() -> None:
    assert of_route("breaker: {slow_call: {duration: 10s}}") == [
        (
            "routes[0].breaker.slow_call.duration: warning[slow-call-never]: "
            "no attempt of `r` takes longer than 10s, so none is ever slow"
        )
    ]
    assert of_route("breaker: {slow_call: {duration: 9999ms}}") == []
    assert of_route("breaker: {slow_call: {duration: 14s}}, timeout: {attempt: off}") == []
    assert of_route(
        "breaker: {slow_call: {duration: 1h}}, timeout: {attempt: off, total: off, body: 5s}"
    ) == [
        (
            "routes[0].timeout.attempt: warning[no-answer-timeout]: "
            "with `attempt` and `total` off, an upstream that never answers is waited for without end"
        )
    ]


def test_more_trials_than_it_takes_to_close_are_warned_of() -> None:
    assert of_route("breaker: {half_open: {max_concurrent: 3}}") == [
        (
            "routes[0].breaker.half_open.max_concurrent: warning[trials-beyond-need]: "
            "3 trials at once, and 2 successes close it already"
        )
    ]
    assert of_route("breaker: {half_open: {max_concurrent: 3, successes: 3}}") == []


def test_a_breaker_that_no_route_names_is_warned_of() -> None:
    assert warnings("breakers: {x: {}, y: {}}\nroutes: [{name: r, upstream: a, breaker: y}]\n") == [
        "breakers.x: warning[unused-breaker]: no route names this breaker"
    ]


# --- bulkhead -----------------------------------------------------------------------------------------------


def test_a_queue_as_patient_as_a_whole_request_is_warned_of() -> None:
    assert of_route("bulkhead: {queue_timeout: 15s}") == [
        (
            "routes[0].bulkhead.queue_timeout: warning[queue-exceeds-total]: "
            "`queue_timeout` (15s) is not shorter than `total` of `r` (15s)"
        )
    ]
    assert of_route("bulkhead: {queue_timeout: 14999ms}") == []
    assert of_route("bulkhead: {queue_timeout: 15s, mode: off}") == []
    assert of_route("bulkhead: {queue_timeout: 15s}, timeout: {total: off}") == []


@pytest.mark.parametrize("setting", ["queue_timeout: 5s", "order: lifo", "target: 5ms"])
def test_what_is_said_about_a_queue_that_nobody_may_be_in_is_warned_of(setting: str) -> None:
    key = setting.partition(":")[0]
    told = f"{key}: warning[idle-queue]: with `max_queue: 0` nobody waits, and `{key}` does nothing"

    assert of_route(f"bulkhead: {{max_queue: 0, {setting}}}") == [f"routes[0].bulkhead.{told}"]
    assert warnings(
        f"bulkheads: {{b: {{max_queue: 0, {setting}}}}}\nroutes: [{{name: r, upstream: a, bulkhead: b}}]\n"
    ) == [f"bulkheads.b.{told}"]
    assert of_route(f"bulkhead: {{max_queue: 1, {setting}}}") == []
    assert of_route(f"bulkhead: {{max_queue: 0, mode: off, {setting}}}") == []


def test_a_queue_that_nobody_may_be_in_is_all_right_where_nothing_else_is_said_of_it() -> None:
    assert of_route("bulkhead: {max_queue: 0}") == []
    assert (
        warnings("""defaults: {bulkhead: {queue_timeout: 2s}}
routes:
  - {name: r, match: {path: /r}, upstream: a, bulkhead: {max_queue: 0}}
  - {name: s, upstream: a}
""")
        == []
    )


@pytest.mark.parametrize(
    ("settings", "key"),
    [("max_concurrent: 11", "max_concurrent"), ("adaptive: {min: 1, max: 11}", "adaptive")],
)
def test_more_slots_than_connections_are_warned_of(settings: str, key: str) -> None:
    text = f"bulkheads: {{x: {{{settings}}}}}\nroutes: [{{name: r, upstream: b, bulkhead: x}}]\n"

    assert warnings(text) == [
        (
            f"bulkheads.x.{key}: warning[pool-smaller-than-bulkhead]: "
            "11 requests at once, and `max_connections` of `b` is 10, which is the real bound"
        )
    ]
    assert warnings(text.replace("11", "10")) == []


def test_the_adaptive_order_needs_a_target_that_somebody_waits_for() -> None:
    assert of_route("bulkhead: {order: adaptive, target: 1s}") == [
        (
            "routes[0].bulkhead.target: warning[queue-never-turns]: "
            "`target` (1s) is not shorter than `queue_timeout` (1s)"
        )
    ]
    assert of_route("bulkhead: {order: adaptive, target: 999ms}") == []
    assert of_route("bulkhead: {order: adaptive, queue_timeout: 1ms}") == []
    assert of_route("bulkhead: {order: lifo, target: 1s}") == []


def test_a_bulkhead_that_no_route_names_is_warned_of() -> None:
    assert warnings("bulkheads: {x: {}, y: {}}\nroutes: [{name: r, upstream: a, bulkhead: y}]\n") == [
        "bulkheads.x: warning[unused-bulkhead]: no route names this bulkhead"
    ]
