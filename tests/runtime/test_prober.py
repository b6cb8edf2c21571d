"""When upstreams are probed, what comes of it, and what does not. In virtual time; the probes themselves are played.

A probe of a real service is in `test_probe`; the last tests here put both together.
"""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

import pytest

from sidecar.config.model import UpstreamConfig
from sidecar.policy.breaker import FAILURE, Breaker, BreakerSettings, State
from sidecar.policy.health import Health, HealthSettings
from sidecar.runtime.probe import Probe
from sidecar.runtime.prober import Prober
from tests.support.virtual_time import VirtualTimeLoop, in_virtual_time, now

Ask = Callable[[], Awaitable[str | None]]


class Script:
    """What the probes of one upstream come to: an item for each, the last one for ever. `at` is when they began.

    None passes, a word fails, an exception is raised; a number is how long to take before the item after it.
    """

    def __init__(self, *items: str | float | BaseException | None) -> None:
        self._items = list(items)
        self.at: list[float] = []
        self.under_way = 0
        self.most = 0

    async def __call__(self) -> str | None:
        self.at.append(round(now(), 6))
        self.under_way += 1
        self.most = max(self.most, self.under_way)
        try:
            item = self._next()
            if isinstance(item, float):
                await asyncio.sleep(item)
                item = self._next()
        finally:
            self.under_way -= 1
        if isinstance(item, BaseException):
            raise item
        assert item is None or isinstance(item, str)
        return item

    def _next(self) -> str | float | BaseException | None:
        return self._items.pop(0) if len(self._items) > 1 else self._items[0]


def healths(configured: dict[str, UpstreamConfig]) -> dict[str, Health]:
    """What is known of each that has probes: nothing yet."""
    return {
        name: Health(HealthSettings(each.health.fall, each.health.rise))
        for name, each in configured.items()
        if each.health is not None
    }


def upstreams(**health: dict[str, Any] | None) -> dict[str, UpstreamConfig]:
    """Upstreams by name, each with this `health`."""
    return {
        name: UpstreamConfig.model_validate(
            {"url": "http://127.0.0.1:9", "health": "off" if each is None else each}
        )
        for name, each in health.items()
    }


class Stand:
    """A prober of played probes. `told` are the changes: when, of whom, and what it is now."""

    def __init__(
        self,
        scripts: dict[str, Script],
        said: dict[str, Any] | None = None,
        breakers: dict[str, list[Breaker]] | None = None,
        chance: Callable[[], float] = lambda: 0.5,
        on_change: Callable[[str, Health], None] | None = None,
    ) -> None:
        loop = asyncio.get_running_loop()
        configured = upstreams(**{name: {"interval": "10s"} | (said or {}) for name in scripts})
        self.health = healths(configured)
        self.told: list[tuple[float, str, bool | None]] = []
        self.prober = Prober(
            loop,
            configured,
            self.health,
            lambda name: (breakers or {}).get(name, []),
            chance,
            on_change or self._tell,
            clock=loop.time,
            probe_of=lambda name, _, __: scripts[name],
        )

    def _tell(self, name: str, health: Health) -> None:
        self.told.append((round(now(), 6), name, health.healthy))

    async def run(self, seconds: float) -> None:
        """Probe for so long."""
        self.prober.start()
        await asyncio.sleep(seconds)
        await self.prober.stop()


def tripped(**settings: Any) -> Breaker:
    """A breaker that has tripped at 0 s for 60 s."""
    breaker = Breaker("db", BreakerSettings(open_for=60.0, open_jitter=0.0, **settings), lambda: 0.5)
    for _ in range(5):
        breaker.settle(breaker.enter(0.0), FAILURE, 0.0, 0.1, "503")
    assert breaker.state is State.OPEN
    return breaker


# --- when ---


@in_virtual_time
async def test_the_first_probe_goes_out_within_a_second_and_then_one_an_interval() -> None:
    script = Script(None)
    await Stand({"a": script}).run(35)

    assert script.at == [0.5, 10.5, 20.5, 30.5]


@in_virtual_time
async def test_the_interval_runs_from_the_beginning_of_a_probe() -> None:
    script = Script(1.5, None, 1.5, None, 1.5, None)
    await Stand({"a": script}).run(25)

    assert script.at == [0.5, 10.5, 20.5]


@in_virtual_time
async def test_intervals_are_jittered_by_no_more_than_was_said() -> None:
    draws: Iterator[float] = iter([0.0, 0.0, 0.999999, 0.5, 0.25, 1.0])
    script = Script(None)
    await Stand({"a": script}, {"jitter": "20%"}, chance=lambda: next(draws)).run(45)

    assert [round(at, 3) for at in script.at] == [0, 8, 20, 30, 39]


@in_virtual_time
async def test_a_short_interval_begins_as_soon_as_it_is_short() -> None:
    script = Script(None)
    await Stand({"a": script}, {"interval": "200ms", "timeout": "100ms"}).run(0.55)

    assert script.at == [0.1, 0.3, 0.5]


@in_virtual_time
async def test_a_slow_upstream_has_one_probe_at_a_time_and_does_not_delay_the_others() -> None:
    slow, quick = Script(25.0, "timeout", 25.0, "timeout", 25.0, "timeout"), Script(None)
    await Stand({"slow": slow, "quick": quick}).run(52)

    assert (slow.at, slow.most) == ([0.5, 25.5, 50.5], 1)
    assert quick.at == [0.5, 10.5, 20.5, 30.5, 40.5, 50.5]


@in_virtual_time
async def test_an_upstream_without_health_is_not_asked() -> None:
    asked: list[str] = []

    def probe_of(name: str, _: UpstreamConfig, __: object) -> Ask:
        asked.append(name)
        return Script(None)

    configured = upstreams(a=None, b={"path": "/x"})
    health = healths(configured)
    prober = Prober(
        asyncio.get_running_loop(),
        configured,
        health,
        lambda _: [],
        lambda: 0.5,
        lambda _, __: None,
        probe_of=probe_of,
    )
    prober.start()
    await asyncio.sleep(1)
    await prober.stop()

    assert (asked, set(health)) == (["b"], {"b"})


# --- what comes of it ---


@in_virtual_time
async def test_fall_and_rise_decide_and_changes_are_told() -> None:
    script = Script(0.25, None, None, "status 503", "timeout", "timeout", "timeout", None, None)
    stand = Stand({"a": script})
    await stand.run(75)

    assert stand.told == [(0.75, "a", True), (40.5, "a", False), (70.5, "a", True)]
    health = stand.health["a"]
    assert (health.passes, health.failures, health.since, health.latency) == (4, 4, 70.5, 0.0)


@in_virtual_time
async def test_latency_is_that_of_the_last_good_probe() -> None:
    stand = Stand({"a": Script(0.25, None, 2.0, "timeout")})
    await stand.run(15)

    health = stand.health["a"]
    assert (health.latency, health.checked_at, health.why) == (0.25, 12.5, "timeout")


@in_virtual_time
async def test_an_exception_in_a_probe_is_a_failed_probe_and_the_probes_go_on() -> None:
    script = Script(ZeroDivisionError(), KeyError(), None)
    stand = Stand({"a": script})
    await stand.run(25)

    assert script.at == [0.5, 10.5, 20.5]
    assert (stand.health["a"].failures, stand.health["a"].why) == (2, "KeyError")


@in_virtual_time
async def test_whoever_cannot_be_told_does_not_end_the_probes() -> None:
    loop = asyncio.get_running_loop()
    assert isinstance(loop, VirtualTimeLoop)

    def fails(_: str, __: Health) -> None:
        raise KeyError("mine")

    script = Script(None)
    await Stand({"a": script}, on_change=fails).run(15)
    (told,) = loop.faults
    loop.faults.clear()

    assert script.at == [0.5, 10.5]
    assert (told["message"], type(told["exception"])) == ("telling of the probes of a failed", KeyError)


# --- what it means to breakers ---


@in_virtual_time
async def test_probes_that_pass_let_an_open_breaker_try_before_its_time_and_never_close_it() -> None:
    breaker = tripped()
    await Stand({"a": Script(None)}, breakers={"a": [breaker]}).run(55)

    assert [(event.at, event.after, event.cause) for event in breaker.events][1:] == [
        (10.5, State.HALF_OPEN, "probe_passed")
    ]
    assert breaker.state is State.HALF_OPEN


@in_virtual_time
async def test_probes_that_fail_trip_nothing_and_hold_nothing_open() -> None:
    closed, opened = Breaker("x", BreakerSettings(), lambda: 0.5), tripped()
    await Stand({"a": Script("timeout")}, breakers={"a": [closed, opened]}).run(70)

    assert (closed.state, len(closed.events)) == (State.CLOSED, 0)
    assert opened.view(70).state is State.HALF_OPEN
    assert opened.events[-1].cause == "open_time_over"


@in_virtual_time
async def test_one_good_probe_after_bad_ones_is_not_enough() -> None:
    breaker = tripped()
    script = Script("timeout", "timeout", None, "timeout", None, None)
    await Stand({"a": script}, breakers={"a": [breaker]}).run(55)

    assert [event.at for event in breaker.events][1:] == [50.5]


@in_virtual_time
async def test_what_an_operator_has_forced_open_stays_so() -> None:
    breaker = tripped()
    breaker.force_open(0.0, None)
    await Stand({"a": Script(None)}, breakers={"a": [breaker]}).run(100)

    assert (breaker.state, breaker.forced) == (State.OPEN, "open")


@in_virtual_time
async def test_the_breakers_of_other_upstreams_are_not_touched() -> None:
    mine, other = tripped(), tripped()
    scripts = {"a": Script(None), "b": Script("timeout")}
    await Stand(scripts, breakers={"a": [mine], "b": [other]}).run(30)

    assert (mine.state, other.state) == (State.HALF_OPEN, State.OPEN)


# --- the end ---


@in_virtual_time
async def test_stopping_ends_a_probe_that_hangs_at_once_and_no_other_begins() -> None:
    script = Script(1e9, None)
    stand = Stand({"a": script, "b": Script(None)})
    await stand.run(5)

    assert now() == 5
    await stand.prober.stop()
    await asyncio.sleep(100)
    assert (script.at, script.under_way) == ([0.5], 0)
    assert stand.health["a"].checked_at is None


@in_virtual_time
async def test_stopping_waits_for_no_more_than_a_second_for_a_probe_that_does_not_let_go() -> None:
    async def stubborn() -> str | None:
        try:
            await asyncio.sleep(1000)
        finally:
            await asyncio.sleep(30)
        return "late"

    configured = upstreams(a={"interval": "1h"})
    health = healths(configured)
    prober = Prober(
        asyncio.get_running_loop(),
        configured,
        health,
        lambda _: [],
        lambda: 0.0,
        lambda _, __: None,
        probe_of=lambda _, __, ___: stubborn,
    )
    prober.start()
    await asyncio.sleep(2)

    await prober.stop()

    assert now() == 3
    await asyncio.sleep(30)


@in_virtual_time
async def test_a_prober_that_was_never_started_can_be_stopped() -> None:
    await Stand({"a": Script(None)}).prober.stop()


# --- with real probes ---


async def test_a_real_upstream_that_dies_is_found_failing_and_costs_one_connection_a_probe() -> None:
    """On a real loop and socket: a good probe, then hang-ups. A second try would be a probe that nobody counts."""
    changed = asyncio.Event()
    connections, is_well = 0, True
    told: list[tuple[bool | None, str | None]] = []

    async def client(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal connections
        connections += 1
        await reader.readuntil(b"\r\n\r\n")
        if is_well:
            writer.write(b"HTTP/1.1 204 No Content\r\n\r\n")
        writer.close()

    def on_change(name: str, health: Health) -> None:
        nonlocal is_well
        told.append((health.healthy, health.why))
        is_well = False
        changed.set()

    server = await asyncio.start_server(client, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    said = {"interval": "100ms", "timeout": "100ms", "fall": 2, "jitter": "0%"}
    configured = {"a": UpstreamConfig.model_validate({"url": f"http://127.0.0.1:{port}", "health": said})}
    health = healths(configured)
    prober = Prober(
        asyncio.get_running_loop(), configured, health, lambda _: [], lambda: 0.0, on_change, probe_of=Probe
    )
    prober.start()
    async with asyncio.timeout(20):
        await changed.wait()
        changed.clear()
        await changed.wait()
    await prober.stop()
    server.close()
    await server.wait_closed()

    assert told == [(True, None), (False, "connection_terminated")]
    assert connections == health["a"].passes + health["a"].failures == 3
    assert health["a"].latency is not None
    assert 0 < health["a"].latency < 20


@pytest.mark.parametrize("url", ["http://127.0.0.1:{port}", "https://127.0.0.1:{port}"])
async def test_a_prober_that_is_stopped_while_its_upstream_hangs_lets_go_of_it(url: str) -> None:
    """Before any answer, and in the middle of a TLS handshake."""
    begun, gone = asyncio.Event(), asyncio.Event()

    async def client(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(1)
        begun.set()
        with contextlib.suppress(ConnectionError):
            await reader.read()
        gone.set()
        writer.close()

    server = await asyncio.start_server(client, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    said = {"url": url.format(port=port), "health": {"timeout": "1m", "interval": "1h"}}
    configured = {"a": UpstreamConfig.model_validate(said)}
    health = healths(configured)
    loop = asyncio.get_running_loop()
    prober = Prober(loop, configured, health, lambda _: [], lambda: 0.0, lambda _, __: None)
    prober.start()
    async with asyncio.timeout(20):
        await begun.wait()
        await prober.stop()
        await gone.wait()
    server.close()
    await server.wait_closed()

    assert health["a"].healthy is None
