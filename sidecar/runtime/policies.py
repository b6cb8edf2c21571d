"""From the configuration to the policy objects: what `config` says in people's words, as values that decide.

`guards` makes the objects that live as long as the configuration; `policy` puts one route's together.
"""

from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any, Literal

from sidecar.config.model import Config, RouteConfig
from sidecar.config.policies import (
    BreakerConfig,
    BulkheadConfig,
    FallbackStep,
    FaultConfig,
    RateLimitConfig,
    RetryConfig,
    StaticStep,
)
from sidecar.errors import StartFailed
from sidecar.message import IDEMPOTENT
from sidecar.pipeline.assemble import Policy
from sidecar.pipeline.guards import Guards
from sidecar.pipeline.stages.ladder import Other
from sidecar.policy import fallback
from sidecar.policy.breaker import Breaker, BreakerSettings
from sidecar.policy.budget import BudgetSettings, RetryBudget
from sidecar.policy.bulkhead import Bulkhead, BulkheadSettings
from sidecar.policy.cache import CacheSettings
from sidecar.policy.fault import FaultSettings
from sidecar.policy.ratelimit import RateLimiter, RateLimitSettings
from sidecar.policy.retry import RetrySettings
from sidecar.policy.store import Store

__all__ = ["Change", "guards", "keeps_copies", "policy"]


Change = Callable[[], object]


def guards(
    config: Config, chance: Callable[[], float], now: float, before: Guards | None = None
) -> tuple[Guards, list[Change]]:
    """Make the policy objects of `config`. `chance` gives numbers in [0, 1), `now` is the loop's time.

    Those that were there `before` under the same name are taken over with all that they know. Where their settings are
    others, the changes that are given with them must be made when `config` comes into force. A quota or a budget whose
    settings are others begins anew: what was spent of the one says nothing about the other.
    """
    before = before or Guards()
    changes: list[Change] = []
    breakers = {name: _breaker(each) for name, each in _by_name(config, "breaker").items()}
    bulkheads = {name: _bulkhead(each) for name, each in _by_name(config, "bulkhead").items()}
    made = Guards(
        breakers={
            name: before.breakers.get(name) or Breaker(name, each, chance) for name, each in breakers.items()
        },
        bulkheads={
            name: before.bulkheads.get(name) or Bulkhead(name, each) for name, each in bulkheads.items()
        },
        budgets=_budgets(config, now, before.budgets),
        limiters=_limiters(config, before.limiters),
        store=_store(config, before.store),
    )
    for name, settings in breakers.items():
        if made.breakers[name].settings != settings:
            changes.append(partial(made.breakers[name].adjust, settings, now))
    for name, size in bulkheads.items():
        if made.bulkheads[name].settings != size:
            changes.append(partial(made.bulkheads[name].adjust, size, now))
    if made.store is not None:
        changes.append(partial(made.store.adjust, config.store.max_bytes, config.store.max_entries))
    return made, changes


def _by_name(config: Config, kind: Literal["breaker", "bulkhead"]) -> dict[str, Any]:
    """Give the settings of every breaker or bulkhead that is not off; a route's own goes by the route's name."""
    named: Mapping[str, Any] = config.breakers if kind == "breaker" else config.bulkheads
    own = {route.name: getattr(route, kind) for route in config.routes}
    own = {name: each for name, each in own.items() if each is not None and not isinstance(each, str)}
    return {name: each for name, each in {**named, **own}.items() if each.mode != "off"}


def _store(config: Config, before: Store | None) -> Store | None:
    if not any(keeps_copies(route) for route in config.routes):
        return None
    return before or Store(config.store.max_bytes, config.store.max_entries)


def policy(route: RouteConfig, config: Config, made: Guards, others: Mapping[str, Other]) -> Policy:
    """Give what `route` asks for. `others` are the upstreams by name, for its fallback.

    Raises:
        StartFailed: a file for a fallback cannot be read any more.

    """
    timeout, retry, limit = route.timeout, route.retry, route.rate_limit
    budgeted = retry is not None and retry.retries > 0 and retry.budget is not None
    return Policy(
        route=route.name,
        upstream=route.upstream,
        attempt=timeout.attempt,
        total=timeout.total,
        idle=timeout.idle,
        body=timeout.body,
        max_body=route.max_body,
        rate_limit=made.limiters.get(route.name),
        rate_limit_key=limit.key if limit is not None else "route",
        rate_limit_fields=limit.fields if limit is not None else "off",
        fallback=tuple([_step(step) for step in route.fallback or ()]),
        others={
            step.upstream.name: others[step.upstream.name] for step in route.fallback or () if step.upstream
        },
        cache=_cache(route, config),
        store=made.store,
        invalidates=tuple(
            [each.name for each in config.routes if each.upstream == route.upstream and keeps_copies(each)]
        ),
        retry=_retry(retry) if retry is not None else None,
        budget=made.budgets.get(route.upstream) if budgeted else None,
        breaker=made.breakers.get(_name(route.breaker, route)),
        breaker_header=_shown_by(route, config),
        bulkhead=made.bulkheads.get(_name(route.bulkhead, route)),
        fault=_fault(route.fault) if route.fault is not None else None,
        shadow=_shadows(route, config),
    )


def _name(guard: BreakerConfig | BulkheadConfig | str | None, route: RouteConfig) -> str:
    """Give the name that a guard goes by; "" is nobody's."""
    if guard is None:
        return ""
    return guard if isinstance(guard, str) else route.name


def _shown_by(route: RouteConfig, config: Config) -> str | None:
    """Give the field that shows the state of the route's breaker."""
    breaker = config.breakers.get(route.breaker) if isinstance(route.breaker, str) else route.breaker
    return breaker.header if breaker is not None else None


def _shadows(route: RouteConfig, config: Config) -> frozenset[str]:
    breaker = config.breakers.get(route.breaker) if isinstance(route.breaker, str) else route.breaker
    bulkhead = config.bulkheads.get(route.bulkhead) if isinstance(route.bulkhead, str) else route.bulkhead
    modes = {"breaker": breaker, "bulkhead": bulkhead, "rate_limit": route.rate_limit}
    return frozenset(word for word, each in modes.items() if each is not None and each.mode == "shadow")


def _breaker(said: BreakerConfig) -> BreakerSettings:
    slow = said.slow_call
    return BreakerSettings(
        consecutive_failures=said.consecutive_failures,
        failures_in_window=said.failures_in_window,
        failure_rate=said.failure_rate,
        slow_duration=slow.duration if slow is not None else None,
        slow_rate=slow.rate if slow is not None else None,
        window=said.window,
        min_requests=said.min_requests,
        open_for=said.open_for,
        open_multiplier=said.open_multiplier,
        open_max=max(said.open_max, said.open_for),
        open_jitter=said.open_jitter,
        count=said.failures,
        max_trials=said.half_open.max_concurrent,
        successes=said.half_open.successes,
        max_wait=said.half_open.max_wait,
    )


def _bulkhead(said: BulkheadConfig) -> BulkheadSettings:
    return BulkheadSettings(
        max_concurrent=said.max_concurrent,
        max_queue=said.max_queue,
        queue_timeout=said.queue_timeout,
        order=said.order,
        target=said.target,
        adaptive=(said.adaptive.min, said.adaptive.max) if said.adaptive is not None else None,
    )


def _budgets(config: Config, now: float, before: Mapping[str, RetryBudget]) -> dict[str, RetryBudget]:
    """Make one budget for each upstream to which anybody retries. Its routes agree on it: that has been checked."""
    made: dict[str, RetryBudget] = {}
    for route in config.routes:
        retry = route.retry
        if retry is None or not retry.retries or retry.budget is None or route.upstream in made:
            continue
        said = retry.budget
        settings = BudgetSettings(said.ratio, said.min_per_second, said.window)
        old = before.get(route.upstream)
        same = old is not None and old.settings == settings
        made[route.upstream] = old if old is not None and same else RetryBudget(settings, now)
    return made


def _limiters(config: Config, before: Mapping[str, RateLimiter]) -> dict[str, RateLimiter]:
    """Make a limiter for each route that has one. Those whose key is `global` share theirs."""
    made: dict[str, RateLimiter] = {}
    everybody: RateLimiter | None = None
    shared = next((each for each in before.values() if each.settings.by == "global"), None)
    for route in config.routes:
        said = route.rate_limit
        if said is None or said.mode == "off":
            continue
        if said.key != "global":
            made[route.name] = _limiter(said, before.get(route.name))
            continue
        everybody = everybody or _limiter(said, shared)
        made[route.name] = everybody
    return made


def _limiter(said: RateLimitConfig, before: RateLimiter | None) -> RateLimiter:
    settings = RateLimitSettings(
        limit=said.limit.limit,
        per=said.limit.per,
        algorithm=said.algorithm,
        burst=said.burst,
        max_keys=said.max_keys,
        by=said.key,
    )
    return before if before is not None and before.settings == settings else RateLimiter(settings)


def _retry(said: RetryConfig) -> RetrySettings | None:
    if not said.retries:
        return None
    methods = IDEMPOTENT if said.methods == "idempotent" else None
    if isinstance(said.methods, tuple):
        methods = frozenset(method.encode() for method in said.methods)
    return RetrySettings(
        retries=said.retries,
        strategy=said.strategy,
        base=said.base,
        multiplier=said.multiplier,
        max=said.max,
        jitter=said.jitter,
        conditions=said.conditions,
        statuses=said.statuses,
        methods=methods,
        require=said.require.lower().encode() if said.require is not None else None,
        body_buffer=said.body_buffer,
        retry_after_max=said.retry_after.max,
    )


def keeps_copies(route: RouteConfig) -> bool:
    """Tell whether answers of a route are stored, be it for its cache or for its fallback."""
    return route.cache is not None or _stale_for(route) > 0


def _stale_for(route: RouteConfig) -> float:
    """For how long a copy may be of use to the route's fallback, in seconds."""
    return max((step.stale.max_age for step in route.fallback or () if step.stale is not None), default=0.0)


def _cache(route: RouteConfig, config: Config) -> CacheSettings | None:
    said, keep_for = route.cache, _stale_for(route)
    if said is None:
        if not keep_for:
            return None
        return CacheSettings(
            fresh_for=None,
            coalesce=False,
            keep_for=keep_for,
            serve_fresh=False,
            max_body=config.store.max_body,
        )
    return CacheSettings(
        fresh_for=said.fresh_for,
        stale_while_revalidate=said.stale_while_revalidate,
        stale_if_error=said.stale_if_error,
        coalesce=said.coalesce,
        override_origin=said.override_origin,
        keep_for=keep_for,
        serve_fresh=True,
        max_body=config.store.max_body,
    )


def _fault(said: FaultConfig) -> FaultSettings:
    header = next(iter(said.header.items()), None)
    return FaultSettings(
        delay=said.delay,
        abort=said.abort,
        reset=said.reset,
        truncate=said.truncate,
        percent=said.percent * 100,
        header=None
        if header is None
        else (header[0].lower().encode(), None if header[1] == "*" else header[1].encode()),
    )


def _step(said: FallbackStep) -> fallback.FallbackStep:
    when = frozenset(said.when)
    methods = frozenset(method.encode() for method in said.methods)
    if said.stale is not None:
        return fallback.Stale(
            said.stale.max_age, said.stale.override_origin, when=when, methods=methods & fallback.READS
        )
    if said.mock is not None:
        return fallback.Mock(*_answer(said.mock), when=when, methods=methods)
    if said.static is not None:
        return fallback.Static(*_answer(said.static), when=when, methods=methods)
    if said.upstream is not None:
        other = said.upstream
        return fallback.Upstream(other.name, other.timeout, other.max_concurrent, when=when, methods=methods)
    assert said.redirect is not None  # noqa: S101 -- a step is one of five, that has been checked
    location = said.redirect.location.encode()
    return fallback.Redirect(location, said.redirect.status, when=when, methods=methods)


def _answer(said: StaticStep) -> tuple[int, bytes, bytes, tuple[tuple[bytes, bytes], ...]]:
    body = (said.body or "").encode()
    if said.file is not None:
        try:
            body = Path(said.file).read_bytes()
        except OSError as error:
            raise StartFailed(f"{said.file}: cannot be read: {error.strerror}") from error
    fields = tuple((name.encode(), value.encode()) for name, value in said.headers.items())
    return said.status, said.content_type.encode(), body, fields
