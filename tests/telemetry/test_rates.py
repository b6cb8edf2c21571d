"""How it goes now: the last minute, and nothing of what was before it or of counters that are gone."""

import asyncio
import dataclasses
from bisect import bisect_left
from math import ceil

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.counts import SECONDS, Histogram
from sidecar.pipeline.stages.attempt import AttemptStage
from sidecar.runtime.live import put_in_force
from sidecar.telemetry.live import Live, UpstreamView
from sidecar.telemetry.rates import Answers, Rate, Rates, quantile
from sidecar.telemetry.record import RouteCounts
from tests.support.live import engine_from, live_from
from tests.support.virtual_time import in_virtual_time

YAML = """
version: 1
upstreams: {main: {url: "http://127.0.0.1:9"}, spare: {url: "http://127.0.0.1:10"}}
routes:
  - {name: read, match: {path: /r/**}, upstream: main, fallback: [{upstream: {name: spare}}]}
  - {name: write, match: {path: /w/**}, upstream: main}
"""


def answer(live: Live, route: str, status: int, seconds: float, times: int = 1) -> None:
    counts = live.recorder.by_route[route]
    key = (b"GET", status, "ok" if status < 500 else "upstream_status")
    counts.requests[key] = counts.requests.get(key, 0) + times
    for _ in range(times):
        counts.seconds.observe(seconds)


def attempt(live: Live, route: str, result: str, times: int = 1) -> None:
    for pipeline in live.pipelines:
        stage = pipeline.find(AttemptStage)
        if pipeline.route == route and stage is not None:
            stage.counts[result] += times
            for _ in range(times):
                stage.seconds.observe(0.004)


def started(text: str = YAML) -> tuple[Live, Rates]:
    live = live_from(text)
    rates = Rates(live, asyncio.get_running_loop())
    rates.start()
    return live, rates


@in_virtual_time
async def test_requests_of_the_last_minute_by_the_second() -> None:
    live, rates = started()
    for _ in range(60):
        answer(live, "read", 200, 0.02, 10)
        await asyncio.sleep(1)

    assert rates.routes()["read"].rate == pytest.approx(10, rel=0.1)
    assert rates.routes()["write"] == Rate(0.0, None, None, None)
    rates.stop()


@in_virtual_time
async def test_it_is_told_at_once_and_not_at_the_next_note() -> None:
    live, rates = started()
    await asyncio.sleep(1)
    answer(live, "read", 200, 0.02, 3)

    assert rates.routes()["read"].rate == pytest.approx(3)
    rates.stop()


@in_virtual_time
async def test_what_is_older_than_a_minute_is_forgotten() -> None:
    live, rates = started()
    answer(live, "read", 500, 3.0, 100)
    await asyncio.sleep(66)
    answer(live, "read", 200, 0.002, 1)

    rate = rates.routes()["read"]
    assert rate.errors == 0
    assert rate.p99 is not None
    assert rate.p99 <= 0.0025
    assert rate.rate == pytest.approx(1 / 56, rel=0.1)
    rates.stop()


@in_virtual_time
async def test_errors_are_a_share_of_the_answers() -> None:
    live, rates = started()
    answer(live, "read", 200, 0.01, 60)
    answer(live, "read", 404, 0.01, 20)
    answer(live, "read", 503, 0.01, 20)
    await asyncio.sleep(10)

    assert rates.routes()["read"].errors == pytest.approx(0.2)
    rates.stop()


@in_virtual_time
async def test_what_came_of_the_requests_of_the_last_minute_by_fate_and_how_many_got_an_error() -> None:
    live, rates = started()
    requests = live.recorder.by_route["read"].requests
    requests[b"GET", 200, "ok"] = 1000
    await asyncio.sleep(66)
    requests[b"GET", 200, "ok"] += 5
    requests[b"GET", 503, "fallback_static"] = 3
    requests[b"HEAD", 503, "fallback_static"] = 1
    requests[b"GET", 200, "fallback_static"] = 2

    told = rates.routes()
    assert told["read"].answers == (Answers("ok", 5, 0), Answers("fallback_static", 6, 4))
    assert told["read"].errors == pytest.approx(4 / 11)
    assert told["write"].answers == ()
    rates.stop()


@in_virtual_time
async def test_a_route_whose_requests_all_took_a_second_is_not_told_to_take_longer() -> None:
    live, rates = started()
    answer(live, "read", 200, 0.004, 500)
    await asyncio.sleep(70)
    answer(live, "read", 504, 1.002, 7)
    await asyncio.sleep(3)

    rate = rates.routes()["read"]
    assert rate.p50 == pytest.approx(1.002, abs=0.003)
    assert rate.p99 == pytest.approx(1.004, abs=0.003)
    rates.stop()


@in_virtual_time
async def test_what_happened_before_the_first_note_is_not_taken_for_now() -> None:
    live = live_from(YAML)
    answer(live, "read", 200, 0.01, 5000)
    rates = Rates(live, asyncio.get_running_loop())
    rates.start()
    await asyncio.sleep(10)

    assert rates.routes()["read"] == Rate()
    rates.stop()


@in_virtual_time
async def test_an_upstream_is_blamed_for_what_it_failed_and_not_for_clients_that_left() -> None:
    live, rates = started()
    attempt(live, "read", "ok", 6)
    attempt(live, "write", "status_5xx", 1)
    attempt(live, "write", "timeout_attempt", 1)
    attempt(live, "write", "cancelled", 50)
    attempt(live, "write", "rejected_overload", 50)
    await asyncio.sleep(4)

    told = rates.upstreams()
    assert told["main"].errors == pytest.approx(0.25)
    assert told["main"].rate == pytest.approx(2)
    assert told["main"].p50 == pytest.approx(0.00375, rel=0.3)
    assert told["spare"] == Rate()
    assert rates.availability() == {"main": pytest.approx(0.75), "spare": None}
    rates.stop()


@in_virtual_time
async def test_attempts_of_a_fallback_count_for_the_upstream_that_it_asked() -> None:
    from sidecar.pipeline.stages.fallback import FallbackStage
    from sidecar.pipeline.stages.ladder import OtherStep

    live, rates = started()
    stage = live.pipelines[0].find(FallbackStage)
    assert stage is not None
    (step,) = stage.steps
    assert isinstance(step, OtherStep)
    step.attempt.counts["ok"] += 4
    await asyncio.sleep(2)

    assert rates.upstreams()["spare"].rate == pytest.approx(2)
    assert rates.upstreams()["spare"].errors == 0
    rates.stop()


@in_virtual_time
async def test_a_reload_that_brings_new_counters_gives_no_negative_rate() -> None:
    live, rates = started()
    answer(live, "read", 200, 0.01, 1000)
    attempt(live, "read", "ok", 1000)
    await asyncio.sleep(12)
    put_in_force(live, engine_from(YAML))
    answer(live, "read", 200, 0.01, 10)
    attempt(live, "read", "upstream_connect", 10)
    await asyncio.sleep(1)
    between = rates.routes()["read"], rates.upstreams()["main"]
    await asyncio.sleep(5)
    after = rates.routes()["read"], rates.upstreams()["main"]

    assert between[0].rate == pytest.approx(10 / 3)  # since the note before the reload
    assert between[1].errors == 1.0
    assert after[0].rate == pytest.approx(10 / 8)
    assert after[1].errors == 1.0
    rates.stop()


@in_virtual_time
async def test_counters_that_a_reload_carries_over_go_on() -> None:
    live, rates = started()
    answer(live, "read", 200, 0.01, 100)
    await asyncio.sleep(12)
    kept = live.recorder.by_route["read"]
    put_in_force(live, engine_from(YAML))
    live.recorder.by_route["read"] = kept
    await asyncio.sleep(8)

    assert rates.routes()["read"].rate == pytest.approx(5)
    rates.stop()


@in_virtual_time
async def test_a_new_route_to_an_upstream_whose_other_counters_are_carried_over_does_not_count_the_past() -> (
    None
):
    live, rates = started()
    attempt(live, "read", "ok", 1_000_000)
    await asyncio.sleep(70)
    more = "  - {name: more, match: {path: /m/**}, upstream: main}\n"
    engine = engine_from(YAML + more)
    for old, new in zip(live.pipelines, engine.dispatcher.pipelines, strict=False):
        for before, after in zip(old.stages, new.stages, strict=True):
            after.count_on(before)
    put_in_force(live, engine)
    attempt(live, "more", "ok", 6)

    assert rates.upstreams()["main"].rate < 7
    await asyncio.sleep(6)
    assert rates.upstreams()["main"].rate < 7
    rates.stop()


@in_virtual_time
async def test_routes_come_and_go_with_a_reload() -> None:
    live, rates = started()
    answer(live, "write", 200, 0.01, 100)
    await asyncio.sleep(12)
    put_in_force(live, engine_from(YAML.replace("name: write", "name: new")))
    answer(live, "new", 200, 0.01, 10)
    await asyncio.sleep(6)

    told = rates.routes()
    assert list(told) == ["read", "new"]
    assert told["new"].rate > 0
    rates.stop()


@in_virtual_time
async def test_without_a_start_nothing_is_known_and_nothing_fails() -> None:
    live = live_from(YAML)
    rates = Rates(live, asyncio.get_running_loop())
    answer(live, "read", 200, 0.01, 100)

    assert rates.routes() == {"read": Rate(), "write": Rate()}
    assert rates.upstreams() == {"main": Rate(), "spare": Rate()}
    assert rates.availability() == {"main": None, "spare": None}
    assert rates.cpu is None


@in_virtual_time
async def test_after_stop_no_timer_is_left() -> None:
    _, rates = started()
    await asyncio.sleep(7)
    rates.stop()
    loop = asyncio.get_running_loop()

    assert loop.timers == 0  # type: ignore[attr-defined]  # of the virtual-time loop


@in_virtual_time
async def test_the_cpu_is_told_after_two_notes() -> None:
    _, rates = started()
    await asyncio.sleep(5.5)

    assert rates.cpu is not None
    assert rates.cpu >= 0
    rates.stop()


@in_virtual_time
async def test_a_route_without_counters_and_an_upstream_without_routes_do_no_harm() -> None:
    live = live_from(YAML)
    view = UpstreamView("http://x", 1, lambda: 0, lambda: 0, lambda: 0, Histogram())
    strange = dataclasses.replace(live, upstreams={**live.upstreams, "unused": view})
    del strange.recorder.by_route["write"]
    rates = Rates(strange, asyncio.get_running_loop())
    rates.start()
    await asyncio.sleep(6)

    assert list(rates.routes()) == ["read"]
    assert rates.upstreams()["unused"] == Rate()
    rates.stop()


# Observations, a share of them, and between which bounds its quantile lies.
QUANTILES = (
    ([0.002] * 100, 0.5, 0.001, 0.0025),
    ([0.002] * 99 + [3.0], 0.5, 0.001, 0.0025),
    ([0.002] * 90 + [3.0] * 10, 0.99, 2.5, 5.0),
    ([0.0001], 0.99, 0.0, 0.001),
    ([100.0], 0.5, 10.0, 10.0),  # above the last bound: at it
    ([0.004, 0.04, 0.4], 1.0, 0.25, 0.5),
)


@pytest.mark.parametrize(("observed", "share", "least", "most"), QUANTILES)
def test_a_quantile_lies_in_the_bucket_of_its_observation(
    observed: list[float], share: float, least: float, most: float
) -> None:
    counts = RouteCounts().seconds
    for each in observed:
        counts.observe(each)
    found = quantile(SECONDS, counts.counts, share, counts.total)

    assert found is not None
    assert least <= found <= most


# Observations, a share of them, and the most that its quantile may be told as.
NEVER_MORE = (
    ([1.001], 0.5, 1.001),
    ([1.001], 0.99, 1.001),
    ([1.8], 0.99, 1.8),
    ([1.0005, 1.001, 1.006] * 7, 0.99, 1.01),
    ([0.0005] * 90 + [2.6, 2.9, 3.2] * 3 + [3.2], 0.99, 3.5),
    ([0.7] * 50 + [1.001], 0.99, 2.5),
)


@pytest.mark.parametrize(("observed", "share", "most"), NEVER_MORE)
def test_a_quantile_is_none_that_the_sum_of_the_times_rules_out(
    observed: list[float], share: float, most: float
) -> None:
    counts = RouteCounts().seconds
    for each in observed:
        counts.observe(each)
    found = quantile(SECONDS, counts.counts, share, counts.total)

    assert found is not None
    assert 1 <= found <= most + 1e-9


@given(st.lists(st.floats(0.0001, 20), min_size=1, max_size=60), st.sampled_from([0.5, 0.9, 0.99, 1.0]))
def test_a_quantile_is_never_out_of_its_bucket_nor_more_than_all_the_times_together(
    observed: list[float], share: float
) -> None:
    counts = Histogram()
    for each in observed:
        counts.observe(each)
    found = quantile(SECONDS, counts.counts, share, counts.total)
    exact = sorted(observed)[ceil(share * len(observed)) - 1]
    at = bisect_left(SECONDS, exact)

    assert found is not None
    assert (0.0, *SECONDS)[at] <= found <= (*SECONDS, 10.0)[at]
    assert found <= sum(observed) * (1 + 1e-9) + 1e-9


def test_of_nothing_there_is_no_quantile() -> None:
    assert quantile(SECONDS, Histogram().counts, 0.5, 0.0) is None
