"""Who looks at the running sidecar and its upstreams by the clock: rates, the loop's lag, probes.

What a new configuration asks of them is prepared first, where it may fail, and put in force later, where it may not.
"""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from random import random  # noqa: TID251 -- the jitter of probes, which are given it
from typing import Any

from sidecar.config.load import Loaded
from sidecar.config.model import RouteConfig
from sidecar.policy.breaker import Breaker
from sidecar.policy.health import Health, HealthSettings
from sidecar.runtime.engine import Engine
from sidecar.runtime.prober import Prober
from sidecar.telemetry.lag import LagMeter
from sidecar.telemetry.live import Live
from sidecar.telemetry.rates import Rates

__all__ = ["Observers"]


class Observers:
    """They begin with `start` and end with `stop`; a reload asks for `prepared`."""

    def __init__(self, loop: asyncio.AbstractEventLoop, log: Any) -> None:
        self._loop = loop
        self._log = log
        self._lag = LagMeter(loop)
        self._prober: Prober | None = None
        self._ending: set[asyncio.Task[None]] = set()
        self._live: Live | None = None
        self._rates: Rates | None = None

    @property
    def rates(self) -> Rates:
        """The rates of the last minute; there once it was started."""
        assert self._rates is not None  # noqa: S101 -- a promise of whoever asks
        return self._rates

    def start(self, live: Live, engine: Engine) -> None:
        """Begin to look.

        Raises:
            StartFailed: a TLS file for probes does not hold what it should.

        """
        self._live = live
        begin = self.prepared(live.loaded)
        self._rates = Rates(live, self._loop)
        live.lag = self._lag
        self._lag.start()
        self._rates.start()
        begin(live, engine)

    def prepared(self, loaded: Loaded) -> Callable[[Live, Engine], None]:
        """Make ready what `loaded` asks for. What is given puts it in force, and cannot fail.

        Raises:
            StartFailed: a TLS file for probes does not hold what it should.

        """
        asked = {name: each for name, each in loaded.config.upstreams.items() if each.health is not None}
        known = self._live.health if self._live is not None else {}
        health = {}
        for name, each in asked.items():
            assert each.health is not None  # noqa: S101 -- those were left out
            settings = HealthSettings(each.health.fall, each.health.rise)
            old = known.get(name)
            health[name] = old if old is not None and old.settings == settings else Health(settings)
        breakers: dict[str, Sequence[Breaker]] = {}
        prober = Prober(self._loop, asked, health, lambda name: breakers.get(name, ()), random, self._changed)

        def put_in_force(live: Live, engine: Engine) -> None:
            breakers.update(_breakers(loaded.config.routes, engine.guards.breakers))
            live.health = health
            before, self._prober = self._prober, prober
            if before is not None:
                self._end(before)
            prober.start()

        return put_in_force

    async def stop(self) -> None:
        """Cease to look."""
        self._lag.stop()
        if self._rates is not None:
            self._rates.stop()
        if self._prober is not None:
            self._end(self._prober)
        if self._ending:
            await asyncio.wait(self._ending)

    def _end(self, prober: Prober) -> None:
        task = self._loop.create_task(prober.stop())
        self._ending.add(task)
        task.add_done_callback(self._ending.discard)

    def _changed(self, name: str, health: Health) -> None:
        tell = self._log.info if health.healthy else self._log.warning
        tell("upstream.healthy" if health.healthy else "upstream.unhealthy", upstream=name, why=health.why)
        if self._live is not None:
            self._live.hub.publish("upstream", {"name": name, "healthy": health.healthy, "why": health.why})


def _breakers(
    routes: Sequence[RouteConfig], breakers: Mapping[str, Breaker]
) -> dict[str, tuple[Breaker, ...]]:
    """Give by upstream the breakers that guard it alone: good news of one upstream says nothing about another."""
    guarded: dict[str, set[str]] = {}
    for route in routes:
        if route.breaker is None:
            continue
        name = route.breaker if isinstance(route.breaker, str) else route.name
        if name in breakers:
            guarded.setdefault(name, set()).add(route.upstream)
    found: dict[str, list[Breaker]] = {}
    for name, upstreams in guarded.items():
        if len(upstreams) == 1:
            found.setdefault(next(iter(upstreams)), []).append(breakers[name])
    return {name: tuple(each) for name, each in found.items()}
