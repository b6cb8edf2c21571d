"""Small changes to bytes that nearly mean something. Chance comes in as an argument, so a run can be had again."""

import random

from tests.fuzz.seeds import BITS, SEEDS

__all__ = ["made_up"]


def made_up(target: str, chance: random.Random) -> bytes:
    """Give an input for `target`: a steering byte, and a seed with up to five changes."""
    data = bytearray(chance.choice(SEEDS[target]))
    for _ in range(chance.choice((0, 1, 1, 1, 2, 3, 5))):
        at = chance.randrange(len(data) + 1)
        match chance.randrange(5):
            case 0:
                data[at:at] = chance.choice(BITS)
            case 1:
                del data[at : at + chance.randrange(1, 9)]
            case 2:
                data[at : at + 1] = bytes([chance.randrange(256)])
            case 3:
                data[at : at + chance.randrange(4)] = chance.choice(BITS)
            case _:
                start = chance.randrange(len(data) + 1)
                data[at:at] = data[start : start + chance.randrange(1, 40)]
    return bytes([chance.randrange(256)]) + bytes(data)
