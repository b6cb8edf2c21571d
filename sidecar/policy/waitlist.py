"""Who waits, and who is next.

- `fifo`: whoever came first. Fair; but once the queue is longer than callers are patient, everyone who gets a slot has
  nearly given up, and the service works for people who have left.
- `lifo`: whoever came last. Those at the end of the queue lose, all others are served as if there were none.
- `adaptive`: first come, first served while the oldest has waited for less than `target`, the newest first from then
  on: Maurer, "Fail at Scale", ACM Queue 13(8), 2015 (adaptive LIFO).

In a full queue the same rule says who has to go. Whenever the newest would be served first, the oldest makes room: it
would be the last to be served, if ever. Otherwise the newcomer is turned away.
"""

from collections import OrderedDict
from typing import Literal

from sidecar.native import mypyc_attr

__all__ = ["ADMITTED", "CROWDED_OUT", "TIMED_OUT", "WAITING", "Order", "Ticket", "Waitlist"]

Order = Literal["fifo", "lifo", "adaptive"]

# What may become of a ticket. Plain integers: a member of an Enum is slower to read.
WAITING = 0
ADMITTED = 1
TIMED_OUT = 2
CROWDED_OUT = 3


@mypyc_attr(allow_interpreted_subclasses=True)
class Ticket:
    """A place in the queue, taken at `since`. Whoever waits makes a subclass whose `settle` wakes it."""

    __slots__ = ("since", "state")

    def __init__(self, since: float) -> None:
        self.since = since
        self.state = WAITING

    def settle(self, state: int) -> None:
        """Take the outcome. Called once, unless the caller leaves before."""
        self.state = state


class Waitlist:
    """The `tickets` of those who wait, oldest first. `target` is in seconds.

    Adding, removing and taking cost the same at any length.
    """

    __slots__ = ("_adaptive", "_lifo", "_target", "tickets")

    def __init__(self, order: Order, target: float) -> None:
        self.adjust(order, target)
        self.tickets: OrderedDict[Ticket, None] = OrderedDict()

    def adjust(self, order: Order, target: float) -> None:
        """Take the next ones in this order. Those who wait go on waiting."""
        self._lifo = order == "lifo"
        self._adaptive = order == "adaptive"
        self._target = target

    def newest_first(self, now: float) -> bool:
        """Tell from which end of the queue the next one would be taken."""
        if not self._adaptive or not self.tickets:
            return self._lifo
        return now - next(iter(self.tickets)).since >= self._target

    def add(self, ticket: Ticket) -> None:
        """Put the newest at the end."""
        self.tickets[ticket] = None

    def remove(self, ticket: Ticket) -> None:
        """Take out one who leaves.

        Raises:
            KeyError: it does not wait here.

        """
        del self.tickets[ticket]

    def take(self, now: float) -> Ticket:
        """Take out whoever is next.

        Raises:
            KeyError: nobody waits.

        """
        return self.tickets.popitem(last=self.newest_first(now))[0]

    def take_oldest(self) -> Ticket:
        """Take out whoever came first.

        Raises:
            KeyError: nobody waits.

        """
        return self.tickets.popitem(last=False)[0]
