"""`${NAME}` and `${NAME:-default}` in values, as a shell has them: the default also replaces empty text.

`$${` is a literal `${`; any other `$` is itself. The default ends at the first `}`. Keys are never expanded,
and what a variable holds is only ever part of one value: it cannot bring structure into the file.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass

__all__ = ["Expanded", "escape", "expand", "is_secret_name"]

_REFERENCE = re.compile(r"\$\$\{|\$\{([^}]*)(\}?)")
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_SECRET = re.compile(
    r"((?<!by)pass(word|phrase|wd)?|pwd)([^a-z]|$)|secret|token|credential|auth(orization)?([^a-z]|$)|cookie|session"
    r"|(^|[^a-z])(api|private|access|signing|encryption)?[_-]?key([^a-z]|$)",
    re.IGNORECASE,
)


@dataclass(frozen=True, slots=True)
class Expanded:
    """The text, the variables that it was made from, and what kept others from it.

    `secret` tells that a variable is named whose value should not be shown, be it set or not.
    """

    text: str
    used: tuple[str, ...] = ()
    problems: tuple[str, ...] = ()
    secret: bool = False


def expand(text: str, env: Mapping[str, str]) -> Expanded:
    """Return `text` with the variables of `env` put in."""
    if "${" not in text:
        return Expanded(text)
    used: list[str] = []
    problems: list[str] = []
    secret = False

    def replace(match: re.Match[str]) -> str:
        nonlocal secret
        if match[1] is None:
            return "${"
        name, colon, default = match[1].partition(":-")
        secret = secret or is_secret_name(name)
        problem = _misspelt(name, closed=bool(match[2])) or (
            None if colon and not env.get(name) else _unusable(name, env)
        )
        if problem:
            problems.append(problem)
            return ""
        if not (value := env.get(name)) and colon:
            return default
        used.append(name)
        return value or ""

    result = _REFERENCE.sub(replace, text)
    return Expanded(result, tuple(dict.fromkeys(used)), tuple(dict.fromkeys(problems)), secret)


def escape(text: str) -> str:
    """Return the text that expands to `text`."""
    return text.replace("${", "$${")


def is_secret_name(name: str) -> bool:
    """Tell if what is called `name` is better not shown: a password, token, key, cookie or the like.

    Where one of those is kept, as in `TOKEN_FILE`, is no secret.
    """
    return _SECRET.search(name) is not None and not name.upper().endswith(("_FILE", "_PATH", "_DIR"))


def _misspelt(name: str, *, closed: bool) -> str | None:
    if not closed:
        return "`${` is not closed by `}` (a literal `${` is written `$${`)"
    if not _NAME.fullmatch(name):
        return f"`{name}` is not the name of a variable (a literal `${{` is written `$${{`)"
    return None


def _unusable(name: str, env: Mapping[str, str]) -> str | None:
    if name not in env:
        return f"the environment variable `{name}` is not set; `${{{name}:-…}}` would give it a default"
    if not env[name].isascii() and any("\ud800" <= char <= "\udfff" for char in env[name]):
        return f"the environment variable `{name}` does not hold UTF-8"
    return None
