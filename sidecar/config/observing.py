"""The vocabulary of seeing and steering: admin access, probes of upstreams, readiness, the log, telemetry, reload.

As in `model`, durations are seconds, percentages numbers from 0 to 1, and None is what is off or left out. What is
marked as a secret is `***` wherever the configuration is shown.
"""

from collections.abc import Mapping
from typing import Annotated, Literal, get_args

from pydantic import Field

from sidecar.config.address import parse_authority
from sidecar.config.alternatives import Off
from sidecar.config.collectors import parse_collector, parse_dsn, traces_url
from sidecar.config.http_kinds import FieldName
from sidecar.config.kinds import Choice, Count, Duration, Percent, Switch, Text
from sidecar.config.observing_kinds import Hidden, Secret, Statuses, parse_probe_path, parse_token
from sidecar.config.pattern import parse_header
from sidecar.config.shape import Model

__all__ = [
    "AdminConfig",
    "Headers",
    "HealthConfig",
    "LogConfig",
    "LogFormat",
    "LogLevel",
    "OtelConfig",
    "ReadinessConfig",
    "ReloadConfig",
    "SentryConfig",
    "TelemetryConfig",
]

Headers = Literal["minimal", "seed", "off"]
LogFormat = Literal["auto", "json", "console"]
LogLevel = Literal["debug", "info", "warning", "error"]
HealthMethod = Literal["GET", "HEAD"]

_SECRET_VALUE = Secret(lambda value: parse_header("X", value))


class AdminConfig(Model):
    """Who may see and steer on the admin address."""

    token: Annotated[str | None, Secret(parse_token)] = Field(
        None,
        repr=False,
        description="What `Authorization: Bearer …` must have, 16 characters at least. Required where others connect.",
    )
    hosts: tuple[Annotated[str, Text(parse_authority)], ...] = Field(
        (),
        description="Names by which it may be called besides its own address and `localhost`: `host` or `host:port`.",
    )


class HealthConfig(Model):
    """An upstream is asked how it is, besides the requests that it gets. `{}` asks for `/`."""

    path: Annotated[str, Text(parse_probe_path, pattern="^/")] = Field(
        "/", description="The path to ask for, with its query where it needs one."
    )
    method: Annotated[HealthMethod, Choice(*get_args(HealthMethod))] = Field(
        "GET", description="How to ask for it."
    )
    host: Annotated[str | None, Text(parse_authority)] = Field(
        None, description="The `Host` to ask as. Without: that of the URL."
    )
    interval: Annotated[float, Duration("100ms", "1h")] = Field(
        10.0, description="From the beginning of one probe to the next."
    )
    timeout: Annotated[float, Duration("10ms", "1m")] = Field(
        2.0, description="How long a probe may take, connecting included; no longer than `interval`."
    )
    expect: Annotated[frozenset[int], Statuses()] = Field(
        frozenset(range(200, 300)),
        description="Statuses and ranges of them, such as `200-399`, that are good.",
    )
    fall: Annotated[int, Count(1, 100)] = Field(
        3, description="Bad probes in a row after which it counts as failing."
    )
    rise: Annotated[int, Count(1, 100)] = Field(
        2, description="Good probes in a row after which it counts as well again."
    )
    jitter: Annotated[float, Percent("0%", "50%")] = Field(
        0.1, description="How far the time may be from `interval`, so that not all sidecars ask at once."
    )


class ReadinessConfig(Model):
    """What `GET /health/ready` asks for, besides the sidecar itself."""

    require_upstream: Annotated[bool, Switch()] = Field(
        False,
        description="`true`: not ready while each upstream fails its probes or, without, has its breakers OPEN.",
    )


class LogConfig(Model):
    """How lines of the log are written. Which requests get one is said by `access_log`."""

    format: Annotated[LogFormat, Choice(*get_args(LogFormat))] = Field(
        "auto",
        description="`json`: an object a line; `console`: for people; `auto`: that in `development` only.",
    )
    level: Annotated[LogLevel, Choice(*get_args(LogLevel))] = Field(
        "info", description="The least that is written. It can be changed while the sidecar runs."
    )
    sample: Annotated[float, Percent("0%")] = Field(
        1.0,
        description="With `access_log: all`: the part of the good answers that get a line. Others all do.",
    )
    query: Annotated[bool, Switch()] = Field(
        False,
        description="`true`: queries are written as well; values with names like `token` or `password` as `***`.",
    )


class OtelConfig(Model):
    """Traces are sent to an OpenTelemetry collector, by OTLP over HTTP. Needs the extra `otel`."""

    endpoint: Annotated[str, Text(parse_collector, pattern="^[hH][tT][tT][pP][sS]?://")] = Field(
        description="Its URL, such as `http://127.0.0.1:4318`; `/v1/traces` is added where there is no path."
    )
    service_name: Annotated[str, Text(str)] = Field(
        "sidecar", description="The `service.name` of the traces."
    )
    sample: Annotated[float, Percent("0%")] = Field(
        1.0, description="The part of the traces that are begun here; one that a caller began is followed."
    )
    headers: Annotated[Mapping[Annotated[str, FieldName()], Annotated[str, _SECRET_VALUE]], Hidden()] = Field(
        {}, min_length=1, repr=False, description="Header fields that the collector asks for. Secrets."
    )
    timeout: Annotated[float, Duration("10ms", "1m")] = Field(
        5.0, description="How long sending may take; then what was to be sent is lost."
    )

    @property
    def traces_url(self) -> str:
        """The URL that traces are posted to."""
        return traces_url(self.endpoint)


class SentryConfig(Model):
    """Faults of the sidecar itself are reported to Sentry. Needs the extra `sentry`."""

    dsn: Annotated[str, Secret(parse_dsn, pattern="^[hH][tT][tT][pP][sS]?://")] = Field(
        repr=False, description="The DSN of the project. A secret."
    )
    environment: Annotated[str | None, Text(str)] = Field(
        None, description="What the reports call this place. Without: the profile."
    )
    sample: Annotated[float, Percent("0%")] = Field(
        1.0, description="The part of the faults that are reported."
    )


class TelemetryConfig(Model):
    """What is told of requests, and to whom. `off`: none is counted, recorded or logged."""

    otel: Annotated[OtelConfig | None, Off()] = Field(None, description="Traces, to a collector.")
    sentry: Annotated[SentryConfig | None, Off()] = Field(
        None, description="Faults of the sidecar, to Sentry."
    )


class ReloadConfig(Model):
    """When the file is read again. SIGHUP and `POST /config/reload` always do; a bad file changes nothing."""

    watch: Annotated[bool, Switch()] = Field(False, description="`true`: also when the file changes.")
