"""Where an object comes from, which decides what is read where several objects say different things."""

from enum import IntEnum


class Tier(IntEnum):
    """Where an object comes from; the lowest is read."""

    MADE_HERE = 0
    TRUSTED = 1
    OTHER = 2

    def describe(self) -> str:
        return ("made here", "signed by a key that you trust", "not signed by a key that you trust")[self]
