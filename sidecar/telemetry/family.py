"""What is shown of one metric: its name, its kind, and where its numbers come from when somebody scrapes.

A scrape of many routes is some ten thousand lines, nearly all of which begin as they did the last time. So the beginning
of each line, name and labels, is written once for a configuration; a scrape only reads the numbers and puts them behind.

Where the labels follow from what happened (which method, which status), those that can be told beforehand are there at 0
from the first scrape, and others are added when they come. What has once been there stays, as counters must.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, partial
from itertools import accumulate
from operator import itemgetter
from typing import Generic, Literal, Protocol, TypeVar

from sidecar.counts import Histogram

__all__ = ["Counted", "Distributed", "Family", "Fixed", "Kind", "Part", "counter", "gauge", "histogram"]

Kind = Literal["counter", "gauge", "histogram"]
K = TypeVar("K")
Labels = tuple[str, ...]

_UNITS = ("seconds", "bytes", "ratio")
_ESCAPES = str.maketrans({"\\": r"\\", '"': r"\"", "\n": r"\n"})


class Part(Protocol):
    """Some series of a family."""

    def read(self, heads: list[str], numbers: list[float]) -> None:
        """Add to `heads` how each line begins, and to `numbers` what is to stand there now."""


@dataclass(frozen=True, slots=True)
class Family:
    """One metric. A counter's `name` is without `_total`.

    `parts` may be made as they are asked for, since with many routes that takes a while. `prepare` is what is to be done
    before they are read, one after the other, so that reading is quick: all numbers are read at one stretch.
    """

    name: str
    kind: Kind
    help: str
    parts: Iterable[Part]
    prepare: Sequence[Callable[[], object]] = ()

    @property
    def unit(self) -> str:
        """The unit that the name ends with, as OpenMetrics wants to be told; "" for none."""
        last = self.name.rpartition("_")[2]
        return last if last in _UNITS else ""


class Fixed:
    """Series that are known beforehand. `numbers` gives theirs, in the order of `rows`, which are label values."""

    __slots__ = ("_heads", "_numbers")

    def __init__(
        self, sample: str, labels: Labels, rows: Iterable[Labels], numbers: Callable[[], Iterable[float]]
    ) -> None:
        head = _head(sample, labels)
        self._heads = [head(row) for row in rows]
        self._numbers = numbers

    def read(self, heads: list[str], numbers: list[float]) -> None:
        """Add all of them."""
        heads += self._heads
        numbers += self._numbers()


class Counted(Generic[K]):
    """The series of counters that are kept in a dict: `words` gives the label values of a key, behind those of `row`.

    `known` are the keys that are shown from the first scrape, whether they have been counted or not. No key may ever
    leave the dict.
    """

    __slots__ = ("_counts", "_head", "_heads", "_known", "_row", "_seen", "_words", "_zeros")

    def __init__(
        self,
        sample: str,
        labels: Labels,
        row: Labels,
        counts: Mapping[K, int],
        *,
        words: Callable[[K], Labels],
        known: Iterable[K] = (),
    ) -> None:
        self._head = _head(sample, labels)
        self._row = row
        self._counts = counts
        self._words = words
        self._known = tuple(known)
        self._look(counts)

    def read(self, heads: list[str], numbers: list[float]) -> None:
        """Add those that were counted, in the order of the dict, and then those that were not yet."""
        counts = self._counts
        if len(counts) != self._seen:
            self._look(counts)
        heads += self._heads
        numbers += counts.values()
        if self._zeros:
            numbers += self._zeros

    def _look(self, counts: Mapping[K, int]) -> None:
        waiting = [key for key in self._known if key not in counts]
        self._heads: list[str] = [self._head(self._row + self._words(key)) for key in (*counts, *waiting)]
        self._zeros: tuple[int, ...] = (0,) * len(waiting)
        self._seen = len(counts)


class Distributed:
    """The series of histograms: of each its buckets, then how many observations there were, and their sum."""

    __slots__ = ("_heads", "_histograms")

    def __init__(self, sample: str, labels: Labels, of: Sequence[tuple[Labels, Histogram]]) -> None:
        bucket = _head(f"{sample}_bucket", (*labels, "le"))
        count, total = _head(f"{sample}_count", labels), _head(f"{sample}_sum", labels)
        self._heads: list[str] = []
        for row, each in of:
            self._heads += [bucket((*row, bound)) for bound in (*map(_bound, each.bounds), "+Inf")]
            self._heads += (count(row), total(row))
        self._histograms = [each for _, each in of]

    def read(self, heads: list[str], numbers: list[float]) -> None:
        """Add all of them."""
        heads += self._heads
        for each in self._histograms:
            upto = list(accumulate(each.counts))
            numbers += upto
            numbers += (upto[-1], each.total)


def counter(
    name: str, text: str, labels: Labels, rows: Iterable[Labels], numbers: Callable[[], Iterable[float]]
) -> Family:
    """Make a counter whose series are all known. `name` is without `_total`."""
    return Family(name, "counter", text, [Fixed(f"{name}_total", labels, rows, numbers)])


def gauge(
    name: str, text: str, labels: Labels, rows: Iterable[Labels], numbers: Callable[[], Iterable[float]]
) -> Family:
    """Make a gauge whose series are all known."""
    return Family(name, "gauge", text, [Fixed(name, labels, rows, numbers)])


def histogram(name: str, text: str, labels: Labels, of: Iterable[tuple[Labels, Histogram]]) -> Family:
    """Make a histogram of those that stand in `of`, each with its label values."""
    pairs = list(of)
    # What has been observed waits to be sorted into its buckets, until somebody asks.
    prepare = [partial(getattr, each, "counts") for _, each in pairs]
    return Family(name, "histogram", text, [Distributed(name, labels, pairs)], prepare)


@cache
def _bound(bound: float) -> str:
    """Write a bucket's upper bound as OpenMetrics does: 0.005, 1.0."""
    return f"{bound:g}" if bound != int(bound) else f"{bound:.1f}"


def _head(sample: str, labels: Labels) -> Callable[[Labels], str]:
    """Give what writes the beginning of a line from label values. The labels stand in the order of the alphabet."""
    if not labels:
        return lambda _: f"{sample} "
    order = sorted(range(len(labels)), key=labels.__getitem__)
    template = sample + "{" + ",".join([f'{labels[index]}="%s"' for index in order]) + "} "
    if len(order) == 1:
        return lambda row: template % _escaped(row[0])
    pick: Callable[[Labels], Labels] = itemgetter(*order)
    return lambda row: template % tuple([_escaped(text) for text in pick(row)])


def _escaped(text: str) -> str:
    if '"' in text or "\\" in text or "\n" in text:
        return text.translate(_ESCAPES)
    return text
