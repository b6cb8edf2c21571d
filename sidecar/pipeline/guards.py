"""The policy objects of one configuration, by name: what outlives requests and is shared by routes.

The runtime builds them; the stages act on them; the metrics and health pages read them. A configuration that takes the
place of another may take over those whose name and settings are the same.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

from sidecar.policy.breaker import Breaker
from sidecar.policy.budget import RetryBudget
from sidecar.policy.bulkhead import Bulkhead
from sidecar.policy.ratelimit import RateLimiter
from sidecar.policy.store import Store

__all__ = ["Guards"]


@dataclass(frozen=True, slots=True)
class Guards:
    """Breakers and bulkheads by name (a private one has its route's), budgets by upstream, limiters by route."""

    breakers: Mapping[str, Breaker] = field(default_factory=dict)
    bulkheads: Mapping[str, Bulkhead] = field(default_factory=dict)
    budgets: Mapping[str, RetryBudget] = field(default_factory=dict)
    limiters: Mapping[str, RateLimiter] = field(default_factory=dict)
    store: Store | None = None
