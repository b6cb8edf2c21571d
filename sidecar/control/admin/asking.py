"""Reading what was asked: the body within its bounds of size and time, its JSON, and the values in it.

Whatever is not known is refused, and never ignored: a misspelt `ttl` would else force a breaker for ever.
"""

import asyncio
import json
from collections.abc import Mapping, Sequence
from typing import Any

from aiohttp import web
from aiohttp.http_exceptions import HttpProcessingError

from sidecar.config.units import parse_duration, show_duration
from sidecar.config.words import did_you_mean, shown
from sidecar.control.admin.endpoint import Endpoint, Param
from sidecar.control.admin.problem import Problem

__all__ = ["BODY_SECONDS", "MAX_BODY", "body_of", "object_in", "query_of", "seconds", "text"]

MAX_BODY = 64 << 10  # bytes
BODY_SECONDS = 10.0


async def body_of(request: web.Request, within: float) -> bytes:
    """Read a body, for `within` seconds at most.

    Raises:
        Problem: 413, it is too large; 408, it came too slowly; 400, it cannot be read.

    """
    if (request.content_length or 0) > MAX_BODY:
        raise _too_large()
    body = bytearray()
    try:
        async with asyncio.timeout(within):
            while piece := await request.content.readany():
                body += piece
                if len(body) > MAX_BODY:
                    raise _too_large()
    except TimeoutError as error:
        detail = f"The body was not there within {show_duration(within)}."
        raise Problem(408, "body_too_slow", detail, closing=True) from error
    except (web.RequestPayloadError, HttpProcessingError) as error:
        raise Problem(400, "bad_body", "The body is not what its header says.", closing=True) from error
    return bytes(body)


def object_in(body: bytes, endpoint: Endpoint) -> dict[str, Any]:
    """Read a body that is a JSON object with the keys of `endpoint`. No body is an empty one.

    Raises:
        Problem: 400, it is something else.

    """
    if not body:
        found: Any = {}
    else:
        try:
            found = json.loads(body.decode(), object_pairs_hook=_without_repetition)
        except (ValueError, RecursionError) as error:
            said = str(error) if isinstance(error, _Repeated) else "The body is not JSON."
            raise Problem(400, "bad_json", said) from error
    if not isinstance(found, dict):
        raise Problem(400, "bad_json", f"The body must be a JSON object, and is {shown(found)}.")
    _check(found, endpoint.body, "key", "unknown_key")
    return found


def query_of(request: web.Request, endpoint: Endpoint) -> dict[str, Sequence[str]]:
    """Read the query parameters that `endpoint` knows.

    Raises:
        Problem: 400, there is another one, one is missing, there twice, or empty.

    """
    found: dict[str, list[str]] = {}
    for name, value in request.query.items():
        found.setdefault(name, []).append(value)
    _check(found, endpoint.query, "parameter", "unknown_parameter")
    for each in endpoint.query:
        values = found.get(each.name, ())
        if len(values) > 1 and not each.repeated:
            raise Problem(400, "bad_value", f"`{each.name}` must be given once.")
        if "" in values:
            raise Problem(400, "bad_value", f"`{each.name}` must not be empty.")
    return dict(found)


def seconds(said: object, name: str, *, most: str) -> float:
    """Read a duration longer than none, in the configuration's grammar; `most` is the longest that is sensible.

    Raises:
        Problem: 400, it is none.

    """
    try:
        duration = parse_duration(text(said, name))
    except ValueError as error:
        raise Problem(400, "bad_value", f"`{name}` {error}.".replace("?.", "?")) from error
    if not 0 < duration <= parse_duration(most):
        raise Problem(400, "bad_value", f"`{name}` must be longer than `0s`, and `{most}` at most.")
    return duration


def text(said: object, name: str) -> str:
    """Give what must be text.

    Raises:
        Problem: 400, it is not.

    """
    if not isinstance(said, str):
        raise Problem(400, "bad_value", f"`{name}` must be text, and is {shown(said)}.")
    return said


def _too_large() -> Problem:
    return Problem(
        413, "body_too_large", f"The body may have {MAX_BODY >> 10} KiB, and has more.", closing=True
    )


def _check(found: Mapping[str, Any], known: Sequence[Param], kind: str, code: str) -> None:
    names = [each.name for each in known]
    for name in found:
        if name not in names:
            guess = did_you_mean(name[:100], names) or "."
            raise Problem(400, code, f"There is no {kind} {shown(name)} here{guess}")
    for each in known:
        if each.required and each.name not in found:
            raise Problem(400, "missing", f"The {kind} `{each.name}` is missing: {each.text}")


class _Repeated(ValueError):
    """A key stands in an object twice. What was meant cannot be known (RFC 8259 §4)."""


def _without_repetition(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise _Repeated("A key stands twice in the body.")
    return found
