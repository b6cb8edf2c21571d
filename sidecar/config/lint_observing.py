"""Warnings about what is seen and steered: readiness, probes, secrets, the log, telemetry, the admin address."""

from collections.abc import Iterator
from urllib.parse import urlsplit

from sidecar.config.model import Config
from sidecar.config.policies import BreakerConfig
from sidecar.config.rules import Suspicion, rule
from sidecar.config.tree import Path
from sidecar.config.units import show_duration

__all__: list[str] = []

_QUICK = 1.0  # seconds between two probes
_GRPC = 4317


@rule(
    "readiness-upstream",
    "one sick upstream then takes every copy of the service out of rotation, and with it the fallbacks",
)
def readiness_upstream(config: Config) -> Iterator[Suspicion]:
    """Find readiness that depends on others."""
    if config.readiness.require_upstream:
        yield Suspicion(
            "while the upstreams fail, nothing is sent here any more: no fallback, no stored copy and "
            "no answer that says why",
            (("readiness", "require_upstream"),),
        )


@rule("secret-in-file", "whoever can read the file, its history or its backups has the secret")
def secret_in_file(config: Config) -> Iterator[Suspicion]:
    """Find secrets that are written out."""
    places: list[tuple[Path, str]] = []
    if config.admin.token is not None:
        places.append((("admin", "token"), "SIDECAR_ADMIN_TOKEN"))
    telemetry = config.telemetry
    if telemetry and telemetry.otel:
        places += [(("telemetry", "otel", "headers", name), "OTEL_TOKEN") for name in telemetry.otel.headers]
    if telemetry and telemetry.sentry:
        places.append((("telemetry", "sentry", "dsn"), "SENTRY_DSN"))
    for path, variable in places:
        message = f"a secret is written here; put it into the environment, as in `${{{variable}}}`"
        yield Suspicion(message, (path,), literal=True)


@rule("grpc-port", "what listens there speaks gRPC and not HTTP, and every trace is lost")
def grpc_port(config: Config) -> Iterator[Suspicion]:
    """Find collectors at the port of the other protocol."""
    otel = config.telemetry and config.telemetry.otel
    if otel and urlsplit(otel.endpoint).port == _GRPC:
        message = f"{_GRPC} is the port of OTLP over gRPC; over HTTP, as it is sent here, it is 4318"
        yield Suspicion(message, (("telemetry", "otel", "endpoint"),))


@rule("telemetry-off", "an outage then leaves no trace: no line, no count, no record of any request")
def telemetry_off(config: Config) -> Iterator[Suspicion]:
    """Find settings of what `telemetry: off` switches off."""
    if config.telemetry is not None:
        return
    for key in ("access_log", "records"):
        if getattr(config, key) not in ("off", 0):
            message = "does nothing: with `telemetry: off` no request is counted, recorded or logged"
            yield Suspicion(message, ((key,),), written=True)


@rule("quick-probe", "every sidecar asks that often, and the upstream answers them all besides its work")
def quick_probe(config: Config) -> Iterator[Suspicion]:
    """Find upstreams that are asked how they are all the time."""
    for name, upstream in config.upstreams.items():
        if upstream.health and upstream.health.interval < _QUICK:
            message = f"asks every {show_duration(upstream.health.interval)}; seconds are enough, `fall` bad ones tell"
            yield Suspicion(message, (("upstreams", name, "health", "interval"),))


@rule("logged-query", "queries hold tokens, names and addresses, and logs are kept, copied and searched")
def logged_query(config: Config) -> Iterator[Suspicion]:
    """Find logs with queries in them."""
    if config.log.query:
        message = "what a query holds is then in the log, but for values whose names sound like secrets"
        yield Suspicion(message, (("log", "query"),))


@rule("idle-sample", "a setting that does nothing is most often one that was meant to do something")
def idle_sample(config: Config) -> Iterator[Suspicion]:
    """Find a sample of lines that are not written."""
    if config.log.sample < 1 and config.access_log != "all":
        message = (
            f"is of the good answers, which get a line with `access_log: all` only, not `{config.access_log}`"
        )
        yield Suspicion(message, (("log", "sample"),))


@rule("idle-admin", "a setting that does nothing is most often one that was meant to do something")
def idle_admin(config: Config) -> Iterator[Suspicion]:
    """Find settings of an admin address that is not there."""
    if config.listen.admin is None and (config.admin.token is not None or config.admin.hosts):
        yield Suspicion("does nothing: `listen.admin` is off", (("admin",),), at_key=True)


@rule("idle-header", "a client that waits for the field waits for ever")
def idle_header(config: Config) -> Iterator[Suspicion]:
    """Find fields for the state of a breaker that no answer gets."""
    if config.headers != "off":
        return
    shared = ((("breakers", name), breaker) for name, breaker in config.breakers.items())
    own = ((("routes", index, "breaker"), route.breaker) for index, route in enumerate(config.routes))
    for path, breaker in (*shared, *own):
        if isinstance(breaker, BreakerConfig) and breaker.header:
            yield Suspicion("is on no answer: `headers` is off", ((*path, "header"),))
