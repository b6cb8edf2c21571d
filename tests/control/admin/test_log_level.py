"""The log level: seen and set."""

from tests.control.admin.conftest import Admin


async def test_it_is_seen_and_set(admin: Admin) -> None:
    before = await admin.ask("GET", "/log-level")
    changed = await admin.ask("PUT", "/log-level", json={"level": "debug"})
    after = await admin.ask("GET", "/log-level")

    assert (before, changed, after) == (
        (200, {"level": "info"}),
        (200, {"level": "debug"}),
        (200, {"level": "debug"}),
    )
    assert [(line["action"], line["before"], line["after"]) for line in admin.lines] == [
        ("log_level.set", "info", "debug")
    ]


async def test_a_level_that_there_is_not_is_told_what_it_may_mean(admin: Admin) -> None:
    status, problem = await admin.ask("PUT", "/log-level", json={"level": "warn"})

    assert (status, problem["detail"]) == (
        400,
        "`level` must be `debug`, `info`, `warning` or `error`, and is `warn`; did you mean `warning`?",
    )
    for body in ({}, {"level": None}, {"level": ["info"]}, {"level": "INFO "}):
        assert (await admin.ask("PUT", "/log-level", json=body))[0] == 400
    assert admin.actions.done == []
