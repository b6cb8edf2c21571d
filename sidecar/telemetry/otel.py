"""Traces by OTLP over HTTP: a span for each request, and below it one for each attempt (`spans.py` says what they tell).

**Who is traced.** A trace that a caller began is followed as its `sampled` flag says. A request without one begins one;
`sample` of these are sampled: by the lower half of their id (as OpenTelemetry's TraceIdRatioBased does), and the flag
goes on to the upstream either way, so that it does not decide anew. The span of a request that begins a trace has the id
that stands in the `traceparent` which was made for it; such ids begin with a mark of this process, which is how they are
told from a caller's.

**What it costs.** A request that is not traced: finding the flag. One that is: its spans are made on the event loop from
what the exchange knows anyway. All that can take long, encoding and sending, is done by the SDK's BatchSpanProcessor in a
thread of its own. At most 2048 spans wait for it; further ones are dropped and counted. Batches are small, since a thread
that encodes holds the interpreter. A collector that is dead, or takes the connection and never answers, costs spans and
nothing else; `close` waits for it for a moment only.

The log is told when sending begins to fail and when it works again, not of each batch.
"""

import threading
from collections.abc import Callable, Mapping
from random import getrandbits  # as the SDK does for its ids, which are no secrets
from time import time_ns
from typing import TYPE_CHECKING, Any

from sidecar.config.address import Endpoint
from sidecar.config.observing import TelemetryConfig
from sidecar.errors import StartFailed
from sidecar.pipeline.exchange import Exchange
from sidecar.telemetry import spans
from sidecar.telemetry.ids import trace_context
from sidecar.telemetry.otlp import QUEUE, Attributes, Sdk, Tell, Watched
from sidecar.telemetry.redaction import scrubbed

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import ReadableSpan
    from opentelemetry.trace import SpanContext

__all__ = ["Tracer", "make_tracer"]

_HALF = (1 << 64) - 1


def make_tracer(settings: TelemetryConfig | None, scheme: str, tell: Tell) -> "Tracer | None":
    """Give the tracer that `telemetry` asks for, if it does.

    Raises:
        StartFailed: the extra is not installed, or the environment has OTEL_* variables that it cannot use.

    """
    otel = settings.otel if settings is not None else None
    if otel is None:
        return None
    return Tracer(
        otel.traces_url,
        service_name=otel.service_name,
        sample=otel.sample,
        headers=otel.headers,
        timeout=otel.timeout,
        scheme=scheme,
        tell=tell,
    )


class _Request:
    """A request that is traced, from its first attempt on. `zero` is when its clock was at 0 (Unix time, ns)."""

    __slots__ = ("context", "parent", "trace_id", "zero")

    def __init__(self, context: "SpanContext", parent: "SpanContext | None", zero: int) -> None:
        self.context = context
        self.parent = parent
        self.trace_id = context.trace_id
        self.zero = zero


class Tracer:
    """Makes spans of exchanges and hands them to be sent. One for the process; it outlives reloads.

    `url` is where spans are posted, `sample` the share, from 0 to 1, of the traces that begin here, `timeout` is in
    seconds. `scheme` is what clients speak. `faults` counts exceptions in here: they cost a span.

    Raises:
        StartFailed: the extra is not installed, or the environment has OTEL_* variables that it cannot use.

    """

    def __init__(
        self,
        url: str,
        *,
        service_name: str = "sidecar",
        sample: float = 1.0,
        headers: Mapping[str, str] | None = None,
        timeout: float = 5.0,
        scheme: str = "http",
        tell: Tell | None = None,
    ) -> None:
        try:
            self._sdk = Sdk(service_name)
            self._sent = Watched(self._sdk.exporter(url, dict(headers or {}), timeout), tell)
            self._processor: Any = self._sdk.processor(self._sent)
        except ImportError as error:
            raise StartFailed(
                f"telemetry.otel needs what is not installed ({error.name}): pip install 'resilience-sidecar[otel]'"
            ) from error
        except Exception as error:
            # Whatever it is. The SDK reads dozens of OTEL_* variables, some of them when it is imported.
            raise StartFailed(
                "telemetry.otel: OpenTelemetry does not start; is there a wrong value in an OTEL_* variable? "
                f"{type(error).__name__}: {scrubbed(str(error))}"
            ) from error
        self._mark = getrandbits(32) or 1
        self._bound = round(sample * (_HALF + 1))
        self._scheme = scheme
        self._open: dict[Exchange, _Request | None] = {}  # None: it is not traced
        self._given = 0
        self.dropped = 0
        self.faults = 0

    @property
    def exported(self) -> int:
        """How many spans the collector has taken."""
        return self._sent.exported

    @property
    def failed(self) -> int:
        """How many spans it could not be given."""
        return self._sent.failed

    def new_traceparent(self) -> bytes:
        """Give a new W3C trace context of version 00, sampled or not."""
        trace_id = getrandbits(128) or 1
        span_id = self._mark << 32 | getrandbits(32)
        return b"00-%032x-%016x-%02x" % (trace_id, span_id, (trace_id & _HALF) < self._bound)

    def attempts_at(self, name: str, endpoint: Endpoint) -> Callable[[Exchange], "_Attempt | None"]:
        """Give what begins the spans of the attempts at one upstream, for `TraceStage`."""
        common = spans.of_upstream(name, endpoint)
        base = "http://localhost" if endpoint.path is not None else str(endpoint)

        def begin(exchange: Exchange) -> _Attempt | None:
            try:
                request = self._open[exchange] if exchange in self._open else self._begin(exchange)
                return None if request is None else _Attempt(self, exchange, request, common, base)
            except Exception:  # noqa: BLE001 -- isolation: a request is worth more than its span
                self.faults += 1
                return None

        return begin

    def sink(self, inner: Callable[[Exchange], None]) -> Callable[[Exchange], None]:
        """Give what takes in finished exchanges, hands them to `inner`, and ends their spans."""

        def sink(exchange: Exchange) -> None:
            request: _Request | None = None
            try:
                request = self._open[exchange] if exchange in self._open else self._begin(exchange)
                self._open.pop(exchange, None)
            except Exception:  # noqa: BLE001 -- as above
                self.faults += 1
            inner(exchange)  # which finds the trace in the request
            try:
                if request is not None:
                    self._finish(exchange, request)
            except Exception:  # noqa: BLE001 -- as above
                self.faults += 1

        return sink

    def close(self, seconds: float = 1.0) -> None:
        """Send what there is, for at most so many seconds; the rest is dropped. It blocks: not for the event loop."""
        flush = threading.Thread(target=self._processor.shutdown, name="otel-close", daemon=True)
        flush.start()
        flush.join(seconds)
        self._sent.give_up()
        self.dropped += self._given - self._sent.taken
        self._given = self._sent.taken

    def child(self, request: _Request) -> "SpanContext":
        """Give the context of a new span in the trace of `request`."""
        return self._sdk.context(request.trace_id, getrandbits(64) or 1, is_remote=False)

    def send(self, span: "ReadableSpan") -> None:
        """Queue a span."""
        if self._given - self._sent.taken >= QUEUE:
            self.dropped += 1
            return
        self._given += 1
        self._processor.on_end(span)

    def span(
        self,
        name: str,
        attributes: Attributes,
        context: "SpanContext",
        parent: "SpanContext | None",
        *,
        server: bool,
        start: int,
        end: int,
    ) -> "ReadableSpan":
        """Make a span. What says `error.type` is one that failed."""
        return self._sdk.span(
            name,
            attributes,
            context,
            parent,
            server=server,
            failed="error.type" in attributes,
            start=start,
            end=end,
        )

    def _begin(self, exchange: Exchange) -> _Request | None:
        """Give a request's place in its trace, None if it is not traced."""
        read = trace_context(exchange.request)
        if read is None and not exchange.behind:
            exchange.request.extra += ((b"traceparent", self.new_traceparent()),)
            read = trace_context(exchange.request)
        if read is None or not read.sampled:
            if not exchange.behind:
                self._open[exchange] = None
            return None
        trace_id, parent_id = int(read.trace_id, 16), int(read.parent_id, 16)
        make = self._sdk.context
        parent: SpanContext | None = None
        if parent_id >> 32 == self._mark:
            context = make(trace_id, parent_id, is_remote=False)
        else:
            parent = make(trace_id, parent_id, is_remote=True)
            context = make(trace_id, getrandbits(64) or 1, is_remote=False)
        zero = time_ns() - int(exchange.clock() * 1e9)
        if (
            exchange.behind
        ):  # it has no end of its own, so no span: its attempts stand beside the one that caused it
            return _Request(parent or context, None, zero)
        request = self._open[exchange] = _Request(context, parent, zero)
        return request

    def _finish(self, exchange: Exchange, request: _Request) -> None:
        self.send(
            self.span(
                spans.request_name(exchange),
                spans.of_request(exchange, self._scheme),
                request.context,
                request.parent,
                server=True,
                start=request.zero + int(exchange.started_at * 1e9),
                end=request.zero + int(exchange.finished_at * 1e9),
            )
        )


class _Attempt:
    """The span of one attempt, under way."""

    __slots__ = (
        "_attributes",
        "_clock",
        "_context",
        "_name",
        "_request",
        "_started",
        "_tracer",
        "traceparent",
    )

    def __init__(
        self, tracer: Tracer, exchange: Exchange, request: _Request, common: Attributes, base: str
    ) -> None:
        self._tracer = tracer
        self._request = request
        self._clock = exchange.clock
        self._started = exchange.clock()
        self._name = spans.attempt_name(exchange.request)
        self._attributes = spans.of_attempt(exchange, common, base)
        self._context = context = tracer.child(request)
        self.traceparent = b"00-%032x-%016x-01" % (context.trace_id, context.span_id)

    def end(self, status: int | None, fate: str | None) -> None:
        """Take the end."""
        tracer, request, attributes = self._tracer, self._request, self._attributes
        if status is not None:
            attributes["http.response.status_code"] = status
        if fate is not None:
            attributes["error.type"] = fate
        try:
            tracer.send(
                tracer.span(
                    self._name,
                    attributes,
                    self._context,
                    request.context,
                    server=False,
                    start=request.zero + int(self._started * 1e9),
                    end=request.zero + int(self._clock() * 1e9),
                )
            )
        except Exception:  # noqa: BLE001 -- isolation: a request is worth more than its span
            tracer.faults += 1
