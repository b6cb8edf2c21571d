"""How the package is built: as setuptools does it, and with compiled modules for whoever asks (docs/adr/0016).

    SIDECAR_COMPILED=1 pip install .            the modules of `MODULES` as extensions, beside their source
    pip install .                               the source alone, which runs everywhere
    python deploy/backend.py build/compiled     a copy of the project with compiled modules: `make compiled`

The compiler is mypyc, a part of mypy; it needs a C compiler and Python's headers. The same source runs either way.

PEP 517: pip calls the functions below. setuptools has no place for extensions that are made up while building, other
than the arguments of `setup()`; where a project has no `setup.py` it calls `setuptools.setup()`, and so these stand here.
"""

import os
import shutil
import sys
from collections.abc import Iterable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import setuptools
from setuptools import build_meta
from setuptools.command.sdist import sdist

__all__ = [
    "MODULES",
    "build_editable",
    "build_sdist",
    "build_wheel",
    "get_requires_for_build_editable",
    "get_requires_for_build_sdist",
    "get_requires_for_build_wheel",
    "modules",
    "prepare_metadata_for_build_editable",
    "prepare_metadata_for_build_wheel",
]

ROOT = Path(__file__).resolve().parent.parent
ASKED = "SIDECAR_COMPILED"

# What a request runs through, and what that calls. Patterns below sidecar/; what a pattern takes too much is in `LEFT`.
MODULES = (
    "counts.py",
    "timers.py",
    "dates.py",
    "message.py",
    "config/router.py",
    "policy/*.py",
    "pipeline/*.py",
    "pipeline/stages/*.py",
    "telemetry/ids.py",
    "telemetry/record.py",
    "wire/*.py",
)
LEFT = {
    "__init__.py": "empty",
    "policy/fallback.py": "dataclasses with inheritance, which the compiler does not order as Python does",
    "policy/templates.py": "for fallbacks only",
    "pipeline/assemble.py": "runs once for each configuration",
    "pipeline/guards.py": "as assemble.py",
    "pipeline/stages/ladder.py": "a dataclass and a protocol of steps; runs only where the upstream has failed",
}

# What the compiler needs in an environment of its own, by the names of deploy/constraints.txt: itself, and the plug-in
# that [tool.mypy] names.
TOOLS = (
    "annotated-types",
    "ast_serialize",
    "librt",
    "mypy",
    "mypy_extensions",
    "pathspec",
    "pydantic",
    "pydantic_core",
    "typing-inspection",
    "typing_extensions",
)
NOT_COPIED = shutil.ignore_patterns(
    ".git",
    ".venv*",
    "build",
    "dist",
    "results",
    "__pycache__",
    "*.egg-info",
    ".*_cache",
    ".hypothesis",
    "*.so",
)


def modules(root: Path = ROOT) -> list[str]:
    """Give the paths of the modules that are compiled, relative to `root`, in a fixed order."""
    package = root / "sidecar"
    found = {path.relative_to(package).as_posix() for pattern in MODULES for path in package.glob(pattern)}
    return sorted(
        f"sidecar/{name}" for name in found if name not in LEFT and not name.endswith("__init__.py")
    )


def get_requires_for_build_wheel(config_settings: Mapping[str, Any] | None = None) -> list[str]:
    """Name what a wheel needs, with the compiler if it was asked for."""
    needed = build_meta.get_requires_for_build_wheel(config_settings)
    return [*needed, *_tools()] if _asked() else needed


def get_requires_for_build_editable(config_settings: Mapping[str, Any] | None = None) -> list[str]:
    """Name what an editable installation needs. It is never compiled: an edit would be without effect."""
    return build_meta.get_requires_for_build_editable(config_settings)


def get_requires_for_build_sdist(config_settings: Mapping[str, Any] | None = None) -> list[str]:
    """Name what a source distribution needs."""
    return build_meta.get_requires_for_build_sdist(config_settings)


def prepare_metadata_for_build_wheel(
    metadata_directory: str, config_settings: Mapping[str, Any] | None = None
) -> str:
    """Write the metadata of the wheel. Extensions do not show in it."""
    return build_meta.prepare_metadata_for_build_wheel(metadata_directory, config_settings)


def prepare_metadata_for_build_editable(
    metadata_directory: str, config_settings: Mapping[str, Any] | None = None
) -> str:
    """Write the metadata of an editable installation."""
    return build_meta.prepare_metadata_for_build_editable(metadata_directory, config_settings)


def build_wheel(
    wheel_directory: str,
    config_settings: Mapping[str, Any] | None = None,
    metadata_directory: str | None = None,
) -> str:
    """Build the wheel, compiled if that was asked for."""
    if _asked():
        _set_up(ext_modules=_extensions())
    return build_meta.build_wheel(wheel_directory, config_settings, metadata_directory)


def build_editable(
    wheel_directory: str,
    config_settings: Mapping[str, Any] | None = None,
    metadata_directory: str | None = None,
) -> str:
    """Build what makes this directory the installation."""
    return build_meta.build_editable(wheel_directory, config_settings, metadata_directory)


def build_sdist(sdist_directory: str, config_settings: Mapping[str, Any] | None = None) -> str:
    """Build the source distribution, with what building from it takes."""
    _set_up(cmdclass={"sdist": _Sdist})
    return build_meta.build_sdist(sdist_directory, config_settings)


class _Sdist(sdist):
    """Takes this file along, and the pins that it reads."""

    def add_defaults(self) -> None:
        super().add_defaults()
        self.filelist.extend(["deploy/backend.py", "deploy/constraints.txt"])


def _asked() -> bool:
    return os.environ.get(ASKED, "") not in {"", "0"}


def _tools() -> list[str]:
    pins = (ROOT / "deploy/constraints.txt").read_text().splitlines()
    return [pin for pin in pins if pin.partition("==")[0] in TOOLS]


def _set_up(**more: object) -> None:
    """Have setuptools call `setup()` with these arguments as well. A build has a process of its own."""
    setuptools.setup = partial(setuptools.setup, **more)


def _extensions() -> Iterable[setuptools.Extension]:
    from mypyc.build import mypycify  # noqa: PLC0415 -- only there if it was asked for

    # One C file for all, so that calls between the modules are calls of C; the library beside the package has this name.
    # For size: with -O3 a request costs 4 % less, and the process a MiB more.
    found: list[setuptools.Extension] = mypycify(modules(Path()), opt_level="s", group_name="sidecar")
    for each in found:
        each.extra_compile_args.append(
            "-fno-asynchronous-unwind-tables"
        )  # for debuggers of C; an eighth of the library
    return found


def _compile_copy(where: Path) -> None:
    """Make `where` a copy of the project whose modules are compiled, in the place of one that is there."""
    shutil.rmtree(where, ignore_errors=True)
    shutil.copytree(ROOT, where, ignore=NOT_COPIED)
    os.chdir(where)
    setuptools.setup(
        name="sidecar-compiled",
        packages=[],
        ext_modules=_extensions(),
        script_args=["--quiet", "build_ext", "--inplace"],
    )


if __name__ == "__main__":
    _compile_copy(Path(sys.argv[1]).absolute())
