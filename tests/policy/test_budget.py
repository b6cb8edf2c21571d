"""The budget: what may be spent, exactly, and that no order of events spends more."""

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from sidecar.policy.budget import BUCKETS, BudgetSettings, RetryBudget


def spend(budget: RetryBudget, now: float) -> int:
    """Withdraw until nothing is left, and give how often that went well."""
    count = 0
    while budget.withdraw(now):
        count += 1
    return count


def a_budget(
    ratio: float = 0.25, floor: float = 0.0, window: float = 20.0, *, requests: int = 0, now: float = 0.0
) -> RetryBudget:
    """Make a budget with buckets of one second, and so many deposits in it. `floor` is for the whole window."""
    budget = RetryBudget(BudgetSettings(ratio, floor / window, window), now)
    for _ in range(requests):
        budget.deposit(now)
    return budget


def test_the_defaults_are_a_fifth_and_one_a_second_over_ten() -> None:
    assert BudgetSettings() == BudgetSettings(0.2, 1.0, 10.0)
    assert RetryBudget(BudgetSettings(), 0.0).settings == BudgetSettings()


def test_the_floor_is_there_from_the_start() -> None:
    budget = RetryBudget(BudgetSettings(), 1000.0)

    assert budget.balance(1000.0) == 10
    assert spend(budget, 1000.0) == 10
    assert budget.balance(1000.0) == 0


@pytest.mark.parametrize("requests", [0, 3, 4, 7, 8, 100])
def test_so_many_requests_pay_for_their_share_of_retries(requests: int) -> None:
    budget = a_budget(requests=requests)

    assert budget.balance(0) == requests / 4
    assert spend(budget, 0) == requests // 4


def test_requests_and_floor_add_up() -> None:
    assert spend(a_budget(floor=5, requests=8), 0) == 7


def test_a_share_that_a_float_cannot_hold_is_not_rounded_away() -> None:
    assert 0.29 * 100 < 29
    assert spend(a_budget(0.29, requests=100), 0) == 29


@pytest.mark.parametrize(("floor", "retries"), [(1 - 2e-9, 0), (1 - 1e-9, 1)])
def test_no_more_than_a_billionth_is_put_down_to_rounding(floor: float, retries: int) -> None:
    assert spend(RetryBudget(BudgetSettings(0.0, floor, 1.0), 0.0), 0.0) == retries


def test_a_retry_that_cannot_be_afforded_costs_nothing() -> None:
    budget = a_budget(requests=7)
    assert budget.withdraw(0)

    assert [budget.withdraw(0) for _ in range(5)] == [False] * 5
    assert budget.balance(0) == 0.75
    budget.deposit(0)
    assert budget.withdraw(0)


def test_without_a_ratio_and_a_floor_there_is_nothing() -> None:
    assert spend(a_budget(0, requests=100), 0) == 0


@pytest.mark.parametrize(("now", "left"), [(0, 25), (19.5, 25), (20, 0), (20.5, 0), (1000, 0)])
def test_requests_pay_for_a_window_and_no_longer(now: float, left: int) -> None:
    budget = a_budget(requests=100)

    assert budget.balance(now) == left
    assert spend(budget, now) == left


@pytest.mark.parametrize(("now", "left"), [(0, 0), (19.5, 0), (20.96875, 0), (21, 10), (1000, 10)])
def test_retries_burden_the_budget_for_a_window_and_the_rest_of_a_bucket(now: float, left: int) -> None:
    budget = a_budget(0, floor=10)
    spend(budget, 0)

    assert budget.balance(now) == left


def test_what_was_not_spent_in_quiet_hours_cannot_be_saved_up() -> None:
    budget = a_budget(0.25, floor=2)
    for second in range(3600):
        budget.deposit(second)

    # Of 20 requests in the last window, plus the floor.
    assert spend(budget, 3599.5) == 7


def test_a_balance_is_never_negative() -> None:
    budget = a_budget(requests=100)
    spend(budget, 19)

    assert budget.balance(20) == 0


def test_requests_and_retries_leave_bucket_by_bucket() -> None:
    budget = a_budget(0.5, floor=0)
    for second in range(20):
        for _ in range(4):
            budget.deposit(second)
        assert budget.withdraw(second)

    balances = [budget.balance(second) for second in range(19, 42)]
    # 80 requests pay for 40, of which 20 are spent; then two go with each bucket, and one comes back one bucket later.
    assert balances == [20, 18, *range(17, 0, -1), 0, 0, 0, 0]


@pytest.mark.parametrize("pause", [1.0, 2.0, 3.5, 19.0, 20.0, 21.0, 22.0, 400.0])
def test_after_a_pause_of_any_length_the_counts_are_those_of_the_window(pause: float) -> None:
    budget = a_budget(1.0, floor=100)
    budget.deposit(0)
    assert budget.withdraw(0)
    now = 0.5 + pause
    budget.deposit(now)
    assert budget.withdraw(now)

    requests = 2 if now < 20 else 1
    retries = 2 if now < 21 else 1
    assert budget.balance(now) == requests + 100 - retries


def test_a_window_turns_where_it_should_at_times_that_a_float_cannot_hold() -> None:
    """Thousands of hours after the start, with buckets of a third of a second."""
    budget = RetryBudget(BudgetSettings(1.0, 0.0, BUCKETS / 3), 0.1)
    now = 0.1
    for step in range(2000):
        now = 1e7 + step / 3
        budget.deposit(now)
        budget.deposit(now)

    assert budget.balance(now) in (2 * BUCKETS, 2 * BUCKETS - 2)


def test_a_bucket_that_ends_by_rounding_still_ends() -> None:
    width = 0.1
    budget = RetryBudget(BudgetSettings(1.0, 0.0, BUCKETS * width), 0.0)
    for step in range(100):
        budget.deposit(step * width)

    assert BUCKETS - 1 <= budget.balance(99 * width) <= BUCKETS


def test_a_full_outage_costs_a_fifth_more_than_was_asked_for() -> None:
    budget = RetryBudget(BudgetSettings(), 0.0)
    requests = retries = 0
    for step in range(60_000):
        now = step / 100
        budget.deposit(now)
        requests += 1
        retries += spend(budget, now)

    assert retries <= 0.2 * requests + 10 * (600 / 10 + 1)
    assert retries >= 0.95 * (0.2 * requests + 10 * 600 / 10)


def test_it_tells_its_state() -> None:
    budget = a_budget(requests=9)
    budget.withdraw(0)

    assert repr(budget) == "<RetryBudget 1 retries for 9 requests>"


class BudgetMachine(RuleBasedStateMachine):
    """Plays any traffic, and counts beside the budget what the window really held at each retry."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0
        self.requests: list[float] = []
        self.retries: list[float] = []
        self.settings = BudgetSettings()
        self.budget = RetryBudget(self.settings, 0.0)

    @initialize(
        ratio=st.sampled_from([0.0, 0.125, 0.25, 1.0]),
        floor=st.sampled_from([0.0, 0.25, 1.0]),
        window=st.sampled_from([5.0, 10.0, 20.0]),
        start=st.integers(0, 1000),
    )
    def begin(self, ratio: float, floor: float, window: float, start: int) -> None:
        self.now = float(start)
        self.settings = BudgetSettings(ratio, floor, window)
        self.budget = RetryBudget(self.settings, self.now)

    @rule(sixteenths=st.one_of(st.integers(0, 40), st.integers(0, 1000)))
    def time_passes(self, sixteenths: int) -> None:
        self.now += sixteenths / 16

    @rule(count=st.integers(1, 40))
    def requests_come(self, count: int) -> None:
        for _ in range(count):
            self.budget.deposit(self.now)
            self.requests.append(self.now)

    @rule(count=st.integers(1, 40))
    def retries_are_wanted(self, count: int) -> None:
        for _ in range(count):
            affordable = self.budget.balance(self.now)
            paid = self.budget.withdraw(self.now)
            assert paid == (affordable >= 1 - 1e-9)
            if not paid:
                break
            self.retries.append(self.now)
            begun = self.now - self.settings.window
            retries = sum(when > begun for when in self.retries)
            requests = sum(when > begun for when in self.requests)
            assert retries <= self.settings.ratio * requests + self.floor + 1e-6

    @property
    def floor(self) -> float:
        return self.settings.min_per_second * self.settings.window

    @invariant()
    def a_window_gives_away_no_more_than_one_bucket(self) -> None:
        """What is refused is refused for a reason: of a bucket less of requests, or a bucket more of retries."""
        begun = self.now - self.settings.window
        bucket = self.settings.window / BUCKETS
        requests = sum(when > begun + bucket for when in self.requests)
        retries = sum(when > begun - bucket for when in self.retries)
        least = self.settings.ratio * requests + self.floor - retries
        assert self.budget.balance(self.now) >= least - 1e-6


BudgetMachine.TestCase.settings = settings(max_examples=100, stateful_step_count=40, deadline=None)
TestBudget = BudgetMachine.TestCase
