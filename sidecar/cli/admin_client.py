"""Ask the admin listener of a running sidecar, with the standard library alone.

As in `probe`, no redirect is followed and no proxy variable heeded: the token goes to the address that was named and
nowhere else. It is never an argument, where every user of the machine could read it, but in a file or in the environment.
"""

import json
import os
import socket
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import urlencode

import click

from sidecar.cli.probe import READY, Target

__all__ = ["DEFAULT_URL", "TOKEN_VARIABLE", "Admin", "AdminFailed", "admin_of", "token_option"]

DEFAULT_URL = "http://127.0.0.1:9901"
TOKEN_VARIABLE = "SIDECAR_ADMIN_TOKEN"  # noqa: S105 -- the name of a variable

_MOST = 32 << 20  # bytes of an answer: the state of thousands of routes is a few
_SHOWN = 200  # characters of an answer that is a refusal

F = TypeVar("F", bound=Callable[..., Any])


class AdminFailed(Exception):
    """No answer that is of use. The text is one line for the user."""


class Admin:
    """The admin listener at one address. `timeout` (seconds) bounds connecting and each wait for bytes."""

    def __init__(self, target: Target, token: str | None = None, timeout: float = 5.0) -> None:
        self._target = replace(target, path="/")
        self._token = token
        self._timeout = timeout

    def __str__(self) -> str:
        return str(self._target).removesuffix("/")

    def get(self, path: str, **query: str | list[str]) -> Any:
        """Give the JSON value at `path`.

        Raises:
            AdminFailed: nobody answers, or not as the admin listener of a sidecar does.

        """
        if query:
            path += "?" + urlencode(query, doseq=True)
        try:
            status, content = self._ask(path)
        except TimeoutError:
            raise AdminFailed(f"{self}: no answer within {self._timeout:g} s") from None
        except (OSError, ValueError) as exc:
            raise AdminFailed(f"{self}: {getattr(exc, 'strerror', None) or exc}") from exc
        if status != 200:
            raise AdminFailed(f"{self}: {_refusal(status, content, token=self._token is not None)}")
        try:
            return json.loads(content)
        except ValueError:
            raise AdminFailed(f"{self}: what answers there is not the admin listener of a sidecar") from None

    def _ask(self, path: str) -> tuple[int, bytes]:
        from http.client import HTTPConnection, HTTPException

        target = self._target
        connection = HTTPConnection(target.host, target.port, timeout=self._timeout)
        try:
            if target.socket_path is not None:
                connection.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
                connection.sock.settimeout(self._timeout)
                connection.sock.connect(target.socket_path)
            headers = {"Connection": "close", "Accept": "application/json"}
            if self._token is not None:
                headers["Authorization"] = f"Bearer {self._token}"
            connection.request("GET", path, headers=headers)
            response = connection.getresponse()
            content = response.read(_MOST + 1)
        except HTTPException as exc:
            if isinstance(exc, OSError):  # closed without an answer: http.client calls that both
                raise
            raise ValueError("the answer is not HTTP") from exc
        finally:
            connection.close()
        if len(content) > _MOST:
            raise ValueError("the answer is too large")
        return response.status, content


def _refusal(status: int, content: bytes, *, token: bool) -> str:
    if status == 401:
        wanted = "it does not accept this token" if token else "it asks for a token"
        return f"{wanted}: --token-file FILE, or the variable {TOKEN_VARIABLE}"
    try:
        told = json.loads(content)
        text = str(told.get("detail") or told.get("error") or "") if isinstance(told, dict) else ""
    except ValueError:
        text = ""
    text = text or content.decode("utf-8", "replace")
    shown = " ".join("".join(char if char.isprintable() else " " for char in text).split())[:_SHOWN]
    return f"{status} {shown}".rstrip()


def token_option(command: F) -> F:
    """Add `--token-file`."""
    return click.option(
        "--token-file",
        type=click.Path(path_type=Path),
        metavar="FILE",
        help=f"Where the admin token stands.  [the variable {TOKEN_VARIABLE}]",
    )(command)


def admin_of(url: str, token_file: Path | None, timeout: float = 5.0) -> Admin:
    """Make the client for what the options say.

    Raises:
        click.BadParameter: the URL is none, the file cannot be read, or its text cannot be a token.

    """
    try:
        target = Target.parse(url)
    except ValueError as exc:
        raise click.BadParameter(str(exc), param_hint="--admin") from exc
    if target.path not in ("", "/", READY):
        raise click.BadParameter(f"{url!r} has a path: an address is enough", param_hint="--admin")
    return Admin(target, _token(token_file), timeout)


def _token(file: Path | None) -> str | None:
    if file is None:
        token, hint = os.environ.get(TOKEN_VARIABLE, "").strip(), TOKEN_VARIABLE
    else:
        hint = "--token-file"
        try:
            token = file.read_text(encoding="utf-8").strip()
        except (OSError, ValueError) as exc:
            reason = getattr(exc, "strerror", None) or "it is not text"
            raise click.BadParameter(f"{file}: cannot be read: {reason}", param_hint=hint) from exc
        if not token:
            raise click.BadParameter(f"{file} is empty", param_hint=hint)
    if not (token.isascii() and token.isprintable()) or " " in token:
        raise click.BadParameter("holds characters that no token has", param_hint=hint)
    return token or None
