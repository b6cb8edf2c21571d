"""The ends that a request can come to on a route, told from what is configured: the series that are there from the start.

Each is for GET, with the status that its fate has here. What else happens (another method, a status of the upstream's
own) is counted as it comes.
"""

from collections.abc import Iterator

from sidecar import errors
from sidecar.errors import RequestError
from sidecar.fate import Fate
from sidecar.pipeline.assemble import Pipeline
from sidecar.pipeline.stages.attempt import AttemptStage
from sidecar.pipeline.stages.breaker import BreakerGate
from sidecar.pipeline.stages.bulkhead import BulkheadStage
from sidecar.pipeline.stages.cache import CacheStage
from sidecar.pipeline.stages.deadline import TotalDeadline
from sidecar.pipeline.stages.fallback import FallbackStage
from sidecar.pipeline.stages.rate_limit import RateLimitStage
from sidecar.pipeline.stages.retry import RetryStage
from sidecar.policy.breaker_settings import DEFAULT_COUNT
from sidecar.policy.fallback import Mock, Redirect, Static

__all__ = ["Outcome", "possible", "possible_without_route"]

Outcome = tuple[bytes, int, str]  # method, status, fate: the keys of `RouteCounts.requests`


def possible(pipeline: Pipeline) -> list[Outcome]:
    """Give the ends that a GET on this route may come to."""
    found = [_get(200, Fate.OK), *map(_of, _always())]
    found += [_get(status, Fate.UPSTREAM_STATUS) for status in sorted(DEFAULT_COUNT)]
    for stage in pipeline.stages:
        match stage:
            case RateLimitStage(shadow=False):
                found.append(_of(errors.RateLimited))
            case BreakerGate(shadow=False):
                found.append(_of(errors.BreakerOpen))
            case BulkheadStage(shadow=False):
                found += [_of(errors.BulkheadFull), _of(errors.QueueTimeout)]
            case AttemptStage():
                found.append(_of(errors.AttemptTimeout))
            case TotalDeadline():
                found.append(_of(errors.TotalTimeout))
            case RetryStage():
                found.append(_get(200, Fate.OK_AFTER_RETRY))
            case CacheStage():
                found += [_get(200, fate) for fate in (Fate.CACHE_FRESH, Fate.CACHE_STALE, Fate.COALESCED)]
            case FallbackStage():
                found += _degraded(stage)
            case _:
                pass
    return list(dict.fromkeys(found))


def possible_without_route() -> list[Outcome]:
    """Give the ends of a GET that no route matches, and of bytes that never became a request."""
    return [_of(errors.NoRoute), (b"_OTHER", errors.ClientError.status, errors.ClientError.fate.value)]


def _always() -> tuple[type[RequestError], ...]:
    return (
        errors.ConnectFailed,
        errors.Disconnected,
        errors.BadResponse,
        errors.Overloaded,
        errors.Maintenance,
        errors.ClientGone,
        errors.Internal,
    )


def _degraded(stage: FallbackStage) -> Iterator[Outcome]:
    for step in stage.steps:
        settings = step.settings
        status = settings.status if isinstance(settings, Static | Mock | Redirect) else 200
        yield _get(status, settings.fate)


def _of(error: type[RequestError]) -> Outcome:
    return _get(error.status, error.fate)


def _get(status: int, fate: Fate) -> Outcome:
    return b"GET", status, fate.value
