"""From a file to a `Config`, or to all that is wrong with it.

    text ──reader──▶ tree ──complete──▶ tree in force ──model, checks──▶ Config ──lint──▶ warnings

Either everything is right, or `ConfigError` has every problem, one to a line, in the order of the file, each
exactly `file:line:col: key.path: message` with lines and columns from 1. `(file)` as key path means the file
as a whole. A syntax error ends reading, and an unknown `version` ends checking: what would follow from them
is no help.
"""

import hashlib
import json
import os
import stat
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import chain, islice
from pathlib import Path as FilePath
from types import MappingProxyType

from pydantic import ValidationError

from sidecar.config.checks import CHECKS
from sidecar.config.checks_fallback import FALLBACK_CHECKS
from sidecar.config.checks_observing import OBSERVING_CHECKS
from sidecar.config.checks_policies import POLICY_CHECKS
from sidecar.config.complaints import complain_about
from sidecar.config.complete import complete
from sidecar.config.emptiness import complain_of_nothing
from sidecar.config.lint import Lint, lint
from sidecar.config.model import Config
from sidecar.config.reader import MAX_BYTES, Document, read
from sidecar.config.shape import plain
from sidecar.config.tls_files import unfit_files
from sidecar.config.tree import TOP, Mark, Node, Origin, Path, data, leaves
from sidecar.config.words import shown
from sidecar.errors import ConfigError

__all__ = ["Loaded", "load_file", "load_text"]

_KEYS_SHOWN = 3
_CHECKS = (*CHECKS, *POLICY_CHECKS, *FALLBACK_CHECKS, *OBSERVING_CHECKS)


@dataclass(frozen=True, slots=True)
class Loaded:
    """A configuration that can be run.

    `origins` tells for each scalar and list in force where it comes from, by key path. `source` is the name
    of the file, `digest` the SHA-256, in hexadecimal, of what is in force: two files that mean the same have
    the same.
    """

    config: Config
    warnings: tuple[Lint, ...]
    origins: Mapping[Path, Origin]
    source: str
    digest: str


def load_file(path: str | FilePath, env: Mapping[str, str] | None = None, *, regular: bool = False) -> Loaded:
    """Read and check a file. `env` is `os.environ` unless given. Raises ConfigError, and nothing else.

    With `regular` it must be a file as such: a pipe, which one may wait for without end, is refused.
    """
    return load_text(_text_of(path, regular=regular), name=str(path), env=env, base=FilePath(path).parent)


def load_text(
    text: str,
    *,
    name: str = "<text>",
    env: Mapping[str, str] | None = None,
    base: FilePath | None = None,
) -> Loaded:
    """Check a text, called `name` in complaints. Raises ConfigError, and nothing else.

    `env` is `os.environ` unless given; relative file names start at `base`, which is the working directory
    unless given.
    """
    document = read(text, name, os.environ if env is None else env)
    complain_of_nothing(document)
    root = document.root
    if root is None or _is_foreign(root, document) or _is_of_another_version(root, document):
        raise _error(document)
    complete(root)
    config = _validated(root, document, base or FilePath())
    if config is None or document.problems:
        raise _error(document)
    origins = MappingProxyType(dict(leaves(root)))
    return Loaded(config, lint(config, root, name), origins, name, digest(config))


def digest(config: Config) -> str:
    """Return the SHA-256 of what is in force, in hexadecimal."""
    return hashlib.sha256(json.dumps(plain(config), sort_keys=True).encode()).hexdigest()


def _text_of(path: str | FilePath, *, regular: bool) -> str:
    """Return the text of a file. Of one that is too large, or never ends, one byte too many is read."""
    more = os.O_NONBLOCK if regular else 0
    try:
        with open(path, "rb", opener=lambda name, flags: os.open(name, flags | more)) as file:
            usable = not regular or stat.S_ISREG(os.fstat(file.fileno()).st_mode)
            content = file.read(MAX_BYTES + 1) if usable else b""
    except OSError as error:
        raise _unreadable(path, TOP, f"cannot be read: {error.strerror}") from error
    except ValueError as error:
        raise _unreadable(path, TOP, f"cannot be read: {error}") from error
    if not usable:
        raise _unreadable(path, TOP, "is no regular file")
    if len(content) > MAX_BYTES:
        raise _unreadable(path, TOP, f"is larger than {MAX_BYTES >> 20} MiB")
    try:
        return content.decode()
    except UnicodeDecodeError as error:
        before = content[: error.start].decode()
        mark = Mark(before.count("\n") + 1, len(before) - before.rfind("\n"))
        raise _unreadable(
            path, mark, f"is not UTF-8: byte 0x{content[error.start]:02X} cannot be here"
        ) from error


def _unreadable(path: str | FilePath, mark: Mark, message: str) -> ConfigError:
    document = Document(str(path))
    document.complain(mark, (), message)
    return _error(document)


def _is_of_another_version(root: Node, document: Document) -> bool:
    version = root.entries.get("version")
    # `true` is an int to isinstance, and 1 as well.
    if version is None or type(version.value) is not int or version.value == 1:
        return False
    document.about(version, f"`{version.value}` is not known; this program reads version `1`")
    return True


def _is_foreign(root: Node, document: Document) -> bool:
    """Tell if this is some other program's file. Of that, one complaint is made, and little shown."""
    if not root.entries or root.entries.keys() & Config.model_fields.keys():
        return False
    first = ", ".join(shown(key) for key in islice(root.entries, _KEYS_SHOWN))
    more = ", …" if len(root.entries) > _KEYS_SHOWN else ""
    document.problems.clear()
    document.complain(
        TOP, (), f"is no configuration of this program, which knows none of its keys: {first}{more}"
    )
    return True


def _validated(root: Node, document: Document, base: FilePath) -> Config | None:
    """Return the configuration, or None; what is wrong is added to `document`."""
    found = (finding for check in _CHECKS for finding in check(root))
    for node, message, at_key in chain(found, unfit_files(root, base.absolute())):
        document.about(node, message, at_key=at_key)
    try:
        return Config.model_validate(data(root), context={"base": base.absolute()})
    except ValidationError as error:
        complain_about(error, root, document)
        return None


def _error(document: Document) -> ConfigError:
    ordered = sorted(document.problems, key=lambda problem: problem.mark)
    return ConfigError(list(dict.fromkeys(map(str, ordered))))
