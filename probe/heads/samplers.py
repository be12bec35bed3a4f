"""Batches of P labels with K images each (Hermans, Beyer and Leibe, In Defense of the Triplet Loss, 2017)."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from jaxtyping import Integer

from probe.heads.batches import Seed
from store.errors import UsageError


@dataclass(frozen=True, eq=False)
class Balanced:
    """P labels and K rows of each in every batch.

    rows       (n,) label codes
    labels     P; all of them where there are fewer
    instances  K; of a label with fewer rows, some stand in the batch more than once
    Labels come in turn, shuffled anew for each round, and so do the rows of each label: over an epoch labels are seen
    equally often (but for one), and so are the rows of a label. An epoch has as many batches as there are rows for.
    """

    rows: Integer[np.ndarray, " n"]
    labels: int
    instances: int
    seed: Seed = 0

    def __post_init__(self) -> None:
        """Errors: UsageError where P or K is below 2, or there are fewer than two labels."""
        check_sizes(labels=self.labels, instances=self.instances)
        if len(np.unique(self.rows)) < 2:
            raise UsageError("batches of several labels need at least two labels; there is one.")

    @cached_property
    def batch_labels(self) -> int:
        return min(self.labels, len(np.unique(self.rows)))

    def __len__(self) -> int:
        return max(1, round(len(self.rows) / (self.batch_labels * self.instances)))

    def __iter__(self) -> Iterator[list[int]]:
        rng = np.random.default_rng(self.seed)
        rows_of = [Turns(rng, rows) for rows in grouped(self.rows).values()]
        in_turn = Turns(rng, np.arange(len(rows_of)))
        for _ in range(len(self)):
            chosen = in_turn.take(self.batch_labels)
            yield [row for label in chosen for row in rows_of[label].take(self.instances)]


def grouped(codes: Integer[np.ndarray, " n"]) -> dict[int, Integer[np.ndarray, " k"]]:
    """The rows of each code, both ascending."""
    found, counts = np.unique(codes, return_counts=True)
    rows = np.split(np.argsort(codes, kind="stable"), np.cumsum(counts)[:-1])
    return dict(zip(found.tolist(), rows, strict=True))


class Turns:
    """Deals some values in turn, shuffled anew for each round; no value twice in one hand while there are others."""

    def __init__(self, rng: np.random.Generator, values: Integer[np.ndarray, " n"]) -> None:
        self.rng, self.values = rng, values
        self.ahead: list[int] = []

    def take(self, n: int) -> list[int]:
        """The next n; with repetition only where there are fewer than n values at all."""
        if len(self.ahead) >= n:
            hand, self.ahead = self.ahead[-n:], self.ahead[:-n]
            return hand
        hand = []
        while len(hand) < n:
            if not self.ahead:
                fresh = self.rng.permutation(self.values).tolist()
                held = set(hand[len(hand) // len(fresh) * len(fresh) :])  # of this round of the hand
                if held:  # dealt from the end: what is in the hand already comes last
                    fresh = [v for v in fresh if v in held] + [v for v in fresh if v not in held]
                self.ahead = fresh
            hand.append(self.ahead.pop())
        return hand


def check_sizes(**sizes: int) -> None:
    """Errors: UsageError for a number below 2: then a batch has no pair of one label, or none of two."""
    for name, size in sizes.items():
        if size < 2:
            raise UsageError(f"{size} {name} in a batch make no triplet: choose at least 2.")
