"""OpenTelemetry's SDK: the few names that are needed of it, and its exporter, watched.

The SDK is imported when somebody wants traces. It prints what goes wrong through `logging`, line after line; here that is
silent, and the log of the sidecar is told once when sending begins to fail and once when it works again.

Spans go to the configured URL and nowhere else, and with them what the collector asks for: proxies that the environment
names and the passwords of a `.netrc` are not for them.
"""

import logging
import secrets
import threading
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from sidecar.version import VERSION

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import ReadableSpan
    from opentelemetry.trace import SpanContext

__all__ = ["QUEUE", "Attributes", "Sdk", "Tell", "Watched"]

QUEUE = 2048  # spans that are made and not yet sent; the SDK's own default

_BATCH = 128
_DELAY = 1000  # milliseconds that a span waits for others
_LIBRARIES = ("opentelemetry", "urllib3")

Attributes = dict[str, str | int | float | bool]

Tell = Callable[..., object]
"""Writes a line to the log: the event, and fields by name. Called in another thread."""


class Watched:
    """The exporter, counted: what the batch processor's thread calls. `taken` is what it is done with."""

    def __init__(self, inner: Any, tell: Tell | None) -> None:
        self._inner = inner
        self._tell = tell
        self._failing = False
        self._over = False
        self._counting = threading.Lock()
        self.exported = 0
        self.failed = 0
        self.taken = 0

    def export(self, batch: "Sequence[ReadableSpan]") -> Any:
        """Send a batch, whatever comes of it."""
        result: Any = None
        try:
            result = self._inner.export(batch)
        finally:
            with self._counting:
                if not self._over:
                    self._count(len(batch), sent=getattr(result, "name", "") == "SUCCESS")
        return result

    def shutdown(self) -> None:
        """Leave it to `give_up`: the processor may call this late or never."""

    def force_flush(self, timeout_millis: int = 30000) -> bool:  # noqa: ARG002 -- the SDK's signature
        """Say that nothing is held here."""
        return True

    def give_up(self) -> None:
        """Wait no more between attempts to send, and count no more: what is not taken by now is lost."""
        with self._counting:
            self._over = True
        self._inner.shutdown()

    def _count(self, spans: int, *, sent: bool) -> None:
        self.taken += spans
        if sent:
            self.exported += spans
        else:
            self.failed += spans
        self._say(failing=not sent)

    def _say(self, *, failing: bool) -> None:
        if failing is not self._failing:
            self._failing = failing
            if self._tell is not None:
                self._tell(
                    "telemetry.traces_lost" if failing else "telemetry.traces_sent_again", failed=self.failed
                )


class Sdk:
    """The names that are needed of the SDK, imported when somebody wants traces.

    Spans are made whole when they are over, so neither its tracers nor its context variables are used: whatever else in
    this process might want them finds them untouched.
    """

    def __init__(self, service_name: str) -> None:
        from opentelemetry import trace  # noqa: PLC0415 -- an extra, which most do without
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter  # noqa: PLC0415 -- as above
        from opentelemetry.sdk.resources import Resource  # noqa: PLC0415 -- as above
        from opentelemetry.sdk.trace import ReadableSpan  # noqa: PLC0415 -- as above
        from opentelemetry.sdk.trace.export import BatchSpanProcessor  # noqa: PLC0415 -- as above
        from opentelemetry.sdk.util.instrumentation import InstrumentationScope  # noqa: PLC0415 -- as above

        for name in _LIBRARIES:
            logger = logging.getLogger(name)
            if not logger.handlers:
                logger.addHandler(logging.NullHandler())
            logger.propagate = False
        self._trace = trace
        self._span = ReadableSpan
        self._exporter = OTLPSpanExporter
        self._processor = BatchSpanProcessor
        self._sampled = trace.TraceFlags(trace.TraceFlags.SAMPLED)
        self._unset, self._error = trace.Status(), trace.Status(trace.StatusCode.ERROR)
        self._scope = InstrumentationScope("sidecar", VERSION)
        self._resource = Resource.create(
            {
                "service.name": service_name,
                "service.version": VERSION,
                "service.instance.id": secrets.token_hex(8),
            }
        )

    def exporter(self, url: str, headers: dict[str, str], timeout: float) -> Any:
        """Make what sends a batch."""
        from requests import Session  # noqa: PLC0415 -- the exporter's own, which is an extra

        session = Session()
        session.trust_env = False
        exporter: Any = self._exporter  # whose `timeout` older versions call an int
        return exporter(endpoint=url, headers=headers, timeout=timeout, session=session)

    def processor(self, exporter: Any) -> Any:
        """Make what gathers batches and sends them from a thread."""
        return self._processor(
            exporter, max_queue_size=QUEUE * 2, schedule_delay_millis=_DELAY, max_export_batch_size=_BATCH
        )

    def context(self, trace_id: int, span_id: int, *, is_remote: bool) -> "SpanContext":
        """Make the context of a sampled span."""
        return self._trace.SpanContext(trace_id, span_id, is_remote, self._sampled)

    def span(
        self,
        name: str,
        attributes: Attributes,
        context: "SpanContext",
        parent: "SpanContext | None",
        *,
        server: bool,
        failed: bool,
        start: int,
        end: int,
    ) -> "ReadableSpan":
        """Make a span that is over."""
        kind = self._trace.SpanKind
        return self._span(
            name,
            context,
            parent,
            self._resource,
            attributes,
            kind=kind.SERVER if server else kind.CLIENT,
            status=self._error if failed else self._unset,
            start_time=start,
            end_time=end,
            instrumentation_scope=self._scope,
        )
