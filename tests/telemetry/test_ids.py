"""Ids are unique within and across processes, and traces are valid W3C trace context."""

import re

import pytest

from sidecar.message import Fields, Headers, Request
from sidecar.telemetry.ids import TraceContext, request_ids, trace_context, traceparent


def test_no_two_request_ids_are_the_same() -> None:
    makers = [request_ids() for _ in range(20)]

    made = [make() for make in makers for _ in range(500)]

    assert len(set(made)) == 10_000
    assert all(re.fullmatch(rb"[0-9a-f]{16}-[0-9a-f]{6,}", one) for one in made)


def test_ids_of_one_process_can_be_put_in_their_order() -> None:
    make = request_ids()

    made = [make() for _ in range(300)]

    assert made == sorted(made)
    assert len({one.partition(b"-")[0] for one in made}) == 1


def test_a_new_trace_is_valid_and_not_sampled() -> None:
    traces = [traceparent() for _ in range(500)]

    # https://www.w3.org/TR/trace-context/#traceparent-header-field-values: all zeros are invalid
    form = re.compile(rb"00-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-00")
    assert all(form.fullmatch(trace) for trace in traces)
    assert len({trace[3:35] for trace in traces}) == len({trace[36:52] for trace in traces}) == 500


TRACE = b"0af7651916cd43dd8448eb211c80319c"
PARENT = b"b7ad6b7169203331"


@pytest.mark.parametrize(
    "before",
    [[], [(b"Accept", b"*/*")], [(b"X", b"traceparent: 00-" + b"1" * 32 + b"-" + b"2" * 16 + b"-01")]],
)
@pytest.mark.parametrize("name", [b"traceparent", b"Traceparent", b"TRACEPARENT"])
@pytest.mark.parametrize(
    ("version", "flags", "sampled"),
    [
        (b"00", b"00", False),
        (b"00", b"01", True),
        (b"00", b"02", False),
        (b"00", b"03", True),
        (b"cc", b"ff-later", True),
    ],
)
def test_the_trace_of_a_request_is_read_wherever_it_stands(
    before: Headers,
    name: bytes,
    version: bytes,
    flags: bytes,
    sampled: bool,
) -> None:
    value = b"-".join([version, TRACE, PARENT, flags])

    read = trace_context(Request(b"GET", b"/", Fields([*before, (name, value), (b"Last", b"1")])))

    assert read == TraceContext(TRACE.decode(), PARENT.decode(), sampled)


@pytest.mark.parametrize(
    "fields",
    [
        [],
        [(b"Accept", b"*/*")],
        [(b"X-Traceparent", b"00-" + TRACE + b"-" + PARENT + b"-01")],
        [(b"X", b"traceparent: 00-" + TRACE + b"-" + PARENT + b"-01")],
        [(b"traceparent", b"nonsense")],
        [(b"traceparent", b"")],
    ],
)
def test_without_a_trace_there_is_none(fields: Headers) -> None:
    assert trace_context(Request(b"GET", b"/", Fields(fields))) is None


def test_what_we_make_we_can_read() -> None:
    made = traceparent()

    assert trace_context(Request(b"GET", b"/", Fields([(b"traceparent", made)]))) == TraceContext(
        made[3:35].decode(), made[36:52].decode(), sampled=False
    )


def test_a_trace_that_was_begun_here_stands_beside_the_fields() -> None:
    request = Request(b"GET", b"/", Fields([(b"Accept", b"*/*")]))
    request.extra = ((b"X-Retry-Attempt", b"1"), (b"traceparent", b"-".join([b"00", TRACE, PARENT, b"01"])))

    assert trace_context(request) == TraceContext(TRACE.decode(), PARENT.decode(), sampled=True)
