"""What reports are sent to, over real HTTP: an OTLP collector and a Sentry, as small as they can be.

with collector() as there:                # or collector(status=503), or silent(), which takes and never answers
    …a program that exports to there.url…
    spans = there.wait_for(2)
"""

import gzip
import json
import socket
import threading
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from time import monotonic
from typing import Any

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

__all__ = ["Receiver", "Seen", "collector", "nobody", "sentry", "silent"]

WITHIN = 20.0

KINDS = {2: "server", 3: "client"}  # SpanKind of opentelemetry/proto/trace/v1/trace.proto
ERROR = 2  # StatusCode there


@dataclass(frozen=True, slots=True)
class Seen:
    """One span as the collector got it. Ids are hexadecimal, times nanoseconds; `parent` is "" for a root."""

    name: str
    kind: str
    trace: str
    id: str
    parent: str
    start: int
    end: int
    error: bool
    attributes: dict[str, Any]
    resource: dict[str, Any]


@dataclass(slots=True)
class Receiver:
    """Everything that was posted: (path, headers in small letters, body without its coding)."""

    address: str
    posts: list[tuple[str, dict[str, str], bytes]] = field(default_factory=list)

    @property
    def url(self) -> str:
        return f"http://{self.address}/v1/traces"

    @property
    def dsn(self) -> str:
        return f"http://publickey@{self.address}/7"

    def spans(self) -> list[Seen]:
        """Give the spans that came in the order in which they began, a request before its attempt."""
        found = [span for path, _, body in tuple(self.posts) if path == "/v1/traces" for span in _spans(body)]
        return sorted(found, key=lambda span: (span.start, span.kind == "client"))

    def events(self) -> list[dict[str, Any]]:
        """Give the events that came as Sentry's envelopes."""
        return [
            event
            for path, _, body in tuple(self.posts)
            if path.endswith("/envelope/")
            for event in _events(body)
        ]

    def wait_for(self, number: int, kind: str = "spans") -> list[Any]:
        """Wait until so many spans or events have come."""
        deadline = monotonic() + WITHIN
        while len(found := getattr(self, kind)()) < number:
            assert monotonic() < deadline, f"{len(found)} {kind} came, not {number}"
            threading.Event().wait(0.01)
        return list(found)


@contextmanager
def collector(status: int = 200) -> Iterator[Receiver]:
    """Take posts, and answer with `status`."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            coding = self.headers.get("Content-Encoding", "")
            plain = (
                gzip.decompress(body)
                if coding == "gzip"
                else zlib.decompress(body)
                if coding == "deflate"
                else body
            )
            receiver.posts.append(
                (self.path, {key.lower(): value for key, value in self.headers.items()}, plain)
            )
            self.send_response(status)
            self.send_header("Content-Length", "2")
            self.end_headers()
            self.wfile.write(b"{}")

        def log_message(self, *_: object) -> None:
            pass

    class Server(ThreadingHTTPServer):
        daemon_threads = True
        block_on_close = False

        def handle_error(self, *_: object) -> None:
            pass  # the other side has gone

    with Server(("127.0.0.1", 0), Handler) as server:
        receiver = Receiver(f"127.0.0.1:{server.server_port}")
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
        thread.start()
        try:
            yield receiver
        finally:
            server.shutdown()
            thread.join()


sentry = collector


@contextmanager
def silent() -> Iterator[Receiver]:
    """Take connections and never answer."""
    with socket.create_server(("127.0.0.1", 0), backlog=512) as listener:
        yield Receiver(f"127.0.0.1:{listener.getsockname()[1]}")


def nobody() -> Receiver:
    """Give an address where nobody listens."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        return Receiver(f"127.0.0.1:{taken.getsockname()[1]}")


def _spans(body: bytes) -> Iterator[Seen]:
    posted = ExportTraceServiceRequest.FromString(body)
    for of_resource in posted.resource_spans:
        resource = _plain(of_resource.resource.attributes)
        for of_scope in of_resource.scope_spans:
            for span in of_scope.spans:
                yield Seen(
                    name=span.name,
                    kind=KINDS.get(span.kind, "?"),
                    trace=span.trace_id.hex(),
                    id=span.span_id.hex(),
                    parent=span.parent_span_id.hex(),
                    start=span.start_time_unix_nano,
                    end=span.end_time_unix_nano,
                    error=span.status.code == ERROR,
                    attributes=_plain(span.attributes),
                    resource=resource,
                )


def _plain(attributes: Any) -> dict[str, Any]:
    return {each.key: getattr(each.value, each.value.WhichOneof("value")) for each in attributes}


def _events(body: bytes) -> Iterator[dict[str, Any]]:
    """Read an envelope: a header line, then for each item a header line and its payload."""
    rest = body.partition(b"\n")[2]
    while rest:
        line, _, rest = rest.partition(b"\n")
        head = json.loads(line)
        size = head.get("length")
        payload = rest.partition(b"\n")[0] if size is None else rest[:size]
        rest = rest[len(payload) + 1 :]
        if head["type"] == "event":
            yield json.loads(payload)
