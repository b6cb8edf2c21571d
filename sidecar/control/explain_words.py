"""What a route's policies would make of one request, in words; the policies themselves are asked.

Nothing is decided here that another module decides: whether it may be repeated says `policy/retry.py`, what its fields
say to a cache `policy/cache_request.py`, whose quota it uses `policy/rate_key.py`. The order in which the cache asks is
that of `CacheStage`; a property test compares what is said here with what that stage does.
"""

from typing import Any

from sidecar.config.model import RouteConfig
from sidecar.control.explain_request import Asked
from sidecar.fate import WhyNotRetried
from sidecar.message import NO_FIELDS, Fields, Request
from sidecar.pipeline.assemble import Pipeline
from sidecar.pipeline.stages.cache import CacheStage
from sidecar.pipeline.stages.fallback import FallbackStage
from sidecar.pipeline.stages.rate_limit import RateLimitStage
from sidecar.pipeline.stages.retry import RetryStage
from sidecar.policy import cache_request
from sidecar.policy.cache import may_wait
from sidecar.policy.cache_settings import CacheSettings
from sidecar.policy.fallback import CAUSES, FallbackStep
from sidecar.policy.rate_key import UNKNOWN, key_function
from sidecar.policy.retry import RetryPolicy

__all__ = ["words"]

Word = dict[str, Any]


def words(pipeline: Pipeline, route: RouteConfig, asked: Asked) -> list[Word]:
    """Tell of each policy whether it `could` do its part for the request, and why, for `about`'s sake.

    Keys: `about` (rate limit, cache, retry, fallback), `could` (bool) and `text`. What the route does not have is left
    out, but for `retry`, of which everybody asks.
    """
    told: list[Word] = []
    limit = pipeline.find(RateLimitStage)
    if limit is not None and route.rate_limit is not None:
        text = _quota(route.rate_limit.key, route.name, asked.request)
        told.append(
            _word("rate limit", not limit.shadow, text + " (in shadow: never refused)" * limit.shadow)
        )
    cache = pipeline.find(CacheStage)
    if cache is not None:
        told.append(_word("cache", *_cache(cache.settings, asked)))
    retry = pipeline.find(RetryStage)
    told.append(_word("retry", *_retry(None if retry is None else retry.policy, asked)))
    fallback = pipeline.find(FallbackStage)
    if fallback is not None:
        steps = [step.settings for step in fallback.steps]
        told.append(_word("fallback", *_fallback(steps, asked.request)))
    return told


def _word(about: str, could: bool, text: str) -> Word:
    return {"about": about, "could": could, "text": text}


def _quota(word: str, route: str, request: Request) -> str:
    if word == "client_ip":
        return "counted by the client's address; of an IPv6 address, by its first 64 bits"
    if word == "route":
        return "counted together with all requests of this route"
    if word == "global":
        return "counted together with all requests of the routes that say `global`"
    name = word.partition(":")[2]
    if key_function(word, route)(request) == UNKNOWN:
        return f"counted together with all that have no `{name}`, an empty one or several"
    return f"counted by the value of `{name}`"


def _cache(settings: CacheSettings, asked: Asked) -> tuple[bool, str]:
    request = asked.request
    why = _not_for_a_cache(asked)
    if why is not None:
        return False, f"no: {why}"
    read = cache_request.asked(request.fields)
    if not settings.serve_fresh:
        kept = "not kept" if read.personal else f"kept for {settings.keep_for:g} s"
        return False, f"no: answers are {kept}, for the fallback alone"
    if read.cc.no_cache:
        alone = "; and `only-if-cached` forbids to ask for one: 504" * read.cc.only_if_cached
        return False, f"no: `Cache-Control: no-cache` wants a new answer{alone}"
    text = "yes, by a copy that is fresh"
    if read.personal:
        names = ", ".join(f"`{name}`" for name in _personal(request))
        text = f"only by a copy that says `public`: {names} may tell whose request it is"
    if read.cc.only_if_cached:
        return True, f"{text}; without one the answer is 504, as `only-if-cached` asks for"
    if settings.coalesce and may_wait(read):
        text += ", or together with an identical request that is under way"
    return True, text


def _not_for_a_cache(asked: Asked) -> str | None:
    """Tell why the cache lets the request pass, in the order in which it looks."""
    request = asked.request
    if request.method not in (b"GET", b"HEAD"):
        return "copies are of GET, and answer GET and HEAD"
    if asked.has_body:
        return "the request has a body"
    if request.upgrade is not None:
        return "the request asks for another protocol (`Upgrade`)"
    read = cache_request.asked(request.fields)
    if read.passed_on:
        names = [name for name, one in _one_by_one(request) if one.passed_on]
        return ", ".join(f"`{name}`" for name in names) + " is for the upstream to judge"
    return "`Cache-Control: no-store`" if read.cc.no_store else None


def _personal(request: Request) -> list[str]:
    return [name for name, one in _one_by_one(request) if one.personal]


def _one_by_one(request: Request) -> list[tuple[str, cache_request.Asked]]:
    pairs = request.fields.pairs
    return [(name.decode("latin-1"), cache_request.asked(Fields([(name, value)]))) for name, value in pairs]


def _retry(policy: RetryPolicy | None, asked: Asked) -> tuple[bool, str]:
    if policy is None:
        return False, "no: the route retries nothing"
    request, settings = asked.request, policy.settings
    times = "once more" if settings.retries == 1 else f"up to {settings.retries} times more"
    on = ", ".join([*sorted(settings.conditions), *map(str, sorted(settings.statuses))])
    method = request.method.decode("latin-1")
    gone = (request.length or 0) if asked.has_body else 0
    objection = policy.objection(request, 1, sent=True, gone=gone, fields=NO_FIELDS)
    if objection is None:
        text = f"yes, {times}, on {on}"
        if asked.has_body and request.length is None:
            text += f"; as long as no more than {settings.body_buffer} bytes of its body have been sent"
        return True, text
    if objection is WhyNotRetried.METHOD:
        unsent = "only where nothing of it was sent"
        if settings.require is not None and (settings.methods is None or request.method in settings.methods):
            return False, f"{unsent}: {method} needs `{settings.require.decode()}` for more"
        return False, f"{unsent}: {method} is not among the route's `retry.methods`"
    if objection is WhyNotRetried.BODY_TOO_LARGE:
        return False, f"only before more than {settings.body_buffer} bytes of its body have been sent"
    return False, f"no: {objection}"


def _fallback(steps: list[FallbackStep], request: Request) -> tuple[bool, str]:
    method = request.method.decode("latin-1")
    mine = [step for step in steps if request.method in step.methods]
    if not mine:
        return False, f"none of its steps is for {method}"
    return True, ", then ".join(f"{step.source} on {_when(step)}" for step in mine)


def _when(step: FallbackStep) -> str:
    causes = [cause for cause in CAUSES if cause in step.when]
    return "any failure" if len(causes) == len(CAUSES) else ", ".join(causes)
