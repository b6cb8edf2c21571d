"""What must be true of the hour, whatever the lots.

| promise | how it is looked at |
|---|---|
| retries cannot pile up | the number of attempts has a bound, see below; so have the retries of every window |
| a service that recovers is not overrun | trials of one half-open time without a head ≤ `max_trials`, at each arrival |
| nor is one that is slow | requests that hold the service ≤ the slots of the bulkhead, at each arrival |
| nothing leaks | at the end no slot, no place in the queue, no permit, no reply, no task is held |
| nor does a permit for a while | no trial is ever undecided for `max_wait`, which is longer than `attempt` |
| every request has one end | its exchange comes to the sink once, with a fate; each reply of the service is closed once |
| nobody waits in vain | a response head comes no later than `total` after its request |
| what is sent arrives whole, each time | the service takes the body of every attempt, and knows what it should be |
| nobody gets another's answer | what the service answered names its target and the one who asked |
| it heals | some time after the service is well again the breaker is closed, and all but a few are served |

The bound on attempts:

    attempts <= (1 + ratio) * requests + min_per_second * (seconds + window)

A request makes one first attempt at most, at once or in the background of a stale answer. In each window that ends with
a retry the budget lets `ratio` times the requests and `min_per_second` times `window` retries through, and the hour is
covered by such windows, with one more at its edge (see `sidecar/policy/budget.py`).
"""

import asyncio
from bisect import bisect_right
from collections import Counter
from dataclasses import dataclass

from sidecar.errors import RequestError
from sidecar.pipeline.exchange import Exchange
from sidecar.policy.breaker import Breaker, State
from sidecar.policy.bulkhead import Bulkhead
from tests.soak.crowd import Crowd
from tests.soak.rules import Rules
from tests.soak.watch import Ledger, Outcome
from tests.soak.weather import HOUR, Forecast, body_for
from tests.support.exchanges import Route
from tests.support.upstream import Upstream

__all__ = ["Hour", "hold_all"]

SERVED = frozenset({"ok", "ok_after_retry", "cache_fresh", "cache_stale", "coalesced", "client_gone"})
# What a burst may run into when all is well: the limits that are there for it. Nothing fails, and no breaker refuses.
# Nor is it a failure when the time of a request has gone by in waiting for a slot, or for the answer to an identical one:
# that too is a burst, and `Exchange.queued` tells how long it was.
WAITED = "timeout_total, half of it spent in waiting"
HEALED = SERVED | {"rejected_rate_limit", "rejected_bulkhead_full", "rejected_queue_timeout", WAITED}
ENOUGH = (
    0.9  # share of those that are served when all is well, of those that came alone; the rest met a burst
)
A_MOMENT = 1e-6  # times are sums of floats


@dataclass(frozen=True, slots=True)
class Hour:
    """All who took part."""

    rules: Rules
    forecast: Forecast
    budget: Ledger
    breaker: Breaker
    bulkhead: Bulkhead
    upstream: Upstream
    route: Route
    crowd: Crowd


def hold_all(outcome: Outcome, hour: Hour) -> None:
    """Look at what is left of the hour."""
    outcome.requests = len(hour.crowd.visits)
    outcome.attempts = len(hour.upstream.arrivals)
    outcome.fates = Counter(hour.route.fates)
    outcome.trips = hour.breaker.trips
    _look_at_attempts(outcome, hour)
    _look_at_ends(outcome, hour)
    _look_at_answers(outcome, hour)
    _look_for_leaks(outcome, hour)
    _look_at_recovery(outcome, hour)


def _look_at_attempts(outcome: Outcome, hour: Hour) -> None:
    budget = hour.rules.budget
    most = (1 + budget.ratio) * outcome.requests + budget.min_per_second * (HOUR + budget.window)
    outcome.hold(outcome.attempts <= most, f"{outcome.attempts} attempts, at most {most:g} are allowed")
    paid = len(hour.budget.retries)
    outcome.hold(outcome.attempts <= outcome.requests + paid, f"{outcome.attempts} attempts, {paid} paid for")
    _look_at_windows(outcome, hour.budget)
    counted = sum(hour.route.counts.values())
    outcome.hold(counted == outcome.attempts, f"{outcome.attempts} attempts, {counted} counted")


def _look_at_windows(outcome: Outcome, ledger: Ledger) -> None:
    """Look at each window that ends with a retry."""
    budget = ledger.settings
    for number, end in enumerate(ledger.retries, 1):
        begin = end - budget.window
        retries = number - bisect_right(ledger.retries, begin)
        requests = bisect_right(ledger.requests, end) - bisect_right(ledger.requests, begin)
        most = budget.ratio * requests + budget.min_per_second * budget.window
        outcome.hold(retries <= most + A_MOMENT, f"{retries} retries for {requests} requests up to {end:g} s")


def _look_at_ends(outcome: Outcome, hour: Hour) -> None:
    ends = Counter(exchange.request.request_id for exchange in hour.route.done)
    for visit in hour.crowd.visits:
        times = ends.pop(visit.request.request_id, 0)
        outcome.hold(times == 1, f"{visit}: {times} ends")
        outcome.hold(visit.fault is None, f"{visit}: raised {visit.fault!r}")
    outcome.hold(not ends, f"the ends of {len(ends)} requests that nobody made")
    without = sum(exchange.fate is None for exchange in hour.route.done)
    outcome.hold(not without, f"{without} requests have no fate")
    outcome.hold(not outcome.fates["internal"], f"{outcome.fates['internal']} faults of ours")
    for arrival in hour.upstream.arrivals:
        replies = 1 if arrival.ended == "answered" else 0
        outcome.hold(len(arrival.closed) == replies, f"{arrival}: closed {len(arrival.closed)} times")


def _look_at_answers(outcome: Outcome, hour: Hour) -> None:
    for visit in hour.crowd.visits:
        got = visit.got
        if got is None:
            continue
        waited = got.at - visit.at
        outcome.hold(waited <= hour.rules.total + A_MOMENT, f"{visit}: a head after {waited:g} s")
        if got.status == 200 and got.header(b"x-fallback-source") != b"static":
            mine = b"" if visit.request.method == b"HEAD" else body_for(visit.request)
            whole = got.body == mine if got.error is None else mine.startswith(got.body)
            outcome.hold(whole, f"{visit}: got {got.body!r}")


def _look_for_leaks(outcome: Outcome, hour: Hour) -> None:
    held = {
        "slots": hour.bulkhead.in_use,
        "places in the queue": hour.bulkhead.queued,
        "trials": hour.breaker.view(asyncio.get_running_loop().time()).trials,
        "replies": hour.upstream.under_way,
        "tasks": len(asyncio.all_tasks()) - 1,
    }
    left = {what: many for what, many in held.items() if many}
    outcome.hold(not left, f"left behind: {left}")
    late = sum(many for (_, _, cause), many in hour.breaker.transitions.items() if cause == "trial_timed_out")
    outcome.hold(not late, f"{late} trials were never decided")


def _look_at_recovery(outcome: Outcome, hour: Hour) -> None:
    outcome.hold(outcome.trips > 0, "the outage did not open the breaker")
    state = hour.breaker.view(asyncio.get_running_loop().time()).state
    outcome.hold(state is State.CLOSED, f"the breaker is {state} at the end")
    well = hour.forecast.clears_at + hour.rules.healed_after
    fates = {exchange.request.request_id: _reason(exchange) for exchange in hour.route.done}
    after = [visit for visit in hour.crowd.visits if visit.at >= well]
    failed = Counter(fates.get(visit.request.request_id, "nothing") for visit in after)
    for fate in HEALED:
        failed.pop(fate, None)
    outcome.hold(not failed, f"after it was well again: {dict(failed)}")
    alone = [visit for visit in after if not visit.crowded]
    served = sum(fates.get(visit.request.request_id) in SERVED for visit in alone)
    outcome.hold(
        served >= ENOUGH * len(alone), f"when it was well again {served} of {len(alone)} were served"
    )


def _reason(exchange: Exchange) -> str:
    """Give the fate; of one that was softened by a fallback, the one that it would have been."""
    error = exchange.error
    word = str(error.fate) if isinstance(error, RequestError) else str(exchange.fate)
    waited = exchange.total is not None and exchange.queued >= exchange.total / 2
    return WAITED if word == "timeout_total" and waited else word
