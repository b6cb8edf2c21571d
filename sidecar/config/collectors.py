"""Where reports go: the URL of an OpenTelemetry collector, and a DSN of Sentry.

A collector's URL is `http://` or `https://`, a host and, where it says so, a port and a path; a lone host means
the path `/v1/traces`, as the protocol asks for (OTLP 1.10, "OTLP/HTTP Request"). A DSN is what Sentry gives to
whoever makes a project: `https://KEY@HOST/PROJECT` (Sentry SDK specification, "DSN"). Whoever refuses says why in a
ValueError, and never repeats what could be a key.
"""

import re
from urllib.parse import SplitResult, urlsplit

from sidecar.config.address import parse_endpoint

__all__ = ["parse_collector", "parse_dsn", "traces_url"]

_SCHEMES = ("http", "https")
_TRACES = "/v1/traces"
_COLLECTOR = "must be a URL: `http://host:port` or `https://host:port`"
_DSN = "must be a DSN as Sentry shows it: `https://KEY@HOST/PROJECT`"


def parse_collector(text: str) -> None:
    """Check the URL of a collector. Raises ValueError, for the user, where `text` is none."""
    if "@" in text:
        raise ValueError("must not hold a user or password; what the collector asks for goes into `headers`")
    parts = _split(text, _COLLECTOR)
    if parts.query or parts.fragment or "?" in text or "#" in text:
        raise ValueError("must end after its path")
    parse_endpoint(f"{parts.scheme}://{parts.netloc}")


def parse_dsn(text: str) -> None:
    """Check a DSN. Raises ValueError, for the user, where `text` is none."""
    parts = _split(text, _DSN)
    key, at, host = parts.netloc.rpartition("@")
    project = parts.path.rstrip("/").rpartition("/")[2]
    if not at or not re.fullmatch(r"[A-Za-z0-9]+(:[A-Za-z0-9]+)?", key):
        raise ValueError(f"{_DSN}; the key is missing")
    if not re.fullmatch("[0-9]+", project):
        raise ValueError(f"{_DSN}; the number of the project is missing at its end")
    if parts.query or parts.fragment:
        raise ValueError("must end after the number of the project")
    parse_endpoint(f"{parts.scheme}://{host}")


def traces_url(endpoint: str) -> str:
    """Return where traces are posted: `endpoint` itself, or the path of the protocol on a host without one."""
    return endpoint if urlsplit(endpoint).path.strip("/") else endpoint.rstrip("/") + _TRACES


def _split(text: str, rule: str) -> SplitResult:
    if not text.isprintable() or " " in text:
        raise ValueError(f"{rule}, without spaces in it")
    try:
        parts = urlsplit(text)
        parts.port  # noqa: B018 -- raises ValueError where there is none that could be
    except ValueError as error:
        raise ValueError(rule) from error
    if parts.scheme not in _SCHEMES or not parts.netloc:
        raise ValueError(rule)
    return parts
