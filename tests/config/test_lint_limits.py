"""Warnings about rate limits and copies: each speaks up where it should, and only there."""

import pytest

from sidecar.config.load import load_text


def warnings(settings: str, top: str = "") -> list[str]:
    text = f"""\
version: 1
upstreams: {{a: {{url: http://127.0.0.1:9000}}}}
{top}
routes: [{{name: r, upstream: a, {settings}}}]
"""
    return [str(each).split(": ", 1)[1] for each in load_text(text, name="f", env={}).warnings]


@pytest.mark.parametrize(
    "listener", ["127.0.0.1:80", "127.1.2.3:80", "localhost:80", "[::1]:80", "unix:///run/a.sock"]
)
def test_a_limit_by_address_where_all_come_from_one_is_warned_of(listener: str) -> None:
    limit, listen = "rate_limit: {limit: 10/s}", f'listen: {{traffic: "{listener}"}}'

    assert warnings(limit, listen) == [
        (
            f"routes[0].rate_limit.limit: warning[one-client]: all requests to `{listener}` come from this machine; "
            "`trusted_proxies` says whose word on the client's address counts"
        )
    ]
    assert warnings(limit, f"{listen}\ntrusted_proxies: [127.0.0.1]") == []
    assert warnings("rate_limit: {limit: 10/s, mode: off}", listen) == []
    assert warnings("rate_limit: {limit: 10/s, key: route}", listen) == []


@pytest.mark.parametrize("listener", ["0.0.0.0:80", ":80", "10.0.0.1:80", "a.example:80"])
def test_a_limit_by_address_where_others_can_come_is_not(listener: str) -> None:
    assert warnings("rate_limit: {limit: 10/s}", f'listen: {{traffic: "{listener}"}}') == []


def test_a_burst_of_a_sliding_window_is_warned_of() -> None:
    limit = "rate_limit: {limit: 10/s, burst: 5, algorithm: %s}"

    assert warnings(limit % "sliding_window") == [
        "routes[0].rate_limit.burst: warning[burst-without-bucket]: `burst` is for `algorithm: token_bucket`"
    ]
    assert warnings(limit % "token_bucket") == []


def test_copies_that_are_used_against_their_origin_s_word_are_warned_of() -> None:
    assert warnings(
        "cache: {override_origin: true}, fallback: [stale, {stale: {override_origin: true}, when: [5xx]}]"
    ) == [
        (
            "routes[0].cache.override_origin: warning[overrides-origin]: "
            "what the service says of its answers (`must-revalidate`, `max-age`) does not count here"
        ),
        (
            "routes[0].fallback[1].stale.override_origin: warning[overrides-origin]: "
            "copies are served although the service says `must-revalidate` or `no-cache`"
        ),
    ]


def test_a_cache_on_a_route_that_reads_nothing_is_warned_of() -> None:
    assert warnings("cache: {}, match: {methods: [POST, PUT]}") == [
        (
            "routes[0].cache: warning[nothing-to-cache]: only answers to GET are kept, for GET and HEAD, "
            "and `match.methods` has neither"
        )
    ]
    assert warnings("cache: {}, match: {methods: [POST, GET]}") == []
    assert warnings("match: {methods: [POST]}", "defaults: {cache: {}}") == []


def test_a_store_that_a_few_bodies_fill_is_warned_of() -> None:
    assert warnings("", "store: {max_bytes: 4MiB}") == []
    assert warnings("", "store: {max_bytes: 4095KiB}") == [
        "store.max_bytes: warning[small-store]: fewer than four of the largest bodies (`max_body`) fit into `max_bytes`"
    ]
