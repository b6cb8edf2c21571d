"""The order of the stages is one list, and a stage that is not configured is not in it."""

import pytest

from sidecar.errors import NoRoute
from sidecar.message import NO_FIELDS, Reply
from sidecar.pipeline.assemble import Policy, answer_only
from sidecar.pipeline.exchange import Exchange
from sidecar.pipeline.stages.attempt import AttemptStage
from sidecar.pipeline.stages.bounds import Bounds
from sidecar.pipeline.stages.breaker import BreakerGate, BreakerPermit
from sidecar.pipeline.stages.bulkhead import BulkheadStage
from sidecar.pipeline.stages.cache import CacheStage
from sidecar.pipeline.stages.deadline import TotalDeadline
from sidecar.pipeline.stages.fallback import FallbackStage
from sidecar.pipeline.stages.fault import FaultStage
from sidecar.pipeline.stages.invalidate import InvalidateStage
from sidecar.pipeline.stages.rate_limit import RateLimitStage
from sidecar.pipeline.stages.record import RecordStage
from sidecar.pipeline.stages.retry import RetryStage
from sidecar.policy.breaker import Breaker, BreakerSettings
from sidecar.policy.budget import BudgetSettings, RetryBudget
from sidecar.policy.bulkhead import Bulkhead, BulkheadSettings
from sidecar.policy.cache import CacheSettings
from sidecar.policy.fallback import Static
from sidecar.policy.fault import FaultSettings
from sidecar.policy.ratelimit import RateLimiter, RateLimitSettings
from sidecar.policy.retry import RetrySettings
from sidecar.policy.store import Store
from tests.support.exchanges import Settings, a_route, an_exchange, some_parts
from tests.support.upstream import Upstream
from tests.support.virtual_time import in_virtual_time


@pytest.mark.parametrize(
    ("settings", "stages"),
    [
        ({}, ["record", "attempt"]),
        ({"attempt": 1}, ["record", "attempt timeout 1s"]),
        ({"total": 1.5}, ["record", "total deadline 1.5s", "attempt"]),
        ({"idle": 60}, ["record", "bounds idle 60s", "attempt"]),
        ({"max_body": 10}, ["record", "bounds idle off, request body 10 bytes", "attempt"]),
        (
            {"attempt": 10, "total": 15, "idle": 60, "max_body": 1024},
            [
                "record",
                "bounds idle 60s, request body 1024 bytes",
                "attempt timeout 10s",
            ],
        ),
    ],
)
@in_virtual_time
async def test_the_stages_are_these_in_this_order(settings: Settings, stages: list[str]) -> None:
    assert a_route(Upstream(), **settings).pipeline.describe() == stages


@pytest.mark.parametrize(
    ("settings", "kept"),
    [
        ({"attempt": 10, "total": 15}, ["record", "attempt timeout 10s"]),
        ({"attempt": 15, "total": 10}, ["record", "total deadline 10s", "attempt"]),
        ({"attempt": 10, "total": 10}, ["record", "total deadline 10s", "attempt"]),
        ({"attempt": 10}, ["record", "attempt timeout 10s"]),
        ({"total": 10}, ["record", "total deadline 10s", "attempt"]),
    ],
)
@in_virtual_time
async def test_a_bound_that_another_always_reaches_first_has_no_stage(
    settings: Settings, kept: list[str]
) -> None:
    """Both begin together where there is one attempt and no queue, so the shorter one decides."""
    assert a_route(Upstream(), **settings).pipeline.describe() == kept


@pytest.mark.parametrize(
    "settings",
    [
        {"retry": RetrySettings(), "attempt": 10, "total": 15},
        {"bulkhead": Bulkhead("b", BulkheadSettings()), "attempt": 10, "total": 10},
    ],
)
@in_virtual_time
async def test_with_another_attempt_or_a_queue_both_bounds_can_be_reached(settings: Settings) -> None:
    stages = a_route(Upstream(), **settings).pipeline.describe()

    assert [line for line in stages if "total" in line or "attempt timeout" in line] == [
        f"total deadline {settings['total']}s",
        "attempt timeout 10s",
    ]


@in_virtual_time
async def test_with_no_retries_there_is_but_one_attempt() -> None:
    stages = a_route(Upstream(), retry=RetrySettings(retries=0), attempt=10, total=15).pipeline.stages

    assert not any(isinstance(stage, TotalDeadline) for stage in stages)


@in_virtual_time
async def test_all_the_stages_stand_in_their_order() -> None:
    store = Store(1000, 10)
    route = a_route(
        Upstream(),
        attempt=10,
        total=15,
        idle=60,
        rate_limit=RateLimiter(RateLimitSettings(limit=1, per=1)),
        fallback=(Static(),),
        cache=CacheSettings(fresh_for=1),
        store=store,
        invalidates=("a-route",),
        retry=RetrySettings(),
        budget=RetryBudget(BudgetSettings(), 0.0),
        breaker=Breaker("b", BreakerSettings(), lambda: 0.5),
        bulkhead=Bulkhead("c", BulkheadSettings()),
        fault=FaultSettings(),
    )

    assert [type(stage) for stage in route.pipeline.stages] == [
        RecordStage,
        RateLimitStage,
        Bounds,
        InvalidateStage,
        FallbackStage,
        CacheStage,
        TotalDeadline,
        RetryStage,
        BreakerGate,
        BulkheadStage,
        BreakerPermit,
        AttemptStage,
        FaultStage,
    ]


@in_virtual_time
async def test_every_bound_that_is_on_is_named() -> None:
    (line,) = [
        line for line in a_route(Upstream(), body=3600).pipeline.describe() if line.startswith("bounds")
    ]

    assert "3600s" in line


def test_timeouts_are_on_without_being_named() -> None:
    assert Policy("a-route", "an-upstream") == Policy(
        route="a-route", upstream="an-upstream", attempt=10, total=15, idle=60, body=None, max_body=None
    )


@in_virtual_time
async def test_a_pipeline_may_ask_no_upstream() -> None:
    def no(exchange: Exchange) -> Reply:
        raise NoRoute

    done: list[Exchange] = []
    yes = answer_only("yes", some_parts(), lambda _: Reply(204, NO_FIELDS))

    assert (await yes.call(an_exchange(sink=done.append))).status == 204
    assert (await answer_only("no", some_parts(), no).call(an_exchange())).status == 404
    assert (yes.route, yes.describe(), yes.find(AttemptStage)) == ("yes", ["record"], None)
