"""What the admin interface says when it does not do what was asked: problem+json (RFC 9457).

`code` is one word for programs, `detail` a sentence for people that says what to do instead. Neither tells anything of
the inside.
"""

import json
from collections.abc import Iterable, Mapping
from http import HTTPStatus
from typing import Any

from aiohttp import web

from sidecar.config.words import did_you_mean, shown

__all__ = ["PROBLEM_JSON", "Problem", "unknown"]

PROBLEM_JSON = "application/problem+json"

_LONGEST_GUESSED = 100  # characters of a name that is compared with those that there are


class Problem(Exception):
    """A request is refused. `headers` are for its answer, `more` are further members of the body.

    With `closing` the connection is closed after the answer: what is left of the request is not waited for.
    """

    def __init__(
        self,
        status: int,
        code: str,
        detail: str,
        *,
        headers: Mapping[str, str] | None = None,
        more: Mapping[str, Any] | None = None,
        closing: bool = False,
    ) -> None:
        super().__init__(detail)
        self.status = status
        self.code = code
        self.detail = detail
        self.headers = headers or {}
        self.more = more or {}
        self.closing = closing

    def answer(self) -> web.Response:
        """Give the response that says so."""
        body = {
            "type": f"urn:sidecar:problem:admin:{self.code}",
            "title": HTTPStatus(self.status).phrase,
            "status": self.status,
            "detail": self.detail,
            "code": self.code,
            **self.more,
        }
        response = web.Response(
            body=json.dumps(body).encode() + b"\n",
            status=self.status,
            headers=self.headers,
            content_type=PROBLEM_JSON,
        )
        if self.closing:
            response.force_close()
        return response


def unknown(kind: str, name: str, names: Iterable[str], *, status: int = 404) -> Problem:
    """Give the refusal of a name that nothing goes by; `kind` is what it should be the name of."""
    guess = did_you_mean(name[:_LONGEST_GUESSED], names) or "."
    return Problem(status, "unknown_name", f"There is no {kind} called {shown(name)}{guess}")
