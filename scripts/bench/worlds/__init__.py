"""Simulated worlds whose truth is known; scripts/bench/coverage.py counts how often what bb prints about them holds.

A module here has a function `worlds() -> list[World]`; coverage.MODULES lists the modules.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple


class Share(NamedTuple):
    """A share of repetitions, and the range that docs/statistics.md holds it to; 0 to 1 where nothing is claimed.

    what  "coverage" of a 95% interval, or the test whose "different" is counted, in words
    of    how many independent repetitions it is a share of
    """

    what: str
    share: float
    of: int
    low: float = 0.0
    high: float = 1.0

    @property
    def claimed(self) -> bool:
        return (self.low, self.high) != (0.0, 1.0)

    @property
    def error(self) -> float:
        """Twice the standard error."""
        return 2 * (self.share * (1 - self.share) / self.of) ** 0.5

    @property
    def holds(self) -> bool:
        return self.low - self.error <= self.share <= self.high + self.error


@dataclass(frozen=True)
class World:
    """A kind of world. `measure` takes the number of repetitions and returns what it counted."""

    name: str
    measure: Callable[[int], list[Share]]
