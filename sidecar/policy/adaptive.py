"""A limit on concurrency that finds its own size, between two bounds, from how long answers take.

The idea is that of Netflix's concurrency-limits, `Gradient2Limit`: while a service has room, an answer takes as long as
ever, however many requests are under way; past that, each one more makes all of them wait (Little's law), and the ratio
of the usual latency to the present one says by how much there are too many:

    gradient = TOLERANCE * usual / present                      bounded to ½ … 1
    limit   += SMOOTHING * (limit * gradient + √limit - limit)  bounded to lowest … highest

so that the limit grows by a part of its root while latency is as usual, and settles where about √limit requests queue
at the upstream. `usual` is the long average, `present` the mean of one round: as many samples as the limit is large,
but at least `FEWEST`, since a change of the limit shows only after that. A round with failures (no answer, a time-out,
a 503) has a gradient of at most the part that did not fail: a few stray failures do not matter, an outage halves.

Where it departs from Gradient2, and why:

- **It begins at the lowest bound** and grows with use: what is usual can be learned only where nothing queues.
- **It never drops in order to measure.** Instead the long average follows the latency freely while fewer than half of
  the limit are in flight (they do not queue because of us), slowly while latency is as usual, and not at all while it
  is not: else a long rush hour becomes the new usual, and the limit drifts upwards without end.
- **A service that has become slower is not a queue.** A queue becomes shorter in proportion to the limit. If the limit
  has been halved and the answers take far longer than that explains, or if it has come down to its lowest, then it is
  not the number of requests that makes them slow, and what they take now is the new usual. The former usual is kept in
  mind: when latency leaves the new one, in either direction, it is tried again, after 16 rounds, 32, 64 and so on.
- **The first hundred answers are usual** by definition: one early round that happened to be quick must not be the
  measure of all that follow.
- **Frozen while fewer than half of the limit are in flight**, for growth, shrinking and failures: what happens then does
  not come from the limit, and an unused limit must not grow. A dead upstream is the breaker's business.
- Latency below `NOISE` counts as `NOISE`: differences that small are our own event loop's.
"""

from math import sqrt

__all__ = ["AdaptiveLimit"]

SMOOTHING = 0.5
TOLERANCE = 1.5  # latency may exceed the usual by this factor before it means a queue
CALM = 1.2  # up to this factor it is no more than usual, and the usual may follow it
STEEPEST = 0.5
FEWEST = 32  # of answers that vary as a memoryless service's do, the mean of so many is true to a fifth
LONG = 100  # samples in the long average; the first so many are usual by definition
NOISE = 0.001

# Of the way from the usual to the present latency, in one round.
SLOWER = 0.05
QUICKER = 0.1

PATIENCE = 16  # rounds before the former usual latency is tried again; then twice as many, and so on
HALVED = 0.5
UNMOVED = 1.5  # of the latency that a queue would have by now; without one it is at least 2 when the limit is halved


class AdaptiveLimit:
    """The limit of one bulkhead; `limit` is always within `lowest` … `highest`. Durations in seconds, to the head."""

    __slots__ = (
        "_answers",
        "_busy_from",
        "_failures",
        "_former",
        "_highest",
        "_known",
        "_lowest",
        "_patience",
        "_peak",
        "_rest",
        "_round",
        "_seconds",
        "_size",
        "_trying",
        "_usual",
        "limit",
    )

    def __init__(self, lowest: int, highest: int) -> None:
        self._lowest = lowest
        self._highest = highest
        self._size = float(lowest)
        self._usual = 0.0
        self._known = 0  # samples in the long average
        self._former = 0.0  # the usual latency before the service became slower; 0: it has not
        self._trying = False  # the former usual has been taken up again, and nothing has confirmed it yet
        self._rest = 0  # rounds until the former may be tried again
        self._patience = PATIENCE
        self._peak = (0.0, 0.0)  # limit and latency when latency ceased to be as usual; zeros: it is
        self._begin_round()

    def __repr__(self) -> str:
        """Tell the live state in one line."""
        return f"<AdaptiveLimit {self._size:.2f} in {self._lowest}…{self._highest}, usual {self._usual:.4f}s>"

    def _begin_round(self) -> None:
        self.limit = int(self._size)
        self._round = max(FEWEST, self.limit)
        self._busy_from = self._size / 2
        self._answers = 0
        self._failures = 0
        self._seconds = 0.0

    def answered(self, seconds: float, in_flight: int) -> int:
        """Learn of an answer that took `seconds`, with so many in flight, itself included. Gives the limit now."""
        if seconds < NOISE:  # noqa: PLR1730 -- `max` takes three times as long, and every request pays it
            seconds = NOISE
        if in_flight < self._busy_from:
            self._known = min(self._known, LONG - 1) + 1
            self._usual += (seconds - self._usual) / self._known
            self._former = 0.0
            return self.limit
        self._answers += 1
        self._seconds += seconds
        if self._answers + self._failures >= self._round:
            self._step()
        return self.limit

    def dropped(self, in_flight: int) -> int:
        """Learn of a failure, with so many in flight, itself included. Gives the limit now."""
        if in_flight >= self._busy_from:
            self._failures += 1
            if self._answers + self._failures >= self._round:
                self._step()
        return self.limit

    def _step(self) -> None:
        size = self._size
        wanted = size * STEEPEST
        if self._answers:
            gradient = self._judge(self._seconds / self._answers)
            gradient = min(gradient, self._answers / (self._answers + self._failures))
            wanted = size * max(gradient, STEEPEST) + sqrt(size)
        self._size = min(max(size + SMOOTHING * (wanted - size), self._lowest), self._highest)
        self._begin_round()

    def _judge(self, present: float) -> float:
        """Give the gradient of a round, and let the usual latency follow it where it may."""
        if self._known < LONG:
            self._known += self._answers
            self._usual += (present - self._usual) * self._answers / self._known
            return 1.0
        self._perhaps_try_former(present)
        usual = self._usual
        if present > TOLERANCE * usual:
            if not self._is_slower(present):
                return TOLERANCE * usual / present
            self._grow_slower(present)
        elif self._trying:
            self._trying = False
            self._former = 0.0
        elif present < usual:
            self._usual += QUICKER * (present - usual)
        elif present <= CALM * usual:
            self._usual += SLOWER * (present - usual)
        self._peak = (0.0, 0.0)
        return 1.0

    def _perhaps_try_former(self, present: float) -> None:
        self._rest -= 1
        as_usual = self._usual <= present * CALM and present <= TOLERANCE * self._usual
        if self._former and not as_usual and not self._trying and self._rest <= 0:
            self._usual = self._former
            self._trying = True
            self._peak = (0.0, 0.0)

    def _grow_slower(self, present: float) -> None:
        """Take `present` for the usual, and keep the former one in mind."""
        if self._trying:
            self._trying = False
            self._patience *= 2
        else:
            self._former = self._former or self._usual
            self._patience = PATIENCE
        self._rest = self._patience
        self._usual = present

    def _is_slower(self, present: float) -> bool:
        """Tell whether latency has not come down with the limit, as that of a queue would: in proportion."""
        size, latency = self._peak
        size = size or self._size
        latency = max(latency, present)  # in its first round a queue is not all there yet
        self._peak = (size, latency)
        if self._size == self._lowest:
            return True
        return self._size <= HALVED * size and present > UNMOVED * latency * self._size / size
