"""The picture that `sidecar top` draws, from the JSON state of a sidecar. Pure: the same state gives the same picture.

A head of three lines (which sidecar it is, how it is, and why), then tables of breakers, routes, bulkheads, upstreams
and refused requests, the worst rows first. What does not fit the height is left out by rows, from the end of each
table, and the table says how many; a row is one line, whatever the width, and longer texts end in `…`. What is wrong is
said in words and by a shape, not by colour alone.

Names and paths may be anybody's: they are shown as text, and what does not print is escaped.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from sidecar.config.words import one_line

__all__ = ["picture"]

State = Mapping[str, Any]

_STATUS = {
    "healthy": ("● healthy", "green"),
    "degraded": ("▲ degraded", "yellow"),
    "unhealthy": ("■ unhealthy", "red"),
}
_BREAKER = {
    "CLOSED": ("● CLOSED", "green"),
    "HALF_OPEN": ("◐ HALF_OPEN", "yellow"),
    "OPEN": ("■ OPEN", "red"),
}
_MAINTENANCE = ("▲ maintenance", "yellow")
_WORST_FATES = 2
_GOOD = frozenset({"ok", "ok_after_retry", "cache_fresh", "cache_stale", "coalesced"})


@dataclass(frozen=True, slots=True)
class _Part:
    """One table: the titles of its columns, how wide each may get (0: what is left), and its rows."""

    titles: tuple[str, ...]
    widths: tuple[int, ...]
    rows: Sequence[tuple[Text, ...]]


def picture(state: State, *, height: int | None = None, note: str = "") -> RenderableType:
    """Draw `state` in at most `height` lines (None: as many as it takes). `note` is for the person, above it all."""
    head = [_which(state), _headline(state), _message(state)]
    if note:
        head.insert(0, _text(note, "bold red"))
    parts = [
        part
        for part in (_breakers(state), _routes(state), _bulkheads(state), _upstreams(state), _refused(state))
        if part.rows
    ]
    room = None if height is None else max(0, height - len(head))
    return Group(*head, *_tables(parts, room))


# --- the head ---


def _which(state: State) -> Text:
    """Tell which sidecar this is: several of them look alike."""
    said = f"{state['name']} on {state['host']}  {state['listen']}  {state['profile']}  {state['version']}"
    return _text(said, "bold")


def _headline(state: State) -> Text:
    word, style = _STATUS.get(state["status"], (f"? {state['status']}", "yellow"))
    if state["ready"] and _all_maintained(state):
        word, style = _MAINTENANCE
    process = state["process"]
    rate = sum(route["rate"] for route in state["routes"])
    failed = sum(route["rate"] * route["errors"] for route in state["routes"])
    said = [
        f"up {_long(state['uptime'])}",
        f"{_number(rate)} req/s",
        f"{_percent(failed / rate if rate else 0.0)} errors",
        f"{process['connections']} clients",
        f"lag {_ms(process['loop_lag_ms'])}",
    ]
    if process["memory"] is not None:
        said.append(f"{process['memory'] / (1 << 20):.0f} MiB")
    if process["cpu"] is not None:
        said.append(f"cpu {process['cpu']:.0f}%")
    headline = _text("sidecar ", "bold")
    headline.append(one_line(word), f"bold {style}")
    return headline.append("  " + one_line("  ".join(said)), "not bold")


def _all_maintained(state: State) -> bool:
    """Tell whether nothing is answered because somebody wants it so."""
    return bool(state["routes"]) and all(route["maintenance"] is not None for route in state["routes"])


def _message(state: State) -> Text:
    if state["reason"]:
        return _text(f"not ready: {state['reason']}", "yellow")
    config = state["config"]
    if not config["reload_ok"]:
        lines = config["reload_lines"]
        return _text(f"the last reload was refused: {lines[0] if lines else 'see its log'}", "yellow")
    return _text(state["message"], "dim" if state["status"] == "healthy" else "yellow")


# --- the tables, the worst rows first ---


def _breakers(state: State) -> _Part:
    def rank(each: State) -> tuple[Any, ...]:
        order = {"OPEN": 0, "HALF_OPEN": 1, "CLOSED": 3}.get(each["state"], 0)
        harmless = 2 if each["mode"] == "shadow" else 0
        return max(order, harmless), not each["forced"], -each["failureRate"]

    rows = [
        (
            _text(each["name"]),
            _state(each),
            _text(_percent(each["failureRate"] / 100)),
            _text(f"{each['rejected']}"),
            _text(_because(each, state["at"])),
        )
        for each in sorted(state["breakers"], key=rank)
    ]
    return _Part(("BREAKER", "STATE", "FAILED", "REFUSED", "WHY, AND WHAT NEXT"), (24, 20, 6, 7, 0), rows)


def _state(breaker: State) -> Text:
    word, style = _BREAKER.get(breaker["state"], (breaker["state"], "yellow"))
    if breaker["mode"] == "shadow":
        return _text(f"{word} shadow", "dim")
    return _text(f"{word}{' forced' if breaker['forced'] else ''}", style)


def _because(breaker: State, at: float) -> str:
    """Tell what the next change is, why it opened and when, and what became of the trials since."""
    said = []
    if breaker["forced"]:
        left = breaker["forced_for"]
        said.append("until reset" if left is None else f"forced for {_short(left)} more")
    elif breaker["state"] == "OPEN" and breaker["retry_after"] is not None:
        said.append(f"trial in {_short(breaker['retry_after'])}")
    elif breaker["state"] == "HALF_OPEN":
        said.append(f"{breaker['trials']} trial{'' if breaker['trials'] == 1 else 's'} under way")
    outage, trip = breaker["outage"], breaker["last_trip"]
    if outage is not None and trip is not None:
        first = f", first {outage['first_error']}" if outage["first_error"] else ""
        began = _short(max(0.0, at - outage["since"]))
        said.append(f"began {began} ago: {outage['threshold'] or outage['cause']}{first}")
        if outage["trials_failed"]:
            times = "1 trial" if outage["trials_failed"] == 1 else f"{outage['trials_failed']} trials"
            error = f" with {trip['first_error']}" if trip["first_error"] else ""
            said.append(f"{times} failed, the last {_short(max(0.0, at - trip['at']))} ago{error}")
    return "; ".join(said)


def _routes(state: State) -> _Part:
    def rank(each: State) -> tuple[Any, ...]:
        return each["maintenance"] is None, -each["errors"], -each["rate"]

    rows = [
        (
            _text(each["name"]),
            _text(_number(each["rate"])),
            _text(_percent(each["errors"]), "red" if each["errors"] > 0 else ""),
            _text(_ms(each["p50_ms"])),
            _text(_ms(each["p99_ms"])),
            _worst(each),
        )
        for each in sorted(state["routes"], key=rank)
    ]
    return _Part(
        ("ROUTE", "REQ/S", "ERRORS", "P50", "P99", "WORST FATES SINCE START"), (24, 6, 6, 7, 7, 0), rows
    )


def _worst(route: State) -> Text:
    if route["maintenance"] is not None:
        return _text(*_MAINTENANCE)
    bad = sorted(_bad(route["fates"], route["failed"]), key=lambda each: (-each[0], each[1]))
    return _text(", ".join(f"{fate} {number}" for number, fate in bad[:_WORST_FATES]))


def _bad(fates: Mapping[str, int], failed: Mapping[str, int]) -> Iterable[tuple[int, str]]:
    """Give how often a request ended in each way that is not good.

    A fallback, and what was meant to be good, can be a 5xx to the caller all the same: that is said.
    """
    for fate, number in fates.items():
        errors = failed.get(fate, 0) if fate in _GOOD or fate.startswith("fallback_") else 0
        if errors:
            yield errors, f"{fate} as 5xx"
        if fate not in _GOOD and number > errors:
            yield number - errors, fate


def _bulkheads(state: State) -> _Part:
    def rank(each: State) -> tuple[Any, ...]:
        return -each["queued"], -each["in_use"] / max(1, each["limit"])

    rows = [
        (
            _text(each["name"]),
            _text(f"{each['in_use']}/{each['limit']}", "red" if each["in_use"] >= each["limit"] else ""),
            _text(f"{each['queued']}/{each['max_queue']}", "yellow" if each["queued"] else ""),
            _text(f"{each['rejected_full'] + each['rejected_timeout']}"),
            _text("■ full" if each["in_use"] >= each["limit"] else "", "red"),
        )
        for each in sorted(state["bulkheads"], key=rank)
    ]
    return _Part(("BULKHEAD", "IN USE", "QUEUED", "REFUSED", ""), (24, 11, 11, 7, 0), rows)


def _upstreams(state: State) -> _Part:
    def rank(each: State) -> tuple[Any, ...]:
        health, share = each["health"], each["availability"]
        return (health is None or health["healthy"] is not False), 1.0 if share is None else share

    rows = [
        (
            _text(each["name"]),
            _text(f"{each['open'] - each['idle']}/{each['max_connections']}"),
            _text(
                "-" if each["availability"] is None else _percent(each["availability"]), _availability(each)
            ),
            _text(_ms(each["p50_ms"])),
            _text(_ms(each["p99_ms"])),
            _probe(each),
        )
        for each in sorted(state["upstreams"], key=rank)
    ]
    return _Part(("UPSTREAM", "BUSY", "GOOD", "P50", "P99", "PROBE"), (24, 11, 6, 7, 7, 0), rows)


def _availability(upstream: State) -> str:
    share = upstream["availability"]
    return "red" if share is not None and share < 1 else ""


def _probe(upstream: State) -> Text:
    health = upstream["health"]
    if health is None:
        return _text(upstream["url"], "dim")
    if health["healthy"] is None:
        return _text("◌ not yet known", "dim")
    if health["healthy"]:
        return _text(f"● passes, {_ms(health['latency_ms'])}", "green")
    return _text(f"■ fails: {health['why'] or 'no reason told'}", "red")


def _refused(state: State) -> _Part:
    rows = [
        (
            _text(f"{_short(max(0.0, state['at'] - each['at']))} ago"),
            _text(f"{each['status'] or '-'}"),
            _text(each["fate"], "yellow"),
            _text(each["route"]),
            _text(f"{each['method']} {each['path']}"),
        )
        for each in state["refused"]
    ]
    return _Part(("NOT GOOD", "CODE", "FATE", "ROUTE", "REQUEST"), (9, 4, 23, 18, 0), rows)


# --- fitting it in ---


def _tables(parts: Sequence[_Part], room: int | None) -> Iterable[RenderableType]:
    if room is None:
        for part in parts:
            yield Text()
            yield _table(part, len(part.rows))
        return
    # A table is a line of titles and at least one row; the last tables go first where there is no room for that.
    parts = parts[: room // 2]
    wanted = [len(part.rows) for part in parts]
    spaced = room >= sum(wanted) + 2 * len(parts)
    shares = _share(wanted, room - len(parts) * (1 + spaced))
    for part, share in zip(parts, shares, strict=True):
        if spaced:
            yield Text()
        yield _table(part, share)


def _share(wanted: Sequence[int], room: int) -> list[int]:
    """Share out `room` rows: nobody gets more than he wants, nor less than another who wants as much."""
    shares = [0] * len(wanted)
    left = room
    while left > 0 and shares != list(wanted):
        for index, most in enumerate(wanted):
            if left > 0 and shares[index] < most:
                shares[index] += 1
                left -= 1
    return shares


def _table(part: _Part, rows: int) -> Table:
    table = Table(box=None, padding=(0, 1, 0, 0), pad_edge=False, expand=True, header_style="bold")
    cut = len(part.rows) > rows
    shown = part.rows[:rows]
    titles = list(part.titles)
    if cut:
        titles[0] += f" {rows} of {len(part.rows)}"
    for title, widest in zip(titles, part.widths, strict=True):
        needed = max(len(title), *(row[len(table.columns)].cell_len for row in shown), 1)
        if widest:
            table.add_column(
                title, width=min(needed, max(widest, len(title))), no_wrap=True, overflow="ellipsis"
            )
        else:
            table.add_column(title, ratio=1, no_wrap=True, overflow="ellipsis")
    for row in shown:
        table.add_row(*row)
    return table


# --- words and numbers ---


def _text(text: object, style: str = "") -> Text:
    return Text(one_line(str(text)), style, no_wrap=True, overflow="ellipsis")


def _percent(share: float) -> str:
    """Give a share in percent: what is not all does not look like all, nor what is something like nothing."""
    percent = 100 * share
    if percent in (0, 100):
        return f"{percent:.0f}%"
    if percent < 10 or percent > 90:
        return f"{min(max(percent, 0.1), 99.9):.1f}%"
    return f"{percent:.0f}%"


def _number(value: float) -> str:
    return f"{value:.1f}" if value < 10 else f"{value:.0f}"


def _ms(value: float | None) -> str:
    if value is None:
        return "-"
    if value < 1000:
        return f"{value:.1f}ms" if value < 10 else f"{value:.0f}ms"
    return f"{value / 1000:.1f}s"


def _short(seconds: float) -> str:
    if seconds < 120:
        return f"{seconds:.0f}s"
    return f"{seconds / 60:.0f}m" if seconds < 7200 else f"{seconds / 3600:.0f}h"


def _long(seconds: float) -> str:
    minutes, hours, days = int(seconds // 60) % 60, int(seconds // 3600) % 24, int(seconds // 86400)
    if days:
        return f"{days}d{hours}h"
    return f"{hours}h{minutes:02}m" if hours else f"{minutes}m{int(seconds) % 60:02}s"
