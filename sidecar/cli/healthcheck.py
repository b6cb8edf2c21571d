"""`sidecar healthcheck`: ask a running sidecar whether it is ready. For container images, which have no curl.

It runs every few seconds beside the proxy, so it is kept cheap: with `--url`, or without options, nothing but
click is imported from outside the standard library.
"""

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import click

from sidecar.cli import say
from sidecar.cli.epilog import epilog
from sidecar.cli.probe import Target, ask

__all__ = ["command"]

DEFAULT_URL = "http://127.0.0.1:9900/health/ready"


class _Url(click.ParamType[Target]):
    name = "url"

    def convert(
        self, value: str | Target, param: click.Parameter | None, ctx: click.Context | None
    ) -> Target:
        if isinstance(value, Target):
            return value
        try:
            return Target.parse(value)
        except ValueError as exc:
            self.fail(str(exc), param, ctx)


@click.command(
    "healthcheck",
    epilog=epilog(
        "sidecar healthcheck",
        "sidecar healthcheck --url http://127.0.0.1:9900/health/live --timeout 1",
        "sidecar healthcheck --config /etc/sidecar/sidecar.yaml",
        'HEALTHCHECK CMD ["sidecar", "healthcheck"]   in a Dockerfile',
        failure="not ready, or the configuration is wrong",
    ),
)
@click.option("--url", "target", type=_Url(), metavar="URL", help=f"Whom to ask.  [{DEFAULT_URL}]")
@click.option(
    "--config",
    "file",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Ask the ops address of this file (slower: the file is read and checked).",
)
@click.option(
    "--timeout",
    type=click.FloatRange(min=0, min_open=True),
    default=2.0,
    show_default=True,
    metavar="SECONDS",
    help="For the whole check.",
)
@click.pass_context
def command(ctx: click.Context, target: Target | None, file: Path | None, timeout: float) -> None:
    """Ask a running sidecar whether it is ready.

    The exit code is 0 when GET /health/ready on its ops address answers 200, and 1 when it does not. URL is
    http://HOST:PORT[/PATH] or unix:///SOCKET.
    """
    if target is not None and file is not None:
        raise click.UsageError("--url and --config exclude each other.", ctx)
    asked = _from_file(file) if file is not None else target or Target.parse(DEFAULT_URL)
    failure = _why_not_ready(asked, timeout)
    if failure is not None:
        say.problems([f"not ready: {asked}: {failure}"])
        ctx.exit(1)
    say.out(f"ready: {asked}")


def _from_file(file: Path) -> Target:
    from sidecar.config.load import load_file

    ops = load_file(file).config.listen.ops
    return Target.of_listener(ops.host, ops.port, ops.path)


def _why_not_ready(target: Target, timeout: float) -> str | None:
    try:
        with _deadline(timeout):
            status, answer = ask(target, timeout)
    except TimeoutError:
        return f"no answer within {timeout:g} s"
    except (OSError, ValueError) as exc:
        return getattr(exc, "strerror", None) or str(exc)
    return None if status == 200 else f"{status} {answer}".rstrip()


@contextmanager
def _deadline(seconds: float) -> Iterator[None]:
    """Raise TimeoutError in the block after `seconds`: a socket's own limit starts anew with every byte."""

    def expired(*_: object) -> None:
        raise TimeoutError

    before = signal.signal(signal.SIGALRM, expired)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
