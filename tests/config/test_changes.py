"""What a reload changes is told by its keys and names, and never by values."""

import pytest

from sidecar.config.changes import MOST, changes
from sidecar.config.load import load_text

SHOP = """\
version: 1
upstreams: {shop: {url: "http://127.0.0.1:9"}}
breakers: {db: {consecutive_failures: 3}}
bulkheads: {few: {max_concurrent: 3}}
defaults: {timeout: {attempt: 1s}}
routes:
  - {name: one, match: {path: /one}, upstream: shop, breaker: db, bulkhead: few}
  - {name: two, upstream: shop, timeout: {attempt: 2s}}
"""


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        ("", "", []),
        ("path: /one", "path: /uno", ["routes.one"]),
        ("consecutive_failures: 3", "consecutive_failures: 4", ["breakers.db"]),
        ("max_concurrent: 3", "max_concurrent: 4", ["bulkheads.few"]),
        ("127.0.0.1:9", "127.0.0.1:8", ["upstreams.shop"]),
        ("attempt: 1s", "attempt: 3s", ["defaults", "routes.one"]),
        ("version: 1\n", "version: 1\nrecords: 10\nlog: {level: debug}\n", ["log", "records"]),
        ("name: two", "name: three", ["routes.two", "routes.three"]),
        ("breakers: {", "breakers: {a.b: {}, ", ['breakers["a.b"]']),
        ("name: two", "name: two, match: {headers: {X-Key: secret}}", ["routes.two"]),
    ],
)
def test_what_differs_is_told_by_its_name(old: str, new: str, told: list[str]) -> None:
    before, after = (load_text(text, env={}).config for text in (SHOP, SHOP.replace(old, new)))

    assert sorted(changes(before, after)) == sorted(told)


def test_another_order_of_the_same_routes_is_told() -> None:
    head, one, two = SHOP.partition("  - {name: one")[0], SHOP.splitlines()[6], SHOP.splitlines()[7]
    before = load_text(f"{head}{one}\n{two}\n", env={}).config
    after = load_text(f"{head}{two}\n{one}\n", env={}).config

    assert changes(before, after) == ["routes"]


def test_of_many_differences_the_first_are_told_and_how_many_there_are_more() -> None:
    routes = "".join(f"  - {{name: r-{n}, match: {{path: /{n}}}, upstream: shop}}\n" for n in range(50))
    before, after = load_text(SHOP, env={}).config, load_text(SHOP + routes, env={}).config

    told = changes(before, after)

    assert (told[:2], told[MOST:]) == (["routes.r-0", "routes.r-1"], ["and 30 more"])
