"""Whose quota a request uses up: from a request to the key of its bucket.

| word | key | who can get himself a fresh quota |
|---|---|---|
| `client_ip` | the address that the wire believes; IPv6: its /64 | whoever has another address |
| `header:NAME` | the field's value | whoever may choose the value: let something in front vouch for it |
| `route` | the route's name | nobody |
| `global` | one for all that share the limiter | nobody |

An IPv6 subscriber has a /64 at the least (RFC 6177 §2) and may use another of its addresses for each request, so the
first 64 bits are the key; machines of one network segment share it. An IPv4 address in IPv6 form is that IPv4 address.
Some proxies write a port behind the address: it is not part of the key, since it changes with the connection.

All whose key cannot be told share one: clients of a Unix socket, an address that is none, a request without the field,
with an empty one, or with several of it (of which the upstream may believe another one than we do). So leaving something
out, or saying it twice, is no way around a limit.

Keys are short whatever was sent: at most 64 bytes; a longer value of a field is hashed.
"""

from collections.abc import Callable
from functools import lru_cache
from hashlib import blake2b
from ipaddress import IPv6Address, ip_address

from sidecar.message import Request

__all__ = ["MAX_KEY", "UNKNOWN", "Key", "client_key", "header_key", "key_function"]

Key = str | bytes

UNKNOWN = b""  # the one key of all who have none
MAX_KEY = 64

_HASHED = b"\0"  # no field value holds it (RFC 9110 §5.5), so no value can pass for the hash of another one


def key_function(word: str, route: str) -> Callable[[Request], Key]:
    """Give the function that tells a request's key, for a `key` of the configuration and a route's name.

    Raises:
        ValueError: the word is none of those above.

    """
    if word == "client_ip":
        return lambda request: client_key(request.client)
    if word == "route":
        return lambda _: route
    if word == "global":
        return lambda _: UNKNOWN
    if word.startswith("header:") and word != "header:":
        name = word.removeprefix("header:").lower().encode("ascii")
        return lambda request: header_key(_values(request, name))
    raise ValueError(f"{word!r} is no key of a rate limit")


def _values(request: Request, name: bytes) -> list[bytes]:
    """As `Fields.values`, but quick: this is asked for each request, and most names differ in their length already."""
    size = len(name)
    return [value for key, value in request.fields.pairs if len(key) == size and key.lower() == name]


@lru_cache(maxsize=8192)
def client_key(client: str) -> bytes:
    """Give the key of a client's address, in its packed form. Reading one takes microseconds, hence the memory."""
    try:
        address = ip_address(_without_port(client))
    except ValueError:
        return UNKNOWN
    if isinstance(address, IPv6Address):
        return address.ipv4_mapped.packed if address.ipv4_mapped is not None else address.packed[:8]
    return address.packed


def _without_port(client: str) -> str:
    if client.startswith("["):
        return client[1:].partition("]")[0]
    return client.partition(":")[0] if client.count(":") == 1 else client


def header_key(values: list[bytes]) -> bytes:
    """Give the key for what stands in a field, from all its values."""
    if len(values) != 1:
        return UNKNOWN
    value = values[0]
    return value if len(value) <= MAX_KEY else _HASHED + blake2b(value, digest_size=16).digest()
