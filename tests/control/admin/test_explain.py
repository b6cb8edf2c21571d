"""Explaining a request over the network: the same as by command."""

from sidecar.control.explain import explain_json
from tests.control.admin.conftest import Admin


async def test_it_says_what_the_command_says(admin: Admin) -> None:
    status, said = await admin.ask(
        "GET",
        "/explain",
        params=[
            ("method", "POST"),
            ("url", "http://shop.example/orders/1?a=b"),
            ("header", "X-A: b: c"),
            ("header", "X-B:"),
        ],
    )

    live = admin.live
    headers = [("X-A", "b: c"), ("X-B", "")]
    expected = explain_json(
        live.loaded, live.router, live.pipelines, "POST", "http://shop.example/orders/1?a=b", headers
    )
    assert (status, said) == (200, expected)
    assert said["route"] == "orders"


async def test_a_url_alone_is_got(admin: Admin) -> None:
    _, said = await admin.ask("GET", "/explain", params={"url": "/search"})

    assert (said["route"], said["request"]["method"]) == ("search", "GET")


async def test_without_a_url_or_with_half_a_header_there_is_nothing_to_explain(admin: Admin) -> None:
    assert await admin.refusal("GET", "/explain") == (400, "missing")
    for header in ("X-A", ": b", ""):
        assert await admin.refusal("GET", "/explain", params={"url": "/", "header": header}) == (
            400,
            "bad_value",
        )
