"""Names for requests and traces: unique, cheap, and not a secret."""

import secrets
from collections.abc import Callable
from itertools import count

__all__ = ["request_ids", "traceparent"]


def request_ids() -> Callable[[], bytes]:
    """Give a maker of request ids: a random part for this process and a number, so no two are ever the same."""
    form = secrets.token_hex(8).encode() + b"-%06x"
    numbers = count(1)
    return lambda: form % next(numbers)


def traceparent() -> bytes:
    """Give a new W3C trace context of version 00, not sampled (https://www.w3.org/TR/trace-context/#traceparent-header)."""
    return f"00-{secrets.token_hex(16)}-{secrets.token_hex(8)}-00".encode()
