"""What is in force now, in one place: what metrics, health pages, the admin interface and the live page read.

There is one `Live` for the life of the process. A reload puts the objects of the new configuration into it, all in one
turn of the event loop, so whoever reads it within one turn sees one configuration. Readers change nothing here.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from sidecar.config.load import Loaded
from sidecar.config.router import Router
from sidecar.counts import Histogram
from sidecar.pipeline.assemble import Pipeline
from sidecar.pipeline.guards import Guards
from sidecar.policy.health import Health
from sidecar.telemetry.hub import Hub
from sidecar.telemetry.lag import LagMeter
from sidecar.telemetry.otel import Tracer
from sidecar.telemetry.record import Recorder

__all__ = ["Live", "Maintained", "UpstreamView"]

_SET = 0.25  # seconds: no turn of the loop takes as long, unless nothing is as it should be


@dataclass(frozen=True, slots=True)
class UpstreamView:
    """What is to be seen of one upstream's pool. `url` is without a password; `seconds` are those of attempts."""

    url: str
    max_connections: int
    open: Callable[[], int]
    idle: Callable[[], int]
    reconnected: Callable[[], int]
    seconds: Histogram


@dataclass(frozen=True, slots=True)
class Maintained:
    """A route under maintenance: since when (Unix time), and the seconds that callers are told to wait."""

    since: float
    retry_after: float


@dataclass(slots=True)
class Live:
    """The objects in force. `now` is the loop's time, on which policies live; `wall` the time of day.

    `not_ready` says why no traffic should be sent here, None: ready. `router` and `pipelines` have the routes in file
    order. `reload_ok` is about the last attempt to load a configuration, `reload_lines` say what was wrong with it;
    `reloads` counts them by what came of them. `lag` measures the event loop, `health` is that of the upstreams that are
    probed, `tracer` sends spans.
    `maintenance` has the routes that are under it. `changes` counts what admin requests changed, by (action, outcome).
    """

    loaded: Loaded
    recorder: Recorder
    router: Router
    pipelines: Sequence[Pipeline]
    guards: Guards
    upstreams: Mapping[str, UpstreamView]
    now: Callable[[], float]
    wall: Callable[[], float]
    connections: Callable[[], int]
    accepted: Callable[[], int]
    refused: Callable[[], int]
    tasks: Callable[[], int]
    log_dropped: Callable[[], int]
    hub: Hub
    started_at: float
    loaded_at: float
    not_ready: str | None = "starting"
    lag: LagMeter | None = None
    health: Mapping[str, Health] = field(default_factory=dict)
    tracer: Tracer | None = None
    reload_ok: bool = True
    reload_lines: tuple[str, ...] = ()
    reloads: dict[str, int] = field(default_factory=lambda: {"ok": 0, "refused": 0})
    maintenance: dict[str, Maintained] = field(default_factory=dict)
    changes: dict[tuple[str, str], int] = field(default_factory=dict)
    _shift: float | None = field(default=None, init=False)

    def shift(self) -> float:
        """Give what is added to a time of the loop to have the time of day.

        It stays the same, so that what happened has one time whoever asks and when, until somebody sets the clock: read
        anew, the two clocks differ by a millisecond or so each time, since the loop's is that of its last turn.
        """
        read = self.wall() - self.now()
        if self._shift is None or abs(read - self._shift) > _SET:
            self._shift = read
        return self._shift
