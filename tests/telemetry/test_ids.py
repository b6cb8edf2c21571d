"""Ids are unique within and across processes, and traces are valid W3C trace context."""

import re

from sidecar.telemetry.ids import request_ids, traceparent


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
