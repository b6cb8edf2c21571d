"""Retries: what is tried again, when, with what, and what the client gets in the end."""

import asyncio
import gc
import weakref
from dataclasses import dataclass, field, replace
from email.utils import formatdate

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.errors import (
    AttemptTimeout,
    BadResponse,
    BodyTooLarge,
    BreakerOpen,
    BulkheadFull,
    ConnectFailed,
    Disconnected,
    Overloaded,
    QueueTimeout,
    Refused,
    RequestBodyTimeout,
    RequestError,
    UpstreamFailed,
    UpstreamIdle,
)
from sidecar.fate import WhyNotRetried
from sidecar.message import NO_FIELDS, Body, Fields, Headers, Reply, Request
from sidecar.pipeline.exchange import Exchange
from sidecar.pipeline.stage import Call
from sidecar.pipeline.stages.retry import RetryStage
from sidecar.policy.budget import BudgetSettings, RetryBudget
from sidecar.policy.retry import CONDITIONS, RetrySettings
from tests.support.exchanges import EPOCH, Got, Route, Settings, a_body, a_request, a_route, some_parts
from tests.support.upstream import Arrival, Step, Upstream, answer, fail, hang, stream
from tests.support.virtual_time import VirtualTimeLoop, in_virtual_time, now, run

# One second between attempts, so that times tell attempts apart.
EVENLY = RetrySettings(retries=2, strategy="fixed", base=1.0, jitter="none", conditions=CONDITIONS)
KEY = (b"Idempotency-Key", b"8e03978e")
NOT_NOW: Headers = [(b"X-Should-Retry", b"false")]


@dataclass(slots=True)
class Line:
    """A route with retries. `told` holds the fields of each request that came to its upstream."""

    route: Route
    retry: RetryStage
    told: list[Headers]

    async def ask(self, request: Request | None = None) -> Got:
        """Ask, with GET unless `request` says otherwise."""
        return await self.route.ask(request or a_request())

    @property
    def last(self) -> Exchange:
        """The exchange that ended last."""
        return self.route.done[-1]

    @property
    def why(self) -> WhyNotRetried | None:
        """Why the last exchange was not tried again."""
        return self.last.why_not_retried

    @property
    def retried(self) -> dict[str, int]:
        """The retries that were made, by what made them necessary."""
        return {word: count for word, count in self.retry.retried.items() if count}

    @property
    def blocked(self) -> dict[str, int]:
        """The retries that were not made, by the reason."""
        return {str(why): count for why, count in self.retry.blocked.items() if count}


def a_line(
    upstream: Call,
    settings: RetrySettings = EVENLY,
    *,
    budget: RetryBudget | None = None,
    total: float | None = None,
    attempt: float | None = None,
    chance: float = 0.5,
) -> Line:
    """Make a route with retries around `upstream`; what is not named is off."""
    told: list[Headers] = []

    async def listening(exchange: Exchange) -> Reply:
        told.append([*exchange.request.fields.pairs, *exchange.request.extra])
        return await upstream(exchange)

    parts = replace(some_parts(), chance=lambda: chance)
    policies: Settings = {"retry": settings, "total": total, "attempt": attempt}
    if budget is not None:
        policies["budget"] = budget
    route = a_route(listening, parts=parts, **policies)
    retry = route.pipeline.find(RetryStage)
    assert retry is not None
    return Line(route, retry, told)


def times(upstream: Upstream) -> list[float]:
    """Give when each attempt came."""
    return [arrival.at for arrival in upstream.arrivals]


def answer_with(reply: Reply) -> Step:
    """Answer with this very reply."""

    async def step(exchange: Exchange, arrival: Arrival) -> Reply:
        return reply

    return step


@dataclass(slots=True)
class Reader:
    """An upstream that takes request bodies as the wire does. `bodies` holds what each attempt was sent.

    It answers without waiting for the end of a body. A connection lets go of a body that it was not sent whole when
    its exchange is over: when the attempt failed, when the reply was whole, or when it is closed.
    """

    upstream: Upstream
    bodies: list[bytes] = field(default_factory=list)

    async def __call__(self, exchange: Exchange) -> Reply:
        body = exchange.request.body
        assert body is not None
        number = len(self.bodies)
        self.bodies.append(b"")
        if body.error is not None:
            raise body.error
        ended: list[BaseException | None] = []

        def take(piece: bytes) -> None:
            self.bodies[number] += piece

        def let_go(_: BaseException | None) -> None:
            if not ended:
                body.detach()

        whole = body.take_whole()
        if whole is not None:
            take(whole)
            ended.append(None)
        else:
            body.pipe(take, ended.append)
        try:
            reply = await self.upstream(exchange)
        except BaseException as error:
            let_go(error)
            raise
        if isinstance(reply.body, Body):
            reply.on_close(let_go)
        else:
            let_go(None)
        return reply


def an_upload(*pieces: tuple[float, bytes], ends: float | None) -> Body:
    """Make a body of which a piece comes at each time, and its end (None: never)."""
    loop = asyncio.get_running_loop()
    body = Body(loop.time)
    for at, piece in pieces:
        loop.call_at(at, body.feed, piece)
    if ends is not None:
        loop.call_at(ends, body.finish)
    return body


# --- while all is well ---


@in_virtual_time
async def test_a_good_answer_is_passed_on_as_it_is() -> None:
    reply = Reply(200, Fields([(b"X-Upstream-Attempts", b"3")]), b"hello")
    upstream = Upstream(answer_with(reply))
    line = a_line(upstream)

    got = await line.ask()

    assert (got.status, got.body, got.at, line.route.fates) == (200, b"hello", 0, ["ok"])
    assert got.headers == [(b"X-Upstream-Attempts", b"3"), (b"X-Request-ID", b"test-000001")]
    assert (line.told, line.retried, line.blocked, line.why) == ([[]], {}, {}, None)
    assert reply.fields.first(b"x-upstream-attempts") == b"3"


@pytest.mark.parametrize("status", [200, 301, 400, 401, 403, 404, 408, 429, 499, 500, 501, 505])
@in_virtual_time
async def test_a_status_that_is_not_named_is_never_retried(status: int) -> None:
    upstream = Upstream(answer(status, b"as it is"))
    line = a_line(upstream, RetrySettings())

    got = await line.ask()

    assert (got.status, got.body, len(upstream.arrivals)) == (status, b"as it is", 1)
    assert (line.why, line.blocked, got.header(b"x-upstream-attempts")) == (None, {}, None)


@in_virtual_time
async def test_a_body_is_not_kept_any_longer_than_it_may_be_needed() -> None:
    body = a_body(b"payload")
    reader = Reader(Upstream(answer(200)))

    await a_line(reader).ask(a_request("PUT", body=body))

    assert reader.bodies == [b"payload"]
    assert not body.rewind()


@pytest.mark.parametrize("error", [BodyTooLarge(), BulkheadFull(), UpstreamIdle()])
@in_virtual_time
async def test_a_body_is_not_kept_after_a_failure_that_is_not_retried(error: RequestError) -> None:
    body = a_body(b"payload")

    await a_line(Reader(Upstream(fail(error)))).ask(a_request("PUT", body=body))

    assert not body.rewind()


@in_virtual_time
async def test_a_body_that_somebody_further_out_keeps_is_left_to_them() -> None:
    body = a_body(b"payload")
    assert body.keep(100)
    reader = Reader(Upstream(fail(Disconnected()), answer(200)))

    await a_line(reader).ask(a_request("PUT", body=body))

    assert reader.bodies == [b"payload", b"payload"]
    assert body.rewind()


# --- what is tried again, and when ---


@in_virtual_time
async def test_a_failed_attempt_is_made_again_after_the_back_off_until_one_is_good() -> None:
    upstream = Upstream(fail(Disconnected(), after=0.5), answer(503, b"no"), answer(200, b"yes"))
    line = a_line(upstream)

    got = await line.ask()

    assert (got.status, got.body, got.at) == (200, b"yes", 2.5)
    assert times(upstream) == [0, 1.5, 2.5]
    assert (line.route.fates, line.why) == (["ok_after_retry"], None)
    assert (line.retried, line.blocked) == ({"reset": 1, "503": 1}, {})
    assert [result for result, _ in line.last.attempts] == ["upstream_disconnected", "status_5xx", "ok"]


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        (RetrySettings(retries=3, base=1, multiplier=2, max=30, jitter="none"), [0, 1, 3, 7]),
        (RetrySettings(retries=3, base=1, multiplier=2, max=3, jitter="none"), [0, 1, 3, 6]),
        (RetrySettings(retries=3, base=1, multiplier=2, max=30, jitter="full"), [0, 0.5, 1.5, 3.5]),
        (RetrySettings(retries=3, base=1, multiplier=2, max=30, jitter="equal"), [0, 0.75, 2.25, 5.25]),
        (RetrySettings(retries=3, strategy="linear", base=1, max=30, jitter="none"), [0, 1, 3, 6]),
        (RetrySettings(retries=3, strategy="fixed", base=1, max=30, jitter="none"), [0, 1, 2, 3]),
        (RetrySettings(retries=3, strategy="decorrelated", base=0.5, max=30), [0, 1, 2.75, 5.625]),
    ],
)
@in_virtual_time
async def test_the_back_off_is_the_one_that_is_configured(
    settings: RetrySettings, expected: list[float]
) -> None:
    upstream = Upstream(then=fail(ConnectFailed()))

    await a_line(upstream, settings).ask()

    assert times(upstream) == expected


@pytest.mark.parametrize(
    ("step", "word", "status"),
    [
        (fail(ConnectFailed()), "connect_error", 502),
        (fail(Disconnected()), "reset", 502),
        (fail(Disconnected(head_seen=True)), "reset", 502),
        (fail(AttemptTimeout()), "attempt_timeout", 504),
        (hang(), "attempt_timeout", 504),
        (fail(BadResponse()), "bad_response", 502),
        (answer(502), "502", 502),
        (answer(503), "503", 503),
        (answer(504), "504", 504),
    ],
)
@in_virtual_time
async def test_each_condition_has_its_word_and_is_retried_only_where_it_is_named(
    step: Step, word: str, status: int
) -> None:
    statuses = frozenset({502, 503, 504})
    others = replace(EVENLY, conditions=CONDITIONS - {word}, statuses=statuses - {status})
    if word in CONDITIONS:
        others = replace(others, statuses=statuses)
    retrying = a_line(Upstream(step, answer(200)), EVENLY, attempt=10)
    passing = a_line(Upstream(step), others, attempt=10)

    assert (await retrying.ask()).status == 200
    assert (await passing.ask()).status == status

    assert (retrying.retried, retrying.blocked, retrying.route.fates) == ({word: 1}, {}, ["ok_after_retry"])
    assert (passing.retried, passing.blocked, passing.why) == ({}, {}, None)


@pytest.mark.parametrize("status", [409, 425, 429, 500, 507])
@in_virtual_time
async def test_a_route_may_name_its_own_statuses(status: int) -> None:
    upstream = Upstream(answer(status), answer(503, b"not named"))
    line = a_line(upstream, replace(EVENLY, statuses=frozenset({status})))

    got = await line.ask()

    assert (got.status, got.body, len(upstream.arrivals)) == (503, b"not named", 2)
    assert (line.retried, line.route.fates) == ({str(status): 1}, ["upstream_status"])


@in_virtual_time
async def test_a_client_error_after_a_retry_is_an_answer() -> None:
    line = a_line(Upstream(answer(503), answer(404)))

    assert ((await line.ask()).status, line.route.fates) == (404, ["ok_after_retry"])


@in_virtual_time
async def test_an_error_that_is_not_the_upstreams_is_never_retried() -> None:
    upstream = Upstream(fail(BodyTooLarge()), fail(RequestBodyTimeout()))
    line = a_line(upstream)

    assert [(await line.ask()).status, (await line.ask()).status] == [413, 408]
    assert (line.retried, line.blocked, line.why) == ({}, {}, None)


# --- methods ---


@pytest.mark.parametrize("method", ["GET", "HEAD", "OPTIONS", "TRACE", "PUT", "DELETE"])
@in_virtual_time
async def test_an_idempotent_method_is_retried(method: str) -> None:
    line = a_line(Upstream(fail(Disconnected()), answer(200)))

    assert (await line.ask(a_request(method))).status == 200
    assert line.retried == {"reset": 1}


@pytest.mark.parametrize("method", ["POST", "PATCH", "BREW"])
@pytest.mark.parametrize("step", [fail(Disconnected()), answer(503), fail(AttemptTimeout())])
@in_virtual_time
async def test_a_post_that_may_have_been_acted_upon_is_never_repeated_unasked(
    method: str, step: Step
) -> None:
    upstream = Upstream(step)
    line = a_line(upstream)

    await line.ask(a_request(method))

    assert (len(upstream.arrivals), line.why, line.blocked) == (1, "method", {"method": 1})


@in_virtual_time
async def test_a_route_may_have_its_posts_repeated() -> None:
    reader = Reader(Upstream(fail(Disconnected()), answer(201)))
    line = a_line(reader, replace(EVENLY, methods=None))

    got = await line.ask(a_request("POST", body=b"an order"))

    assert (got.status, reader.bodies) == (201, [b"an order", b"an order"])


@pytest.mark.parametrize(("headers", "status"), [([KEY], 201), ([], 503)])
@in_virtual_time
async def test_a_route_may_have_only_those_posts_repeated_that_carry_a_key(
    headers: Headers, status: int
) -> None:
    line = a_line(
        Upstream(answer(503), answer(201)), replace(EVENLY, methods=None, require=b"idempotency-key")
    )

    got = await line.ask(a_request("POST", headers=headers))

    assert (got.status, line.why) == (status, None if headers else "method")


@pytest.mark.parametrize("method", ["POST", "PATCH"])
@pytest.mark.parametrize("error", [ConnectFailed(), Disconnected(sent=False)])
@in_virtual_time
async def test_what_never_left_us_is_sent_whatever_its_method(method: str, error: UpstreamFailed) -> None:
    upstream = Upstream(fail(error), answer(201))
    seen: list[bytes] = []

    async def unreachable_at_first(exchange: Exchange) -> Reply:
        body = exchange.request.body
        assert body is not None
        if upstream.arrivals:
            body.pipe(seen.append, lambda _: None)
        return await upstream(exchange)

    line = a_line(unreachable_at_first)

    got = await line.ask(a_request(method, body=b"an order"))

    assert (got.status, seen, line.route.fates) == (201, [b"an order"], ["ok_after_retry"])


@in_virtual_time
async def test_a_post_that_left_us_on_its_second_attempt_is_not_sent_a_third_time() -> None:
    upstream = Upstream(fail(ConnectFailed()), fail(Disconnected()))
    line = a_line(upstream)

    await line.ask(a_request("POST"))

    assert (len(upstream.arrivals), line.why, line.route.fates) == (2, "method", ["upstream_disconnected"])


# --- Retry-After ---


@in_virtual_time
async def test_a_retry_after_in_seconds_is_waited_for_and_a_little_longer() -> None:
    upstream = Upstream(answer(503, headers=[(b"Retry-After", b"8")]), answer(200))

    assert (await a_line(upstream, chance=0.5).ask()).status == 200
    assert times(upstream) == [0, 10]


@in_virtual_time
async def test_a_retry_after_that_is_a_date_is_waited_for() -> None:
    date = formatdate(EPOCH + 8, usegmt=True).encode()
    upstream = Upstream(answer(503, headers=[(b"Retry-After", date)], after=4), answer(200))

    assert (await a_line(upstream, chance=0.5).ask()).status == 200
    assert times(upstream) == [0, 9]


@pytest.mark.parametrize("asked", [b"0", b"soon", formatdate(EPOCH - 60, usegmt=True).encode()])
@in_virtual_time
async def test_a_retry_after_that_is_over_or_means_nothing_leaves_the_back_off(asked: bytes) -> None:
    upstream = Upstream(answer(503, headers=[(b"Retry-After", asked)]), answer(200))

    await a_line(upstream).ask()

    assert times(upstream) == [0, 1]


@pytest.mark.parametrize(("asked", "total"), [(b"31", None), (b"15", 10.0)])
@in_virtual_time
async def test_a_retry_after_that_is_too_long_is_passed_on_at_once(asked: bytes, total: float | None) -> None:
    upstream = Upstream(answer(503, b"later", headers=[(b"Retry-After", asked)]))
    line = a_line(upstream, total=total)

    got = await line.ask()

    assert (got.status, got.body, got.at, got.header(b"retry-after")) == (503, b"later", 0, asked)
    assert (line.why, line.route.fates) == ("deadline", ["upstream_status"])


# --- the deadline ---


@in_virtual_time
async def test_a_back_off_that_cannot_end_before_the_deadline_is_not_begun() -> None:
    upstream = Upstream(answer(503, b"a", after=3), answer(503, b"b", after=3), answer(503, b"c"))
    line = a_line(upstream, replace(EVENLY, base=2.0), total=10)

    got = await line.ask()

    assert (got.status, got.body, got.at, times(upstream)) == (503, b"b", 8, [0, 5])
    assert (line.why, line.blocked) == ("deadline", {"deadline": 1})


@pytest.mark.parametrize(
    ("first", "wait", "retried"),
    [
        (0.0, 9.95, True),  # it failed at once: 50 ms are enough
        (0.0, 9.96, False),
        (0.5, 9.0, True),  # as long as it took
        (0.5, 9.01, False),
        (5.0, 4.0, True),  # a tenth of the total is always enough
        (5.0, 4.01, False),
    ],
)
@in_virtual_time
async def test_a_back_off_leaves_the_attempt_a_time_in_which_it_can_be_answered(
    first: float, wait: float, *, retried: bool
) -> None:
    upstream = Upstream(answer(503, after=first), answer(200))
    line = a_line(upstream, replace(EVENLY, base=wait, max=99.0), total=10)
    await asyncio.sleep(100)

    got = await line.ask()

    assert (got.status, len(upstream.arrivals)) == ((200, 2) if retried else (503, 1))
    assert line.why == (None if retried else "deadline")


@in_virtual_time
async def test_the_deadline_moves_with_an_upload_for_the_back_off_too() -> None:
    reader = Reader(Upstream(answer(503, after=29), answer(200)))
    pieces = [(float(at), b"x" * 5000) for at in range(31)]
    line = a_line(reader, replace(EVENLY, base=5.0, max=9.0), total=10)

    got = await line.ask(a_request("PUT", body=an_upload(*pieces, ends=30)))

    assert (got.status, got.at) == (200, 34)
    assert reader.bodies[1] == b"x" * 5000 * 31


@in_virtual_time
async def test_the_deadline_ends_a_retry_and_gives_everything_back() -> None:
    upstream = Upstream(answer(503), hang())
    line = a_line(upstream, total=10)

    got = await line.ask()

    assert (got.status, got.at, line.route.fates) == (504, 10, ["timeout_total"])
    assert got.header(b"x-upstream-attempts") == b"2"
    assert (upstream.under_way, line.retried) == (0, {"503": 1})


@in_virtual_time
async def test_an_attempt_that_timed_out_is_made_again_in_the_time_that_is_left() -> None:
    upstream = Upstream(hang(), answer(200, after=3))
    line = a_line(upstream, attempt=10, total=15)

    got = await line.ask()

    assert (got.status, got.at, times(upstream)) == (200, 14, [0, 11])


# --- what the client gets when there is no more to try ---


@in_virtual_time
async def test_when_the_retries_are_spent_the_last_answer_is_given_as_it_came() -> None:
    last = Reply(503, Fields([(b"Retry-After", b"0"), (b"Server", b"theirs")]), b"the third")
    last.reason = b"Busy"
    upstream = Upstream(answer(502, b"the first"), answer(504, b"the second"), answer_with(last))
    line = a_line(upstream)

    got = await line.ask()

    assert (got.status, got.body, got.header(b"server")) == (503, b"the third", b"theirs")
    assert (got.header(b"retry-after"), last.reason) == (b"0", b"Busy")
    assert (line.why, line.route.fates) == ("retries_spent", ["upstream_status"])
    assert (line.retried, line.blocked) == ({"502": 1, "504": 1}, {"retries_spent": 1})
    assert [arrival.closed for arrival in upstream.arrivals] == [[None], [None], [None]]


@in_virtual_time
async def test_an_answer_of_the_upstream_is_not_replaced_by_a_later_error() -> None:
    upstream = Upstream(answer(503, b"theirs"), fail(ConnectFailed()), fail(Disconnected()))
    line = a_line(upstream)

    got = await line.ask()

    assert (got.status, got.body, got.at, line.route.fates) == (503, b"theirs", 2, ["upstream_status"])
    assert (line.why, got.header(b"x-upstream-attempts"), line.last.error) == ("retries_spent", b"3", None)
    assert (upstream.arrivals[0].closed, line.last.head_at) == ([None], 2)


@in_virtual_time
async def test_of_several_answers_the_last_one_counts() -> None:
    line = a_line(Upstream(answer(503, b"a"), answer(502, b"b"), fail(Disconnected())))

    got = await line.ask()

    assert (got.status, got.body) == (502, b"b")


@in_virtual_time
async def test_where_there_was_no_answer_the_last_error_is_told() -> None:
    line = a_line(Upstream(fail(ConnectFailed()), fail(Disconnected()), fail(BadResponse())))

    got = await line.ask()

    assert (got.status, line.route.fates, line.why) == (502, ["upstream_bad_response"], "retries_spent")
    assert got.header(b"x-upstream-attempts") == b"3"


@in_virtual_time
async def test_a_later_error_of_a_kind_that_is_not_retried_does_not_hide_the_answer_either() -> None:
    line = a_line(Upstream(answer(503, b"theirs"), fail(UpstreamIdle())))

    got = await line.ask()

    assert (got.status, got.body, line.why, line.blocked) == (503, b"theirs", None, {})


@in_virtual_time
async def test_without_retries_the_first_answer_is_the_last() -> None:
    line = a_line(Upstream(answer(503, b"theirs")), replace(EVENLY, retries=0))

    assert ((await line.ask()).body, line.why) == (b"theirs", "retries_spent")


REFUSALS = [
    (BreakerOpen(retry_after=9), "breaker_open"),
    (BulkheadFull(retry_after=1), "overload"),
    (QueueTimeout(retry_after=1), "overload"),
    (Overloaded(retry_after=1), "overload"),
]


@pytest.mark.parametrize(("refusal", "why"), REFUSALS)
@in_virtual_time
async def test_a_retry_that_we_refuse_ends_with_the_answer_that_there_is(refusal: Refused, why: str) -> None:
    upstream = Upstream(answer(503, b"theirs"), fail(refusal))
    line = a_line(upstream)

    got = await line.ask()

    assert (got.status, got.body, got.at, line.route.fates) == (503, b"theirs", 1, ["upstream_status"])
    assert (line.why, line.blocked, line.retried) == (why, {why: 1}, {})
    assert (got.header(b"retry-after"), got.header(b"x-upstream-attempts")) == (None, None)


@pytest.mark.parametrize(("refusal", "why"), REFUSALS)
@in_virtual_time
async def test_a_retry_that_we_refuse_does_not_hide_what_the_upstream_did(refusal: Refused, why: str) -> None:
    line = a_line(Upstream(fail(ConnectFailed()), fail(Disconnected()), fail(refusal)))

    got = await line.ask()

    assert (got.status, line.route.fates, line.why) == (502, ["upstream_disconnected"], why)
    assert (got.header(b"x-upstream-attempts"), line.retried) == (b"2", {"connect_error": 1})


@pytest.mark.parametrize(("refusal", "why"), REFUSALS)
@in_virtual_time
async def test_a_first_attempt_that_we_refuse_is_a_refusal(refusal: Refused, why: str) -> None:
    line = a_line(Upstream(fail(refusal)))

    got = await line.ask()

    assert (got.status, line.last.error, line.why, line.blocked) == (503, refusal, None, {})


@in_virtual_time
async def test_a_refusal_is_told_where_the_answer_was_not_kept_and_there_is_no_error() -> None:
    line = a_line(Upstream(stream([(9, b"too late")], status=503), fail(BreakerOpen(retry_after=9))))

    got = await line.ask()

    assert (got.status, line.route.fates, line.why) == (503, ["rejected_breaker_open"], "breaker_open")


# --- the failed answer while we wait ---


@in_virtual_time
async def test_a_failed_answer_holds_nothing_while_we_wait() -> None:
    upstream = Upstream(answer(503), stream([(0.25, b"a"), (0.5, b"b")], status=503), answer(200))
    line = a_line(upstream)
    task = line.route.start()

    await asyncio.sleep(0.5)
    assert upstream.under_way == 0
    await asyncio.sleep(0.75)
    assert upstream.under_way == 1  # its body is still coming
    await asyncio.sleep(0.5)
    assert upstream.under_way == 0

    assert (await task).status == 200
    assert [arrival.dropped for arrival in upstream.arrivals] == [False, False, False]


@in_virtual_time
async def test_a_streamed_answer_that_came_whole_in_the_meantime_can_still_be_given() -> None:
    pieces = [(0.25, b"the"), (0.5, b"irs")]
    upstream = Upstream(
        stream(pieces, status=503, headers=[(b"Server", b"a")]), fail(Disconnected()), fail(Disconnected())
    )
    line = a_line(upstream)

    got = await line.ask()

    assert (got.status, got.body, got.header(b"server")) == (503, b"theirs", b"a")
    assert upstream.arrivals[0].closed == [None]


@pytest.mark.parametrize(
    "step",
    [
        stream([(1.5, b"too late")], status=503),
        stream([(0.1, b"x" * 40_000), (0.2, b"x" * 40_000)], status=503),
        stream([(0.5, b"half")], status=503, breaks=Disconnected(head_seen=True)),
    ],
    ids=["late", "large", "broken"],
)
@in_virtual_time
async def test_a_streamed_answer_that_is_late_large_or_broken_is_let_go(step: Step) -> None:
    upstream = Upstream(step, fail(ConnectFailed()), fail(ConnectFailed()))
    line = a_line(upstream)

    got = await line.ask()

    assert (got.status, line.route.fates, times(upstream)) == (502, ["upstream_connect"], [0, 1, 2])
    assert len(upstream.arrivals[0].closed) == 1


@in_virtual_time
async def test_an_answer_that_was_kept_is_not_forgotten_for_one_that_was_not() -> None:
    line = a_line(
        Upstream(answer(502, b"kept"), stream([(9, b"late")], status=503), fail(Disconnected())),
    )

    got = await line.ask()

    assert (got.status, got.body) == (502, b"kept")


@in_virtual_time
async def test_an_answer_that_is_not_retried_is_streamed_as_it_comes() -> None:
    pieces = [(float(hour * 3600), b"x" * 50_000) for hour in range(5)]
    line = a_line(Upstream(answer(503), answer(503), stream(pieces, status=503)))

    got = await line.ask()

    assert (got.status, len(got.body), got.at, got.ended_at) == (503, 250_000, 2, 2 + 4 * 3600)


@in_virtual_time
async def test_once_a_byte_has_gone_to_the_client_nothing_is_retried() -> None:
    upstream = Upstream(stream([(1, b"half")], breaks=Disconnected(head_seen=True)))
    line = a_line(upstream)

    got = await line.ask()

    assert (got.status, got.body, type(got.error)) == (200, b"half", Disconnected)
    assert (len(upstream.arrivals), line.why, line.route.fates) == (1, "head_sent", ["upstream_disconnected"])


# --- request bodies ---


@in_virtual_time
async def test_every_attempt_gets_the_body_whole() -> None:
    reader = Reader(Upstream(fail(Disconnected(), after=1), answer(503), answer(200)))

    await a_line(reader).ask(a_request("PUT", body=b"x" * 100_000))

    assert reader.bodies == [b"x" * 100_000] * 3


@in_virtual_time
async def test_a_body_larger_than_the_buffer_is_delivered_whole_once_and_the_record_says_why_not_again() -> (
    None
):
    body = an_upload(*((at / 10, b"x" * 100_000) for at in range(30)), ends=3)
    reader = Reader(Upstream(answer(503, b"theirs", after=5)))
    line = a_line(reader, replace(EVENLY, methods=None))

    got = await line.ask(a_request("POST", body=body))

    assert (got.status, got.body, [len(sent) for sent in reader.bodies]) == (503, b"theirs", [3_000_000])
    assert (line.why, line.blocked) == ("body_too_large", {"body_too_large": 1})


@pytest.mark.parametrize(("size", "attempts"), [(1000, 2), (1001, 1)])
@in_virtual_time
async def test_the_buffer_is_as_large_as_configured(size: int, attempts: int) -> None:
    reader = Reader(Upstream(fail(Disconnected()), answer(200)))

    await a_line(reader, replace(EVENLY, body_buffer=1000)).ask(a_request("PUT", body=b"x" * size))

    assert reader.bodies == [b"x" * size] * attempts


@in_virtual_time
async def test_a_large_body_of_which_nothing_was_sent_is_still_sent_elsewhere() -> None:
    upstream = Upstream(fail(ConnectFailed()), answer(200))
    reader = Reader(upstream)

    async def unreachable_at_first(exchange: Exchange) -> Reply:
        return await (reader if upstream.arrivals else upstream)(exchange)

    line = a_line(unreachable_at_first, replace(EVENLY, body_buffer=10))
    got = await line.ask(a_request("PUT", body=b"x" * 1000))

    assert (got.status, reader.bodies) == (200, [b"x" * 1000])


EARLY = {
    "whole": lambda: answer(503, b"busy", after=1.5),
    "streamed": lambda: stream([(0.1, b"bu"), (60, b"sy")], status=503, after=1.5),
    "error": lambda: fail(Disconnected(), after=1.5),
}


@pytest.mark.parametrize("early", EARLY)
@in_virtual_time
async def test_an_upload_that_is_refused_half_way_is_sent_again_from_its_first_byte(early: str) -> None:
    body = an_upload((0, b"a"), (1, b"b"), (2, b"c"), (3, b"d"), (4, b"e"), ends=5)
    upstream = Upstream(EARLY[early](), answer(201, after=9))
    reader = Reader(upstream)

    got = await a_line(reader).ask(a_request("PUT", body=body))

    assert (got.status, times(upstream)) == (201, [0, 2.5])
    assert reader.bodies == [b"ab", b"abcde"]
    assert upstream.under_way == 0


@in_virtual_time
async def test_a_refusal_of_an_upload_that_comes_whole_while_we_wait_is_kept() -> None:
    body = an_upload((0, b"a"), (1, b"b"), (2, b"c"), (3, b"d"), ends=4)
    refusal = stream([(0.25, b"bu"), (0.5, b"sy")], status=503, after=1.5)
    upstream = Upstream(refusal, fail(Disconnected(), after=9))
    reader = Reader(upstream)

    got = await a_line(reader, replace(EVENLY, retries=1)).ask(a_request("PUT", body=body))

    assert (got.status, got.body, upstream.arrivals[0].closed) == (503, b"busy", [None])
    assert reader.bodies == [b"ab", b"abcd"]


@in_virtual_time
async def test_a_client_whose_upload_breaks_while_we_wait_gets_that_error() -> None:
    body = an_upload((0, b"a"), ends=None)
    asyncio.get_running_loop().call_at(0.5, body.fail, RequestBodyTimeout())
    upstream = Upstream(answer(503), answer(200))
    line = a_line(Reader(upstream))

    got = await line.ask(a_request("PUT", body=body))

    assert (got.status, len(upstream.arrivals), line.route.fates) == (408, 1, ["timeout_idle"])


@in_virtual_time
async def test_a_request_whose_body_broke_is_not_tried_again() -> None:
    body = an_upload((0, b"a"), ends=None)
    asyncio.get_running_loop().call_at(0.5, body.fail, RequestBodyTimeout())
    upstream = Upstream(answer(503, b"theirs", after=1))
    line = a_line(Reader(upstream))

    got = await line.ask(a_request("PUT", body=body))

    assert (got.status, got.body, line.why, line.blocked) == (503, b"theirs", None, {})


# --- what upstream and client are told ---


@in_virtual_time
async def test_the_upstream_is_told_the_number_of_the_retry_and_the_client_that_of_the_attempts() -> None:
    line = a_line(Upstream(answer(503), answer(503), answer(200)))

    got = await line.ask()

    assert line.told == [[], [(b"X-Retry-Attempt", b"1")], [(b"X-Retry-Attempt", b"2")]]
    assert got.headers[-2:] == [(b"X-Request-ID", b"test-000001"), (b"X-Upstream-Attempts", b"3")]


@in_virtual_time
async def test_what_else_was_added_to_the_request_stays_and_the_number_goes() -> None:
    request = a_request()
    request.extra = ((b"X-Added", b"1"),)
    line = a_line(Upstream(answer(503), answer(200)))

    await line.ask(request)

    assert line.told == [[(b"X-Added", b"1")], [(b"X-Added", b"1"), (b"X-Retry-Attempt", b"1")]]
    assert request.extra == ((b"X-Added", b"1"),)


@in_virtual_time
async def test_a_number_of_the_callers_own_goes_on_until_there_is_a_better_one() -> None:
    headers = [(b"Accept", b"*/*"), (b"x-retry-attempt", b"7")]
    line = a_line(Upstream(answer(503), answer(200)))

    await line.ask(a_request(headers=headers))

    assert line.told == [headers, [(b"Accept", b"*/*"), (b"X-Retry-Attempt", b"1")]]


@pytest.mark.parametrize(
    "script",
    [
        (answer(503), answer(200, headers=[(b"X-Upstream-Attempts", b"1")])),
        (answer(503, headers=[(b"X-Upstream-Attempts", b"1")]), fail(Disconnected())),
    ],
)
@in_virtual_time
async def test_the_client_is_told_one_number_of_attempts(script: tuple[Step, Step]) -> None:
    line = a_line(Upstream(*script), replace(EVENLY, retries=1))

    assert (await line.ask()).header(b"x-upstream-attempts") == b"2"


@pytest.mark.parametrize(
    "headers",
    [NOT_NOW, [(b"X-Upstream-Attempts", b"3")], [(b"x-envoy-attempt-count", b"2")]],
)
@in_virtual_time
async def test_what_a_nearer_layer_has_retried_is_not_retried_again(headers: Headers) -> None:
    upstream = Upstream(answer(503, b"theirs", headers=headers))
    line = a_line(upstream)

    got = await line.ask()

    assert (got.status, got.body, len(upstream.arrivals)) == (503, b"theirs", 1)
    assert (line.why, line.blocked) == ("told_not_to", {"told_not_to": 1})
    assert [got.header(name.lower()) for name, _ in headers] == [value for _, value in headers]


@in_virtual_time
async def test_an_upstream_may_say_so_at_any_attempt() -> None:
    upstream = Upstream(answer(503), answer(503, headers=NOT_NOW))
    line = a_line(upstream)

    await line.ask()

    assert (len(upstream.arrivals), line.why) == (2, "told_not_to")


@in_virtual_time
async def test_every_count_is_there_from_the_beginning() -> None:
    line = a_line(Upstream(), replace(EVENLY, statuses=frozenset({503, 429})))

    assert line.retry.retried == dict.fromkeys(
        ["attempt_timeout", "bad_response", "connect_error", "reset", "429", "503"], 0
    )
    assert line.retry.blocked == dict.fromkeys(WhyNotRetried, 0)


# --- upgrades ---


def a_switch() -> Reply:
    """Make the answer that begins a tunnel."""
    reply = Reply(101, NO_FIELDS)
    reply.tunnel = object()
    return reply


@pytest.mark.parametrize("step", [fail(ConnectFailed()), fail(Disconnected()), answer(503)])
@in_virtual_time
async def test_an_upgrade_that_failed_before_it_was_answered_is_tried_again(step: Step) -> None:
    line = a_line(Upstream(step, answer_with(a_switch())))

    got = await line.ask(a_request(upgrade=b"websocket"))

    assert (got.status, line.route.fates) == (101, ["ok_after_retry"])


@in_virtual_time
async def test_an_upgrade_that_was_answered_is_never_tried_again() -> None:
    upstream = Upstream(answer_with(a_switch()))
    line = a_line(upstream, replace(EVENLY, statuses=frozenset({101, 199, 200, 503})))

    got = await line.ask(a_request(upgrade=b"websocket"))

    assert (got.status, len(upstream.arrivals)) == (101, 1)
    assert {word for word in line.retry.retried if word.isdigit()} == {"200", "503"}


# --- the budget ---


def a_budget(ratio: float = 0.2, floor: float = 1.0) -> RetryBudget:
    """Make a budget over ten seconds; `floor` is a second's."""
    return RetryBudget(BudgetSettings(ratio, floor, 10.0), now())


@in_virtual_time
async def test_without_budget_the_client_gets_the_upstreams_own_answer() -> None:
    upstream = Upstream(then=answer(503, b"theirs"))
    line = a_line(upstream, budget=a_budget(0, 0))

    got = await line.ask()

    assert (got.status, got.body, got.at, line.route.fates) == (503, b"theirs", 0, ["upstream_status"])
    assert (line.why, line.blocked, len(upstream.arrivals)) == ("budget", {"budget": 1}, 1)


@in_virtual_time
async def test_a_full_outage_costs_the_upstream_no_more_than_a_fifth_and_the_floor() -> None:
    upstream = Upstream(then=answer(503))
    line = a_line(upstream, replace(EVENLY, base=0.01), budget=a_budget())
    tasks = []
    for _ in range(2000):
        tasks.append(line.route.start())
        await asyncio.sleep(0.02)
    await asyncio.gather(*tasks)

    retries = len(upstream.arrivals) - 2000
    assert 0.9 * (0.2 * 2000 + 40) <= retries <= 0.2 * 2000 + 10 + 40
    assert sum(line.retried.values()) == retries
    assert set(line.blocked) == {"budget", "retries_spent"}


@in_virtual_time
async def test_a_budget_does_not_shrink_because_failures_are_fast() -> None:
    """A share of the requests under way, as some count it, is a share of nothing when each fails at once."""
    fast, slow = a_line(Upstream(then=answer(503)), budget=a_budget(0.2, 0)), None
    for _ in range(50):
        await fast.ask()
    slow = a_line(Upstream(then=answer(503, after=0.5)), budget=a_budget(0.2, 0))
    await asyncio.gather(*(slow.route.start() for _ in range(50)))

    assert sum(fast.retried.values()) == sum(slow.retried.values()) == 10


@in_virtual_time
async def test_the_routes_of_an_upstream_share_its_budget() -> None:
    budget = a_budget(0, 0.2)
    one, other = (a_line(Upstream(then=answer(503)), budget=budget) for _ in range(2))

    await one.ask()
    await other.ask()

    assert (one.retried, one.why) == ({"503": 2}, "retries_spent")
    assert (other.retried, other.why) == ({}, "budget")


@pytest.mark.parametrize(
    ("request_of", "script", "settings"),
    [
        ("POST", [answer(503)], EVENLY),
        ("GET", [answer(503, headers=NOT_NOW)], EVENLY),
        ("GET", [answer(503, headers=[(b"Retry-After", b"3600")])], EVENLY),
        ("GET", [answer(503)], replace(EVENLY, retries=0)),
        ("GET", [answer(404)], EVENLY),
    ],
)
@in_virtual_time
async def test_nothing_is_paid_for_what_is_not_done(
    request_of: str, script: list[Step], settings: RetrySettings
) -> None:
    budget = a_budget(0.5, 1)
    line = a_line(Upstream(*script), settings, budget=budget)

    await line.ask(a_request(request_of))

    assert budget.balance(now()) == 10.5


@in_virtual_time
async def test_every_request_pays_in_and_every_retry_pays_once() -> None:
    budget = a_budget(0.5, 1)
    line = a_line(Upstream(answer(503), answer(503), answer(200), answer(200)), budget=budget)

    await line.ask()
    assert budget.balance(now()) == 8.5
    await line.ask()
    assert budget.balance(now()) == 9


# --- leaving, and what is left behind ---


LEAVING: dict[str, list[Step]] = {
    "waiting to retry": [answer(503), answer(200)],
    "an answer still coming": [stream([(0.5, b"a"), (5, b"b")], status=503), answer(200)],
    "a retry under way": [fail(Disconnected()), answer(200, after=3)],
    "a retry that hangs": [answer(503), fail(ConnectFailed()), hang()],
}


@pytest.mark.parametrize("turns", range(4))
@pytest.mark.parametrize("at", [0.0, 0.5, 1.0, 2.0])
@pytest.mark.parametrize("script", LEAVING)
@in_virtual_time
async def test_a_client_that_leaves_at_any_time_leaves_nothing_behind(
    script: str, at: float, turns: int
) -> None:
    upstream = Upstream(*LEAVING[script])
    line = a_line(Reader(upstream), total=30)
    body = a_body(b"payload")
    task = line.route.start(a_request("PUT", body=body))
    if at:
        await asyncio.sleep(at)
    for _ in range(turns):
        await asyncio.sleep(0)

    task.cancel()
    await asyncio.wait([task])

    begun = at > 0 or turns > 0
    assert line.route.fates == ["client_gone" if task.cancelled() else "ok_after_retry"] * begun
    assert (upstream.under_way, body.rewind()) == (0, False)
    assert all(len(arrival.closed) <= 1 for arrival in upstream.arrivals)
    loop = asyncio.get_running_loop()
    assert isinstance(loop, VirtualTimeLoop)
    assert loop.timers <= 1  # the lane's, which all requests of the route share
    attempts = len(upstream.arrivals)
    await asyncio.sleep(100)
    assert len(upstream.arrivals) == attempts


@in_virtual_time
async def test_the_error_of_an_attempt_that_was_replaced_is_freed_with_the_request() -> None:
    errors: list[weakref.ref[BaseException]] = []

    async def step(exchange: Exchange, arrival: Arrival) -> Reply:
        error = Disconnected()
        errors.append(weakref.ref(error))
        try:
            raise error
        finally:
            del error

    line = a_line(Upstream(step, step, answer(200)))
    gc.disable()
    try:
        await line.ask()
        assert [error() for error in errors] == [None, None]
    finally:
        gc.enable()


@in_virtual_time
async def test_requests_side_by_side_do_not_touch_each_other() -> None:
    upstream = Upstream(
        answer(503), fail(Disconnected()), answer(200, b"c"), answer(200, b"a"), answer(200, b"b")
    )
    line = a_line(upstream)
    tasks = [line.route.start(a_request(target=f"/{name}")) for name in "abc"]

    got = await asyncio.gather(*tasks)

    assert [(one.status, one.body, one.header(b"x-upstream-attempts")) for one in got] == [
        (200, b"a", b"2"),
        (200, b"b", b"2"),
        (200, b"c", None),
    ]


def test_it_tells_its_settings() -> None:
    async def describe() -> list[str]:
        loop = asyncio.get_running_loop()
        settings = RetrySettings(base=0.1, max=2, statuses=frozenset({503, 502}))
        budgets = (None, RetryBudget(BudgetSettings(), 0.0))
        return [RetryStage(settings, budget, loop, float, float).describe() for budget in budgets]

    text = "retry 2, exponential 0.1s to 2s, jitter full, on attempt_timeout connect_error reset 502 503"
    assert run(describe()) == [text, text + ", budget 0.2 of requests + 1/s in 10s"]


# --- any script ---


TIMES = st.sampled_from([0.0, 0.25, 1.0, 3.0, 9.0])


def steps() -> st.SearchStrategy[Step]:
    """Give anything that an upstream may do."""
    errors = st.sampled_from(
        [ConnectFailed, Disconnected, BadResponse, AttemptTimeout, UpstreamIdle, BreakerOpen, QueueTimeout]
    )
    statuses = st.sampled_from([200, 404, 500, 502, 503, 504])
    waits = st.sampled_from([None, b"0", b"2", b"40", b"soon"])

    def headers(wait: bytes | None) -> Headers:
        return [] if wait is None else [(b"Retry-After", wait)]

    return st.one_of(
        st.builds(lambda kind, after: fail(kind(), after=after), errors, TIMES),
        st.builds(
            lambda status, after, wait: answer(status, b"whole", headers=headers(wait), after=after),
            statuses,
            TIMES,
            waits,
        ),
        st.builds(
            lambda status, after, at: stream([(at, b"stre"), (at, b"amed")], status=status, after=after),
            statuses,
            TIMES,
            TIMES,
        ),
        st.builds(hang),
    )


@given(
    script=st.lists(steps(), min_size=6, max_size=6),
    retries=st.integers(0, 5),
    base=st.sampled_from([0.0, 0.5, 4.0]),
    chance=st.sampled_from([0.0, 0.5, 1 - 2**-53]),
    attempt=st.sampled_from([None, 4.0]),
    pieces=st.dictionaries(st.sampled_from([0.0, 0.5, 1.0, 2.0]), st.binary(min_size=1, max_size=9)),
    keep=st.sampled_from([0, 9, 1 << 20]),
)
def test_whatever_the_upstream_does_the_promises_hold(
    *,
    script: list[Step],
    retries: int,
    base: float,
    chance: float,
    attempt: float | None,
    pieces: dict[float, bytes],
    keep: int,
) -> None:
    settings = RetrySettings(
        retries=retries,
        base=base,
        max=8,
        conditions=CONDITIONS,
        body_buffer=keep,
        statuses=frozenset({502, 503}),
    )

    async def play() -> None:
        upstream = Upstream(*script)
        reader = Reader(upstream)
        line = a_line(reader, settings, budget=a_budget(), total=15, attempt=attempt, chance=chance)
        whole = b"".join(pieces[at] for at in sorted(pieces))
        body = an_upload(*pieces.items(), ends=2.5)

        got = await line.ask(a_request("PUT", body=body))

        attempts = len(upstream.arrivals)
        told = int(got.header(b"x-upstream-attempts") or 1)
        refused = line.why in ("breaker_open", "overload")
        assert attempts <= 1 + retries
        assert told == max(1, attempts - refused)
        assert sum(line.retried.values()) == told - 1
        assert got.at <= 2.5 + 15
        assert line.last.head_at == got.at
        assert all(whole.startswith(sent) for sent in reader.bodies)
        if got.at >= 2.5 and got.status == 200:
            assert reader.bodies[-1] == whole
        assert upstream.under_way == 0
        assert all(len(arrival.closed) <= 1 for arrival in upstream.arrivals)
        assert sum(line.blocked.values()) == (line.why is not None)
        assert (line.route.fates == ["ok_after_retry"]) == (got.status < 500 and told > 1)

    run(play())
