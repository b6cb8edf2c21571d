"""structlog without rich, which it would load wherever it is installed: 8 MiB, for tracebacks that we print plainly.

`sidecar top` and `explain` import rich for themselves; the sidecar that runs for months does not need it.
"""

import sys

_loaded = "rich" in sys.modules
if not _loaded:
    sys.modules["rich"] = None  # type: ignore[assignment]  # the import system's own word for «there is none»
import structlog  # noqa: E402 -- not before that

if not _loaded:
    del sys.modules["rich"]

__all__ = ["structlog"]
