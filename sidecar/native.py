"""What the compiler is told of a class where nothing in Python says it, and whether the compiler has been at work.

The hot modules may be compiled (`deploy/compiled.py`, docs/adr/0016). A compiled class has no `__dict__`, cannot be
derived from in Python, unless `mypyc_attr` says so. That name is from a package that
comes with the compiler; a program that runs has no need of it.
"""

from typing import TYPE_CHECKING

from sidecar import counts

__all__ = ["COMPILED", "mypyc_attr"]

if TYPE_CHECKING:
    from mypy_extensions import mypyc_attr
else:

    def mypyc_attr(**_):  # noqa: ANN003, ANN201 -- for type checkers it is the one above
        """Change nothing: it is read while compiling."""
        return lambda cls: cls


COMPILED = not counts.__file__.endswith(".py")
