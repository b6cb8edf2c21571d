"""A bulkhead: at most so many requests at the upstream at once, a bounded number that wait, and nobody for ever.

After the watertight compartments of a ship (Nygard, "Release It!", 2007): what is slow behind one bulkhead cannot take
all there is. `limit` slots, and a queue of at most `max_queue` places (0: none), in the order of `waitlist`. A slot is
held by one attempt, from its start until the body of its response has ended. With `adaptive` the number of slots moves
between two bounds: see `adaptive`.

Who is refused, and when:

- **at once**, where there is no slot and no place; and where there is a place, but the caller would be gone before an
  answer: the time that it has left is less than the wait that is to be expected and the usual time to an answer. That
  is known only after a few requests; until then everybody may try.
- **while waiting**, after `queue_timeout`, or when a newcomer takes the place (`waitlist` says when).

Waits are estimated by Little's law: slots come free at `limit` per usual hold (the median of the last 64), so whoever
has n waiting before them waits for (n + 1) * hold / limit. `drain` says the same to those who are refused.

Invariant: nobody waits while a slot is free. Every way in which a slot can come free, the limit rising included, ends
by admitting whoever is next. `limit` may fall below `in_use`: nobody is sent away for that, but nobody is admitted.

A bulkhead that is only a shadow lets everybody in. `slip_in` tells whether a real one would have: those whom it would
have refused are in `in_use`, but do not count against those who come after, since they would not have been there; those
who would have queued are taken as queueing. They do not wait, so they are gone sooner than if they had: of a long jam
a shadow shows the beginning.

All times are in seconds on one clock, the one that measures; durations compare with those of any other.
"""

from dataclasses import dataclass

from sidecar.counts import Histogram
from sidecar.policy.adaptive import AdaptiveLimit
from sidecar.policy.recent import Recent
from sidecar.policy.waitlist import ADMITTED, CROWDED_OUT, TIMED_OUT, WAITING, Order, Ticket, Waitlist

__all__ = ["Bulkhead", "BulkheadSettings"]


@dataclass(frozen=True, slots=True)
class BulkheadSettings:
    """The words of `bulkhead` in the configuration. Times in seconds.

    `target` is for `order: adaptive` alone; None stands for a quarter of `queue_timeout`. `adaptive` is the least and the
    greatest limit; where it is given `max_concurrent` is not used.
    """

    max_concurrent: int = 100
    max_queue: int = 100
    queue_timeout: float = 1.0
    order: Order = "fifo"
    target: float | None = None
    adaptive: tuple[int, int] | None = None

    @property
    def patience(self) -> float:
        """The `target` in force, in seconds."""
        return self.queue_timeout / 4 if self.target is None else self.target


class Bulkhead:
    """One compartment, shared by all the routes that name it.

    For metrics: `in_use`, `limit` and `queued` now; `admitted`, `rejected_full` (with those who had no hope),
    `rejected_timeout` and `left` (callers who gave up while they waited) since the start; `waits`, how long everybody
    waited who had to, whatever came of it.
    """

    __slots__ = (
        "_adaptive",
        "_heads",
        "_holds",
        "_note_head",
        "_note_hold",
        "_queue",
        "_uncounted",
        "_waitlist",
        "admitted",
        "in_use",
        "left",
        "limit",
        "name",
        "rejected_full",
        "rejected_timeout",
        "settings",
        "waits",
    )

    def __init__(self, name: str, settings: BulkheadSettings) -> None:
        self.name = name
        self.settings = settings
        self._adaptive = None if settings.adaptive is None else AdaptiveLimit(*settings.adaptive)
        self.limit = settings.max_concurrent if self._adaptive is None else self._adaptive.limit
        self._waitlist = Waitlist(settings.order, settings.patience)
        self._queue = self._waitlist.tickets  # to ask whether it is empty, which every request does
        self._heads = Recent()
        self._holds = Recent()
        self._note_head = self._heads.add
        self._note_hold = self._holds.add
        self._uncounted = 0  # in flight, though a real bulkhead would have refused them
        self.in_use = 0
        self.admitted = 0
        self.rejected_full = 0
        self.rejected_timeout = 0
        self.left = 0
        self.waits = Histogram()

    def __repr__(self) -> str:
        """Tell the live state in one line."""
        return f"<Bulkhead {self.name}: {self.in_use} of {self.limit} in use, {self.queued} queued>"

    @property
    def queued(self) -> int:
        """How many wait."""
        return len(self._queue)

    # --- coming in ---

    def enter(self) -> bool:
        """Take a free slot; False: there is none. Whoever gets one gives it back with `leave`."""
        if self.in_use < self.limit:
            self.in_use += 1
            self.admitted += 1
            return True
        return False

    def join(self, ticket: Ticket, time_left: float) -> bool:
        """Queue, for a caller whose patience ends in `time_left` seconds. False: refused.

        Only after `enter` was False. A ticket in the queue is settled with `ADMITTED` (it has a slot, to be given back
        with `leave`), `TIMED_OUT` or `CROWDED_OUT`.
        """
        waitlist = self._waitlist
        queued = len(self._queue)
        newest_first = waitlist.newest_first(ticket.since)
        full = queued >= self.settings.max_queue
        no_place = full and not (queued and newest_first)
        if no_place or self._hopeless(0 if newest_first else queued, time_left):
            self.rejected_full += 1
            return False
        if full:
            self.rejected_full += 1
            waitlist.take_oldest().settle(CROWDED_OUT)
        waitlist.add(ticket)
        return True

    def expire(self, ticket: Ticket) -> None:
        """Say that `queue_timeout` is over for a ticket. Nothing happens if it does not wait any more."""
        if ticket.state == WAITING:
            self._waitlist.remove(ticket)
            self.rejected_timeout += 1
            ticket.settle(TIMED_OUT)

    def abandon(self, ticket: Ticket, now: float) -> None:
        """Say that the caller has left. A slot that it has been given, and will never use, goes to the next one."""
        if ticket.state == WAITING:
            self._waitlist.remove(ticket)
            self.left += 1
        elif ticket.state == ADMITTED:
            self.in_use -= 1
            self._admit(now)

    # --- going out ---

    def leave(self, started: float, now: float) -> None:
        """Give back a slot that was held since `started`."""
        self.in_use -= 1
        self._note_hold(now - started)
        if self._queue:
            self._admit(now)

    def answered(self, seconds: float, now: float) -> None:
        """Learn that a holder of a slot got a response head, `seconds` after it had asked."""
        self._note_head(seconds)
        if self._adaptive is not None:
            self.limit = self._adaptive.answered(seconds, self.in_use)
            self._admit(now)

    def failed(self, now: float) -> None:
        """Learn that a holder of a slot got no answer, or one that says that the upstream is overloaded."""
        if self._adaptive is not None:
            self.limit = self._adaptive.dropped(self.in_use)
            self._admit(now)

    def gave_up(self, seconds: float, now: float) -> None:
        """Learn that the time of a request was over when it had held a slot for `seconds`.

        That is a failure only if there usually is an answer by then: the queue may have left it next to no time.
        """
        if seconds >= self._heads.median():
            self.failed(now)

    # --- an operator ---

    def adjust(self, settings: BulkheadSettings, now: float) -> None:
        """Go on with other settings. Nobody is sent away for it: those inside and those who wait stay.

        An adaptive limit begins to look for its place again, where its bounds are others.
        """
        before = self.settings
        self.settings = settings
        if settings.adaptive is None:
            self._adaptive = None
            self.limit = settings.max_concurrent
        elif settings.adaptive != before.adaptive or self._adaptive is None:
            self._adaptive = AdaptiveLimit(*settings.adaptive)
            self.limit = self._adaptive.limit
        self._waitlist.adjust(settings.order, settings.patience)
        self._admit(now)

    # --- estimates ---

    def drain(self) -> float:
        """Give in how many seconds somebody who comes back would probably find a slot; 0 while nobody knows."""
        return self._expected_wait(len(self._queue))

    def _expected_wait(self, ahead: int) -> float:
        return (ahead + 1) * self._holds.median() / self.limit

    def _hopeless(self, ahead: int, time_left: float) -> bool:
        return time_left < self._expected_wait(ahead) + self._heads.median()

    def _admit(self, now: float) -> None:
        while self._queue and self.in_use < self.limit:
            self.in_use += 1
            self.admitted += 1
            self._waitlist.take(now).settle(ADMITTED)

    # --- as a shadow ---

    def slip_in(self, time_left: float) -> bool:
        """Come in, slot or none. False: a real bulkhead would have refused this caller, at once or after a wait.

        Only after `enter` was False. To have to queue is not to be refused. Whoever got False goes out by `slip_out`.
        """
        ahead = self.in_use - self._uncounted - self.limit
        self.in_use += 1
        self.admitted += 1
        if ahead < 0:
            return True
        settings = self.settings
        if (
            ahead < settings.max_queue
            and self._expected_wait(ahead) <= settings.queue_timeout
            and not self._hopeless(ahead, time_left)
        ):
            return True
        self._uncounted += 1
        return False

    def slip_out(self, started: float, now: float) -> None:
        """Leave, as one whom a real bulkhead would have refused."""
        self._uncounted -= 1
        self.leave(started, now)
