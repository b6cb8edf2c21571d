"""What outlives requests is found by name; without a configuration there is nothing."""

from sidecar.pipeline.guards import Guards
from sidecar.policy.breaker import Breaker, BreakerSettings


def test_a_route_without_policies_has_no_guards() -> None:
    empty = Guards()

    assert (dict(empty.breakers), dict(empty.bulkheads), dict(empty.budgets), dict(empty.limiters)) == (
        {},
        {},
        {},
        {},
    )
    assert empty.store is None


def test_two_sets_of_guards_share_nothing() -> None:
    one = Guards(breakers={"db": Breaker("db", BreakerSettings(), lambda: 0.5)})

    assert one.breakers is not Guards().breakers
    assert Guards().breakers is not Guards().breakers
