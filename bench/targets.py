"""What the sidecar must reach, and whether a run shows it.

Ratios are taken within one run, because absolute times on a shared machine mean nothing.
"""

from collections.abc import Iterable
from dataclasses import asdict, dataclass

__all__ = [
    "CPU_TO_ENVOY",
    "CPU_TO_NGINX",
    "HIT_TO_MISS",
    "IDLE_KIB",
    "LEAK_MIB",
    "P99_TO_ENVOY",
    "POLICIES_CPU_TO_ENVOY",
    "POLICIES_CPU_TO_NGINX",
    "READY_S",
    "REFUSAL_TO_PASS",
    "RSS_GROWTH_MIB",
    "RSS_REST_MIB",
    "THROUGHPUT_TO_NGINX",
    "Verdict",
    "at_least",
    "at_most",
    "lines",
]

CPU_TO_ENVOY = 0.75  # CPU per request, row `keep-128B-64`
CPU_TO_NGINX = 2.2
P99_TO_ENVOY = 1.0
POLICIES_CPU_TO_ENVOY = (
    0.95  # CPU per request, row `policies-128B-64`: all stages on, in Envoy what it has of them
)
POLICIES_CPU_TO_NGINX = 2.8  # nginx forwards only
HIT_TO_MISS = 1.5  # requests a second, row `cache-hit-128B-64`
REFUSAL_TO_PASS = 1.5  # requests a second, row `breaker-open-64`
THROUGHPUT_TO_NGINX = 0.6  # bytes a second, row `keep-1000KiB-64`
RSS_GROWTH_MIB = 20.0  # from rest to the peak of that row
IDLE_KIB = 10.0  # memory for each of 10 000 idle connections
READY_S = 1.0  # from exec to ready
RSS_REST_MIB = 64.0  # memory before the first request
# A page or two per thousand requests would be a leak; CPython's arenas settle within this.
LEAK_MIB = 4.0


@dataclass(frozen=True, slots=True)
class Verdict:
    """One target against what was measured."""

    what: str
    measured: float
    bound: str
    met: bool

    def as_json(self) -> dict[str, object]:
        """Give the fields by name."""
        return asdict(self)

    def __str__(self) -> str:
        return f"{'met   ' if self.met else 'MISSED'}  {self.what}: {self.measured:.2f} ({self.bound})"


def at_most(what: str, measured: float, limit: float) -> Verdict:
    """Judge by a target from above."""
    return Verdict(what, measured, f"at most {limit:g}", measured <= limit)


def at_least(what: str, measured: float, limit: float) -> Verdict:
    """Judge by a target from below."""
    return Verdict(what, measured, f"at least {limit:g}", measured >= limit)


def lines(verdicts: Iterable[Verdict]) -> list[str]:
    """Tell each verdict in a line."""
    return [str(verdict) for verdict in verdicts]
