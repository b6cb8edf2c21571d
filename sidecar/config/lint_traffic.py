"""Warnings about where requests go and what bounds them: listeners, upstreams, routes, limits and time-outs."""

from collections.abc import Iterator, Mapping, Sequence

from sidecar.config.address import Address
from sidecar.config.complete import ANY_PATH
from sidecar.config.model import Config, Match
from sidecar.config.pattern import PathPattern, parse_host, parse_path, parse_regex
from sidecar.config.rules import Suspicion, rule
from sidecar.config.units import show_duration


@rule("attempt-exceeds-total", "the limit on one attempt never ends it, and no time is left for another one")
def attempt_exceeds_total(config: Config) -> Iterator[Suspicion]:
    """Find routes whose `attempt` is longer than their `total`."""
    for index, route in enumerate(config.routes):
        attempt, total = route.timeout.attempt, route.timeout.total
        if attempt is not None and total is not None and attempt > total:
            message = f"`attempt` ({show_duration(attempt)}) is longer than `total` ({show_duration(total)})"
            at = ("routes", index, "timeout")
            yield Suspicion(f"{message}, which ends every attempt first", ((*at, "attempt"), (*at, "total")))


@rule("get-without-head", "who asks for the head of an answer is told what another service says")
def get_without_head(config: Config) -> Iterator[Suspicion]:
    """Find routes for GET whose HEAD goes to another upstream with a route below, which is for GET as well.

    A route for HEAD and not for GET is meant to have it. As with `shadowed_route`, only routes whose first
    segments can cover one another are compared.
    """
    takers: dict[bytes | None, list[tuple[int, Match, PathPattern]]] = {}
    for index, route in enumerate(config.routes):
        if not route.match.methods or "HEAD" in route.match.methods:
            pattern = _pattern(route.match)
            takers.setdefault(_first(pattern), []).append((index, route.match, pattern))
    for index, route in enumerate(config.routes):
        if "GET" not in route.match.methods or "HEAD" in route.match.methods:
            continue
        pattern, wanted = _pattern(route.match), route.match.model_copy(update={"methods": ("HEAD",)})
        found = (_first_taker(wanted, pattern, takers.get(first, ())) for first in {None, _first(pattern)})
        number = min((each for each in found if each is not None), default=-1)
        taker = config.routes[number]
        if number > index and taker.upstream != route.upstream and _has_get(taker.match):
            yield Suspicion(
                f"HEAD is not among them, so `{taker.name}` takes it, and `{taker.upstream}` answers it",
                (("routes", index, "match", "methods"),),
            )


@rule(
    "loops-to-itself",
    "requests come back instead of reaching a service; the second pass is answered with 508",
)
def loops_to_itself(config: Config) -> Iterator[Suspicion]:
    """Find upstreams that are a listener of this program."""
    consequences = {
        "traffic": "every request would come back, and be answered with 508",
        "ops": "it has health and metrics, and no service",
        "admin": "it has the sidecar's own state, and no service",
    }
    for name, upstream in config.upstreams.items():
        for listener, consequence in consequences.items():
            address: Address | None = getattr(config.listen, listener)
            if address and address.takes(upstream.url):
                message = f"this is `listen.{listener}` (`{address}`): {consequence}"
                yield Suspicion(message, (("upstreams", name, "url"),))


@rule(
    "no-answer-timeout",
    "an upstream that accepts requests and never answers holds them, and their clients, for good",
)
def no_answer_timeout(config: Config) -> Iterator[Suspicion]:
    """Find routes without any limit on waiting for an answer."""
    for index, route in enumerate(config.routes):
        if route.timeout.attempt is None and route.timeout.total is None:
            at = ("routes", index, "timeout")
            message = (
                "with `attempt` and `total` off, an upstream that never answers is waited for without end"
            )
            yield Suspicion(message, ((*at, "attempt"), (*at, "total")))


@rule("no-idle-timeout", "a body that stands still holds its connections for good")
def no_idle_timeout(config: Config) -> Iterator[Suspicion]:
    """Find routes whose bodies may stand still for ever."""
    for index, route in enumerate(config.routes):
        if route.timeout.idle is None:
            message = "with `idle` off, a body that stands still is waited for without end"
            yield Suspicion(message, (("routes", index, "timeout", "idle"),))


@rule("shadowed-route", "the first match wins, so the policy of this route is never applied")
def shadowed_route(config: Config) -> Iterator[Suspicion]:
    """Find routes that can never match, because one above them takes all their requests.

    Compared are only routes whose paths have the same first segment or a wildcard there, so that a thousand
    routes do not cost half a million comparisons; no other pair of paths can cover one another.
    """
    above: dict[bytes | None, list[tuple[str, Match, PathPattern]]] = {}
    for index, route in enumerate(config.routes):
        pattern = _pattern(route.match)
        first = _first(pattern)
        for name, match, other in (
            *above.get(None, ()),
            *(above.get(first, ()) if first is not None else ()),
        ):
            if other.covers(pattern) and _asks_no_more(match, route.match):
                yield Suspicion(
                    f"never matches: `{name}`, above it, takes all its requests", (("routes", index),)
                )
                break
        above.setdefault(first, []).append((route.name, route.match, pattern))


@rule(
    "target-exceeds-head", "the head holds the target, so the smaller limit decides and the answer is another"
)
def target_exceeds_head(config: Config) -> Iterator[Suspicion]:
    """Find a limit on targets that can never be reached."""
    if config.limits.target > config.limits.head:
        message = "`target` is larger than `head`, which holds it, and is never reached"
        yield Suspicion(message, (("limits", "target"), ("limits", "head")))


@rule("trusts-everyone", "anyone can then claim any client address")
def trusts_everyone(config: Config) -> Iterator[Suspicion]:
    """Find a trusted network that is the whole of the internet."""
    for index, network in enumerate(config.trusted_proxies):
        if network.prefixlen == 0:
            yield Suspicion(
                f"`{network}` trusts what anyone says about client addresses", (("trusted_proxies", index),)
            )


@rule("unused-upstream", "most often the name in a route is another one than was meant")
def unused_upstream(config: Config) -> Iterator[Suspicion]:
    """Find upstreams that no route names, and no fallback."""
    used = {route.upstream for route in config.routes}
    used.update(
        step.upstream.name for route in config.routes for step in route.fallback or () if step.upstream
    )
    for name in config.upstreams:
        if name not in used:
            yield Suspicion("no route names this upstream", (("upstreams", name),), at_key=True)


@rule("unverified-upstream", "whoever is in between can read and change everything")
def unverified_upstream(config: Config) -> Iterator[Suspicion]:
    """Find upstreams whose certificate may be anyone's."""
    for name, upstream in config.upstreams.items():
        if upstream.tls is not None and not upstream.tls.verify:
            message = "with `verify: false`, the upstream may be anyone; `ca` trusts a private authority"
            yield Suspicion(message, (("upstreams", name, "tls", "verify"),))


def _pattern(match: Match) -> PathPattern:
    if match.path_regex is not None:
        return parse_regex(match.path_regex)
    return parse_path(match.path or ANY_PATH)


def _first_taker(
    wanted: Match, pattern: PathPattern, takers: Sequence[tuple[int, Match, PathPattern]]
) -> int | None:
    """Return the number of the first route that takes all requests that fulfil `wanted`."""
    return next(
        (number for number, match, other in takers if other.covers(pattern) and _asks_no_more(match, wanted)),
        None,
    )


def _has_get(match: Match) -> bool:
    return not match.methods or "GET" in match.methods


def _first(pattern: PathPattern) -> bytes | None:
    """Return the first segment of all paths that match; None where they have different ones."""
    return pattern.segments[0] if pattern.segments else None


def _asks_no_more(one: Match, other: Match) -> bool:
    """Tell if every request that fulfils `other`, its path aside, fulfils `one` as well."""
    return (
        (not one.methods or (bool(other.methods) and set(one.methods) >= set(other.methods)))
        and (not one.host or (bool(other.host) and _hosts_cover(one.host, other.host)))
        and _headers_cover(one.headers, other.headers)
    )


def _hosts_cover(ours: Sequence[str], theirs: Sequence[str]) -> bool:
    patterns = [parse_host(text) for text in ours]
    return all(any(pattern.covers(parse_host(text)) for pattern in patterns) for text in theirs)


def _headers_cover(ours: Mapping[str, str], theirs: Mapping[str, str]) -> bool:
    lower = {name.lower(): value for name, value in theirs.items()}
    return all(
        value in {"*", lower.get(name.lower())} and name.lower() in lower for name, value in ours.items()
    )
