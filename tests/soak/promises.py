"""What must be true of the hour, whatever the lots.

| promise | how it is looked at |
|---|---|
| retries cannot pile up | the number of attempts has a bound, see below |
| a service that recovers is not overrun | trials of one half-open time without a head ≤ `max_trials`, at each arrival |
| nor is one that is slow | requests that hold the service ≤ the slots of the bulkhead, at each arrival |
| nothing leaks | at the end no slot, no place in the queue, no permit, no reply, no task is held |
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
from collections import Counter
from dataclasses import dataclass, field

from sidecar.errors import RequestError
from sidecar.message import Body, Reply, Request
from sidecar.pipeline.exchange import Exchange
from sidecar.policy.breaker import Breaker, State
from sidecar.policy.bulkhead import Bulkhead
from tests.soak.crowd import SENT, Crowd
from tests.soak.rules import Rules
from tests.soak.weather import HOUR, Forecast, Service, body_for
from tests.support.exchanges import Route
from tests.support.upstream import Arrival, Upstream

__all__ = ["Door", "Hour", "Outcome", "hold_all"]

SERVED = frozenset({"ok", "ok_after_retry", "cache_fresh", "cache_stale", "coalesced", "client_gone"})
# What a burst may run into when all is well: the limits that are there for it. Nothing fails, and no breaker refuses.
HEALED = SERVED | {"rejected_rate_limit", "rejected_bulkhead_full", "rejected_queue_timeout"}
ENOUGH = (
    0.9  # share of those that are served when all is well, of those that came alone; the rest met a burst
)
A_MOMENT = 1e-6  # times are sums of floats


@dataclass(slots=True)
class Outcome:
    """What came of one seed. `broken` says which promises were, and how."""

    seed: int
    requests: int = 0
    attempts: int = 0
    fates: Counter[str] = field(default_factory=Counter)
    trips: int = 0
    broken: list[str] = field(default_factory=list)

    def hold(self, promise: bool, otherwise: str) -> None:
        """Note a promise that was broken."""
        if not promise:
            self.broken.append(otherwise)


@dataclass(frozen=True, slots=True)
class Hour:
    """All who took part."""

    rules: Rules
    forecast: Forecast
    breaker: Breaker
    bulkhead: Bulkhead
    upstream: Upstream
    route: Route
    crowd: Crowd


class Door:
    """The door of the service, with somebody beside it who counts those who are inside."""

    def __init__(self, service: Service, rules: Rules, breaker: Breaker, outcome: Outcome) -> None:
        self._service = service
        self._rules = rules
        self._breaker = breaker
        self._outcome = outcome
        self._inside = 0
        self._trials: Counter[int] = Counter()  # without a head yet, by the generation of the breaker

    async def __call__(self, exchange: Exchange, arrival: Arrival) -> Reply:
        """Let one request in, and out."""
        trial = self._breaker.generation if self._breaker.state is State.HALF_OPEN else -1
        self._inside += 1
        self._trials[trial] += 1
        self._look(exchange.request)
        try:
            reply = await self._service(exchange, arrival)
        except BaseException:
            self._inside -= 1
            raise
        finally:
            self._trials[trial] -= 1
        if isinstance(reply.body, Body):
            reply.on_close(self._out)
        else:
            self._inside -= 1
        return reply

    def _out(self, _: BaseException | None) -> None:
        self._inside -= 1

    def _look(self, request: Request) -> None:
        brought = request.body.take_whole() if request.body is not None else SENT
        self._outcome.hold(brought == SENT, f"{request!r} brought {brought!r}")
        slots = self._rules.bulkhead.max_concurrent
        self._outcome.hold(self._inside <= slots, f"{self._inside} requests inside, {slots} slots")
        trials = max((many for permit, many in self._trials.items() if permit >= 0), default=0)
        most = self._rules.breaker.max_trials
        self._outcome.hold(trials <= most, f"{trials} trials at once, {most} are allowed")


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
    counted = sum(hour.route.counts.values())
    outcome.hold(counted == outcome.attempts, f"{outcome.attempts} attempts, {counted} counted")


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
    return str(error.fate) if isinstance(error, RequestError) else str(exchange.fate)
