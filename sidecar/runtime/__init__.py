"""Wiring: from a configuration to a running sidecar, and its end.

`engine` builds what answers requests, `listeners` binds, `process` starts, drains and stops.
"""

from sidecar.runtime.process import Sidecar, run

__all__ = ["Sidecar", "run"]
