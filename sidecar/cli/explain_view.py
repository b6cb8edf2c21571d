"""What `sidecar explain` prints: lines of text, from the JSON that `control/explain.py` makes. Pure.

A line is a tuple of pieces, each a text with a style of rich, "" for none. Whatever came from outside is shown as what it
is: what does not print is escaped, and nothing is read as markup.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from sidecar.config.words import one_line

__all__ = ["Line", "explained", "seconds", "until"]

Piece = tuple[str, str]
Line = tuple[Piece, ...]

TITLE = "bold"
QUIET = "dim"
_WIDEST = 44  # characters: a longer text does not push everybody else's next column away
_MARKS = {True: ("+ ", "green"), False: ("- ", "yellow")}


def explained(told: Mapping[str, Any], state: Mapping[str, Any] | None = None) -> list[Line]:
    """Give the lines for one explanation; with the `state` of a running sidecar, also what would become of it now."""
    lines = _request(told["request"])
    lines += _verdict(told)
    if state is not None:
        lines += _now(told, state)
    lines += _passed_over(told)
    if told["words"]:
        lines += _section("this request")
        lines += _table([((each["about"], ""), _marked(each)) for each in told["words"]])
    if told["stages"]:
        lines += _section("stages, outermost first")
        lines += _table(
            [((f"{number:2}", QUIET), (text, "")) for number, text in enumerate(told["stages"], 1)]
        )
    if told["values"]:
        lines += _section("values in force")
        rows = [
            ((each["key"], ""), (each["value"], "bold"), (each["origin"], QUIET)) for each in told["values"]
        ]
        lines += _table(rows)
    return lines


def _now(told: Mapping[str, Any], state: Mapping[str, Any]) -> list[Line]:
    route = next((each for each in state["routes"] if each["name"] == told["route"]), None)
    if route is None:
        return []
    pieces = [*_stops(route, state), *_strains(route, state)]
    rows = [(piece,) for piece in pieces or [("nothing stands in its way", "green")]]
    return [*_section("now"), *_table(rows)]


def _stops(route: Mapping[str, Any], state: Mapping[str, Any]) -> Iterable[Piece]:
    """Tell what would end it."""
    if state["reason"]:
        yield f"the sidecar is not ready: {state['reason']}", "red"
    maintained = route["maintenance"]
    if maintained is not None:
        wait = seconds(maintained["retry_after"])
        yield f"the route is under maintenance: 503, with the word to come back in {wait}", "red"
    breaker = _named(state["breakers"], route["breaker"])
    if breaker is None or breaker["state"] == "CLOSED":
        return
    name, word = breaker["name"], breaker["state"]
    if breaker["mode"] == "shadow":
        yield f"breaker {name} is {word}, in shadow: it refuses nothing", "yellow"
    elif word == "HALF_OPEN":
        yield f"breaker {name} is HALF_OPEN: it lets a few trials pass, and refuses the others", "yellow"
    else:
        yield f"breaker {name} is OPEN{until(breaker)}: an attempt would be refused now", "red"


def until(breaker: Mapping[str, Any]) -> str:
    """Tell how long an OPEN breaker stays so, as the end of a sentence's part."""
    if breaker["forced"]:
        left = breaker["forced_for"]
        return ", forced until somebody resets it" if left is None else f", forced for {seconds(left)} more"
    wait = breaker["retry_after"]
    return "" if wait is None else f" for {seconds(wait)} more"


def _strains(route: Mapping[str, Any], state: Mapping[str, Any]) -> Iterable[Piece]:
    """Tell what would hold it up."""
    bulkhead = _named(state["bulkheads"], route["bulkhead"])
    if bulkhead is not None and bulkhead["in_use"] >= bulkhead["limit"]:
        room = f"{bulkhead['queued']} of {bulkhead['max_queue']} places of the queue taken"
        yield f"bulkhead {bulkhead['name']} has no free slot, {room}", "yellow"
    upstream = _named(state["upstreams"], route["upstream"])
    health = None if upstream is None else upstream["health"]
    if upstream is not None and health is not None and health["healthy"] is False:
        yield f"upstream {upstream['name']} fails its health probe: {health['why']}", "yellow"


def _named(things: Iterable[Mapping[str, Any]], name: str | None) -> Mapping[str, Any] | None:
    return next((each for each in things if each["name"] == name), None)


def seconds(value: float) -> str:
    """Give so many seconds as one would say them."""
    if value < 10:
        return f"{value:.1f} s"
    return f"{value:.0f} s" if value < 120 else f"{value / 60:.0f} min"


def _request(request: Mapping[str, Any] | None) -> list[Line]:
    if request is None:
        return []
    assumed = " (assumed)" if request["host_assumed"] else ""
    body = f", with a body {_of(request['body'])}" if request["body"] else ""
    first = f"{request['method']} {request['target']}"
    lines: list[Line] = [_line((first, TITLE), (f"   Host: {request['host']}{assumed}{body}", ""))]
    if request["matched_as"] is not None:
        lines.append(_line((f"paths are matched as {request['matched_as']}", QUIET)))
    if request["ignored"]:
        names = ", ".join(request["ignored"])
        lines.append(_line((f"not believed, or ended here, so no route sees it: {names}", QUIET)))
    return lines


def _of(body: str) -> str:
    return body if body.startswith("of ") else f"of {body}"


def _verdict(told: Mapping[str, Any]) -> list[Line]:
    rows: list[Sequence[Piece]] = []
    if told["route"] is not None:
        rows.append((("route", ""), (told["route"], "bold green"), (told["at"], QUIET)))
        upstream = told["upstream"]
        rows.append(
            (("upstream", ""), (f"{upstream['name']}  {upstream['url']}", ""), (upstream["at"], QUIET))
        )
    if told["answer"] is not None:
        rows.append((("answer", ""), (told["answer"], "bold red"), (told["why"] or "", "")))
    return [(), *_table(rows, indent="")]


def _passed_over(told: Mapping[str, Any]) -> list[Line]:
    rows = [((each["route"], ""), (each["why"], ""), (each["at"], QUIET)) for each in told["passed_over"]]
    lines = [*_section("passed over"), *_table(rows)] if rows else []
    if told["not_listed"]:
        lines.append(_line((f"  passed over for their path as well: {told['not_listed']} more", QUIET)))
    if told["not_asked"]:
        lines += [*([] if rows else [()]), _line((f"  behind it, and not asked: {told['not_asked']}", QUIET))]
    return lines


def _marked(each: Mapping[str, Any]) -> Piece:
    mark, style = _MARKS[bool(each["could"])]
    return mark + each["text"], style


def _section(title: str) -> list[Line]:
    return [(), _line((title, TITLE))]


def _table(rows: Iterable[Sequence[Piece]], indent: str = "  ") -> list[Line]:
    """Lay out rows in columns, each as wide as it needs to be; a line is never wrapped or cut."""
    clean = [[(one_line(text), style) for text, style in row] for row in rows]
    widths: dict[int, int] = {}
    for row in clean:
        for column, (text, _) in enumerate(row[:-1]):
            widths[column] = max(widths.get(column, 0), len(text) if len(text) <= _WIDEST else 0)
    return [
        (
            (indent, ""),
            *((f"{text:<{widths[n]}}  ", style) for n, (text, style) in enumerate(row[:-1])),
            row[-1],
        )
        for row in clean
    ]


def _line(*pieces: Piece) -> Line:
    return tuple((one_line(text), style) for text, style in pieces)
