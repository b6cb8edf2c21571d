"""What a route may ask of the cache. The rules are in `cache.py`."""

from dataclasses import dataclass

__all__ = ["CacheSettings"]


@dataclass(frozen=True, slots=True)
class CacheSettings:
    """What a route asks of the cache. Times in seconds, `max_body` in bytes.

    `fresh_for` is for answers that do not say so themselves (None: those are not fresh). `keep_for` is how long a copy is
    of use to the route's fallback; `serve_fresh` is False where the copies are for nothing else.
    """

    fresh_for: float | None = None
    stale_while_revalidate: float = 0.0
    stale_if_error: float = 0.0
    coalesce: bool = True
    override_origin: bool = False
    keep_for: float = 0.0
    serve_fresh: bool = True
    max_body: int = 1 << 20
