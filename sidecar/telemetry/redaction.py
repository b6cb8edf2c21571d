"""What may be shown of words that are not ours: a client's, an upstream's, a foreign exception's.

Three rules. Nothing that is shown can leave its line or steer a terminal. Of a query the names are shown, and a value
only if neither its name nor itself looks like a secret; rather one value hidden too many. Of a foreign exception's text
everything in quotes is hidden, since that is where Python puts data, and whatever else looks like a credential.

Which names look like one follows what is usual: OWASP's Logging Cheat Sheet ("Data to exclude": session identifiers,
access tokens, passwords, encryption keys), OAuth's parameters (RFC 6749: `code`, `access_token`), signed URLs
(`X-Amz-Signature`, `sig`).
"""

import re
from collections.abc import Mapping
from typing import Any
from urllib.parse import unquote_plus

from sidecar.config.words import one_line

__all__ = ["HIDDEN", "printable", "printable_all", "scrubbed", "shown_query"]

HIDDEN = "***"

_MAX_QUERY = 1024  # bytes of a query that are looked at
_MAX_TEXT = 2000  # characters of a foreign text
_WORDS = (
    r"token|secret|passw|passphrase|passcode|pincode|pwd|hmac|saml|auth(?!or(?!i[sz]))|session|sess_?id|signature|credential|jwt|jwe|cookie|bearer|csrf|xsrf"
    r"|assertion|ticket|api-?_?key|private-?_?key"
)
_SECRET_NAME = re.compile(
    rf"{_WORDS}|key$|pw$|pass(?:$|[^a-z])|(?:^|[^a-z])(?:key|sig|sid|[ht]?otp|pin|pw|psk|mfa|2fa|code|nonce)(?:$|[^a-z])",
    re.IGNORECASE,
)
# By what issuers begin their tokens with, so that they are found wherever they turn up: GitHub, GitLab, Stripe, Slack.
_ISSUED = r"(?<![a-z\d])(?:gh[oprsu]_|github_pat_|glpat-|[rs]k_(?:live|test)_|xox[a-z]-)[\w-]+"
_SECRET_VALUE = re.compile(
    rf"eyJ[\w-]{{8,}}\.|(?:{_WORDS})[^=&]*=|://[^/@\s]*@|^\s*(?:bearer|basic|negotiate)\s|{_ISSUED}",
    re.IGNORECASE,
)

_JSON_WEB_TOKEN = re.compile(r"eyJ[\w-]{8,}(?:\.[\w-]*)*")
_USER_IN_URL = re.compile(r"://[^/@\s]+@")
_QUERY_IN_URL = re.compile(r"\?[^\s'\"]+")
_SCHEME = re.compile(r"\b(bearer|basic|digest|negotiate)\s+\S+", re.IGNORECASE)
_FIELD = re.compile(r"\b((?:set-|proxy-)?(?:cookie|authorization))\b['\"]?\s*[:=,].*", re.IGNORECASE)
_ASSIGNED = re.compile(rf"((?:{_WORDS})[\w-]*)(\s*[:=]\s*)\S+", re.IGNORECASE)
_TOKEN = re.compile(_ISSUED, re.IGNORECASE)
_QUOTED = re.compile(r"""b?(?:'(?:[^'\\\n]|\\.)*'|"(?:[^"\\\n]|\\.)*")""")


def printable(text: str) -> str:
    r"""Give `text` with everything that is not printed as itself escaped: a line feed becomes `\n` of two characters."""
    return text if text.isprintable() else one_line(text)


def printable_all(value: Any) -> Any:
    """Give a value of JSON's types with every text in it made printable; other objects as their representation."""
    if isinstance(value, str):
        return printable(value)
    if value is None or isinstance(value, bool | int | float):
        return value
    if isinstance(value, Mapping):
        return {printable(str(key)): printable_all(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [printable_all(each) for each in value]
    return printable(repr(value))


def shown_query(query: bytes) -> str:
    """Give what of a query (without its `?`) may be shown."""
    text = query[:_MAX_QUERY].decode("latin-1")
    return "".join(_shown_part(part) for part in re.split("([&;])", text))


def scrubbed(text: str) -> str:
    """Give what of a foreign text, such as an exception's, may leave the machine."""
    text = _FIELD.sub(rf"\1: {HIDDEN}", text[:_MAX_TEXT])
    text = _QUOTED.sub(f"'{HIDDEN}'", text)
    text = _SCHEME.sub(rf"\1 {HIDDEN}", text)
    text = _USER_IN_URL.sub(f"://{HIDDEN}@", text)
    text = _QUERY_IN_URL.sub(f"?{HIDDEN}", text)
    text = _ASSIGNED.sub(rf"\1\2{HIDDEN}", text)
    text = _TOKEN.sub(HIDDEN, text)
    return _JSON_WEB_TOKEN.sub(HIDDEN, text)


def _shown_part(part: str) -> str:
    name, equals, value = part.partition("=")
    if not equals:
        return HIDDEN if _SECRET_VALUE.search(unquote_plus(name)) else name
    hidden = _SECRET_NAME.search(unquote_plus(name)) or _SECRET_VALUE.search(unquote_plus(value))
    return f"{name}={HIDDEN if hidden else value}"
