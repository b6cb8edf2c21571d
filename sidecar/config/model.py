"""The vocabulary of this version: every key, its kind, its range, its default in production, and its use.

A `Config` is frozen and complete: defaults, profile and the routes' inheritance are already worked in
(`complete`), durations are seconds, sizes bytes, and None is a limit that was switched off or a key that was
left out. What the models cannot say, because it concerns two keys at once, is in `checks`. The policies have their
words in `policies`; admin access, probes, log, telemetry and reload have theirs in `observing`.
"""

from collections.abc import Mapping
from dataclasses import replace
from ipaddress import IPv4Network, IPv6Network
from typing import Annotated, Literal, get_args

from pydantic import ConfigDict, Field

from sidecar.config.address import Address, Endpoint, parse_endpoint, parse_listen, parse_server_name
from sidecar.config.alternatives import NamedOr, Off, OneOrMany, Word
from sidecar.config.kinds import (
    Choice,
    Count,
    Duration,
    File,
    Name,
    Only,
    Size,
    Switch,
    Text,
    parse_network,
)
from sidecar.config.observing import (
    AdminConfig,
    Headers,
    HealthConfig,
    LogConfig,
    ReadinessConfig,
    ReloadConfig,
    TelemetryConfig,
)
from sidecar.config.pattern import parse_header, parse_host, parse_method, parse_path, parse_regex
from sidecar.config.policies import (
    STALE,
    BreakerConfig,
    BulkheadConfig,
    CacheConfig,
    FallbackStep,
    FaultConfig,
    RateLimitConfig,
    RetryConfig,
    StoreConfig,
)
from sidecar.config.shape import Model

__all__ = [
    "AccessLog",
    "Config",
    "Defaults",
    "ErrorFormat",
    "ErrorsConfig",
    "Limits",
    "Listen",
    "ListenTls",
    "Match",
    "Model",
    "Network",
    "Profile",
    "RouteConfig",
    "Timeouts",
    "UpstreamConfig",
    "UpstreamTls",
]

Profile = Literal["development", "testing", "production"]
AccessLog = Literal["off", "errors", "all"]
ErrorFormat = Literal["auto", "problem+json", "seed", "text"]
Network = IPv4Network | IPv6Network

_VERSION = Only(1, "the version of the grammar that this program reads")
_LISTENER = Text(parse_listen, as_written=False, pattern="^unix:///|:[0-9]{1,5}$")
_LISTENER_OR_OFF = replace(_LISTENER, off=True)
_URL = Text(parse_endpoint, as_written=False, pattern="^([hH][tT][tT][pP][sS]?|unix)://")
_LIMIT = Duration("1ms", "24h", off=True)
_BODY = Size("1B", "1024GiB", off=True)


class ListenTls(Model):
    """TLS on the traffic listener. Files are in PEM form, their names relative to the configuration file."""

    certificate: Annotated[str, File()] = Field(description="The certificate, followed by its chain.")
    key: Annotated[str, File()] = Field(description="The private key of the certificate.")
    client_ca: Annotated[str | None, File()] = Field(
        None, description="Mutual TLS: clients must show a certificate that one of these authorities signed."
    )


class Listen(Model):
    """Where to listen: `host:port`, `[IPv6]:port`, `:port` (every address) or `unix:///path`. 0: any port."""

    traffic: Annotated[Address, _LISTENER] = Field(
        Address("0.0.0.0", 8080), description="The proxy: every request gets its route's policy."
    )
    ops: Annotated[Address, _LISTENER] = Field(
        Address("0.0.0.0", 9900), description="Read-only: metrics and probes."
    )
    admin: Annotated[Address | None, _LISTENER_OR_OFF] = Field(
        Address("127.0.0.1", 9901),
        description="State in depth, changes and the live page. Where others can connect, `admin.token` is required.",
    )
    tls: ListenTls | None = Field(None, description="TLS on the traffic listener. Without: plain HTTP.")


class Limits(Model):
    """What a client may take before it is refused."""

    connections: Annotated[int, Count(1, 1_000_000)] = Field(
        10_000, description="Client connections at once; more are refused."
    )
    head: Annotated[int, Size("1KiB", "1MiB")] = Field(
        32 << 10, description="Request line and header fields together; a longer head is answered with 431."
    )
    target: Annotated[int, Size("64B", "1MiB")] = Field(
        8 << 10, description="The request target (path and query); a longer one is answered with 414."
    )
    fields: Annotated[int, Count(1, 10_000)] = Field(
        100, description="Header fields; more are answered with 431."
    )
    head_timeout: Annotated[float, Duration("10ms", "10m")] = Field(
        10.0, description="From the first byte of a head to its end; a slower one is answered with 408."
    )
    keepalive_timeout: Annotated[float, Duration("10ms", "1h")] = Field(
        75.0, description="How long an idle client connection is kept."
    )
    half_close_grace: Annotated[float, Duration("0s", "1m")] = Field(
        1.0,
        description="How long a request goes on after its client has closed its own side of the connection.",
    )


class UpstreamTls(Model):
    """TLS towards an upstream. Files are in PEM form, their names relative to the configuration file."""

    ca: Annotated[str | None, File()] = Field(
        None, description="The authorities to trust. Without: those of the system."
    )
    certificate: Annotated[str | None, File()] = Field(
        None, description="Mutual TLS: the certificate to show, followed by its chain; needs `key`."
    )
    key: Annotated[str | None, File()] = Field(None, description="The private key of `certificate`.")
    server_name: Annotated[str | None, Text(parse_server_name)] = Field(
        None,
        description="The name to ask for and to check the certificate against. Without: the host of the URL.",
    )
    verify: Annotated[bool, Switch()] = Field(
        True, description="`false` accepts any certificate, and with it anyone in between."
    )


class UpstreamConfig(Model):
    """A service that requests are forwarded to."""

    url: Annotated[Endpoint, _URL] = Field(
        description="`http://host:port`, `https://host:port` or `unix:///path`. Targets stay as they are."
    )
    connect_timeout: Annotated[float, Duration("1ms", "5m")] = Field(
        2.0, description="Name look-up, connection and TLS handshake together."
    )
    max_connections: Annotated[int, Count(1, 100_000)] = Field(
        256, description="Connections at once, idle ones included."
    )
    idle_timeout: Annotated[float, Duration("10ms", "1h")] = Field(
        60.0, description="How long an unused connection is kept. Less than the service's own limit is right."
    )
    tls: UpstreamTls | None = Field(
        None, description="For https only. Without: verified against the system's authorities."
    )
    health: Annotated[HealthConfig | None, Off()] = Field(
        None, description="Probes of its own, besides the requests that it gets."
    )


class Timeouts(Model):
    """What ends a request that would hang. `off` and `0s` switch a limit off."""

    attempt: Annotated[float | None, _LIMIT] = Field(
        10.0, description="From sending one attempt to the head of its response."
    )
    total: Annotated[float | None, _LIMIT] = Field(
        15.0, description="From the request's head to the response's, all attempts and waiting included."
    )
    idle: Annotated[float | None, _LIMIT] = Field(
        60.0, description="How long a body, in either direction, may stand still."
    )
    body: Annotated[float | None, _LIMIT] = Field(
        None, description="A bound on the whole response body. Off, so that no default ends a long download."
    )


class Stages(Model):
    """What happens to a request. `off` for a stage is that it is not there."""

    timeout: Timeouts = Field(Timeouts(), description="What ends a request that would hang.")
    max_body: Annotated[int | None, _BODY] = Field(
        None, description="The largest request body; a larger one is answered with 413. `off`: any size."
    )
    retry: Annotated[RetryConfig | None, Off()] = Field(
        RetryConfig(), description="Failed attempts are repeated, where that can do no harm."
    )
    breaker: Annotated[BreakerConfig | str | None, NamedOr(BreakerConfig)] = Field(
        None, description="A name from `breakers`, or a breaker of the route's own."
    )
    bulkhead: Annotated[BulkheadConfig | str | None, NamedOr(BulkheadConfig)] = Field(
        None, description="A name from `bulkheads`, or a bulkhead of the route's own."
    )
    rate_limit: Annotated[RateLimitConfig | None, Off()] = Field(
        None, description="How many requests a caller may make."
    )
    cache: Annotated[CacheConfig | None, Off()] = Field(None, description="Answers are kept and shared.")
    fallback: Annotated[tuple[Annotated[FallbackStep, Word(STALE)], ...] | None, Off()] = Field(
        None, min_length=1, description="What is answered instead of a failure: the first step that can."
    )
    fault: Annotated[FaultConfig | None, Off()] = Field(None, description="Faults on purpose.")


class Defaults(Stages):
    """What routes have where they do not say otherwise, key by key. A name, a list and `off` go as a whole."""


class Match(Model):
    """What a route asks of a request, all of it at once. The first route that matches is taken."""

    model_config = ConfigDict(json_schema_extra={"not": {"required": ["path", "path_regex"]}})

    path: Annotated[str | None, Text(parse_path, pattern="^/")] = Field(
        None,
        description="`/a` is this alone, `/a/**` it and all below, `*` and `{id}` a segment. Default: `/**`.",
    )
    path_regex: Annotated[str | None, Text(parse_regex)] = Field(
        None, description="A regular expression (Python's) that must match the whole path; instead of `path`."
    )
    host: Annotated[tuple[Annotated[str, Text(parse_host)], ...], Field(min_length=1), OneOrMany()] = Field(
        (), description="One or several of: `api.example.com`, `*.example.com`, `[::1]`. Without: any."
    )
    methods: Annotated[tuple[Annotated[str, Text(parse_method)], ...], Field(min_length=1)] = Field(
        (), description="Any of these, case-sensitive; GET does not imply HEAD. Without: any."
    )
    headers: Mapping[
        Annotated[str, Text(lambda name: parse_header(name, "*"))],
        Annotated[str, Text(lambda value: parse_header("X", value))],
    ] = Field({}, min_length=1, description="All of these; the value is exact, `*` is any.")


class _Route(Model):
    name: Annotated[str, Name()] = Field(description="Unique: it is the label in metrics, logs and headers.")
    match: Match = Field(Match(), description="What it asks of a request. Without: nothing.")
    upstream: Annotated[str, Name()] = Field(description="The name of the upstream that its requests go to.")


class RouteConfig(Stages, _Route):  # pydantic takes the keys of the last base first
    """Requests of one kind, and what happens to them; `defaults` fills what is left out."""


class ErrorsConfig(Model):
    """The answers that are the sidecar's own."""

    format: Annotated[ErrorFormat, Choice(*get_args(ErrorFormat))] = Field(
        "auto",
        description="`auto`: a page for browsers, else problem+json. `seed`: `{error: {code, message}}`.",
    )


class Config(Model):
    """The configuration of a resilience sidecar."""

    version: Annotated[int, _VERSION] = Field(description="The version of this grammar: 1.")
    profile: Annotated[Profile, Choice(*get_args(Profile))] = Field(
        "production", description="Other defaults: `development` logs everything, `testing` waits less."
    )
    listen: Listen = Field(Listen(), description="Where to listen.")
    limits: Limits = Field(Limits(), description="What a client may take before it is refused.")
    upstreams: Mapping[Annotated[str, Name()], UpstreamConfig] = Field(
        min_length=1, description="The services, by name."
    )
    breakers: Mapping[Annotated[str, Name()], BreakerConfig] = Field(
        {}, description="Breakers that several routes share, by name."
    )
    bulkheads: Mapping[Annotated[str, Name()], BulkheadConfig] = Field(
        {}, description="Bulkheads that several routes share, by name."
    )
    store: StoreConfig = Field(StoreConfig(), description="Where copies for `cache` and `fallback` are kept.")
    defaults: Defaults = Field(Defaults(), description="What routes have where they do not say otherwise.")
    routes: tuple[RouteConfig, ...] = Field(
        min_length=1, description="The first that matches a request is taken; without one, the answer is 404."
    )
    errors: ErrorsConfig = Field(ErrorsConfig(), description="The answers that are the sidecar's own.")
    headers: Annotated[Headers, Choice(*get_args(Headers))] = Field(
        "minimal",
        description="What answers say of the sidecar. `seed`: the state of the breaker as well; `off`: nothing.",
    )
    admin: AdminConfig = Field(AdminConfig(), description="Who may use the admin address.")
    readiness: ReadinessConfig = Field(ReadinessConfig(), description="When the sidecar is ready.")
    telemetry: Annotated[TelemetryConfig | None, Off()] = Field(
        TelemetryConfig(), description="What is told of requests. `off`: none is counted, recorded or logged."
    )
    log: LogConfig = Field(LogConfig(), description="How lines of the log are written.")
    access_log: Annotated[AccessLog, Choice(*get_args(AccessLog))] = Field(
        "errors",
        description="Which requests get a line; `errors`: all but good answers, a refusal at most 10 times a second.",
    )
    records: Annotated[int, Count(0, 100_000)] = Field(
        1000,
        description="Decision records kept of requests that get a line with `errors`; of the others, at most 128 are.",
    )
    trusted_proxies: tuple[Annotated[Network, Text(parse_network, as_written=False)], ...] = Field(
        (), description="Addresses and networks whose `X-Forwarded-*` and `Forwarded` fields are believed."
    )
    reload: ReloadConfig = Field(ReloadConfig(), description="When the file is read again.")
    drain_timeout: Annotated[float, Duration("0s", "1h")] = Field(
        30.0, description="How long requests under way may go on when the program is told to stop."
    )
