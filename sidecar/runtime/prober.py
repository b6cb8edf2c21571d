"""The health probes of all upstreams: one task for each that has `health`, at most one probe of it at a time.

The first probe goes out within a second, each at a moment of its own; the next ones `interval` after the beginning of
the one before, give or take `jitter`, so that the replicas of a sidecar do not all ask in the same moment. One that takes
longer than that is followed at once.

What a probe says goes to the upstream's `Health`, which decides what it means; a change is told to `on_change`. A probe
that passes may let an open breaker try again before its time (`policy/health.py` says when). A probe that fails does
nothing to any breaker.

Nothing that goes wrong here reaches anybody else: a fault in a probe is a failed probe, a fault in whoever is told goes
to the loop's exception handler, and the probes go on.
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from time import perf_counter

from sidecar.config.model import UpstreamConfig
from sidecar.config.observing import HealthConfig
from sidecar.policy.breaker import Breaker
from sidecar.policy.health import Health
from sidecar.runtime.probe import Probe

__all__ = ["Prober"]

Ask = Callable[[], Awaitable[str | None]]

_FIRST = 1.0  # seconds within which the first probe goes out
_PATIENCE = 1.0  # seconds that `stop` waits for probes to let go


class Prober:
    """Probes `upstreams` from `start` to `stop`. `health` has an entry for each that has probes.

    `breakers_of` gives the breakers that an upstream's word may hasten, `chance` numbers in [0, 1). `clock` measures
    how long a probe takes; everything else is on the loop's time. `probe_of` makes what asks: None is well.
    """

    def __init__(  # noqa: PLR0917 -- six things of six kinds: nobody takes one for another
        self,
        loop: asyncio.AbstractEventLoop,
        upstreams: Mapping[str, UpstreamConfig],
        health: Mapping[str, Health],
        breakers_of: Callable[[str], Sequence[Breaker]],
        chance: Callable[[], float],
        on_change: Callable[[str, Health], None],
        *,
        clock: Callable[[], float] = perf_counter,
        probe_of: Callable[[str, UpstreamConfig, HealthConfig], Ask] = Probe,
    ) -> None:
        """Make ready to probe. Nothing is opened.

        Raises:
            StartFailed: a TLS file does not hold what it should.

        """
        self._loop = loop
        self._health = health
        self._breakers_of = breakers_of
        self._chance = chance
        self._on_change = on_change
        self._clock = clock
        self._watched = [
            (name, each.health, probe_of(name, each, each.health))
            for name, each in upstreams.items()
            if each.health is not None
        ]
        self._tasks: list[asyncio.Task[None]] = []

    def start(self) -> None:
        """Begin to probe."""
        self._tasks = [self._loop.create_task(self._watch(*watched)) for watched in self._watched]

    async def stop(self) -> None:
        """End every probe, and wait until it has let go of its connection. Stopping twice is stopping once."""
        tasks, self._tasks = self._tasks, []
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks, timeout=_PATIENCE)

    async def _watch(self, name: str, settings: HealthConfig, ask: Ask) -> None:
        """Probe one upstream for ever."""
        loop = self._loop
        await asyncio.sleep(self._chance() * min(_FIRST, settings.interval))
        while True:
            began = loop.time()
            try:
                await self._check(name, ask)
            except Exception as fault:  # noqa: BLE001 -- isolation: a fault of whoever is told must not end the probes
                loop.call_exception_handler(
                    {"message": f"telling of the probes of {name} failed", "exception": fault}
                )
            pause = settings.interval * (1 + settings.jitter * (2 * self._chance() - 1))
            await asyncio.sleep(max(0.0, began + pause - loop.time()))

    async def _check(self, name: str, ask: Ask) -> None:
        """Probe once, and act on what comes of it."""
        health = self._health[name]
        started = self._clock()
        try:
            why = await ask()
        except Exception as fault:  # noqa: BLE001 -- isolation: whatever it is, there was no good answer
            why = type(fault).__name__
        now = self._loop.time()
        passed = why is None
        changed = health.passed(now, self._clock() - started) if why is None else health.failed(now, why)
        if passed:
            self._hasten(name, health, now)
        if changed:
            self._on_change(name, health)

    def _hasten(self, name: str, health: Health, now: float) -> None:
        for breaker in self._breakers_of(name):
            trip = breaker.last_trip
            if not breaker.passing and trip is not None and health.vouches_since(trip):
                breaker.hasten(now)
