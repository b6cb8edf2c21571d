"""`sidecar demo`: a service that misbehaves on purpose, and the sidecar in front of it.

The service is a process of its own and not a thread: a proxy that shares its interpreter lock with the
service that it guards would show the service's slowness as its own. The sidecar runs in this process, so
that it is the real thing, signals and exit code included.
"""

import signal
import sysconfig
import threading
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import click

from sidecar.cli import say
from sidecar.cli.epilog import epilog
from sidecar.cli.probe import Target, ask
from sidecar.errors import StartFailed

if TYPE_CHECKING:
    from sidecar.config.load import Loaded

__all__ = ["command"]

PORT = click.IntRange(1, 65535)
OTHER_PORTS = (
    "Other ports: --port, --ops-port, --admin-port, --service-port, as in make demo ARGS='--port 8081'."
)
POLL = 0.05  # seconds between two looks whether the demo is up


@click.command(
    "demo",
    epilog=epilog(
        "sidecar demo",
        "sidecar demo --port 8081 --ops-port 9910 --admin-port 9911 --service-port 9001",
        failure="the demo's configuration is wrong",
        starts=True,
    ),
)
@click.option("--port", type=PORT, help="Where the sidecar listens.  [8080]")
@click.option("--ops-port", type=PORT, help="Its health and metrics.  [9900]")
@click.option("--admin-port", type=PORT, help="Its live page and admin interface.  [9901]")
@click.option("--service-port", type=PORT, help="The service itself.  [9000]")
@click.pass_context
def command(
    ctx: click.Context,
    port: int | None,
    ops_port: int | None,
    admin_port: int | None,
    service_port: int | None,
) -> None:
    """Try it on a service that misbehaves.

    Starts a service with slow, failing and flapping paths on this machine alone, and the sidecar in front of
    it. Ctrl-C ends both.
    """
    from sidecar import runtime
    from sidecar.cli.demo_child import running_service
    from sidecar.config.load import load_file

    file = _demo_file()

    def load() -> "Loaded":
        return _on_ports(load_file(file), port, ops_port, admin_port, service_port)

    loaded = load()
    service = next(iter(loaded.config.upstreams.values())).url
    ops, admin = loaded.config.listen.ops, loaded.config.listen.admin
    try:
        with running_service(service.host, service.port):
            _end_when_the_terminal_does()
            _announce_when_ready(
                Target(service.host, service.port, "/"),
                f"http://{loaded.config.listen.traffic}",
                Target.of_listener(ops.host, ops.port, ops.path),
                f"http://{admin}/",
                file,
            )
            code = runtime.run(loaded, load)
    except StartFailed as exc:
        raise StartFailed(f"{exc}\n{OTHER_PORTS}") from exc
    ctx.exit(code)


def _demo_file() -> Path:
    """Find the demo's configuration: beside the package in a checkout, else where the wheel put it."""
    checkout = Path(__file__).parents[2] / "config"
    schemes = (sysconfig.get_default_scheme(), sysconfig.get_preferred_scheme("user"))
    installed = [
        Path(sysconfig.get_path("data", scheme), "share/resilience-sidecar/config") for scheme in schemes
    ]
    for folder in (checkout, *installed):
        file = folder / "demo.yaml"
        if file.is_file():
            return file
    raise StartFailed(f"demo.yaml is neither in {checkout} nor in {installed[0]}: install the package again")


def _on_ports(
    loaded: "Loaded", port: int | None, ops_port: int | None, admin_port: int | None, service_port: int | None
) -> "Loaded":
    """Put other ports in place of the file's, where they are given."""
    config = loaded.config
    traffic, ops, admin = config.listen.traffic, config.listen.ops, config.listen.admin
    listen = config.listen.model_copy(
        update={
            "traffic": replace(traffic, port=port or traffic.port),
            "ops": replace(ops, port=ops_port or ops.port),
            "admin": admin and replace(admin, port=admin_port or admin.port),
        }
    )
    upstreams = {
        name: upstream.model_copy(
            update={"url": replace(upstream.url, port=service_port or upstream.url.port)}
        )
        for name, upstream in config.upstreams.items()
    }
    return replace(loaded, config=config.model_copy(update={"listen": listen, "upstreams": upstreams}))


def _announce_when_ready(service: Target, sidecar: str, ops: Target, admin: str, file: Path) -> None:
    """Print where things are as soon as both answer, from a thread: `runtime.run` has the main one.

    The thread is a daemon, so it ends with the process if that never comes true.
    """

    def announce() -> None:
        pause = threading.Event()
        while not (_answers(service) and _answers(ops)):
            pause.wait(POLL)
        with suppress(OSError, click.ClickException):  # nobody reads: no reason to end the demo
            say.out(_text(service, sidecar, ops, admin, file))

    threading.Thread(target=announce, daemon=True).start()


def _end_when_the_terminal_does() -> None:
    """Make SIGHUP end the demo as SIGTERM does, though `runtime.run` takes it as a wish to reload.

    The signal is blocked, so that nobody but this thread takes it.
    """
    if signal.getsignal(signal.SIGHUP) is signal.SIG_IGN:  # nohup: it shall stay
        return
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGHUP})

    def wait() -> None:
        signal.sigwait({signal.SIGHUP})
        signal.raise_signal(signal.SIGTERM)

    threading.Thread(target=wait, daemon=True).start()


def _answers(target: Target) -> bool:
    try:
        return ask(target, timeout=1)[0] == 200
    except (OSError, ValueError):
        return False


def _text(service: Target, sidecar: str, ops: Target, admin: str, file: Path) -> str:
    places = [
        (f"{sidecar}/", f"the sidecar, by the rules of {_near(file)}"),
        (service, "the service itself; its first page lists how it misbehaves"),
        (admin, "the live page: open it in a browser"),
        (ops, "whether the sidecar is ready"),
        (replace(ops, path="/metrics"), "what it counts"),
    ]
    to_try = [
        (f"curl -i {sidecar}/orders", "the service's answer; asked again within 5 s, a copy (Cache-Status)"),
        (f"curl -i {sidecar}/flaky", "fails every other time, and is tried again (X-Upstream-Attempts)"),
        (f"curl -i {sidecar}/slow", "takes 3 s: 504 after one, with the reason in Proxy-Status and the body"),
        (f"curl -i {sidecar}/flapping", "10 s up, 10 s down: then the last good answer (X-System-Degraded)"),
        (f"curl -i {sidecar}/down", "always fails: the sixth time the breaker is open, 503 with Retry-After"),
        (f"curl -i {sidecar}/drop", "hangs up without an answer: 502 instead of nothing"),
    ]
    return f"""
The demo is running. Ctrl-C ends it.

{_table(places)}

To try, in another terminal; what happened stands in the log below:

{_table(to_try)}
"""


def _table(rows: Sequence[tuple[object, str]]) -> str:
    width = max(len(str(left)) for left, _ in rows)
    return "\n".join(f"  {left!s:<{width}}   {right}" for left, right in rows)


def _near(file: Path) -> Path:
    """Shorten the path for somebody who stands above it."""
    return file.relative_to(Path.cwd()) if file.is_relative_to(Path.cwd()) else file
