"""Endless bytes that are cheap to make, cheap to check, and different at every offset of a block."""

import random

BLOCK = random.Random(20110).randbytes(1 << 20)
_TWICE = BLOCK * 2


class Checker:
    """Compares a stream, piece by piece, with the pattern."""

    def __init__(self) -> None:
        self.size = 0
        self.right = True

    def feed(self, piece: bytes) -> None:
        for start in range(0, len(piece), len(BLOCK)):
            part = piece[start : start + len(BLOCK)]
            at = self.size % len(BLOCK)
            self.right = self.right and _TWICE[at : at + len(part)] == part
            self.size += len(part)
