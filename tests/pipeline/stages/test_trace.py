"""The stage of spans: an attempt that goes out has one, the upstream is told of it, and the request stays as it came."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field

import pytest

from sidecar.counts import Histogram
from sidecar.errors import ClientGone, ConnectFailed, Disconnected, Overloaded, RequestError
from sidecar.message import Headers, Reply, Request
from sidecar.pipeline.assemble import Policy, assemble
from sidecar.pipeline.exchange import Exchange
from sidecar.pipeline.stage import Call, compose
from sidecar.pipeline.stages.ladder import Other
from sidecar.pipeline.stages.trace import TraceStage
from sidecar.policy.fallback import Upstream as AskOther
from sidecar.policy.retry import RetrySettings
from tests.support.exchanges import Route, a_request, some_parts
from tests.support.upstream import Step, Upstream, answer, fail, hang, stream
from tests.support.virtual_time import in_virtual_time, now

CALLER = b"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
STATE = b"vendor=a:b,other=1"


@dataclass
class Span:
    """A span that notes its end."""

    number: int
    ends: list[tuple[int | None, str | None, float]]

    @property
    def traceparent(self) -> bytes:
        return b"00-0af7651916cd43dd8448eb211c80319c-%016x-01" % self.number

    def end(self, status: int | None, fate: str | None) -> None:
        self.ends.append((status, fate, now()))


@dataclass
class Spans:
    """Begins spans, and remembers how many attempts had been made before each."""

    traced: bool = True
    begun: list[int] = field(default_factory=list)
    ends: list[tuple[int | None, str | None, float]] = field(default_factory=list)

    def begin(self, exchange: Exchange) -> Span | None:
        if not self.traced:
            return None
        self.begun.append(len(exchange.attempts))
        return Span(len(self.begun), self.ends)


class Watching:
    """An upstream that keeps the fields that it was sent."""

    def __init__(self, *script: Step) -> None:
        self.inner = Upstream(*script)
        self.sent: list[Headers] = []

    async def __call__(self, exchange: Exchange) -> Reply:
        self.sent.append(list(exchange.request.fields.pairs))
        return await self.inner(exchange)


def traced(upstream: Call, spans: Spans) -> Call:
    return compose([TraceStage(spans.begin)], upstream)


def route_of(upstream: Call, spans: Spans, **policy: object) -> Route:
    settings = {"attempt": None, "total": None, "idle": None} | policy
    asked = Policy("a-route", "an-upstream", **settings)  # type: ignore[arg-type]  # whatever a policy may have
    return Route(assemble(asked, some_parts(), Histogram(), traced(upstream, spans)))


def traced_request() -> Request:
    return a_request(headers=[(b"Accept", b"*/*"), (b"Traceparent", CALLER), (b"tracestate", STATE)])


@in_virtual_time
async def test_the_upstream_gets_the_span_of_its_attempt_as_the_parent_and_all_else_unchanged() -> None:
    spans, upstream = Spans(), Watching(answer(200, b"hello"))
    request = traced_request()
    before = request.fields

    got = await route_of(upstream, spans).ask(request)

    assert (got.status, got.body) == (200, b"hello")
    assert upstream.sent == [
        [
            (b"Accept", b"*/*"),
            (b"Traceparent", b"00-0af7651916cd43dd8448eb211c80319c-0000000000000001-01"),
            (b"tracestate", STATE),
        ]
    ]
    assert request.fields is before
    assert spans.ends == [(200, None, 0.0)]


@in_virtual_time
async def test_a_trace_that_was_begun_here_goes_beside_the_fields_and_is_as_before_afterwards() -> None:
    spans, request = Spans(), a_request()
    request.extra = begun = ((b"X-Other", b"1"), (b"traceparent", CALLER))
    sent = []

    async def upstream(exchange: Exchange) -> Reply:
        sent.append((exchange.request.extra, exchange.request.fields.pairs))
        raise ConnectFailed

    await route_of(upstream, spans).ask(request)

    child = b"00-0af7651916cd43dd8448eb211c80319c-0000000000000001-01"
    assert sent == [(((b"X-Other", b"1"), (b"traceparent", child)), ())]
    assert request.extra == begun


@in_virtual_time
async def test_a_request_that_is_not_traced_is_passed_on_as_it_is() -> None:
    spans, upstream = Spans(traced=False), Watching(answer(200))

    await route_of(upstream, spans).ask(traced_request())

    assert upstream.sent == [[(b"Accept", b"*/*"), (b"Traceparent", CALLER), (b"tracestate", STATE)]]
    assert spans.ends == []


@in_virtual_time
async def test_every_attempt_has_a_span_and_its_own_parent_upstream() -> None:
    spans = Spans()
    upstream = Watching(fail(ConnectFailed()), answer(503), answer(200))

    await route_of(upstream, spans, retry=RetrySettings(retries=2)).ask(traced_request())

    assert spans.begun == [0, 1, 2]
    assert [dict(sent)[b"Traceparent"][36:52] for sent in upstream.sent] == [b"%016x" % n for n in (1, 2, 3)]
    assert [end[:2] for end in spans.ends] == [
        (None, "upstream_connect"),
        (503, "upstream_status"),
        (200, None),
    ]


@in_virtual_time
async def test_the_upstream_that_a_fallback_asks_has_a_span_too() -> None:
    spans = Spans()
    other = Other(traced(Watching(answer(200)), spans), Histogram())
    route = route_of(
        Watching(fail(ConnectFailed())), spans, fallback=(AskOther(name="other"),), others={"other": other}
    )

    got = await route.ask(traced_request())

    assert got.status == 200
    assert [end[:2] for end in spans.ends] == [(None, "upstream_connect"), (200, None)]


@in_virtual_time
async def test_a_span_lasts_as_long_as_the_body() -> None:
    spans = Spans()

    await route_of(Watching(stream([(0, b"one"), (5, b"two")])), spans).ask(traced_request())

    assert spans.ends == [(200, None, 5.0)]


@in_virtual_time
async def test_a_body_that_breaks_ends_its_span_with_the_reason() -> None:
    spans = Spans()

    await route_of(Watching(stream([(1, b"one")], breaks=Disconnected())), spans).ask(traced_request())

    assert spans.ends == [(200, "upstream_disconnected", 1.0)]


@pytest.mark.parametrize(
    ("bounds", "fate", "after"),
    [({"attempt": 2.0}, "timeout_attempt", 2.0), ({"total": 3.0}, "timeout_total", 3.0)],
)
@in_virtual_time
async def test_a_span_says_which_time_was_over(bounds: dict[str, float], fate: str, after: float) -> None:
    spans = Spans()

    await route_of(Watching(hang()), spans, **bounds).ask(traced_request())

    assert spans.ends == [(None, fate, after)]


@in_virtual_time
async def test_a_client_that_leaves_ends_the_span() -> None:
    spans = Spans()
    client = route_of(Watching(hang()), spans).start(traced_request())
    await asyncio.sleep(1)

    client.cancel()
    await asyncio.wait([client])

    assert spans.ends == [(None, ClientGone.fate.value, 1.0)]


@in_virtual_time
async def test_a_request_that_we_cut_says_so() -> None:
    spans, request = Spans(), traced_request()
    client = route_of(Watching(hang()), spans).start(request)
    await asyncio.sleep(1)

    request.cut = Overloaded("cut by drain_timeout")
    client.cancel()
    await asyncio.wait([client])

    assert spans.ends == [(None, "rejected_overload", 1.0)]


@pytest.mark.parametrize("error", [RequestError("broke"), ZeroDivisionError()])
@in_virtual_time
async def test_a_fault_in_an_attempt_ends_its_span(error: Exception) -> None:
    spans = Spans()
    stage = TraceStage(spans.begin)

    async def broken(_: Exchange) -> Reply:
        raise error

    stage.next = broken
    with pytest.raises(type(error)):
        await stage(Exchange(traced_request(), "a-route", asyncio.get_running_loop().time, lambda _: None))

    assert spans.ends == [(None, "internal", 0.0)]


def test_it_names_itself() -> None:
    begin: Callable[[Exchange], Span | None] = Spans().begin
    assert TraceStage(begin).describe() == "trace"
