"""Compiled or not: which modules may be, what their source must keep to, and that nobody takes one for the other."""

import ast
import importlib
import importlib.util
import os
import subprocess
import sys
import tomllib
from pathlib import Path
from types import ModuleType

import pytest

from sidecar.native import COMPILED, mypyc_attr

ROOT = Path(__file__).parent.parent


def _backend() -> ModuleType:
    spec = importlib.util.spec_from_file_location("backend", ROOT / "deploy/backend.py")
    assert spec is not None
    assert spec.loader is not None
    made = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(made)
    return made


BACKEND = pytest.importorskip("setuptools") and _backend()
MODULES: list[str] = BACKEND.modules()


def test_what_is_left_out_is_there_and_would_be_taken() -> None:
    taken = {path.name for pattern in BACKEND.MODULES for path in (ROOT / "sidecar").glob(pattern)}

    assert [name for name in BACKEND.LEFT if Path(name).name not in taken] == []
    assert [name for name in MODULES if name.removeprefix("sidecar/") in BACKEND.LEFT] == []


@pytest.mark.parametrize("path", MODULES)
def test_all_of_them_are_compiled_or_none(path: str) -> None:
    """Half of them would be slower than either, and nobody could say what had been measured."""
    module = importlib.import_module(path.removesuffix(".py").replace("/", "."))
    assert module.__file__ is not None

    assert module.__file__.endswith(".so" if COMPILED else ".py")


@pytest.mark.skipif(os.environ.get(BACKEND.ASKED, "") in {"", "0"}, reason="nobody has asked for it")
def test_what_was_asked_for_is_what_runs() -> None:
    assert COMPILED


@pytest.mark.parametrize("path", MODULES)
def test_nothing_is_waited_for_while_an_exception_is_handled(path: str) -> None:
    """A compiled coroutine has no exception state of its own: after an `await` in an `except` or a `finally`, what is
    raised again is another's, or nothing at all (https://github.com/python/mypy/issues/12867)."""
    tree = ast.parse((ROOT / path).read_text())
    handlers = [
        block
        for each in ast.walk(tree)
        if isinstance(each, ast.Try)
        for block in (*(line for handler in each.handlers for line in handler.body), *each.finalbody)
    ]
    waits = (ast.Await, ast.AsyncWith, ast.AsyncFor, ast.Yield, ast.YieldFrom)

    assert [inner.lineno for block in handlers for inner in ast.walk(block) if isinstance(inner, waits)] == []


@pytest.mark.parametrize("path", MODULES)
def test_an_async_with_is_one_that_never_waits_at_its_end(path: str) -> None:
    """For the same reason: its end runs while the exception is handled. That of `asyncio.timeout` only decides."""
    tree = ast.parse((ROOT / path).read_text())
    managers = [
        ast.unparse(item.context_expr)
        for each in ast.walk(tree)
        if isinstance(each, ast.AsyncWith)
        for item in each.items
    ]

    assert [made for made in managers if not made.startswith(("asyncio.timeout(", "bound"))] == []


def test_the_compiler_of_a_build_is_the_pinned_one() -> None:
    pins = dict(line.split("==") for line in BACKEND._tools())

    assert set(pins) == set(BACKEND.TOOLS)


def test_pyproject_names_the_backend() -> None:
    system = tomllib.loads((ROOT / "pyproject.toml").read_text())["build-system"]

    assert (system["build-backend"], system["backend-path"]) == ("backend", ["deploy"])


def test_the_program_says_which_it_is() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "sidecar", "--version"], capture_output=True, text=True, timeout=20, check=True
    )

    assert done.stdout.endswith(", compiled\n") == COMPILED


def test_without_a_compiler_what_it_is_told_changes_nothing() -> None:
    class Plain:
        pass

    assert mypyc_attr(allow_interpreted_subclasses=True)(Plain) is Plain
