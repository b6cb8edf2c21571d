"""Injected faults: what everything outside sees is an upstream that is slow, refuses, or breaks."""

import asyncio
from collections import deque
from collections.abc import Callable

import pytest

from sidecar.counts import Histogram
from sidecar.errors import AttemptTimeout, Disconnected, UpstreamIdle
from sidecar.fate import Fate
from sidecar.message import HIGH_WATER, NO_FIELDS, Body, Fields, Reply
from sidecar.pipeline.assemble import Pipeline
from sidecar.pipeline.exchange import Exchange
from sidecar.pipeline.stage import Stage, compose
from sidecar.pipeline.stages.attempt import AttemptStage
from sidecar.pipeline.stages.fault import FaultStage
from sidecar.pipeline.stages.record import RecordStage
from sidecar.policy.fault import FaultSettings
from tests.support.exchanges import Route, a_body, a_request, an_exchange, some_parts
from tests.support.upstream import Arrival, Upstream, answer, fail, stream
from tests.support.virtual_time import VirtualTimeLoop, in_virtual_time, now

MARK = b"x-fault-injected"


def always() -> float:
    return 0.0


def a_stage(settings: FaultSettings, chance: Callable[[], float] = always) -> FaultStage:
    return FaultStage(settings, asyncio.get_running_loop(), chance)


def draws(*numbers: float) -> Callable[[], float]:
    """Give these numbers, one after the other, and no more than these."""
    return deque(numbers).popleft


class Twice(Stage):
    """Asks again after a failure, as a retry does."""

    async def __call__(self, exchange: Exchange) -> Reply:
        try:
            reply = await self.next(exchange)
        except Disconnected:
            return await self.next(exchange)
        return await self.next(exchange) if reply.status >= 500 else reply


def a_route(
    stage: FaultStage,
    upstream: Upstream | None = None,
    *,
    timeout: float | None = None,
    outside: Stage | None = None,
) -> Route:
    """Make a route of one attempt, or two, at an upstream that has this fault."""
    parts = some_parts()
    attempt = AttemptStage(
        parts.loop, parts.clock, upstream="an-upstream", timeout=timeout, seconds=Histogram()
    )
    between = [] if outside is None else [outside]
    stages = (RecordStage(parts.answers, parts.on_fault), *between, attempt, stage)
    return Route(
        Pipeline("a-route", compose(stages, upstream or Upstream(then=answer(200, b"hello"))), stages)
    )


def results(route: Route) -> list[list[tuple[str, float]]]:
    return [[(str(result), seconds) for result, seconds in exchange.attempts] for exchange in route.done]


def injected(stage: FaultStage) -> dict[str, int]:
    """Give the counts without the zeros."""
    return {kind: number for kind, number in stage.injected.items() if number}


# --- delay, abort, reset ---


@in_virtual_time
async def test_a_delay_comes_before_the_upstream_is_asked() -> None:
    stage = a_stage(FaultSettings(delay=2.5))
    upstream = Upstream(answer(200, b"hello", after=1))
    route = a_route(stage, upstream)

    got = await route.get()

    assert (got.status, got.body, got.at, got.header(MARK)) == (200, b"hello", 3.5, b"delay")
    assert upstream.arrivals == [Arrival(2.5, b"GET", b"/", "answered", 3.5, [None])]
    assert results(route) == [[("ok", 3.5)]]
    assert stage.injected == {"delay": 1, "abort": 0, "reset": 0, "truncate": 0}


@in_virtual_time
async def test_a_delay_past_the_timeout_is_a_slow_upstream_and_its_504_is_marked() -> None:
    stage = a_stage(FaultSettings(delay=60))
    upstream = Upstream()
    route = a_route(stage, upstream, timeout=10)

    got = await route.get()

    assert (got.status, got.at, got.header(MARK)) == (504, 10, b"delay")
    assert isinstance(route.done[0].error, AttemptTimeout)
    assert results(route) == [[("timeout_attempt", 10)]]
    assert upstream.arrivals == []


@in_virtual_time
async def test_a_client_that_leaves_during_the_delay_leaves_nothing_behind() -> None:
    stage = a_stage(FaultSettings(delay=60))
    upstream = Upstream()
    route = a_route(stage, upstream)
    task = route.start()
    await asyncio.sleep(1)

    task.cancel()
    await asyncio.wait([task])

    assert task.cancelled()
    assert (route.fates, upstream.arrivals, injected(stage)) == (["client_gone"], [], {"delay": 1})
    loop = asyncio.get_running_loop()
    assert isinstance(loop, VirtualTimeLoop)
    assert loop.timers == 0


@in_virtual_time
async def test_an_abort_is_an_answer_without_the_upstream() -> None:
    stage = a_stage(FaultSettings(abort=503))
    upstream = Upstream()
    route = a_route(stage, upstream)

    got = await route.get()

    assert (got.status, got.body) == (503, b"A fault was injected here on purpose.\n")
    assert [(name, value) for name, value in got.headers if name != b"Date"] == [
        (b"Cache-Control", b"no-store"),
        (b"Content-Type", b"text/plain"),
        (b"Content-Length", b"38"),
        (b"X-Request-ID", b"test-000001"),
        (b"X-Fault-Injected", b"abort"),
    ]
    assert len(got.header(b"date") or b"") == 29
    assert results(route) == [[("status_5xx", 0)]]
    assert (route.fates, upstream.arrivals, injected(stage)) == (["upstream_status"], [], {"abort": 1})


@pytest.mark.parametrize(
    ("method", "status", "body", "length", "announced"),
    [
        ("GET", 404, b"A fault was injected here on purpose.\n", 38, b"38"),
        ("HEAD", 503, None, 38, b"38"),
        ("GET", 204, None, None, None),
        ("GET", 205, b"", 0, b"0"),
        ("GET", 304, None, None, None),
    ],
)
@in_virtual_time
async def test_an_abort_is_framed_as_its_status_and_method_want(
    method: str, status: int, body: bytes | None, length: int | None, announced: bytes | None
) -> None:
    reply = await a_stage(FaultSettings(abort=status))(an_exchange(a_request(method)))

    assert (reply.status, reply.body, reply.length) == (status, body, length)
    assert reply.fields.first(b"content-length") == announced
    assert reply.fields.first(b"cache-control") == b"no-store"


@in_virtual_time
async def test_a_reset_is_a_connection_that_broke_before_the_answer() -> None:
    stage = a_stage(FaultSettings(reset=True))
    upstream = Upstream()
    route = a_route(stage, upstream)

    got = await route.get()

    assert (got.status, got.header(MARK), route.fates) == (502, b"reset", ["upstream_disconnected"])
    error = route.done[0].error
    assert isinstance(error, Disconnected)
    assert (error.sent, error.head_seen, str(error)) == (True, False, "injected")
    assert results(route) == [[("upstream_disconnected", 0)]]
    assert (upstream.arrivals, injected(stage)) == ([], {"reset": 1})


@in_virtual_time
async def test_a_delay_goes_with_each_of_the_others_and_of_those_the_first_counts() -> None:
    every = a_stage(FaultSettings(delay=1, abort=500, reset=True, truncate=2))
    two = a_stage(FaultSettings(delay=1, reset=True, truncate=2))
    last = a_stage(FaultSettings(delay=1, truncate=2))

    got = [await a_route(stage).get() for stage in (every, two, last)]

    assert [(one.status, one.at, one.header(MARK)) for one in got] == [
        (500, 1, b"delay, abort"),
        (502, 2, b"delay, reset"),
        (200, 3, b"delay, truncate"),
    ]
    assert [injected(stage) for stage in (every, two, last)] == [
        {"delay": 1, "abort": 1},
        {"delay": 1, "reset": 1},
        {"delay": 1, "truncate": 1},
    ]


@in_virtual_time
async def test_the_record_says_what_was_injected_so_that_nobody_blames_the_upstream() -> None:
    settings = [
        FaultSettings(delay=1),
        FaultSettings(abort=503),
        FaultSettings(reset=True),
        FaultSettings(truncate=2),
        FaultSettings(delay=1, abort=503),
        FaultSettings(abort=503, percent=0),
    ]

    noted = []
    for each in settings:
        route = a_route(a_stage(each))
        await route.get()
        noted.append(route.done[0].fault)

    assert noted == ["delay", "abort", "reset", "truncate", "delay, abort", None]


@in_virtual_time
async def test_the_record_of_several_attempts_names_each_kind_once() -> None:
    route = a_route(a_stage(FaultSettings(delay=1, abort=503)), outside=Twice())

    await route.get()

    assert route.done[0].fault == "delay, abort"


# --- whom it hits ---


@in_virtual_time
async def test_who_is_not_hit_gets_the_answer_untouched() -> None:
    upstream = Upstream(then=answer(200, b"hello"))
    stage = a_stage(FaultSettings(delay=1, abort=500, percent=50), draws(0.5, 0.49))
    route = a_route(stage, upstream)

    got = [await route.get() for _ in range(2)]

    assert [(one.status, one.at, one.header(MARK)) for one in got] == [
        (200, 0, None),
        (500, 1, b"delay, abort"),
    ]
    assert len(upstream.arrivals) == 1


@in_virtual_time
async def test_who_does_not_carry_the_field_is_not_hit() -> None:
    stage = a_stage(FaultSettings(abort=500, header=(b"x-drill", b"yes")))
    route = a_route(stage)

    got = [
        await route.ask(a_request(headers=headers))
        for headers in ([], [(b"X-Drill", b"no")], [(b"X-Drill", b"yes")])
    ]

    assert [one.status for one in got] == [200, 200, 500]


@in_virtual_time
async def test_each_attempt_is_drawn_for_once() -> None:
    stage = a_stage(FaultSettings(reset=True, percent=50), draws(0.1, 0.9))
    route = a_route(stage, outside=Twice())

    got = await route.get()

    assert (got.status, got.header(MARK)) == (200, b"reset")
    assert results(route) == [[("upstream_disconnected", 0), ("ok", 0)]]


@in_virtual_time
async def test_an_answer_to_several_attempts_tells_each_kind_once_in_one_field() -> None:
    stage = a_stage(FaultSettings(delay=1, abort=503))
    route = a_route(stage, outside=Twice())
    exchange_extra = (b"X-Other", b"1")
    exchange = an_exchange()
    exchange.extra = (exchange_extra,)

    got = await route.get()
    await route.pipeline.call(exchange)

    assert (got.header(MARK), injected(stage)) == (b"delay, abort", {"delay": 4, "abort": 4})
    assert list(exchange.extra) == [exchange_extra, (b"X-Fault-Injected", b"delay, abort")]


@in_virtual_time
async def test_who_is_not_hit_pays_no_frame() -> None:
    stage = a_stage(FaultSettings(abort=500, percent=0))
    given = asyncio.get_running_loop().create_future()
    given.cancel()

    def following(_: Exchange) -> "asyncio.Future[Reply]":
        return given

    stage.next = following
    assert stage(an_exchange()) is given


# --- truncate ---


@pytest.mark.parametrize("most", [0, 1, 4])
@in_virtual_time
async def test_a_whole_body_breaks_after_so_many_bytes_and_its_length_stays_announced(most: int) -> None:
    stage = a_stage(FaultSettings(truncate=most))
    upstream = Upstream(answer(200, b"hello"))
    route = a_route(stage, upstream)

    got = await route.get()

    assert (got.status, got.body, got.header(b"content-length")) == (200, b"hello"[:most], b"5")
    assert got.header(MARK) == b"truncate"
    assert isinstance(got.error, Disconnected)
    assert (got.error.head_seen, str(got.error)) == (True, "injected")
    assert (route.fates, injected(stage)) == (["upstream_disconnected"], {"truncate": 1})
    assert upstream.arrivals[0].closed == [got.error]


@pytest.mark.parametrize("most", [0, 1, 2, 3, 5])
@in_virtual_time
async def test_a_stream_breaks_after_so_many_bytes_and_its_upstream_is_let_go(most: int) -> None:
    stage = a_stage(FaultSettings(truncate=most))
    upstream = Upstream(stream([(1, b"ab"), (2, b"cd"), (3, b"ef"), (9, b"gh")]))
    route = a_route(stage, upstream)

    got = await route.get()

    assert (got.body, got.header(MARK), got.ended_at) == (b"abcdef"[:most], b"truncate", most // 2 + 1)
    assert isinstance(got.error, Disconnected)
    assert (upstream.arrivals[0].closed, upstream.arrivals[0].dropped) == ([got.error], True)
    assert (route.fates, injected(stage)) == (["upstream_disconnected"], {"truncate": 1})


@pytest.mark.parametrize("most", [5, 6, 1000])
@in_virtual_time
async def test_a_body_that_is_not_longer_than_that_passes_whole(most: int) -> None:
    stage = a_stage(FaultSettings(truncate=most))
    route = a_route(stage, Upstream(answer(200, b"hello"), stream([(1, b"hel"), (2, b"lo")])))

    got = [await route.get() for _ in range(2)]

    assert [(one.body, one.error, one.header(MARK)) for one in got] == [
        (b"hello", None, None),
        (b"hello", None, b"truncate"),  # how long it would be was not known at its head
    ]
    assert (route.fates, injected(stage)) == (["ok", "ok"], {})
    assert [exchange.fault for exchange in route.done] == [None, None]  # nothing came of it


@in_virtual_time
async def test_a_stream_whose_length_is_known_is_not_touched_if_it_is_not_longer() -> None:
    body = a_body(b"hel", b"lo")

    async def upstream(_: Exchange) -> Reply:
        reply = Reply(200, NO_FIELDS, body)
        reply.length = 5
        return reply

    stage = a_stage(FaultSettings(truncate=5))
    stage.next = upstream
    exchange = an_exchange()

    assert (await stage(exchange)).body is body
    assert exchange.extra == ()


@pytest.mark.parametrize("length", [None, 6])
@in_virtual_time
async def test_a_stream_that_may_be_longer_keeps_its_length_and_everything_else(length: int | None) -> None:
    given = Reply(206, Fields([(b"X-A", b"1")]), a_body(b"hel", b"lo!"))
    given.length = length

    async def upstream(_: Exchange) -> Reply:
        return given

    stage = a_stage(FaultSettings(truncate=5))
    stage.next = upstream

    reply = await stage(an_exchange())

    assert reply is given
    assert (reply.status, reply.fields.pairs, reply.length) == (206, ((b"X-A", b"1"),), length)
    assert isinstance(reply.body, Body)
    assert await reply.body.read() == b"hel"
    assert await reply.body.read() == b"lo"
    with pytest.raises(Disconnected):
        await reply.body.read()


@in_virtual_time
async def test_an_answer_without_a_body_has_nothing_to_break() -> None:
    stage = a_stage(FaultSettings(truncate=0))
    route = a_route(stage, Upstream(then=answer(204)))

    got = [await route.ask(a_request(method)) for method in ("HEAD", "GET")]

    assert [(one.status, one.error, one.header(MARK)) for one in got] == [(204, None, None)] * 2
    assert injected(stage) == {}


@in_virtual_time
async def test_a_stream_that_breaks_on_its_own_breaks_with_its_own_error() -> None:
    theirs = UpstreamIdle("theirs")
    stage = a_stage(FaultSettings(truncate=100))
    route = a_route(stage, Upstream(stream([(1, b"abc")], breaks=theirs)))

    got = await route.get()

    assert (got.body, got.error, route.fates) == (b"abc", theirs, [Fate.TIMEOUT_IDLE])
    assert injected(stage) == {}


@in_virtual_time
async def test_trailers_pass() -> None:
    inner = Body(now)
    stage = a_stage(FaultSettings(truncate=100))

    async def upstream(_: Exchange) -> Reply:
        return Reply(200, NO_FIELDS, inner)

    stage.next = upstream
    body = (await stage(an_exchange())).body
    assert isinstance(body, Body)

    inner.feed(b"abc")
    inner.finish([(b"X-Sum", b"1")])

    assert (body.finished, body.trailers) == (True, [(b"X-Sum", b"1")])
    assert await body.read() == b"abc"
    assert await body.read() == b""


@in_virtual_time
async def test_an_upstream_that_fails_fails_as_it_does_and_is_not_marked() -> None:
    theirs = Disconnected("theirs")
    stage = a_stage(FaultSettings(truncate=1))
    route = a_route(stage, Upstream(fail(theirs)))

    got = await route.get()

    assert (got.status, got.header(MARK), route.done[0].error) == (502, None, theirs)


async def _cut(most: int) -> tuple[Body, Body, list[str]]:
    """Give a body as its connection feeds it, as its client gets it cut, and what its connection is told."""
    inner = Body(now)
    told: list[str] = []
    inner.on_pause = lambda: told.append("pause")
    inner.on_resume = lambda: told.append("resume")
    stage = a_stage(FaultSettings(truncate=most))

    async def upstream(_: Exchange) -> Reply:
        return Reply(200, NO_FIELDS, inner)

    stage.next = upstream
    outer = (await stage(an_exchange())).body
    assert isinstance(outer, Body)
    return inner, outer, told


@in_virtual_time
async def test_a_client_that_cannot_keep_up_stops_the_upstream_and_starts_it_again() -> None:
    inner, outer, told = await _cut(1_000_000)
    got: list[bytes] = []
    outer.pipe(got.append, lambda _: None)

    inner.feed(b"a")
    outer.hold()
    assert (told, inner.paused, inner.held) == (["pause"], True, True)
    outer.release()
    assert (told, inner.paused, inner.held) == (["pause", "resume"], False, False)

    inner.feed(b"b")
    assert got == [b"a", b"b"]


@in_virtual_time
async def test_what_nobody_drains_yet_stops_the_upstream_as_without_a_fault() -> None:
    inner, outer, told = await _cut(1_000_000)

    inner.feed(b"x" * HIGH_WATER)
    assert told == []
    inner.feed(b"y")
    assert (told, outer.waiting) == (["pause"], HIGH_WATER + 1)

    outer.pipe(lambda _: None, lambda _: None)
    assert (told, outer.waiting) == (["pause", "resume"], 0)


@pytest.mark.parametrize("size", [1, HIGH_WATER, HIGH_WATER + 1, 3 * HIGH_WATER])
@pytest.mark.parametrize("piece", [HIGH_WATER // 4, 10_000_000])
@in_virtual_time
async def test_all_that_came_before_the_cut_gets_out_whoever_drains_and_however_late(
    size: int, piece: int
) -> None:
    for drain in (_read, _pipe):
        inner, outer, _ = await _cut(size)
        whole = b"z" * (size + 1)
        for at in range(0, len(whole), piece):
            inner.feed(whole[at : at + piece])
        assert outer.error is None

        got, error = await drain(outer)

        assert (len(got), isinstance(error, Disconnected)) == (size, True)


async def _read(body: Body) -> tuple[bytes, BaseException | None]:
    got = b""
    try:
        while piece := await body.read():
            got += piece
    except Disconnected as error:
        return got, error
    return got, None


async def _pipe(body: Body) -> tuple[bytes, BaseException | None]:
    pieces: list[bytes] = []
    ends: list[BaseException | None] = []
    body.pipe(pieces.append, ends.append)
    assert len(ends) == 1
    return b"".join(pieces), ends[0]


@in_virtual_time
async def test_a_client_that_is_slow_gets_what_came_before_the_cut_before_it_is_told() -> None:
    inner, outer, _ = await _cut(3)
    pieces: list[bytes] = []
    ends: list[BaseException | None] = []
    outer.pipe(pieces.append, ends.append)
    outer.hold()

    inner.feed(b"abcdef")
    assert (pieces, ends) == ([b"abc"], [])
    outer.release()

    assert (len(ends), pieces, outer.error is ends[0]) == (1, [b"abc"], True)
    assert isinstance(ends[0], Disconnected)


@in_virtual_time
async def test_after_the_cut_the_upstream_is_stopped_and_not_read_for_nothing() -> None:
    inner, outer, told = await _cut(3)
    outer.pipe(lambda _: None, lambda _: None)

    inner.feed(b"abcdef")
    assert told == []
    inner.feed(b"x" * (HIGH_WATER + 1))

    assert told == ["pause"]
    assert outer.bytes_fed == 3


@in_virtual_time
async def test_a_client_that_left_is_drained_for_until_its_reply_is_closed() -> None:
    inner, outer, told = await _cut(1_000_000)
    outer.pipe(lambda _: None, lambda _: None)
    outer.hold()

    outer.discard()
    inner.feed(b"abc")

    assert (told, outer.bytes_fed, outer.waiting) == (["pause", "resume"], 3, 0)


@pytest.mark.parametrize(
    ("settings", "text"),
    [
        (FaultSettings(delay=0.5), "fault delay 0.5s for 100%"),
        (FaultSettings(delay=2, abort=503, percent=12.5), "fault delay 2s, abort 503 for 12.5%"),
        (FaultSettings(reset=True, truncate=5), "fault reset for 100%"),
        (
            FaultSettings(truncate=0, header=(b"x-drill", None)),
            "fault truncate to 0 bytes for 100% with x-drill",
        ),
        (
            FaultSettings(abort=500, reset=True, header=(b"x-drill", b"\xe9")),
            "fault abort 500 for 100% with x-drill: é",
        ),
    ],
)
@in_virtual_time
async def test_it_describes_itself(settings: FaultSettings, text: str) -> None:
    assert a_stage(settings).describe() == text
