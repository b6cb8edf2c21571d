"""The order of the stages is one list, and a stage that is not configured is not in it."""

import pytest

from sidecar.errors import NoRoute
from sidecar.message import NO_FIELDS, Reply
from sidecar.pipeline.assemble import Policy, answer_only
from sidecar.pipeline.exchange import Exchange
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
    assert (yes.route, yes.describe(), yes.attempts) == ("yes", ["record"], None)
