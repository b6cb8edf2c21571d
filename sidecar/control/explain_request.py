"""From what somebody types to the `Request` that the traffic path would make of it, by the traffic path's own reader.

What a client such as curl would send is written out as bytes, and `wire/inbound.py` reads them, with the limits and the
trust of the configuration. So what is malformed is found to be so in the same words, and what a field is taken for (the
hop-by-hop ones that go, the `X-Forwarded-…` of a stranger that are not believed) is what would happen.

The client is one without an address, whom nobody trusts, unless the listener is a unix socket.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass

from sidecar.config.model import Config
from sidecar.errors import ClientError, HeadTooLarge, TargetTooLong
from sidecar.message import Request
from sidecar.telemetry.ids import traceparent
from sidecar.wire.inbound import ForwardRules, Peer, read_request

__all__ = ["ASSUMED_HOST", "Asked", "asked"]

ASSUMED_HOST = "localhost"
"""The Host of a request that was given as a path, without a Host field."""

_ABSOLUTE = re.compile(r"https?://([^/?#]*)([^#]*)", re.IGNORECASE)
_BREAKS = re.compile(r"[\r\n\0]")
_NAME = b"sidecar-explain"  # what we would call ourselves in `Via`; no running one has this name
_START_LINE = 64  # bytes of a request line beside its target, as the traffic listener reckons


@dataclass(frozen=True, slots=True)
class Asked:
    """A request as its route would see it. `ignored` are the names, in lower case, of fields that it would not see."""

    request: Request
    has_body: bool
    host_assumed: bool
    ignored: tuple[str, ...]


def asked(config: Config, method: str, url: str, headers: Sequence[tuple[str, str]]) -> Asked:
    """Read a request for `url`, which is absolute (its authority is the Host, unless `headers` have one) or a path.

    Raises:
        ClientError: what the traffic listener would refuse it with, before any route is looked for.

    """
    target, host = _split(url)
    named = any(name.strip().lower() == "host" for name, _ in headers)
    fields = list(headers) if named else [("Host", ASSUMED_HOST if host is None else host), *headers]
    head = _head(method, target, fields)
    _check_size(head, config)
    request, chunked = read_request(head, Peer("", _rules(config)), _rules(config))
    seen = {name.lower() for name, _ in request.fields.pairs}
    given = dict.fromkeys(name.strip().lower() for name, _ in headers)
    return Asked(
        request,
        has_body=chunked or bool(request.length),
        host_assumed=not named and host is None,
        ignored=tuple(name for name in given if _bytes(name) not in seen),
    )


def _split(url: str) -> tuple[str, str | None]:
    """Give target and authority. A fragment stays with the client, who never sends it (RFC 9110 §4.2.5)."""
    absolute = _ABSOLUTE.fullmatch(url.partition("#")[0])
    if absolute is None:
        return url.partition("#")[0], None
    host, rest = absolute.groups()
    return (rest if rest[:1] == "/" else f"/{rest}"), host


def _head(method: str, target: str, fields: Sequence[tuple[str, str]]) -> bytes:
    if any(_BREAKS.search(text) for text in (method, target, *(part for field in fields for part in field))):
        raise ClientError("It holds a line break or a NUL, which no head can carry.")
    lines = [f"{method} {target} HTTP/1.1", *(f"{name}: {value}" for name, value in fields)]
    return b"".join([_bytes(line) + b"\r\n" for line in lines]) + b"\r\n"


def _bytes(text: str) -> bytes:
    return text.encode("utf-8", "surrogatepass")


def _check_size(head: bytes, config: Config) -> None:
    """Refuse what `wire/intake.py` refuses before it has read a whole head."""
    if len(head) > config.limits.head:
        long = head.find(b"\r\n") > config.limits.target + _START_LINE
        raise TargetTooLong if long else HeadTooLarge


def _rules(config: Config) -> ForwardRules:
    return ForwardRules(
        name=_NAME,
        scheme=b"http" if config.listen.tls is None else b"https",
        trusted=config.trusted_proxies,
        unix=config.listen.traffic.is_unix,
        max_fields=config.limits.fields,
        max_target=config.limits.target,
        new_id=lambda: b"",
        new_traceparent=traceparent,
    )
