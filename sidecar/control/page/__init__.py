"""The live page: one document with its style, program and words in it, which asks nobody but the sidecar itself.

The parts stand in files of their own for people to read, and are put together once. What the page may do is held by its
Content-Security-Policy: exactly this style and this program, by their hashes, and requests to where it came from. Trusted
Types forbid every way from a text to markup, so that no name, path or error from the network can become any.
"""

import json
from base64 import b64encode
from functools import cache
from hashlib import sha256
from importlib.resources import files

from sidecar.control.page.words import words

__all__ = ["PROGRAM", "page_csp", "page_html"]

# The program, in the order in which its parts are needed.
PROGRAM = ("dom.js", "say.js", "actions.js", "stream.js", "trouble.js", "tables.js", "page.js")


def page_html() -> bytes:
    """Give the page. It is the same for everybody and at every time: what it shows it asks for."""
    return _made()[0]


def page_csp() -> str:
    """Give the value of the `Content-Security-Policy` field that the page must come with."""
    return _made()[1]


@cache
def _made() -> tuple[bytes, str]:
    style = _read("page.css")
    program = "".join(_read(name) for name in PROGRAM)
    said = json.dumps(words(), ensure_ascii=True).replace("<", "\\u003c")
    page = _read("page.html")
    for place, text in (("/*style*/", style), ("/*program*/", program), ("/*words*/", said)):
        before, found, after = page.partition(place)
        assert found, place  # noqa: S101 -- of our own file
        page = before + text + after
    policy = (
        "default-src 'none'",
        f"style-src {_hash(style)}",
        f"script-src {_hash(program)}",
        "img-src data:",  # the icon of the tab
        "connect-src 'self'",
        "base-uri 'none'",
        "form-action 'none'",
        "frame-ancestors 'none'",
        "require-trusted-types-for 'script'",
        "trusted-types 'none'",
    )
    return page.encode(), "; ".join(policy)


def _read(name: str) -> str:
    return files(__package__).joinpath(name).read_text("utf-8")


def _hash(text: str) -> str:
    """Give the source expression for an inline block (CSP Level 3, §6.7.3.3): of its text, as UTF-8."""
    return f"'sha256-{b64encode(sha256(text.encode()).digest()).decode()}'"
