"""`make mutation`: change the policies, one small change at a time, and see whether their tests notice.

    make mutation                                        everything in sidecar/policy
    make mutation ARGS=sidecar/policy/backoff.py         one module (or several)
    make mutation ARGS="--jobs 2 sidecar/policy/budget.py"

mutmut works on a copy below `build/mutation`, where it also remembers what it has tried: a run over everything that was
broken off goes on, and one after an edit tries what the edit concerns. A module that is named is tried anew.

Exit status: 0 every mutant was killed, or is argued in `docs/mutation.md`; 1 one survived for which nothing is said; 2
wrong usage, or the tests fail without any change.
"""

import argparse
import os
import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from tests.mutation.argued import argued, change_of

ROOT = Path(__file__).parents[2]
PLACE = ROOT / "build" / "mutation"
PAGE = ROOT / "docs" / "mutation.md"
COPIED = ("sidecar", "tests", "pyproject.toml")
KILLED = frozenset({"killed", "timeout", "caught by type check", "segfault"})


def main(words: Sequence[str] | None = None) -> int:
    """Run what the words say; give the exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.mutation", description="Change the policies and see whether their tests notice."
    )
    parser.add_argument(
        "files", nargs="*", metavar="FILE", help="modules of sidecar/policy; without: all of them"
    )
    cores = len(os.sched_getaffinity(0))
    parser.add_argument("--jobs", type=int, default=cores, help="processes (one for each core)")
    options = parser.parse_args(words)
    modules = options.files or sorted(str(path.relative_to(ROOT)) for path in _policies())
    if strange := [name for name in modules if ROOT / name not in _policies()]:
        parser.error(f"not a module of sidecar/policy: {', '.join(strange)}")
    _copy()
    if not _run(options.jobs, options.files):
        return 2
    return _judge(_results(), modules)


def _policies() -> list[Path]:
    return [path for path in (ROOT / "sidecar" / "policy").glob("*.py") if path.name != "__init__.py"]


def _copy() -> None:
    """Bring the copy up to date. Times of change are kept: by them mutmut knows what to try again."""
    PLACE.mkdir(parents=True, exist_ok=True)
    for name in COPIED:
        source, target = ROOT / name, PLACE / name
        if source.is_dir():
            shutil.rmtree(target, ignore_errors=True)
            shutil.copytree(source, target, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy2(source, target)
    # Which tests reach which function: mutmut asks that of new tests only, but a new function may be reached by old ones.
    (PLACE / "mutants" / "mutmut-stats.json").unlink(missing_ok=True)


def _run(jobs: int, modules: Sequence[str]) -> bool:
    """Let mutmut try the mutants of these modules; of none: of all, as far as it has not tried them.

    Its progress is for terminals; elsewhere it goes to a file.
    """
    names = [f"{name.removesuffix('.py').replace('/', '.')}.*" for name in modules]
    command = [*_MUTMUT, "run", "--max-children", str(jobs), *names]
    if sys.stdout.isatty():
        return subprocess.run(command, cwd=PLACE, check=False).returncode == 0
    log = PLACE / "mutmut.log"
    print(f"progress: {log}", flush=True)
    with log.open("wb") as out:
        done = subprocess.run(command, cwd=PLACE, check=False, stdout=out, stderr=subprocess.STDOUT)
    if done.returncode:
        print("\n".join(log.read_text(errors="replace").splitlines()[-30:]))
    return done.returncode == 0


def _results() -> dict[str, str]:
    """Give what came of each mutant, by its name."""
    lines = _ask("results", "--all", "true").splitlines()
    return dict(line.strip().split(": ") for line in lines if ": " in line)


def _judge(results: dict[str, str], modules: Sequence[str]) -> int:
    """Tell what survived, and what is not argued of it."""
    known = {change for change in argued(PAGE.read_text()) if change.file in modules}
    survivors = {}
    tally: Counter[str] = Counter()
    for name, status in results.items():
        file = name.rpartition(".")[0].replace(".", "/") + ".py"
        if file not in modules:
            continue
        tally[status] += 1
        if status not in KILLED:
            diff = _ask("show", name)
            survivors[name] = (status, diff, change_of(file, diff))
    for name, (status, diff, change) in survivors.items():
        if change not in known:
            print(f"{status}: {diff[diff.index('---') :] if '---' in diff else name}")
    left = sum(change not in known for _, _, change in survivors.values())
    for change in known - {change for _, _, change in survivors.values()}:
        print(f"argued in {PAGE.name}, but did not survive:\n{change}\n")
    told = ", ".join(f"{many} {status}" for status, many in tally.most_common())
    print(
        f"{sum(tally.values())} mutants: {told}; {len(survivors) - left} survivors are argued, {left} are not"
    )
    return int(left > 0)


def _ask(*words: str) -> str:
    done = subprocess.run([*_MUTMUT, *words], cwd=PLACE, check=True, capture_output=True, text=True)
    return done.stdout


_MUTMUT = (sys.executable, "-m", "mutmut")

if __name__ == "__main__":
    sys.exit(main())
