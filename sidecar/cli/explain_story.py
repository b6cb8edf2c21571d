"""What happened to one request, in sentences, from its decision record and the state of the sidecar that kept it. Pure.

"Why did I get this 503?" is answered with what was decided, what was seen before, and which key of the configuration
the decision hangs on.
"""

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import Any

from sidecar.cli.explain_view import Line, seconds, until
from sidecar.config.words import one_line
from sidecar.fate import MEANINGS, Fate, WhyNotRetried

__all__ = ["story"]

_WHY_NOT: dict[str, str] = {
    WhyNotRetried.METHOD: "its method is none that may be sent twice",
    WhyNotRetried.BODY_TOO_LARGE: "more of its body had been sent than is kept for another attempt",
    WhyNotRetried.BUDGET: "the retry budget of the upstream was spent",
    WhyNotRetried.DEADLINE: "the time that was left was too short",
    WhyNotRetried.BREAKER_OPEN: "the circuit breaker had opened",
    WhyNotRetried.RETRIES_SPENT: "all retries had been made",
    WhyNotRetried.HEAD_SENT: "the head of the response had gone to the client already",
    WhyNotRetried.OVERLOAD: "the next attempt got no slot or no connection",
    WhyNotRetried.TOLD_NOT_TO: "the upstream had said that it is of no use, or had retried itself",
}

# The key, below that of the route, that such an outcome hangs on.
_KEYS: dict[str, str] = {
    Fate.REJECTED_RATE_LIMIT: "rate_limit.limit",
    Fate.REJECTED_BREAKER_OPEN: "breaker",
    Fate.REJECTED_BULKHEAD_FULL: "bulkhead.max_concurrent and bulkhead.max_queue",
    Fate.REJECTED_QUEUE_TIMEOUT: "bulkhead.queue_timeout",
    Fate.TIMEOUT_ATTEMPT: "timeout.attempt",
    Fate.TIMEOUT_TOTAL: "timeout.total",
    Fate.TIMEOUT_IDLE: "timeout.idle",
}


def story(record: Mapping[str, Any], state: Mapping[str, Any]) -> list[Line]:
    """Give the sentences, a line each."""
    lines: list[Line] = [((one_line(_asked(record)), "bold"),)]
    lines += [((one_line(sentence), ""),) for sentence in _sentences(record, state)]
    return lines


def _asked(record: Mapping[str, Any]) -> str:
    if not record["method"]:
        return f"Request {record['request_id']}, whose head could not be read"
    return f"Request {record['request_id']}: {record['method']} {record['path']}"


def _sentences(record: Mapping[str, Any], state: Mapping[str, Any]) -> Iterable[str]:
    yield f"It came from {record['client'] or 'a client without an address'} and ended at {_clock(record['at'])}."
    if record["route"] == "_none":
        yield "No route was taken."
    else:
        yield f"Its route is {record['route']}" + (
            f", its upstream {record['upstream']}." if record["upstream"] else "."
        )
    fate = str(record["fate"])
    meaning = MEANINGS[Fate(fate)] if fate in set(Fate) else "for a reason that this version has no words for"
    gone = fate == Fate.CLIENT_GONE  # its 499 is seen by nobody
    answered = "over, without an answer" if gone else f"answered with {record['status']}"
    yield f"After {_ms(record['total_ms'])} it was {answered}: {meaning} ({fate})."
    yield from _breaker(record, state)
    yield from _attempts(record)
    if record["queued_ms"]:
        yield f"It waited in queues for {_ms(record['queued_ms'])} of that."
    if record["why_not_retried"]:
        why = _WHY_NOT.get(str(record["why_not_retried"]), "of a rule that this version has no words for")
        yield f"It was not tried again, since {why} ({record['why_not_retried']})."
    if record["would_reject"]:
        yield f"In shadow, and so without effect: {', '.join(record['would_reject'])} would have refused it."
    if record["fault"]:
        yield f"A fault was injected into it on purpose: {record['fault']}."
    if record["error"]:
        yield f"The error, for the operator: {record['error']}."
    if fate in _KEYS and record["route"] != "_none":
        yield f"This hangs on routes.{record['route']}.{_KEYS[fate]}."


def _attempts(record: Mapping[str, Any]) -> Iterable[str]:
    attempts = record["attempts"]
    if not attempts:
        yield "The upstream was not asked."
        return
    told = "; ".join(
        f"{each['n']}. {each['result']} after {_ms(each['ms'])}{_waited(each)}" for each in attempts
    )
    yield f"{'One attempt was' if len(attempts) == 1 else f'{len(attempts)} attempts were'} made: {told}."


def _waited(attempt: Mapping[str, Any]) -> str:
    return f" (and {_ms(attempt['backoff_ms'])} of waiting before it)" if attempt.get("backoff_ms") else ""


def _breaker(record: Mapping[str, Any], state: Mapping[str, Any]) -> Iterable[str]:
    """Tell what its breaker had to do with it: what the request did to it, or why it was open and whether it still is."""
    seen = record.get("breaker")
    if seen is not None and seen["before"] != seen["after"]:
        yield f"Breaker {seen['name']} was {seen['before']} at its beginning and {seen['after']} at its end."
    if Fate.REJECTED_BREAKER_OPEN not in (record["fate"], f"rejected_{record['why_not_retried']}"):
        return
    name = seen["name"] if seen is not None else _breaker_of(record["route"], state)
    breaker = next((each for each in state["breakers"] if each["name"] == name), None)
    if breaker is None:
        return
    trip = breaker["last_trip"]
    if trip is not None and trip["at"] <= record["at"]:
        first = f", the first of them with {trip['first_error']}" if trip["first_error"] else ""
        yield f"Breaker {name} had opened at {_clock(trip['at'])} after {trip['threshold']}{first}."
    yield f"It is {breaker['state']} now{until(breaker) if breaker['state'] == 'OPEN' else ''}."


def _breaker_of(route: str, state: Mapping[str, Any]) -> str | None:
    return next((each["breaker"] for each in state["routes"] if each["name"] == route), None)


def _ms(value: float) -> str:
    return f"{value:.1f} ms" if value < 1000 else seconds(value / 1000)


def _clock(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
