"""What happened to one request, in sentences, from its decision record and the state of the sidecar that kept it. Pure.

"Why did I get this 503?" is answered with what was decided, what was seen before, and which keys of the configuration
the decision hangs on, each with its value and its line (`explain_keys`). Where a fallback answered, what is explained is
the failure that it stands in for.
"""

from collections import Counter
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import Any

from sidecar import errors
from sidecar.cli.explain_keys import InForce, keys
from sidecar.cli.explain_view import Line, seconds, until
from sidecar.config.words import one_line
from sidecar.errors import RequestError
from sidecar.fate import MEANINGS, Fate, WhyNotRetried
from sidecar.policy.fallback import SERVER_ERROR, cause_of

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

_ERRORS = {
    name: each
    for name, each in vars(errors).items()
    if isinstance(each, type) and issubclass(each, RequestError)
}
_FATES = Counter(each.fate for each in _ERRORS.values())


def story(
    record: Mapping[str, Any], state: Mapping[str, Any], shown: Mapping[str, Any] | None = None
) -> list[Line]:
    """Give the sentences, a line each. `shown` is what `GET /config` gives; without it no key is named."""
    lines: list[Line] = [((one_line(_asked(record)), "bold"),)]
    lines += [((one_line(sentence), ""),) for sentence in _sentences(record, state, shown)]
    return lines


def _asked(record: Mapping[str, Any]) -> str:
    if not record["method"]:
        return f"Request {record['request_id']}, whose head could not be read"
    return f"Request {record['request_id']}: {record['method']} {record['path']}"


def _sentences(
    record: Mapping[str, Any], state: Mapping[str, Any], shown: Mapping[str, Any] | None
) -> Iterable[str]:
    config = None if shown is None or record["route"] == "_none" else InForce(shown, record["route"])
    cause = _cause(record)
    yield f"It came from {record['client'] or 'a client without an address'} and ended at {_clock(record['at'])}."
    if record["route"] == "_none":
        yield "No route was taken."
    else:
        yield f"Its route is {record['route']}" + (
            f", its upstream {record['upstream']}." if record["upstream"] else "."
        )
    yield f"After {_ms(record['total_ms'])} it was {_ended(record, cause)}."
    if record["fallback"] is not None and config is not None:
        yield from _steps(record, config)
    yield from _breaker(record, cause, state)
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
    if record["error"] and not _says_the_same(record["error"]):
        yield f"The error, for the operator: {record['error']}."
    if config is not None:
        yield from _hangs_on(record, cause, state, config)


def _cause(record: Mapping[str, Any]) -> str:
    """Give the fate that it had, or would have had without its fallback."""
    if record["fallback"] is None:
        return str(record["fate"])
    error = _error(record)
    return str(Fate.UPSTREAM_STATUS if error is None else error.fate)


def _error(record: Mapping[str, Any]) -> RequestError | None:
    made = _ERRORS.get(str(record["error"]).partition(":")[0])
    return None if made is None else made()


def _says_the_same(error: str) -> bool:
    """Tell whether it is no more than the name of the one error that has its fate, which has been told."""
    return error in _ERRORS and _FATES[_ERRORS[error].fate] == 1


def _ended(record: Mapping[str, Any], cause: str) -> str:
    fate, status = str(record["fate"]), record["status"]
    if record["fallback"] is not None:
        what = "the upstream answered with a 5xx" if cause == Fate.UPSTREAM_STATUS else _meaning(cause)
        return f"answered with {status} by its fallback ({fate}), in place of a failure: {what} ({cause})"
    answered = "over, without an answer" if fate == Fate.CLIENT_GONE else f"answered with {status}"
    return f"{answered}: {_meaning(fate)} ({fate})"


def _meaning(fate: str) -> str:
    return MEANINGS[Fate(fate)] if fate in set(Fate) else "for a reason that this version has no words for"


def _steps(record: Mapping[str, Any], config: InForce) -> Iterable[str]:
    """Tell which step of the fallback answered, and why none before it did, as far as the record lets one know."""
    error = _error(record)
    failed = SERVER_ERROR if error is None else cause_of(error)
    told: list[str] = []
    steps = config.value(("fallback",))
    for number, step in enumerate(steps if isinstance(steps, list) else ()):
        source = next(iter(step))
        start = f"step {number + 1}, {source},"
        if record["method"] not in step["methods"]:
            told.append(f"{start} is not for {record['method']}")
        elif failed not in step["when"]:
            told.append(f"{start} is not for {failed}")
        elif source == record["fallback"]:
            yield f"Of its fallback {'; '.join([*told, f'{start} answered'])}."
            return
        elif source == "stale":
            (age,) = config.told(("fallback", number, source, "max_age"))
            told.append(f"{start} had no copy that may be served, or none so young: {age}")
        else:
            told.append(f"{start} did not deliver")


def _hangs_on(
    record: Mapping[str, Any], cause: str, state: Mapping[str, Any], config: InForce
) -> Iterable[str]:
    breaker = _breaker_in(record, state)
    lines = keys(config, cause, None if breaker is None else _opened_by(breaker, record["at"]))
    if lines:
        *first, last = lines
        yield f"This hangs on {', '.join(first) + ' and ' if first else ''}{last}."
        if config.loaded_at > record["at"]:
            yield "That is the configuration in force now, which was loaded after that request."


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


def _breaker(record: Mapping[str, Any], cause: str, state: Mapping[str, Any]) -> Iterable[str]:
    """Tell what its breaker had to do with it: what the request did to it, or why it was open and whether it still is."""
    seen = record.get("breaker")
    if seen is not None and seen["before"] != seen["after"]:
        yield f"Breaker {seen['name']} was {seen['before']} at its beginning and {seen['after']} at its end."
    if Fate.REJECTED_BREAKER_OPEN not in (cause, f"rejected_{record['why_not_retried']}"):
        return
    breaker = _breaker_in(record, state)
    if breaker is None:
        return
    trip = _opened_by(breaker, record["at"])
    if trip is not None:
        yield f"Breaker {breaker['name']} had opened at {_clock(trip['at'])} {_after(trip)}."
        failed = trip.get("trials_failed")
        if failed:
            last, trials = breaker["last_trip"], "1 trial has" if failed == 1 else f"{failed} trials have"
            yield f"Since then {trials} failed, the last at {_clock(last['at'])}{_with(last['first_error'])}."
    yield f"It is {breaker['state']} now{until(breaker) if breaker['state'] == 'OPEN' else ''}."


def _breaker_in(record: Mapping[str, Any], state: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """Give the breaker of its route, as it is now."""
    seen = record.get("breaker")
    name = seen["name"] if seen is not None else _breaker_of(record["route"], state)
    return next((each for each in state["breakers"] if each["name"] == name), None)


def _opened_by(breaker: Mapping[str, Any], at: float) -> Mapping[str, Any] | None:
    """Give what began the outage that it is in, or of one that is over the last trip; None if that was after `at`."""
    outage, last = breaker.get("outage"), breaker["last_trip"]
    began = last if outage is None else {**outage, "at": outage["since"]}
    return began if began is not None and began["at"] <= at else None


def _after(trip: Mapping[str, Any]) -> str:
    """Say after what it opened. One failed trial is told as the one thing that it is."""
    if trip["cause"] == "trial_failed":
        return f"after a trial that failed{_with(trip['first_error'])}"
    first = trip["first_error"]
    return f"after {trip['threshold']}" + (f", the first of them with {first}" if first else "")


def _with(error: str | None) -> str:
    return f" with {error}" if error else ""


def _breaker_of(route: str, state: Mapping[str, Any]) -> str | None:
    return next((each["breaker"] for each in state["routes"] if each["name"] == route), None)


def _ms(value: float) -> str:
    return f"{value:.1f} ms" if value < 1000 else seconds(value / 1000)


def _clock(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
