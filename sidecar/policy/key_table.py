"""The bounded table of a limiter's keys: who is forgotten when there is no room.

A new key first drops, of the two that were used longest ago, those that owe nothing any more: a forgotten bucket and a
full one are the same. So the table is as large as the clients of the last while are many, not as all that ever came.

When it is full all the same, the key that owes least, of the eight that were used longest ago, must go: it gets its full
quota back too early, and least is lost by that. Using a key, be it in vain, makes it the latest.

What an attacker gains: to be forgotten himself he must bring as many other keys as the table holds while he keeps quiet,
and even so an exhausted bucket outlives the ones that were used only once, unless seven more are as exhausted and as
old. Whoever has that many keys has that many quotas already, which is more than the one he gets back. The others lose
nothing by it: they too are only ever let through too often, never refused too early.
"""

from collections import OrderedDict
from collections.abc import Callable
from itertools import islice
from typing import TypeVar

from sidecar.policy.rate_key import Key

__all__ = ["make_room"]

State = TypeVar("State")

_SWEEP = 2
_LOOK = 8


def make_room(
    table: "OrderedDict[Key, State]", most: int, owes: Callable[[State, int], int], at: int
) -> bool:
    """Make room for one more key in `table`, ordered by last use. True: a key was dropped that still owed something.

    `owes(state, at)` is how much of a key's quota is used up at the time `at`; zero or less: nothing.
    """
    oldest = list(islice(table.items(), _LOOK if len(table) >= most else _SWEEP))
    loser, least = None, 0
    for key, state in oldest:
        debt = owes(state, at)
        if debt <= 0:
            del table[key]
        elif loser is None or debt < least:
            loser, least = key, debt
    if loser is None or len(table) < most:
        return False
    del table[loser]
    return True
