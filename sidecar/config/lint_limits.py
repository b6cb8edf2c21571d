"""Warnings about rate limits and copies: who is told apart, and what is kept although it should not be or cannot."""

from collections.abc import Iterator

from sidecar.config.model import Config
from sidecar.config.policies import READS
from sidecar.config.rules import Suspicion, rule

__all__: list[str] = []


@rule("one-client", "everyone shares one quota, and whoever uses it up uses up everyone's")
def one_client(config: Config) -> Iterator[Suspicion]:
    """Find limits by client address where only this machine can be the client, and nobody is believed about others."""
    traffic = config.listen.traffic
    if config.trusted_proxies or not traffic.is_local:
        return
    for index, route in enumerate(config.routes):
        limit = route.rate_limit
        if limit and limit.key == "client_ip" and limit.mode != "off":
            at = ("routes", index, "rate_limit")
            yield Suspicion(
                f"all requests to `{traffic}` come from this machine; `trusted_proxies` says whose word on the "
                "client's address counts",
                ((*at, "key"), (*at, "limit")),
            )


@rule(
    "burst-without-bucket", "only a bucket has a burst: a sliding window never lets more pass than its limit"
)
def burst_without_bucket(config: Config) -> Iterator[Suspicion]:
    """Find bursts of sliding windows."""
    for index, route in enumerate(config.routes):
        limit = route.rate_limit
        if limit and limit.burst is not None and limit.algorithm == "sliding_window":
            at = ("routes", index, "rate_limit")
            yield Suspicion("`burst` is for `algorithm: token_bucket`", ((*at, "burst"), (*at, "algorithm")))


@rule(
    "overrides-origin",
    "the service said that its answer must not be used like that, and may have its reasons",
)
def overrides_origin(config: Config) -> Iterator[Suspicion]:
    """Find copies that are used against the word of their origin."""
    for index, route in enumerate(config.routes):
        if route.cache and route.cache.override_origin:
            message = (
                "what the service says of its answers (`must-revalidate`, `max-age`) does not count here"
            )
            yield Suspicion(message, (("routes", index, "cache", "override_origin"),))
        for number, step in enumerate(route.fallback or ()):
            if step.stale and step.stale.override_origin:
                message = "copies are served although the service says `must-revalidate` or `no-cache`"
                at = ("routes", index, "fallback", number, "stale", "override_origin")
                yield Suspicion(message, (at,))


@rule("nothing-to-cache", "a cache that never has anything is most often one on the wrong route")
def nothing_to_cache(config: Config) -> Iterator[Suspicion]:
    """Find caches of routes that only other methods take."""
    for index, route in enumerate(config.routes):
        if route.cache and route.match.methods and not set(route.match.methods) & set(READS):
            message = "only answers to GET are kept, for GET and HEAD, and `match.methods` has neither"
            yield Suspicion(message, (("routes", index, "cache"),), at_key=True, own=True)


@rule("small-store", "one answer then drives out nearly all others")
def small_store(config: Config) -> Iterator[Suspicion]:
    """Find stores that a handful of the largest bodies fill."""
    if config.store.max_body * 4 > config.store.max_bytes:
        yield Suspicion(
            "fewer than four of the largest bodies (`max_body`) fit into `max_bytes`",
            (("store", "max_body"), ("store", "max_bytes")),
        )
