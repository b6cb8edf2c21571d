"""Those who watch while the hour goes by: at the door of the service, and over the budget. See `promises.py`."""

from collections import Counter
from dataclasses import dataclass, field

from sidecar.message import Body, Reply, Request
from sidecar.pipeline.exchange import Exchange
from sidecar.policy.breaker import Breaker, State
from sidecar.policy.budget import BudgetSettings, RetryBudget
from tests.soak.crowd import SENT
from tests.soak.rules import Rules
from tests.soak.weather import Service
from tests.support.upstream import Arrival

__all__ = ["Door", "Ledger", "Outcome"]


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


class Ledger(RetryBudget):
    """A budget that remembers when it was asked, and what it gave."""

    def __init__(self, settings: BudgetSettings, now: float) -> None:
        super().__init__(settings, now)
        self.requests: list[float] = []
        self.retries: list[float] = []

    def deposit(self, now: float) -> None:
        """Count a request."""
        self.requests.append(now)
        super().deposit(now)

    def withdraw(self, now: float) -> bool:
        """Pay for a retry, or not."""
        paid = super().withdraw(now)
        if paid:
            self.retries.append(now)
        return paid


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
