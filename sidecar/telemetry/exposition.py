"""The text that Prometheus scrapes, in both formats that it reads, written without stalling the traffic.

Prometheus text format 0.0.4 (prometheus.io/docs/instrumenting/exposition_formats) and OpenMetrics 1.0 (`# UNIT`, `# EOF`,
counters named without `_total` in their head). Lines of samples are the same in both. No `_created` series: they would
be half as many lines again, and Prometheus drops them unless told otherwise.

A scrape is one picture: all numbers of ours are read in one turn of the event loop, which takes a fraction of what
writing them takes. The text is then written in slices of `SLICE` seconds, with the loop turning between them. A thread
would not do: Python runs one at a time, and each hand-over may take 5 ms. What the operating system tells of the process
is read in one all the same, because to list thousands of open files takes the kernel a while.

Two scrapes at once take turns; each gets a picture of its own.
"""

import asyncio
import zlib
from collections.abc import Callable, Iterable, Iterator
from math import isfinite, isnan
from time import perf_counter

from prometheus_client import CollectorRegistry
from prometheus_client.exposition import generate_latest as as_prometheus
from prometheus_client.openmetrics.exposition import generate_latest as as_openmetrics

from sidecar.telemetry.family import Family, Part

__all__ = ["SLICE", "Registry", "exposition"]

SLICE = 0.001  # seconds of writing at a time
_LINES = 400  # written between two looks at the clock
_LEAST = 1400  # bytes: what fits into one packet anyway is not compressed
_FAST = 1  # zlib's level: the better ones take three times as long and save a quarter more
_GZIP = 31  # zlib's word for gzip's header and trailer, and the largest window

_PROMETHEUS = "text/plain; version=0.0.4; charset=utf-8"
_OPENMETRICS = "application/openmetrics-text; version=1.0.0; charset=utf-8"

_Read = list[tuple[Family, list[str], list[float]]]


class Registry:
    """What there is to scrape.

    `families` makes those of what is in force, one after the other; `in_force` gives the objects that they were made
    from: when one is replaced they are made anew. `others` come from the Prometheus client library's own collectors,
    which run in a thread.
    """

    def __init__(
        self,
        families: Callable[[], Iterator[Family]],
        in_force: Callable[[], tuple[object, ...]],
        others: CollectorRegistry | None = None,
    ) -> None:
        self._make = families
        self._in_force = in_force
        self._made_from: tuple[object, ...] | None = None
        self._families: list[tuple[Family, list[Part]]] = []
        self.others = others or CollectorRegistry()
        self.busy = asyncio.Lock()

    async def read(self, turn: "_Turns") -> _Read:
        """Read all numbers at one moment."""
        while not self._is_current():
            await self._renew(turn)
        for family, _ in self._families:
            for each in family.prepare:
                each()
                await turn.over()
        await turn.end()
        while not self._is_current():
            await self._renew(turn)
        return [(family, *_read(parts)) for family, parts in self._families]

    async def _renew(self, turn: "_Turns") -> None:
        made_from = self._in_force()
        families: list[tuple[Family, list[Part]]] = []
        for family in self._make():
            parts = []
            for part in family.parts:
                parts.append(part)
                await turn.over()
            families.append((family, parts))
        self._families, self._made_from = families, made_from

    def _is_current(self) -> bool:
        before, now = self._made_from, self._in_force()
        return before is not None and all(a is b for a, b in zip(before, now, strict=True))


def _read(parts: Iterable[Part]) -> tuple[list[str], list[float]]:
    """Give how each line begins, and the number that belongs there now."""
    heads: list[str] = []
    numbers: list[float] = []
    for part in parts:
        part.read(heads, numbers)
    return heads, numbers


class _Turns:
    """Lets the loop turn whenever the slice is over."""

    __slots__ = ("_until",)

    def __init__(self) -> None:
        self._until = perf_counter() + SLICE

    async def over(self) -> None:
        if perf_counter() >= self._until:
            await self.end()

    async def end(self) -> None:
        await asyncio.sleep(0)
        self._until = perf_counter() + SLICE


async def exposition(metrics: Registry, accept: str, accept_encoding: str) -> tuple[bytes, dict[str, str]]:
    """Scrape. Gives the body and its header fields: in the format that `accept` asks for, or Prometheus' own."""
    openmetrics = _wants_openmetrics(accept)
    async with metrics.busy:
        encode = as_openmetrics if openmetrics else as_prometheus
        others = await asyncio.get_running_loop().run_in_executor(None, encode, metrics.others)
        turn = _Turns()
        pieces = []
        for piece in _written(await metrics.read(turn), openmetrics=openmetrics):
            pieces.append(piece)
            await turn.over()
        pieces.append(others)  # last: the end mark of OpenMetrics is in it
        headers = {
            "Content-Type": _OPENMETRICS if openmetrics else _PROMETHEUS,
            "Vary": "Accept, Accept-Encoding",
        }
        if _takes_gzip(accept_encoding) and sum(map(len, pieces)) > _LEAST:
            headers["Content-Encoding"] = "gzip"
            pieces = await _compressed(pieces, turn)
        return b"".join(pieces), headers


async def _compressed(pieces: Iterable[bytes], turn: _Turns) -> list[bytes]:
    packer = zlib.compressobj(_FAST, zlib.DEFLATED, _GZIP)
    packed = []
    for piece in pieces:
        packed.append(packer.compress(piece))
        await turn.over()
    return [*packed, packer.flush()]


def _written(read: _Read, *, openmetrics: bool) -> Iterator[bytes]:
    """Write the lines, some hundreds at a time."""
    for family, heads, numbers in read:
        yield _introduction(family, openmetrics=openmetrics)
        for start in range(0, len(heads), _LINES):
            part = zip(heads[start : start + _LINES], numbers[start : start + _LINES], strict=True)
            yield "".join(
                # Most are integers. They are written as the client library does.
                [f"{head}{n}.0\n" if isinstance(n, int) else f"{head}{_real(n)}\n" for head, n in part]
            ).encode()


def _real(number: float) -> str:
    """Write a number as both formats want it."""
    if isfinite(number):
        return repr(number)
    return "NaN" if isnan(number) else "+Inf" if number > 0 else "-Inf"


def _introduction(family: Family, *, openmetrics: bool) -> bytes:
    name = f"{family.name}_total" if family.kind == "counter" and not openmetrics else family.name
    lines = [f"# HELP {name} {family.help}", f"# TYPE {name} {family.kind}"]
    if openmetrics and family.unit:
        lines.append(f"# UNIT {name} {family.unit}")
    return "\n".join([*lines, ""]).encode()


def _wants_openmetrics(accept: str) -> bool:
    """Tell whether OpenMetrics 1.0 is wanted, at least as much as the older format (RFC 9110 §12.5.1)."""
    openmetrics = plain = 0.0
    for media, parameters in _listed(accept):
        if media == "application/openmetrics-text" and parameters.get("version", "1.0.0") == "1.0.0":
            openmetrics = max(openmetrics, _weight(parameters))
        elif media == "text/plain":
            plain = max(plain, _weight(parameters))
    return openmetrics > 0 and openmetrics >= plain


def _takes_gzip(accept_encoding: str) -> bool:
    """Tell whether gzip is allowed (RFC 9110 §12.5.3); what is said of it by name counts before `*`."""
    weights = {coding: _weight(parameters) for coding, parameters in _listed(accept_encoding)}
    return weights.get("gzip", weights.get("*", 0.0)) > 0


def _listed(field: str) -> Iterator[tuple[str, dict[str, str]]]:
    """Give the elements of a list field in small letters, each with its parameters."""
    for element in field.lower().split(","):
        name, *rest = [part.strip() for part in element.split(";")]
        pairs = [part.partition("=") for part in rest]
        yield name, {key.strip(): value.strip().strip('"') for key, _, value in pairs}


def _weight(parameters: dict[str, str]) -> float:
    try:
        return float(parameters.get("q", "1"))
    except ValueError:
        return 0.0
