"""How the sidecar is, in one word, and why."""

from functools import partial

import pytest

from sidecar.policy.breaker import FAILURE
from sidecar.policy.health import Health, HealthSettings
from sidecar.telemetry.condition import Condition, condition, not_ready, plan_of, state_of, unusable
from sidecar.telemetry.live import Live, Maintained
from tests.support.live import live_from
from tests.support.virtual_time import in_virtual_time, now

YAML = """
version: 1
upstreams:
  orders: {url: "http://127.0.0.1:9"}
  users: {url: "http://127.0.0.1:9"}
breakers:
  both: {consecutive_failures: 1, open_for: 10s, open_jitter: 0%}
  database: {consecutive_failures: 1, open_for: 10s, open_jitter: 0%}
  quiet: {consecutive_failures: 1, open_for: 10s, mode: shadow}
  gone: {mode: off}
routes:
  - {name: read, match: {path: /read/**}, upstream: orders, breaker: database}
  - {name: write, match: {path: /write/**}, upstream: orders, breaker: {consecutive_failures: 1, open_for: 10s}}
  - {name: any, match: {path: /any/**}, upstream: orders, breaker: both}
  - {name: people, upstream: users, breaker: both}
"""
REQUIRED = YAML + "readiness: {require_upstream: true}\n"


def force_open(live: Live, *names: str, ttl: float | None = None) -> None:
    for name in names:
        live.guards.breakers[name].force_open(live.now(), ttl)


def probed(live: Live, **healthy: bool | None) -> None:
    """Let the upstreams have probes, which found this."""
    made = {name: Health(HealthSettings(fall=1, rise=1)) for name in healthy}
    for name, well in healthy.items():
        if well is not None:
            made[name].passed(live.now(), 0.01) if well else made[name].failed(
                live.now(), "http://10.0.0.1: no"
            )
    live.health = made


async def test_all_is_well_when_nothing_is_wrong() -> None:
    assert condition(live_from(YAML)) == Condition("healthy", "All is well.")


@pytest.mark.parametrize("reason", ["starting", "draining"])
async def test_what_is_not_ready_is_unhealthy_whatever_else_is_well(reason: str) -> None:
    live = live_from(YAML)
    live.not_ready = reason

    assert (not_ready(live), condition(live)) == (reason, Condition("unhealthy", f"Not ready: {reason}."))


async def test_an_open_breaker_degrades_and_is_named() -> None:
    live = live_from(YAML)
    force_open(live, "database")

    assert condition(live) == Condition("degraded", "Degraded: breaker database is OPEN.")


@in_virtual_time
async def test_a_breaker_that_is_trying_again_still_degrades() -> None:
    """Nobody asked the breaker anything in the meantime: the time alone has moved it."""
    live = live_from(YAML)
    breaker = live.guards.breakers["database"]
    breaker.settle(breaker.enter(0.0), FAILURE, 0.0, 0.1, "503")
    seen = []
    for at in (0.0, 9.9, 10.0):
        live.now = partial(float, at)
        seen.append((str(state_of(breaker, at)), condition(live).message))

    assert seen == [
        ("OPEN", "Degraded: breaker database is OPEN."),
        ("OPEN", "Degraded: breaker database is OPEN."),
        ("HALF_OPEN", "Degraded: breaker database is HALF_OPEN."),
    ]


async def test_a_breaker_in_shadow_never_degrades() -> None:
    live = live_from(YAML)
    force_open(live, "quiet")

    assert condition(live).status == "healthy"


async def test_a_breaker_that_is_forced_closed_degrades_nothing() -> None:
    live = live_from(YAML)
    live.guards.breakers["database"].force_closed(live.now(), None)

    assert condition(live).status == "healthy"


async def test_an_upstream_that_fails_its_probes_degrades_and_one_not_yet_probed_does_not() -> None:
    live = live_from(YAML)
    seen = []
    for well in (None, True, False):
        probed(live, users=well)
        seen.append(condition(live))

    assert seen == [
        Condition("healthy", "All is well."),
        Condition("healthy", "All is well."),
        Condition("degraded", "Degraded: upstream users fails its probes."),
    ]


async def test_a_route_under_maintenance_degrades() -> None:
    live = live_from(YAML)
    live.maintenance = {"read": Maintained(0.0, 30.0)}

    assert condition(live) == Condition("degraded", "Degraded: route read is under maintenance.")


async def test_a_configuration_that_was_refused_degrades_without_its_lines() -> None:
    live = live_from(YAML)
    live.reload_ok, live.reload_lines = False, ("sidecar.yaml:3:1: http://user:secret@host",)

    told = "Degraded: the last configuration was refused, the one before it is in force."
    assert condition(live) == Condition("degraded", told)


async def test_it_is_unhealthy_when_no_route_can_be_answered_each_for_its_own_reason() -> None:
    live = live_from(YAML)
    force_open(live, "database", "write")
    live.maintenance = {"any": Maintained(0.0, 30.0)}
    before = condition(live).status
    probed(live, users=False)

    told = condition(live)

    assert before == "degraded"
    assert told == Condition(
        "unhealthy",
        "No route can be answered by its upstream: breakers database, write are OPEN; "
        "upstream users fails its probes; route any is under maintenance.",
    )


async def test_maintenance_of_all_routes_is_told_as_such_and_not_as_an_outage() -> None:
    live = live_from(YAML)
    live.maintenance = {route: Maintained(0.0, 30.0) for route, _, _ in plan_of(live.loaded).routes}
    calm = condition(live)
    force_open(live, "database")
    probed(live, users=False)

    assert calm == Condition("unhealthy", "All routes are under maintenance.")
    assert condition(live) == Condition(
        "unhealthy",
        "All routes are under maintenance; breaker database is OPEN; upstream users fails its probes.",
    )


async def test_a_message_names_three_of_a_kind_and_counts_the_rest() -> None:
    routes = ", ".join(
        f"{{name: r{n}, match: {{path: /r{n}}}, upstream: a, breaker: {{}}}}" for n in range(6)
    )
    live = live_from(f"version: 1\nupstreams: {{a: {{url: 'http://127.0.0.1:9'}}}}\nroutes: [{routes}]")
    force_open(live, "r0", "r1", "r2", "r3", "r4")

    assert condition(live).message == "Degraded: breakers r0, r1, r2 and 2 more are OPEN."


# --- readiness ---


async def test_an_outage_of_the_upstreams_does_not_make_it_unready() -> None:
    """Or every replica would be taken out of service at once."""
    live = live_from(YAML)
    force_open(live, "both", "database", "write")
    probed(live, orders=False, users=False)

    assert not_ready(live) is None


async def test_where_upstreams_are_required_it_is_ready_as_long_as_one_is_usable() -> None:
    live = live_from(REQUIRED)
    seen = []
    for orders, users in ((True, True), (False, None), (None, False), (False, False)):
        probed(live, orders=orders, users=users)
        seen.append(not_ready(live))

    assert seen == [None, None, None, "no upstream is usable"]
    assert condition(live) == Condition("unhealthy", "Not ready: no upstream is usable.")


async def test_without_probes_an_upstream_is_unusable_while_all_of_its_own_breakers_are_open() -> None:
    """`both` guards a route to another upstream as well: what it has seen may have been that one."""
    live = live_from(REQUIRED)
    seen = [unusable(live, "orders")]
    for name in ("both", "database", "write"):
        force_open(live, name)
        seen.append(unusable(live, "orders"))

    assert seen == [False, False, False, True]
    assert not unusable(live, "users")  # it has no breaker of its own
    assert not_ready(live) is None


async def test_what_the_probes_say_goes_before_what_the_breakers_say() -> None:
    live = live_from(REQUIRED)
    force_open(live, "database", "write")
    probed(live, orders=True)

    assert not unusable(live, "orders")


async def test_a_breaker_in_shadow_makes_no_upstream_unusable() -> None:
    live = live_from(REQUIRED.replace("breaker: both", "breaker: quiet"))
    force_open(live, "quiet")

    assert not unusable(live, "users")


@in_virtual_time
async def test_it_is_ready_again_when_a_breaker_is_due_for_a_trial() -> None:
    """Else no traffic would come, no trial would be made, and it would never be ready again."""
    live = live_from(
        """
version: 1
upstreams: {a: {url: "http://127.0.0.1:9"}, spare: {url: "http://127.0.0.1:9"}}
routes: [{name: r, upstream: a, breaker: {}, fallback: [{upstream: {name: spare}}]}]
readiness: {require_upstream: true}
"""
    )
    live.guards.breakers["r"].force_open(now(), 5.0)
    seen = []
    for at in (0.0, 4.9, 5.0):
        live.now = partial(float, at)
        seen.append(not_ready(live))

    assert seen == ["no upstream is usable", "no upstream is usable", None]


async def test_what_depends_on_what_follows_the_configuration_in_force() -> None:
    live = live_from(YAML)
    plan = plan_of(live.loaded)

    assert plan.modes == {"both": "enforce", "database": "enforce", "quiet": "shadow", "write": "enforce"}
    assert plan.enforced == ("both", "database", "write")
    assert plan.own == {"orders": ("database", "write"), "users": ()}
    assert plan.users == {"both": ("any", "people"), "database": ("read",), "quiet": (), "write": ("write",)}
    assert plan.reaches["both"] == ("orders", "users")
    assert plan_of(live.loaded) is plan
    assert plan_of(live_from().loaded).routes == (("all", "service", None),)
