"""Warnings about retries, breakers and bulkheads: what they say and can never come to be, or will do harm."""

from collections.abc import Iterator

from sidecar.config.model import Config, RouteConfig
from sidecar.config.policies import IDEMPOTENT, BreakerConfig, BulkheadConfig, RetryConfig
from sidecar.config.rules import Suspicion, rule
from sidecar.config.tree import Path
from sidecar.config.units import show_duration
from sidecar.policy.backoff import Backoff

__all__ = ["breaker_of", "bulkhead_of", "waiting"]

_NOTICED = 0.1  # waiting for less than this part of a request's time keeps no retry from being made


def waiting(retry: RetryConfig) -> float:
    """Return how many seconds all the waiting of one request takes at most, without what the upstream asks for."""
    backoff = Backoff(retry.strategy, retry.base, retry.multiplier, retry.max, "none")
    waits = [0.0]
    for number in range(1, retry.retries + 1):
        waits.append(backoff.delay(number, 1.0, waits[-1]))
    return sum(waits)


def breaker_of(config: Config, index: int) -> tuple[BreakerConfig | None, Path]:
    """Return the breaker of a route, unless it is off, and where it is."""
    said = config.routes[index].breaker
    path: Path = ("breakers", said) if isinstance(said, str) else ("routes", index, "breaker")
    breaker = config.breakers[said] if isinstance(said, str) else said
    return (breaker if breaker is not None and breaker.mode != "off" else None), path


def bulkhead_of(config: Config, index: int) -> tuple[BulkheadConfig | None, Path]:
    """Return the bulkhead of a route, unless it is off, and where it is."""
    said = config.routes[index].bulkhead
    path: Path = ("bulkheads", said) if isinstance(said, str) else ("routes", index, "bulkhead")
    bulkhead = config.bulkheads[said] if isinstance(said, str) else said
    return (bulkhead if bulkhead is not None and bulkhead.mode != "off" else None), path


@rule("backoff-exceeds-total", "the last retries are never made, so fewer failures are mended than it seems")
def backoff_exceeds_total(config: Config) -> Iterator[Suspicion]:
    """Find routes where the waiting and one attempt that times out are longer than the whole request may be."""
    for index, route in enumerate(config.routes):
        retry, total = route.retry, route.timeout.total
        if retry is None or not retry.retries or total is None:
            continue
        wait, attempt = waiting(retry), min(route.timeout.attempt or 0.0, total)
        if wait + attempt > total and wait > _NOTICED * total:
            longest = f", and one attempt up to {show_duration(attempt)}" if attempt else ""
            yield Suspicion(
                f"`total` ({show_duration(total)}) is over before the last retry: all waiting takes up to "
                f"{show_duration(round(wait, 3))}{longest}",
                _paths(
                    index, ("retry", "retries"), ("retry", "base"), ("retry", "max"), ("timeout", "total")
                ),
            )


@rule("retries-trip-breaker", "one request that fails often enough keeps everyone else out")
def retries_trip_breaker(config: Config) -> Iterator[Suspicion]:
    """Find routes whose attempts at one request suffice to open their breaker. In tests that is as it should be."""
    if config.profile == "testing":
        return
    for index, route in enumerate(config.routes):
        breaker, where = breaker_of(config, index)
        attempts = 1 + (route.retry.retries if route.retry else 0)
        trigger = _tripped_by(breaker, attempts) if breaker and attempts > 1 else None
        if trigger:
            yield Suspicion(
                f"the {attempts} attempts at one request of `{route.name}` can open the breaker (`{trigger}`)",
                ((*where, trigger), *_paths(index, ("retry", "retries"), ("breaker",))),
            )


@rule("repeats-what-is-not-idempotent", "an order that was placed, though no answer came, is placed twice")
def repeats_what_is_not_idempotent(config: Config) -> Iterator[Suspicion]:
    """Find routes that repeat POST and the like, whoever asks."""
    for index, route in enumerate(config.routes):
        retry = route.retry
        if retry is None or not retry.retries or retry.require is not None or retry.methods == "idempotent":
            continue
        reached = route.match.methods or ("POST", "PATCH")
        unsafe = [
            method
            for method in (reached if retry.methods == "all" else retry.methods)
            if method not in IDEMPOTENT and (not route.match.methods or method in reached)
        ]
        if unsafe:
            yield Suspicion(
                f"repeats {' and '.join(unsafe)}; with `require: Idempotency-Key`, only what says that it may be",
                _paths(index, ("retry", "methods")),
            )


@rule("no-retry-budget", "in an outage, retries multiply the load on what is already failing")
def no_retry_budget(config: Config) -> Iterator[Suspicion]:
    """Find routes whose retries nothing bounds."""
    for index, route in enumerate(config.routes):
        if route.retry and route.retry.retries and route.retry.budget is None:
            message = (
                f"with `budget: off`, a failing upstream gets up to {1 + route.retry.retries} times its load"
            )
            yield Suspicion(message, _paths(index, ("retry", "budget")))


@rule("idle-retry", "a setting that does nothing is most often one that was meant to do something")
def idle_retry(config: Config) -> Iterator[Suspicion]:
    """Find retries that never take place, and what is only for others than those that do."""
    for index, route in enumerate(config.routes):
        retry = route.retry
        if retry is None or not retry.retries:
            continue
        budget = retry.budget
        if budget is not None and not budget.ratio and not budget.min_per_second:
            message = "with `ratio` and `min_per_second` zero, nothing is ever retried; `retry: off` says so"
            yield Suspicion(message, _paths(index, ("retry", "budget", "ratio")))
        if retry.require is not None and (
            retry.methods == "idempotent"
            or (retry.methods != "all" and set(retry.methods) <= set(IDEMPOTENT))
        ):
            message = "`require` is for methods that are not idempotent, and `methods` has none of them"
            yield Suspicion(message, _paths(index, ("retry", "require")), own=True)


@rule("trigger-out-of-reach", "the breaker looks as if it protected something, and stays closed for ever")
def trigger_out_of_reach(config: Config) -> Iterator[Suspicion]:
    """Find breakers whose window never has enough requests, because of the rate limits of all their routes."""
    found: dict[Path, tuple[BreakerConfig, float | None]] = {}
    for index, route in enumerate(config.routes):
        breaker, where = breaker_of(config, index)
        if breaker is not None:
            most = _most_attempts(route, breaker.window)
            _, before = found.get(where, (breaker, 0.0))
            found[where] = breaker, None if before is None or most is None else before + most
    for where, (breaker, most) in found.items():
        windowed = breaker.failures_in_window, breaker.failure_rate, breaker.slow_call
        needed = max(breaker.min_requests, breaker.failures_in_window or 0)
        if any(windowed) and most is not None and most < needed:
            yield Suspicion(
                f"within `window` ({show_duration(breaker.window)}) it needs {needed} attempts, "
                f"and the rate limit lets no more than {most:g} pass",
                ((*where, "min_requests"), (*where, "window"), where),
            )


@rule("slow-call-never", "the attempt is cut before it can be slow, and counts as failed instead")
def slow_call_never(config: Config) -> Iterator[Suspicion]:
    """Find breakers that wait for slow answers that the limit on an attempt does not let come."""
    for index, route in enumerate(config.routes):
        breaker, where = breaker_of(config, index)
        limit = min((each for each in (route.timeout.attempt, route.timeout.total) if each), default=None)
        if breaker and breaker.slow_call and limit is not None and breaker.slow_call.duration >= limit:
            yield Suspicion(
                f"no attempt of `{route.name}` takes longer than {show_duration(limit)}, so none is ever slow",
                ((*where, "slow_call", "duration"),),
            )


@rule("trials-beyond-need", "while it is still failing, the upstream gets more than the breaker has use for")
def trials_beyond_need(config: Config) -> Iterator[Suspicion]:
    """Find breakers that let more trials through at once than it takes to close them."""
    for breaker, where in (breaker_of(config, index) for index in range(len(config.routes))):
        if breaker and breaker.half_open.max_concurrent > breaker.half_open.successes:
            yield Suspicion(
                f"{breaker.half_open.max_concurrent} trials at once, and {breaker.half_open.successes} "
                "successes close it already",
                ((*where, "half_open", "max_concurrent"), (*where, "half_open", "successes")),
            )


@rule(
    "queue-exceeds-total", "who waits that long has no time left for an answer, and the queue is full of them"
)
def queue_exceeds_total(config: Config) -> Iterator[Suspicion]:
    """Find bulkheads whose queue is as patient as a whole request."""
    for index, route in enumerate(config.routes):
        bulkhead, where = bulkhead_of(config, index)
        total = route.timeout.total
        if bulkhead and bulkhead.max_queue and total is not None and bulkhead.queue_timeout >= total:
            yield Suspicion(
                f"`queue_timeout` ({show_duration(bulkhead.queue_timeout)}) is not shorter than `total` of "
                f"`{route.name}` ({show_duration(total)})",
                ((*where, "queue_timeout"), ("routes", index, "timeout", "total")),
            )


@rule("idle-queue", "a setting that does nothing is most often one that was meant to do something")
def idle_queue(config: Config) -> Iterator[Suspicion]:
    """Find what is said about queues that nobody may be in."""
    for bulkhead, where in (bulkhead_of(config, index) for index in range(len(config.routes))):
        if bulkhead and not bulkhead.max_queue:
            for key in ("queue_timeout", "order", "target"):
                message = f"with `max_queue: 0` nobody waits, and `{key}` does nothing"
                yield Suspicion(message, ((*where, key),), own=True, written=True)


@rule(
    "pool-smaller-than-bulkhead", "requests with a slot then wait for a connection, where no queue is bounded"
)
def pool_smaller_than_bulkhead(config: Config) -> Iterator[Suspicion]:
    """Find bulkheads with more slots than their upstream may have connections."""
    for index, route in enumerate(config.routes):
        bulkhead, where = bulkhead_of(config, index)
        if bulkhead is None:
            continue
        key = "adaptive" if bulkhead.adaptive else "max_concurrent"
        slots = bulkhead.adaptive.max if bulkhead.adaptive else bulkhead.max_concurrent
        most = config.upstreams[route.upstream].max_connections
        if slots > most:
            yield Suspicion(
                f"{slots} requests at once, and `max_connections` of `{route.upstream}` is {most}, "
                "which is the real bound",
                ((*where, key), ("upstreams", route.upstream, "max_connections"), where),
            )


@rule("queue-never-turns", "the order is then first come, first served, and an overload makes everyone wait")
def queue_never_turns(config: Config) -> Iterator[Suspicion]:
    """Find adaptive queues that nobody is in for long enough."""
    for bulkhead, where in (bulkhead_of(config, index) for index in range(len(config.routes))):
        if (
            bulkhead
            and bulkhead.order == "adaptive"
            and bulkhead.target is not None
            and bulkhead.target >= bulkhead.queue_timeout
        ):
            yield Suspicion(
                f"`target` ({show_duration(bulkhead.target)}) is not shorter than `queue_timeout` "
                f"({show_duration(bulkhead.queue_timeout)})",
                ((*where, "target"), (*where, "queue_timeout")),
            )


@rule("unused-breaker", "most often the name in a route is another one than was meant")
def unused_breaker(config: Config) -> Iterator[Suspicion]:
    """Find breakers that no route names."""
    used = {route.breaker for route in config.routes if isinstance(route.breaker, str)}
    for name in config.breakers:
        if name not in used:
            yield Suspicion("no route names this breaker", (("breakers", name),), at_key=True)


@rule("unused-bulkhead", "most often the name in a route is another one than was meant")
def unused_bulkhead(config: Config) -> Iterator[Suspicion]:
    """Find bulkheads that no route names."""
    used = {route.bulkhead for route in config.routes if isinstance(route.bulkhead, str)}
    for name in config.bulkheads:
        if name not in used:
            yield Suspicion("no route names this bulkhead", (("bulkheads", name),), at_key=True)


def _paths(index: int, *keys: tuple[str, ...]) -> tuple[Path, ...]:
    """Return the places of these keys of a route."""
    return tuple(("routes", index, *each) for each in keys)


def _tripped_by(breaker: BreakerConfig, attempts: int) -> str | None:
    """Return the trigger that so many failures in a row set off."""
    if breaker.consecutive_failures is not None and breaker.consecutive_failures <= attempts:
        return "consecutive_failures"
    if breaker.min_requests > attempts:
        return None
    if breaker.failures_in_window is not None and breaker.failures_in_window <= attempts:
        return "failures_in_window"
    return "failure_rate" if breaker.failure_rate is not None else None


def _most_attempts(route: RouteConfig, window: float) -> float | None:
    """Return how many attempts the rate limit of a route lets through in a window; None for any number."""
    limit = route.rate_limit
    if limit is None or limit.mode != "enforce" or limit.key not in {"route", "global"}:
        return None
    at_once = limit.limit.limit if limit.burst is None or limit.algorithm == "sliding_window" else limit.burst
    requests = at_once + limit.limit.limit * window / limit.limit.per
    return int(requests) * (1 + (route.retry.retries if route.retry else 0))
