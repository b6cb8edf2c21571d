"""Where to listen and where to connect: `Address` and `Endpoint`, read from text and printed back.

A host is a DNS name, an IPv4 address as four decimal numbers, or an IPv6 address in brackets. What only looks
like an IPv4 address (`127.1`, `010.0.0.1`, `0x7f.1`) is refused: resolvers disagree about it. Names may hold
`_`, which RFC 1123 does not know and container names have. Whoever refuses says why in a ValueError, and
never repeats a password.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import Literal

__all__ = ["Address", "Endpoint", "parse_authority", "parse_endpoint", "parse_listen", "parse_server_name"]

Scheme = Literal["http", "https", "unix"]

_DEFAULT_PORTS = {"http": 80, "https": 443}
_LABEL = re.compile(r"[A-Za-z0-9_](?:[A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?")
_NUMERIC = re.compile(r"[0-9]+|0[xX][0-9A-Fa-f]*")
_PORT = re.compile(r"0|[1-9][0-9]{0,4}")
_MAX_NAME = 253  # RFC 1035 §2.3.4, as text
_MAX_SOCKET_PATH = 107  # sun_path has 108 bytes with its final NUL, unix(7)
_URLS = "`http://host:port`, `https://host:port` or `unix:///path`"
_FORMS = "`host:port`, `[IPv6]:port`, `:port` for all addresses, or `unix:///path`"


@dataclass(frozen=True, slots=True)
class Address:
    """Where to listen: `host` without brackets ("": every address) and `port` (0: any free one).

    Or a unix socket, with a `path`, and then without the other two.
    """

    host: str = ""
    port: int = 0
    path: str | None = None

    @property
    def is_unix(self) -> bool:
        """Tell if this is a unix socket."""
        return self.path is not None

    @property
    def is_local(self) -> bool:
        """Tell if nobody but this machine can connect."""
        return self.is_unix or any(_is_loopback(each) for each in _addresses(self.host.lower()))

    def __str__(self) -> str:
        return f"unix://{self.path}" if self.is_unix else f"{_bracketed(self.host)}:{self.port}"

    def collides(self, other: "Address") -> bool:
        """Tell if the two cannot both be listened on: one socket, or one port and an address in common."""
        if self.is_unix or other.is_unix:
            return self.path == other.path
        hosts = {self.host, other.host}
        return 0 != self.port == other.port and (len(hosts) == 1 or "" in hosts or _takes_all(hosts))

    def takes(self, endpoint: "Endpoint") -> bool:
        """Tell if what connects to `endpoint`, on this machine, certainly arrives here."""
        if self.is_unix or endpoint.scheme == "unix":
            return self.path == endpoint.path
        if self.port != endpoint.port:
            return False
        theirs = _addresses(endpoint.host.lower())
        return bool(_addresses(self.host.lower()) & theirs) or any(
            _is_of_this_machine(each) and _families(each) <= _listens(self.host) for each in theirs
        )


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Where an upstream is: `scheme`, `host` without brackets and `port`; for `unix` only the `path`."""

    scheme: Scheme
    host: str = ""
    port: int = 0
    path: str | None = None

    def __str__(self) -> str:
        if self.scheme == "unix":
            return f"unix://{self.path}"
        port = "" if self.port == _DEFAULT_PORTS[self.scheme] else f":{self.port}"
        return f"{self.scheme}://{_bracketed(self.host)}{port}"


def parse_listen(text: str) -> Address:
    """Read an address to listen on. Raises ValueError, for the user, where `text` is none."""
    if text.startswith("unix:"):
        return Address(path=_socket_path(text))
    host, colon, port = text.rpartition(":")
    if not colon or "/" in text or text.endswith("]") or (":" in host and not host.startswith("[")):
        ports = [f":{text}"] if _PORT.fullmatch(text) else []
        raise ValueError(f"must be an address: {_FORMS}{_meant(parse_listen, *ports)}")
    if host == "*":
        raise ValueError(f"must be an address: {_FORMS}{_meant(parse_listen, f':{port}')}")
    return Address(_host(host) if host else "", _port(port, 0))


def parse_endpoint(text: str) -> Endpoint:
    """Read the URL of an upstream. Raises ValueError, for the user, where `text` is none.

    A lone `/` at the end is what RFC 9110 §4.2.3 calls equal to nothing, and is let pass.
    """
    if text.startswith("unix:"):
        return Endpoint("unix", path=_socket_path(text))
    if "@" in text:
        raise ValueError("must not hold a user or password: requests are forwarded with their own or none")
    scheme, separator, rest = text.partition("://")
    if not separator or (scheme := scheme.lower()) not in _DEFAULT_PORTS:
        raise ValueError(f"must be a URL: {_URLS}{_meant(parse_endpoint, *_as_urls(text))}")
    authority = re.split(r"[/?#\\]", rest, maxsplit=1)[0]
    if rest.removeprefix(authority) not in {"", "/"}:
        raise ValueError(
            "must end after host and port: the request's own path and query are forwarded byte for byte"
        )
    host, port = _split_port(authority)
    return Endpoint(
        "https" if scheme == "https" else "http",
        _host(host),
        _port(port, 1) if port else _DEFAULT_PORTS[scheme],
    )


def parse_server_name(text: str) -> str:
    """Read the name that a certificate is checked against. Raises ValueError where `text` is none."""
    return _host(text)


def parse_authority(text: str) -> None:
    """Check what a `Host` field may be: a host, and a port where there is one. Raises ValueError where it is not."""
    if "://" in text or "/" in text:
        raise ValueError("must be a host, with its port where it has one, and nothing before or behind it")
    host, port = _split_port(text)
    _host(host)
    if port:
        _port(port, 1)


def _meant(read: Callable[[str], object], *candidates: str) -> str:
    """Return a question after the first candidate that `read` would accept."""
    for text in candidates:
        try:
            read(text)
        except ValueError:
            continue
        return f"; did you mean `{text}`?"
    return ""


def _as_urls(text: str) -> list[str]:
    """Return what may be meant by a URL without its scheme. A bare word is no address that one could know."""
    if "://" in text:
        return []
    if text.startswith("/"):
        return [f"unix://{text}"]
    port = text.removeprefix(":")
    if port.isdigit():
        return [f"http://127.0.0.1:{port}"]
    return [f"http://{text}"] if text == "localhost" or re.search(r"[.:]", text) else []


def _split_port(authority: str) -> tuple[str, str]:
    if authority.endswith("]"):
        return authority, ""
    host, colon, port = authority.rpartition(":")
    if colon and not port:
        raise ValueError("must have a port after its last `:`, or no `:`")
    return (host, port) if colon else (authority, "")


def _socket_path(text: str) -> str:
    path = text.removeprefix("unix://")
    if path == text or not path.startswith("/"):
        raise ValueError("must be `unix://` and an absolute path, as in `unix:///run/app.sock`")
    if not path.isprintable():
        raise ValueError("must not hold control characters")
    if len(path.encode()) > _MAX_SOCKET_PATH:
        raise ValueError(
            f"must have a path of at most {_MAX_SOCKET_PATH} bytes: no socket's name can be longer"
        )
    return path


def _port(text: str, lowest: int) -> int:
    if not _PORT.fullmatch(text) or not lowest <= int(text) <= 65535:
        raise ValueError(f"must have a port from {lowest} to 65535, without zeros in front")
    return int(text)


def _host(text: str) -> str:
    """Return the host without brackets."""
    if text.startswith("[") and text.endswith("]"):
        return _ip(IPv6Address, text[1:-1], "must have an IPv6 address in its brackets, as in `[::1]`")
    if ":" in text:
        raise ValueError("must have its IPv6 address in brackets, as in `[::1]`")
    labels = text.removesuffix(".").split(".")
    if _NUMERIC.fullmatch(labels[-1]):
        return _ip(
            IPv4Address, text, "must have an IPv4 address as four decimal numbers without leading zeros"
        )
    if not text.isascii():
        raise ValueError("must have its host in ASCII: write the `xn--` form")
    if len(text) > _MAX_NAME or not all(map(_LABEL.fullmatch, labels)):
        raise ValueError("must have a host: a DNS name, an IPv4 address, or an IPv6 address in brackets")
    return text


def _ip(kind: type[IPv4Address | IPv6Address], text: str, message: str) -> str:
    try:
        return str(kind(text))
    except ValueError as error:
        raise ValueError(message) from error


def _bracketed(host: str) -> str:
    return f"[{host}]" if ":" in host else host


def _takes_all(hosts: set[str]) -> bool:
    """Tell if one of two different hosts is the wildcard of a family that the other belongs to.

    `::` does not take the IPv4 addresses: asyncio sets IPV6_V6ONLY.
    """
    one, other = hosts
    return bool(hosts & {"0.0.0.0", "::"} and _families(one) & _families(other))


def _addresses(host: str) -> set[str]:
    """Return what is known of the addresses of `host` without asking anyone."""
    return {"127.0.0.1", "::1"} if host == "localhost" else {host}


def _listens(host: str) -> set[int]:
    """Return the families of whose addresses `host` takes every one."""
    return {"": {4, 6}, "0.0.0.0": {4}, "::": {6}}.get(host, set())


def _is_of_this_machine(host: str) -> bool:
    try:
        address = ip_address(host)
    except ValueError:
        return False
    return address.is_loopback or address.is_unspecified


def _is_loopback(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False


def _families(host: str) -> set[int]:
    if ":" in host:
        return {6}
    return {4} if _NUMERIC.fullmatch(host.rpartition(".")[2]) else {4, 6}
