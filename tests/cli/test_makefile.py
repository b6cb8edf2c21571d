"""The Makefile's own promises, with an interpreter that only notes what it is asked to do."""

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

pytestmark = pytest.mark.skipif(shutil.which("make") is None, reason="needs make")

# Answers as a Python of the given kind would, notes what it was asked, and makes an "environment" of itself.
PYTHON = """\
#!/bin/sh
case "$*" in
  *version_info*) exit {too_old} ;;
  *ensurepip*) exit {without_venv} ;;
  "-m venv "*) mkdir -p "$3/bin" && cp "$0" "$3/bin/python" && touch "$3/pyvenv.cfg" ;;
esac
echo "$*" >> "{notes}"
"""


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    (tmp_path / "deploy").mkdir()
    for name in ("Makefile", "pyproject.toml", "deploy/constraints.txt"):
        shutil.copy(ROOT / name, tmp_path / name)
    return tmp_path


def python(checkout: Path, *, too_old: bool = False, without_venv: bool = False) -> str:
    path = checkout / "some-python"
    notes = checkout / "notes"
    path.write_text(PYTHON.format(too_old=int(too_old), without_venv=int(without_venv), notes=notes))
    path.chmod(0o755)
    return f"PYTHON={path}"


def notes(checkout: Path) -> list[str]:
    """What the interpreter was asked since the last look, without the options of pip."""
    path = checkout / "notes"
    lines = path.read_text().splitlines()
    path.write_text("")
    return [re.sub(r"^-m pip( --\S+)* install", "pip install", line) for line in lines]


def make(checkout: Path, *args: str) -> tuple[int, str, str]:
    done = subprocess.run(
        ["make", "--no-print-directory", *args],
        cwd=checkout,
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
        env={
            "PATH": os.environ["PATH"],
            "LC_ALL": "C",
        },  # without the variables of a make that runs these tests
    )
    return done.returncode, done.stdout, done.stderr


def test_help_lists_every_target(checkout: Path) -> None:
    phony = re.search(r"^\.PHONY: (.*)$", (checkout / "Makefile").read_text(), re.MULTILINE)

    code, out, err = make(checkout, "help")

    assert phony is not None
    assert (code, err) == (0, "")
    assert [line.split()[:2] for line in out.splitlines()] == [
        ["make", target] for target in phony[1].split()
    ]
    assert all(len(line.split()) > 2 for line in out.splitlines())


def test_make_alone_is_help(checkout: Path) -> None:
    assert make(checkout) == make(checkout, "help")


def test_the_first_time_installs_and_the_second_does_not(checkout: Path) -> None:
    interpreter = python(checkout)

    make(checkout, "demo", interpreter)
    first = notes(checkout)
    make(checkout, "demo", interpreter)
    second = notes(checkout)

    assert first == [
        "-m venv .venv",
        "pip install --editable . --constraint deploy/constraints.txt",
        "-m sidecar demo",
    ]
    assert second == ["-m sidecar demo"]


@pytest.mark.parametrize("changed", ["pyproject.toml", "deploy/constraints.txt"])
def test_other_packages_are_installed_again(checkout: Path, changed: str) -> None:
    interpreter = python(checkout)
    make(checkout, "test", interpreter)
    notes(checkout)

    make(checkout, "test", f"--assume-new={changed}", interpreter)

    assert notes(checkout) == [
        "pip install --editable .[dev] --constraint deploy/constraints.txt",
        "-m pytest -n auto --dist loadfile",
    ]


def test_an_environment_for_tests_serves_the_demo_too(checkout: Path) -> None:
    interpreter = python(checkout)
    make(checkout, "install", interpreter)
    notes(checkout)

    make(checkout, "demo", interpreter)

    assert notes(checkout) == ["-m sidecar demo"]


@pytest.mark.parametrize(
    ("target", "extras", "command"),
    [
        ("soak", "dev", "-m tests.soak --seed 17"),
        ("mutation", "dev,mutation", "-m tests.mutation --seed 17"),
        ("bench", "dev,bench", "-m bench --seed 17"),
        ("fuzz", "dev,fuzz", "-m tests.fuzz --seed 17"),
    ],
)
def test_what_takes_long_installs_what_it_alone_needs(
    checkout: Path, target: str, extras: str, command: str
) -> None:
    make(checkout, target, python(checkout), "ARGS=--seed 17")

    assert notes(checkout)[1:] == [
        f"pip install --editable .[{extras}] --constraint deploy/constraints.txt",
        command,
    ]


def test_words_are_handed_on(checkout: Path) -> None:
    make(checkout, "test", python(checkout), "ARGS=tests/wire -x", "VENV=.venv313")

    assert notes(checkout)[::2] == ["-m venv .venv313", "-m pytest -n auto --dist loadfile tests/wire -x"]


def test_a_failed_installation_is_not_taken_for_done(checkout: Path) -> None:
    interpreter = python(checkout)
    (checkout / "some-python").write_text(
        (checkout / "some-python").read_text() + 'case "$*" in *install*) exit 1 ;; esac\n'
    )

    codes = [make(checkout, "demo", interpreter)[0] for _ in range(2)]

    assert codes == [2, 2]
    assert [line.split(" --")[0] for line in notes(checkout)] == [
        "-m venv .venv",
        "pip install",
        "pip install",
    ]


@pytest.mark.parametrize("target", ["demo", "test"])
def test_a_python_that_is_too_old_is_refused_kindly(checkout: Path, target: str) -> None:
    code, _, err = make(checkout, target, python(checkout, too_old=True))

    assert code == 2
    assert "Python 3.11 or newer is needed" in err
    assert f"make {target} PYTHON=" in err
    assert not (checkout / ".venv").exists()


def test_no_python_at_all_is_refused_in_the_same_way(checkout: Path) -> None:
    code, _, err = make(checkout, "demo", "PYTHON=no-such-python")

    assert (code, "Python 3.11 or newer is needed" in err) == (2, True)


def test_a_python_without_venv_is_refused_with_the_package_to_install(checkout: Path) -> None:
    code, _, err = make(checkout, "demo", python(checkout, without_venv=True))

    assert code == 2
    assert "apt-get install python3-venv" in err


def test_clean_removes_what_tools_left_and_nothing_else(checkout: Path) -> None:
    make(checkout, "install", python(checkout))
    for left in ("build/lib", ".pytest_cache", "x.egg-info", "sidecar/__pycache__"):
        (checkout / left).mkdir(parents=True)
    (checkout / "data").mkdir()

    make(checkout, "clean")
    make(checkout, "clean", "VENV=data")  # not an environment: it stays

    stayed = sorted(path.name for path in checkout.iterdir())
    assert stayed == ["Makefile", "data", "deploy", "notes", "pyproject.toml", "sidecar", "some-python"]
    assert list((checkout / "sidecar").iterdir()) == []
