"""What the mutation run takes from mutmut's diffs, and from the page that argues survivors."""

from pathlib import Path

import pytest

from tests.mutation.argued import Change, argued, change_of

PAGE = Path(__file__).parents[2] / "docs" / "mutation.md"
DIFF = """\
# sidecar.policy.budget.xRetryBudget__init____mutmut_17: survived
--- sidecar/policy/budget.py
+++ sidecar/policy/budget.py
@@ -8,7 +8,7 @@
     self._requests_here = 0
-    self._requests = [0] * (BUCKETS - 1)
+    self._requests = [0] * (BUCKETS + 1)
     self._requests_past = 0
"""
CHANGE = Change(
    "sidecar/policy/budget.py",
    ("self._requests = [0] * (BUCKETS - 1)",),
    ("self._requests = [0] * (BUCKETS + 1)",),
)


def test_a_change_is_its_lines_wherever_they_stand() -> None:
    moved = DIFF.replace("-8,7 +8,7", "-80,7 +80,7").replace("\n-    ", "\n-        ")

    assert change_of("sidecar/policy/budget.py", DIFF) == CHANGE
    assert change_of("sidecar/policy/budget.py", moved) == CHANGE


def test_a_page_argues_what_stands_below_the_name_of_its_file() -> None:
    page = """\
## `sidecar/policy/budget.py`

```diff
-self._requests = [0] * (BUCKETS - 1)
+self._requests = [0] * (BUCKETS + 1)
```

Too long a list is cut at the first turn.

### `sidecar/policy/window.py`: `Window.add`

```diff
-a
-b
+c
```
"""
    assert argued(page) == {CHANGE, Change("sidecar/policy/window.py", ("a", "b"), ("c",))}


def test_a_change_of_no_file_is_a_mistake() -> None:
    with pytest.raises(ValueError, match="no heading names the file"):
        argued("```diff\n-a\n+b\n```\n")


def test_the_page_argues_only_of_files_that_exist() -> None:
    root = PAGE.parents[1]

    assert {change.file for change in argued(PAGE.read_text()) if not (root / change.file).exists()} == set()
