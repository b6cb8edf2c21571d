"""The resilience sidecar: a reverse proxy that gives one HTTP service its resilience from one YAML file.

Where things are, bottom to top (an import points down only; `docs/architecture.md` has the map):
`errors`, `message`, `fate`; `policy`; `config`; `pipeline` and `wire`; `telemetry`; `control`; `runtime`; `cli`.
"""

from sidecar import version

__version__ = version.VERSION

__all__ = ["__version__"]
