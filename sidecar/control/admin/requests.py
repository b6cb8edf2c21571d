"""`GET /requests`: what became of single requests, the newest first.

Records are kept by the hundred thousand where somebody wants that, so they are looked through a few at a time, with
traffic in between, and never more than `MOST` are given.
"""

import asyncio
from collections.abc import Callable, Sequence
from typing import Any

from sidecar.control.admin.endpoint import Call, Control
from sidecar.control.admin.problem import Problem, unknown
from sidecar.fate import Fate
from sidecar.pipeline.dispatch import NO_ROUTE
from sidecar.telemetry.live import Live
from sidecar.telemetry.record import Record

__all__ = ["MOST", "STATUS", "USUAL", "requests"]

MOST = 1000
USUAL = 100
STATUS = "^[1-5]([0-9]{2}|xx)$"

_AT_ONCE = 200  # records between which other work has its turn: well under a millisecond

Test = Callable[[Record], bool]


async def requests(control: Control, call: Call) -> Any:
    """Give the records that pass every filter."""
    live = control.live
    tests = _tests(live, call)
    most = _limit(call)
    found: list[Any] = []
    for number, record in enumerate(live.recorder.newest_first(), 1):
        if all(test(record) for test in tests):
            found.append(record.as_dict())
            if len(found) == most:
                break
        if number % _AT_ONCE == 0:
            await asyncio.sleep(0)
    return found


def _tests(live: Live, call: Call) -> Sequence[Test]:
    tests: list[Test] = []
    if (fate := call.one("fate")) is not None:
        if fate not in set(Fate):
            raise unknown("fate", fate, [str(each) for each in Fate], status=400)
        tests.append(lambda record: record.fate == fate)
    if (route := call.one("route")) is not None:
        names = {pipeline.route for pipeline in live.pipelines} | {NO_ROUTE} | live.recorder.by_route.keys()
        if route not in names:
            raise unknown("route", route, sorted(names), status=400)
        tests.append(lambda record: record.route == route)
    if (request_id := call.one("request_id")) is not None:
        tests.append(lambda record: record.request_id == request_id)
    if (method := call.one("method")) is not None:
        tests.append(lambda record: record.method == method.upper())
    if (status := call.one("status")) is not None:
        tests.append(_of_status(status))
    return tests


def _of_status(said: str) -> Test:
    """Give the test for one status, or for a class of them such as `5xx`."""
    first, rest = said[:1], said[1:].lower()
    if len(said) == 3 and first in "12345":
        if rest == "xx":
            return lambda record: record.status // 100 == int(first)
        if said.isascii() and said.isdigit():
            return lambda record: record.status == int(said)
    raise Problem(400, "bad_value", "`status` must be a status such as `503`, or a class such as `5xx`.")


def _limit(call: Call) -> int:
    said = call.one("limit")
    if said is None:
        return USUAL
    if not (said.isascii() and said.isdigit() and len(said) <= 6 and 1 <= int(said) <= MOST):
        raise Problem(400, "bad_value", f"`limit` must be a whole number from 1 to {MOST}.")
    return int(said)
