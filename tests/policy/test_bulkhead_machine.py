"""A bulkhead in any order of events: no slot is lost, none is had twice, nobody waits while one is free."""

import math

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from sidecar.policy.bulkhead import Bulkhead, BulkheadSettings
from sidecar.policy.waitlist import ADMITTED, CROWDED_OUT, TIMED_OUT, WAITING, Order, Ticket

ORDERS: list[Order] = ["fifo", "lifo", "adaptive"]
TARGET = 5.0


class Waiter(Ticket):
    """A ticket that notices when it is told twice."""

    __slots__ = ()

    def settle(self, state: int) -> None:
        assert self.state == WAITING, "told twice"
        super().settle(state)


class BulkheadMachine(RuleBasedStateMachine):
    """Callers who come, wait, lose patience, leave, hold slots and give them back; a model keeps the books."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0
        self.holders: list[float] = []  # since when
        self.waiting: list[Waiter] = []  # oldest first
        self.came = 0
        self.crowded_out = 0

    @initialize(
        slots=st.integers(1, 4),
        queue=st.integers(0, 4),
        order=st.sampled_from(ORDERS),
        adaptive=st.one_of(st.none(), st.tuples(st.integers(1, 3), st.integers(3, 8))),
    )
    def make(self, slots: int, queue: int, order: Order, adaptive: tuple[int, int] | None) -> None:
        self.settings = BulkheadSettings(slots, queue, 10.0, order, TARGET, adaptive)
        self.bulkhead = Bulkhead("b", self.settings)

    def newest_first(self) -> bool:
        if self.settings.order != "adaptive":
            return self.settings.order == "lifo"
        return self.now - self.waiting[0].since >= TARGET

    def next_in_line(self) -> Waiter:
        return self.waiting[-1 if self.newest_first() else 0]

    def settle_books(self) -> None:
        """Move those who were admitted, and check that they were the ones whose turn it was."""
        while any(each.state == ADMITTED for each in self.waiting):
            turn = self.next_in_line()
            assert turn.state == ADMITTED, "somebody was served before their turn"
            self.waiting.remove(turn)
            self.holders.append(self.now)
        assert all(each.state == WAITING for each in self.waiting)

    # --- what may happen ---

    @rule(seconds=st.sampled_from([0.0, 0.5, 3.0, 7.0]))
    def time_passes(self, seconds: float) -> None:
        self.now += seconds

    @rule(left=st.sampled_from([math.inf, math.inf, 30.0, 1.0, 0.0]))
    def somebody_comes(self, left: float) -> None:
        self.came += 1
        bulkhead = self.bulkhead
        free = bulkhead.in_use < bulkhead.limit
        assert bulkhead.enter() is free
        if free:
            self.holders.append(self.now)
            return
        ticket = Waiter(self.now)
        full = len(self.waiting) == self.settings.max_queue
        oldest = self.waiting[0] if self.waiting else None
        newest_first = oldest is not None and self.newest_first()
        joined = bulkhead.join(ticket, left)
        if left == math.inf:
            assert joined is (not full or newest_first)
        if not joined:
            return
        self.waiting.append(ticket)
        if full:
            assert oldest is not None
            assert oldest.state == CROWDED_OUT
            self.waiting.remove(oldest)
            self.crowded_out += 1

    @precondition(lambda self: self.holders)
    @rule(data=st.data())
    def a_slot_comes_back(self, data: st.DataObject) -> None:
        started = self.holders.pop(data.draw(st.integers(0, len(self.holders) - 1)))
        self.bulkhead.leave(started, self.now)
        self.settle_books()

    @precondition(lambda self: self.holders)
    @rule(seconds=st.sampled_from([0.01, 0.1, 0.5]), times=st.integers(1, 40))
    def heads_come(self, seconds: float, times: int) -> None:
        for _ in range(times):
            self.bulkhead.answered(seconds, self.now)
            self.settle_books()

    @precondition(lambda self: self.holders)
    @rule(times=st.integers(1, 40))
    def attempts_fail(self, times: int) -> None:
        for _ in range(times):
            self.bulkhead.failed(self.now)
            self.settle_books()

    @precondition(lambda self: self.waiting)
    @rule()
    def the_oldest_times_out(self) -> None:
        ticket = self.waiting.pop(0)
        self.bulkhead.expire(ticket)
        assert ticket.state == TIMED_OUT
        self.bulkhead.expire(ticket)  # once more changes nothing

    @precondition(lambda self: self.waiting)
    @rule(data=st.data())
    def somebody_loses_patience(self, data: st.DataObject) -> None:
        ticket = self.waiting.pop(data.draw(st.integers(0, len(self.waiting) - 1)))
        self.bulkhead.abandon(ticket, self.now)
        assert ticket.state == WAITING

    @precondition(lambda self: self.holders and self.waiting)
    @rule()
    def whoever_gets_the_slot_has_just_left(self) -> None:
        before = list(self.waiting)
        self.bulkhead.leave(self.holders.pop(), self.now)
        admitted = [each for each in before if each.state == ADMITTED]
        self.settle_books()
        if admitted:
            self.holders.pop()
            self.bulkhead.abandon(admitted[0], self.now)
            self.settle_books()

    # --- what always holds ---

    @invariant()
    def the_books_agree(self) -> None:
        bulkhead = self.bulkhead
        assert bulkhead.in_use == len(self.holders)
        assert bulkhead.queued == len(self.waiting) <= self.settings.max_queue
        ended = bulkhead.rejected_full + bulkhead.rejected_timeout + bulkhead.left
        assert self.came == bulkhead.admitted + bulkhead.queued + ended

    @invariant()
    def nobody_waits_while_a_slot_is_free(self) -> None:
        assert not self.waiting or self.bulkhead.in_use >= self.bulkhead.limit

    @invariant()
    def the_limit_is_within_its_bounds(self) -> None:
        lowest, highest = self.settings.adaptive or (self.settings.max_concurrent,) * 2
        assert lowest <= self.bulkhead.limit <= highest


BulkheadMachine.TestCase.settings = settings(max_examples=80, stateful_step_count=60, deadline=None)
TestBulkhead = BulkheadMachine.TestCase
