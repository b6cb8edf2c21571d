"""A memo of pure functions of bytes, that a stranger cannot fill.

Only short keys with few fields get in, and a full memo is emptied, not frozen: an attacker who fills it costs everybody
one miss, not the memo for ever. At the worst (every entry as large as allowed) one memo holds some 4 MiB.
"""

from typing import TypeVar

__all__ = ["Memo"]

V = TypeVar("V")

ENTRIES = 512
KEY_BYTES = 2048
FIELDS = 40


class Memo(dict[bytes, V]):
    """Looked up like a dictionary; filled through `keep`."""

    __slots__ = ()

    def keep(self, key: bytes, value: V, fields: int) -> None:
        """Remember `value`, which was made of `fields` header fields, if it is small enough."""
        if len(key) <= KEY_BYTES and fields <= FIELDS:
            if len(self) >= ENTRIES:
                self.clear()
            self[key] = value
