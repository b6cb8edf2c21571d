"""What an operator may change while the sidecar runs: all of it, or nothing, and always told."""

import asyncio
from typing import Any

import pytest
from structlog.testing import CapturingLogger

from sidecar.config.load import Loaded, load_text
from sidecar.control.actions import Reloaded
from sidecar.errors import StartFailed
from sidecar.runtime.engine import Engine
from sidecar.runtime.steering import Steering
from sidecar.telemetry.live import Live
from sidecar.telemetry.logs import LogControl
from tests.support.caches import a_copy
from tests.support.exchanges import a_request
from tests.support.live import engine_from, live_from

TEXT = """
version: 1
upstreams: {service: {url: "http://127.0.0.1:9"}}
routes:
  - {name: one, match: {path: /one}, upstream: service, cache: {fresh_for: 1h}}
  - {name: two, upstream: service}
"""
MORE = TEXT + "  - {name: three, match: {path: /three}, upstream: service}\n"


class Steered:
    """A sidecar that runs TEXT, whose file says what `text` says."""

    def __init__(self, *, file: bool = True) -> None:
        self.live: Live = live_from(TEXT)
        self.engine: Engine = engine_from(TEXT)
        self.live.guards = self.engine.guards
        self.live.pipelines = self.engine.dispatcher.pipelines
        self.log = CapturingLogger()
        self.text = TEXT
        self.become_raises: Exception | None = None
        self.became: list[Loaded] = []
        load = (lambda: load_text(self.text, name="sidecar.yaml", env={})) if file else None
        self.steering = Steering(self.live, self.log, LogControl("info"), load, self.become)
        self.steering.keep_up(self.engine)

    async def become(self, loaded: Loaded) -> None:
        if self.become_raises is not None:
            raise self.become_raises
        self.became.append(loaded)
        self.live.loaded = loaded

    @property
    def happened(self) -> list[tuple[str, dict[str, Any]]]:
        return [(event.kind, dict(event.data)) for event in self.live.hub.recent]

    async def statuses(self, *paths: str) -> list[int]:
        found = []
        for path in paths:
            reply = await self.engine.dispatcher(a_request(target=path))
            reply.close()
            found.append(reply.status)
        return found


# --- reload ---


async def test_a_file_that_says_something_else_is_put_in_force() -> None:
    steered = Steered()
    steered.text = MORE

    told = await steered.steering.reload()

    assert told == Reloaded(ok=True, changed=True)
    assert [len(loaded.config.routes) for loaded in steered.became] == [3]
    assert (steered.live.reload_ok, steered.live.reloads) == (True, {"ok": 1, "refused": 0})
    assert [call.args for call in steered.log.calls if call.method_name == "info"] == [("config.reloaded",)]
    digest = steered.became[0].digest
    told_to_others = {"ok": True, "changed": True, "changes": ["routes.three"], "lines": [], "hash": digest}
    assert steered.happened == [("reload", {"by": "admin", **told_to_others})]


async def test_a_file_that_says_the_same_is_put_in_force_too_since_what_it_names_may_be_another() -> None:
    steered = Steered()

    assert await steered.steering.reload() == Reloaded(ok=True, changed=False)
    assert len(steered.became) == 1


async def test_a_file_that_is_wrong_is_refused_with_all_its_lines() -> None:
    steered = Steered()
    before = steered.live.loaded
    steered.text = TEXT.replace("upstream: service}", "upstream: serivce, retry: {retries: -1}}")

    told = await steered.steering.reload()

    assert (told.ok, told.changed, len(told.lines)) == (False, False, 2)
    assert told.lines[0].startswith("sidecar.yaml:6:")
    assert steered.live.loaded is before
    assert (steered.live.reload_ok, steered.live.reload_lines) == (False, told.lines)
    assert steered.live.reloads == {"ok": 0, "refused": 1}
    (call,) = [call for call in steered.log.calls if call.method_name == "error"]
    assert (call.args, call.kwargs) == (
        ("config.reload_refused",),
        {"by": "admin", "problems": list(told.lines)},
    )
    assert [kind for kind, _ in steered.happened] == ["reload"]


async def test_who_asked_and_what_changed_is_told_whatever_came_of_it() -> None:
    steered = Steered()
    steered.text = MORE.replace("path: /one}", "path: /uno}")
    await steered.steering.reload("SIGHUP")
    await steered.steering.reload("watch")
    steered.text = "version: 1\n"
    await steered.steering.reload("watch")

    told = [(data["by"], data["ok"], data["changes"]) for _, data in steered.happened]
    lines = [
        (call.kwargs["by"], call.kwargs.get("changes")) for call in steered.log.calls if "by" in call.kwargs
    ]
    assert told == [
        ("SIGHUP", True, ["routes.one", "routes.three"]),
        ("watch", True, []),
        ("watch", False, []),
    ]
    assert lines == [("SIGHUP", ["routes.one", "routes.three"]), ("watch", []), ("watch", None)]


async def test_what_could_not_be_started_is_refused_and_the_next_one_may_succeed() -> None:
    steered = Steered()
    steered.become_raises = StartFailed("fallback.json: cannot be read: No such file or directory")
    assert (await steered.steering.reload()).lines == (
        "fallback.json: cannot be read: No such file or directory",
    )
    steered.become_raises = None

    assert (await steered.steering.reload()).ok
    assert (steered.live.reload_ok, steered.live.reload_lines) == (True, ())


@pytest.mark.parametrize(
    ("added", "line"),
    [
        ('listen: {ops: "127.0.0.1:1"}\n', "sidecar.yaml:7:15: listen.ops: "),
        ("listen: {admin: off}\n", "sidecar.yaml:7:17: listen.admin: "),
        ("log: {format: console}\n", "sidecar.yaml:7:15: log.format: "),
        ('telemetry: {otel: {endpoint: "http://127.0.0.1:4318"}}\n', "sidecar.yaml:7:30: telemetry.otel: "),
    ],
)
async def test_what_is_made_at_the_start_alone_is_refused_rather_than_ignored(added: str, line: str) -> None:
    steered = Steered()
    steered.text = TEXT + added

    told = await steered.steering.reload()

    assert [each.startswith(line) and each.endswith("restart it") for each in told.lines] == [True], (
        told.lines
    )
    assert steered.became == []


async def test_without_a_file_there_is_nothing_to_reload() -> None:
    steered = Steered(file=False)

    assert (await steered.steering.reload()).lines == (
        "there is no file to read again: this runs with --upstream",
    )


async def test_a_sidecar_that_drains_takes_no_new_configuration() -> None:
    steered = Steered()
    steered.live.not_ready = "draining"

    assert (await steered.steering.reload()).lines == ("the sidecar is draining",)
    assert steered.became == []


async def test_reloads_wait_for_each_other() -> None:
    steered = Steered()
    under_way, most = 0, 0

    async def slowly(loaded: Loaded) -> None:
        nonlocal under_way, most
        under_way += 1
        most = max(most, under_way)
        await asyncio.sleep(0)
        under_way -= 1

    load = lambda: load_text(TEXT, name="sidecar.yaml", env={})  # noqa: E731 -- as above
    steering = Steering(steered.live, steered.log, LogControl("info"), load, slowly)

    told = await asyncio.gather(*[steering.reload() for _ in range(5)])

    assert [each.ok for each in told] == [True] * 5
    assert most == 1


async def test_warnings_of_the_new_file_are_logged() -> None:
    steered = Steered()
    steered.text = TEXT.replace(", upstream: service}\n", ", upstream: service, timeout: {total: 1s}}\n")

    await steered.steering.reload()

    said = [call.kwargs["warning"] for call in steered.log.calls if call.args == ("config.warning",)]
    assert said == [str(each) for each in steered.became[0].warnings]
    assert said


# --- maintenance ---


async def test_one_route_is_under_maintenance_and_the_others_are_not() -> None:
    steered = Steered()

    steered.steering.maintain("one", 90.0)

    assert await steered.statuses("/one", "/two") == [503, 502]
    assert {name: each.retry_after for name, each in steered.live.maintenance.items()} == {"one": 90.0}
    assert steered.happened == [("maintenance", {"routes": ["one"], "on": True, "retry_after": 90.0})]


async def test_all_routes_are_under_maintenance_until_it_ends() -> None:
    steered = Steered()
    steered.steering.maintain(None, 30.0)
    assert await steered.statuses("/one", "/two") == [503, 503]

    steered.steering.end_maintenance(None)

    assert await steered.statuses("/one", "/two") == [502, 502]
    assert steered.live.maintenance == {}
    assert steered.happened[-1] == (
        "maintenance",
        {"routes": ["one", "two"], "on": False, "retry_after": None},
    )


async def test_ending_what_is_not_there_changes_and_tells_nothing() -> None:
    steered = Steered()

    steered.steering.end_maintenance("one")

    assert steered.happened == []


async def test_maintenance_outlives_a_reload_and_holds_for_routes_that_are_new() -> None:
    steered = Steered()
    steered.steering.maintain(None, 30.0)

    steered.engine = engine_from(MORE.replace("name: one", "name: uno"))
    steered.steering.keep_up(steered.engine)

    assert sorted(steered.live.maintenance) == ["three", "two", "uno"]
    assert await steered.statuses("/one", "/two", "/three") == [503, 503, 503]


async def test_maintenance_of_one_route_is_that_of_no_new_one() -> None:
    steered = Steered()
    steered.steering.maintain("one", 30.0)

    steered.engine = engine_from(MORE)
    steered.steering.keep_up(steered.engine)

    assert list(steered.live.maintenance) == ["one"]


async def test_a_route_that_was_let_through_again_stays_so_and_new_ones_are_under_what_holds_for_all() -> (
    None
):
    steered = Steered()
    steered.steering.maintain(None, 30.0)
    steered.steering.end_maintenance("two")

    steered.engine = engine_from(MORE)
    steered.steering.keep_up(steered.engine)

    assert sorted(steered.live.maintenance) == ["one", "three"]


async def test_when_each_route_was_let_through_again_nothing_holds_for_all_any_more() -> None:
    steered = Steered()
    steered.steering.maintain(None, 30.0)
    steered.steering.end_maintenance("two")
    steered.steering.end_maintenance("one")

    steered.engine = engine_from(MORE)
    steered.steering.keep_up(steered.engine)

    assert steered.live.maintenance == {}


async def test_a_reload_that_finds_the_sidecar_draining_when_the_file_is_read_is_refused() -> None:
    steered = Steered()

    def load() -> Loaded:
        steered.live.not_ready = "draining"
        return load_text(TEXT, name="sidecar.yaml", env={})

    steering = Steering(steered.live, steered.log, LogControl("info"), load, steered.become)

    assert (await steering.reload()).lines == ("the sidecar is draining",)
    assert steered.became == []


# --- the rest ---


async def test_the_log_level_is_what_it_was_told() -> None:
    steered = Steered()

    steered.steering.set_log_level("debug")

    assert steered.steering.log_level() == "debug"
    assert steered.happened == [("log_level", {"level": "debug"})]


async def test_copies_of_one_route_or_of_all_are_dropped() -> None:
    steered = Steered()
    store = steered.live.guards.store
    assert store is not None
    for key in (b"one h /1", b"one h /2", b"other h /3"):
        store.put(a_copy(key, 200, a_request().fields, b"", 0.0), 0.0)

    assert [steered.steering.clear_cache(route) for route in ("one", None)] == [2, 1]
    assert [data for kind, data in steered.happened if kind == "cache"] == [
        {"route": "one", "dropped": 2},
        {"route": None, "dropped": 1},
    ]


async def test_where_nothing_is_stored_nothing_is_dropped() -> None:
    live = live_from()
    steering = Steering(live, CapturingLogger(), LogControl("info"), None, lambda _: None)

    assert steering.clear_cache(None) == 0
