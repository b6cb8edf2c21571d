"""What the running sidecar does not need, it does not load."""

import subprocess
import sys

WITHOUT = "rich", "watchfiles", "opentelemetry", "sentry_sdk"


def test_a_running_sidecar_has_not_loaded_what_only_commands_and_extras_need() -> None:
    program = f"""
import sys
import sidecar.runtime
print(sorted(set({WITHOUT!r}) & set(sys.modules)))
import rich.console
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)

    assert done.stdout == "[]\n"


def test_where_rich_is_loaded_already_it_stays() -> None:
    program = "import rich.console, sys; import sidecar.telemetry.logs; print(sys.modules['rich'].__name__)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)

    assert done.stdout == "rich\n"
