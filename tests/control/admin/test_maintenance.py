"""Maintenance: on and off, for a route or for all."""

from tests.control.admin.conftest import Admin


async def test_one_route_or_all_can_be_put_under_it_and_let_go(admin: Admin) -> None:
    seen = []
    for method, body in (
        ("PUT", {"route": "orders", "retry_after": "120s"}),
        ("PUT", {}),
        ("DELETE", {"route": "orders"}),
        ("DELETE", {"route": None}),
    ):
        status, said = await admin.ask(method, "/maintenance", json=body)
        assert (await admin.ask("GET", "/maintenance"))[1] == said
        seen.append((status, {each["route"]: each["retry_after"] for each in said["routes"]}))

    assert seen == [
        (200, {"orders": 120.0}),
        (200, {"orders": 60.0, "search": 60.0, "all": 60.0}),
        (200, {"search": 60.0, "all": 60.0}),
        (200, {}),
    ]
    assert admin.actions.done == [
        ("maintain", "orders", 120.0),
        ("maintain", None, 60.0),
        ("end_maintenance", "orders"),
        ("end_maintenance", None),
    ]
    assert [(line["action"], line["target"], line["before"], line["after"]) for line in admin.lines[::3]] == [
        ("maintenance.begin", "orders", {}, {"orders": 120.0}),
        ("maintenance.end", "all", {"search": 60.0, "all": 60.0}, {}),
    ]


async def test_without_a_body_all_are_meant(admin: Admin) -> None:
    await admin.ask("PUT", "/maintenance")
    await admin.ask("DELETE", "/maintenance")

    assert admin.actions.done == [("maintain", None, 60.0), ("end_maintenance", None)]


async def test_a_route_that_there_is_not_is_404(admin: Admin) -> None:
    for method in ("PUT", "DELETE"):
        status, problem = await admin.ask(method, "/maintenance", json={"route": "order"})
        assert (status, problem["detail"]) == (
            404,
            "There is no route called `order`; did you mean `orders`?",
        )

    assert admin.actions.done == []
    assert [(line["event"], line["target"]) for line in admin.lines] == [("admin.refused", "order")] * 2
