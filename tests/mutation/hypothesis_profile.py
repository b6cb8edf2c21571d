"""A plugin of pytest, for a run in which most tests are meant to fail: the first counterexample is enough.

Examples are the same each time, so that a mutant that survives today survives tomorrow, and a failing one is neither
shrunk nor kept.
"""

from hypothesis import Phase, settings

settings.register_profile(
    "mutation",
    deadline=None,
    derandomize=True,
    database=None,
    phases=[Phase.explicit, Phase.generate],
)
