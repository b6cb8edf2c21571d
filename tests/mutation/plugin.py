"""A plugin of pytest, for runs of which most are meant to fail.

Hypothesis draws the same examples each time, so that a mutant that survives today survives tomorrow, and stops at the
first counterexample: none is shrunk or kept.

Each mutant is tried in a process that was forked when the tests had already run once without it. What they left in
caches would hide the mutant, so the caches are emptied first.
"""

import functools
import gc
import sys

from hypothesis import Phase, settings

settings.register_profile(
    "mutation",
    deadline=None,
    derandomize=True,
    database=None,
    phases=[Phase.explicit, Phase.generate],
)


def pytest_sessionstart() -> None:
    """Forget what the tests of the process before the fork left in caches: those of functools, and our own `_memo`."""
    for thing in gc.get_objects():
        if isinstance(thing, functools._lru_cache_wrapper) and thing.__module__.startswith("sidecar."):
            thing.cache_clear()
    for name, module in sys.modules.items():
        if name.startswith("sidecar.policy.") and (memo := getattr(module, "_memo", None)):
            memo.clear()
