"""Two figures of a comparison, as SVG and PNG: CPU time per request and p99, one panel per kind of load.

Colours are Okabe and Ito's (readable with any colour vision); in the p99 figure each proxy has a marker of
its own as well. Whiskers run from the least to the greatest of the runs.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from bench.peers import NAMES
from bench.results import Document

__all__ = ["draw", "panels"]

COLOURS = {
    "sidecar": "#D55E00",
    "sidecar-compiled": "#F0A050",
    "nginx": "#0072B2",
    "haproxy": "#009E73",
    "envoy": "#CC79A7",
}
MARKERS = {"sidecar": "o", "sidecar-compiled": "P", "nginx": "s", "haproxy": "^", "envoy": "D"}
WORDS = {
    "keep": "GET {}, keep-alive",
    "close": "GET {}, new connections",
    "post": "POST {}, keep-alive",
    "varied": "GET {}, heads vary",
    "policies": "GET {}, all policies on",
}
COLUMNS = 4
FIGURES = {
    "cpu": ("cpu_us", "CPU time of the proxy per request (µs), less is better"),
    "p99": ("p99_ms", "p99 latency (ms, logarithmic), less is better"),
}

Row = dict[str, Any]


def panels(document: Document) -> dict[str, list[Row]]:
    """Group the rows that differ only in the number of connections, under the title of their panel.

    A row that compares the sidecar with itself has none.
    """
    grouped: dict[str, list[Row]] = {}
    for row in document["rows"]:
        if row["load"] in WORDS:
            grouped.setdefault(WORDS[row["load"]].format(_size(row["size"])), []).append(row)
    return grouped


def _size(size: int) -> str:
    return f"{size // 1024} KiB" if size >= 1024 else f"{size} B"


def draw(document: Document, stem: Path) -> list[Path]:
    """Write `stem-cpu` and `stem-p99`, each `.svg` and `.png`; nothing where no row has a panel.

    Raises ImportError without matplotlib (extra `bench`).
    """
    import matplotlib as mpl  # noqa: PLC0415 - only plots need it, and it is slow to import

    mpl.use("Agg")
    mpl.rcParams.update(
        {"font.size": 9, "svg.hashsalt": "bench", "axes.spines.top": False, "axes.spines.right": False}
    )
    written: list[Path] = []
    if not panels(document):
        return written
    for name, (figure, title) in FIGURES.items():
        drawn = _figure(document, figure, title)
        for suffix in ("svg", "png"):
            path = stem.with_name(f"{stem.name}-{name}.{suffix}")
            drawn.savefig(path, dpi=150, metadata={"Date": None} if suffix == "svg" else None)
            written.append(path)
    return written


def _figure(document: Document, figure: str, title: str) -> Any:
    from matplotlib.figure import Figure  # noqa: PLC0415 - see draw

    grouped = panels(document)
    columns = min(COLUMNS, len(grouped))
    lines = -(-len(grouped) // columns)
    drawn = Figure(figsize=(max(6.0, 3.1 * columns), 2.7 * lines + 1.0), layout="constrained")
    drawn.suptitle(title, fontsize=11)
    axes = drawn.subplots(lines, columns, squeeze=False).flatten()
    present = [name for name in NAMES if any(name in row["proxies"] for row in document["rows"])]
    for panel, (words, rows) in zip(axes, grouped.items(), strict=False):
        _panel(panel, rows, present, figure)
        panel.set_title(words, fontsize=9)
    for empty in axes[len(grouped) :]:
        empty.set_axis_off()
    for panel in axes[::columns]:
        panel.set_ylabel("CPU µs per request" if figure == "cpu_us" else "p99, ms")
    handles, labels = axes[0].get_legend_handles_labels()
    drawn.legend(handles, labels, loc="outside lower center", ncols=len(present), frameon=False)
    return drawn


def _panel(panel: Any, rows: Sequence[Row], present: Sequence[str], figure: str) -> None:
    """Draw one kind of load: a group for each number of connections, in it one mark for each proxy."""
    width = 0.8 / len(present)
    for number, name in enumerate(present):
        mine = [(place, row["proxies"][name]) for place, row in enumerate(rows) if name in row["proxies"]]
        at = [place + (number - (len(present) - 1) / 2) * width for place, _ in mine]
        middle = [of["median"][figure] for _, of in mine]
        below = [
            value - min(run[figure] for run in of["runs"])
            for value, (_, of) in zip(middle, mine, strict=True)
        ]
        above = [
            max(run[figure] for run in of["runs"]) - value
            for value, (_, of) in zip(middle, mine, strict=True)
        ]
        whiskers = {"yerr": [below, above], "ecolor": "#444444", "label": name}
        if figure == "cpu_us":
            panel.bar(at, middle, width * 0.92, color=COLOURS[name], error_kw={"elinewidth": 0.8}, **whiskers)
        else:
            panel.errorbar(
                at, middle, fmt=MARKERS[name], color=COLOURS[name], elinewidth=0.8, markersize=5, **whiskers
            )
    panel.set_xticks(range(len(rows)), [str(row["connections"]) for row in rows])
    panel.set_xlabel("connections")
    panel.set_xlim(-0.6, len(rows) - 0.4)
    panel.grid(axis="y", color="#DDDDDD", linewidth=0.6)
    panel.set_axisbelow(True)
    if figure != "cpu_us":
        _logarithmic(panel)


def _logarithmic(panel: Any) -> None:
    """Scale by decades with plain numbers at 1, 2 and 5, so that any panel has several to read."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator  # noqa: PLC0415 - see draw

    panel.set_yscale("log")
    panel.yaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
    panel.yaxis.set_minor_locator(NullLocator())
    panel.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
