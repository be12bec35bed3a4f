"""Batch samplers: their contract, P labels with K images each, and batches even in categories."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Protocol, runtime_checkable

import numpy as np
from jaxtyping import Integer

from bb.store.errors import UsageError

# What a batch sampler is: the contract that the files balanced.py and categories.py fulfil.


@runtime_checkable
class BatchSampler(Protocol):
    """The batches of one epoch. A sampler has no state: iterated again, it gives the same batches again.

    So an epoch is known from the seed and its number alone, and training that was killed goes on where it was.
    """

    def __len__(self) -> int:
        """How many batches there are."""
        ...

    def __iter__(self) -> Iterator[list[int]]:
        """Each batch as rows of what is sampled. A row stands in it more than once only where its label has too few."""
        ...


Seed = int | tuple[int, ...]  # as numpy's default_rng takes it: (seed, epoch), for example


@dataclass(eq=False)
class EachEpoch:
    """Other batches each time it is iterated: for loops that keep one sampler, such as torch's DataLoader.

        DataLoader(data, batch_sampler=EachEpoch(lambda seed: Balanced(data.labels, 8, 4, seed)))

    sampler  makes an epoch's sampler of its seed, (seed, epoch)
    epoch    the next one's number; set it to go on where training was killed
    """

    sampler: Callable[[tuple[int, int]], BatchSampler]
    seed: int = 0
    epoch: int = 0

    def __len__(self) -> int:
        return len(self.sampler((self.seed, self.epoch)))

    def __iter__(self) -> Iterator[list[int]]:
        sampler = self.sampler((self.seed, self.epoch))
        self.epoch += 1
        return iter(sampler)


# Batches of P labels with K images each (Hermans, Beyer and Leibe, In Defense of the Triplet Loss, 2017).


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
        rows_of = [ShuffledCycle(rng, rows) for rows in grouped(self.rows).values()]
        in_turn = ShuffledCycle(rng, np.arange(len(rows_of)))
        for _ in range(len(self)):
            chosen = in_turn.take(self.batch_labels)
            yield [row for label in chosen for row in rows_of[label].take(self.instances)]


def grouped(codes: Integer[np.ndarray, " n"]) -> dict[int, Integer[np.ndarray, " k"]]:
    """The rows of each code, both ascending."""
    found, counts = np.unique(codes, return_counts=True)
    rows = np.split(np.argsort(codes, kind="stable"), np.cumsum(counts)[:-1])
    return dict(zip(found.tolist(), rows, strict=True))


class ShuffledCycle:
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


# Batches that are even in categories: groups of labels, such as species where labels are individuals.


@dataclass(frozen=True, eq=False)
class ByCategory:
    """C categories in every batch, P labels of each, K rows of each label.

    rows        (n,) label codes
    category    (n,) category codes; a label has one category
    categories  C; all of them where there are fewer
    labels      P; all of a category's where it has fewer
    instances   K; of a label with fewer rows, some stand in the batch more than once
    distinct    whether no category comes again in an epoch before all others came
    Where `distinct` is off, the categories of each batch are drawn anew. Within a category labels come in turn. As
    negatives come from few categories at a time, they are harder. An epoch has as many batches as there are rows for.
    """

    rows: Integer[np.ndarray, " n"]
    category: Integer[np.ndarray, " n"]
    categories: int
    labels: int
    instances: int
    seed: Seed = 0
    distinct: bool = False

    def __post_init__(self) -> None:
        """Errors: UsageError for sizes that make no triplets, labels of two categories, and rows without one."""
        if self.categories < 1:
            raise UsageError(f"{self.categories} categories in a batch leave it empty: choose at least 1.")
        check_sizes(instances=self.instances)
        if self.categories * self.labels < 2:
            raise UsageError("1 category with 1 label in a batch makes no triplet: choose at least 2 labels.")
        if (self.category < 0).any():
            lost = int((self.category < 0).sum())
            raise UsageError(f"{lost} images have no category: fill in the column, or choose --sampler balanced.")
        pairs = np.unique(np.stack([self.rows, self.category]), axis=1)
        if len(np.unique(self.rows)) < pairs.shape[1]:
            raise UsageError("a label stands in two categories: make it two labels, or choose --sampler balanced.")

    @cached_property
    def batch_categories(self) -> int:
        return min(self.categories, len(np.unique(self.category)))

    def __len__(self) -> int:
        return max(1, round(len(self.rows) / (self.batch_categories * self.labels * self.instances)))

    def __iter__(self) -> Iterator[list[int]]:
        rng = np.random.default_rng(self.seed)
        codes = np.unique(self.category)
        labels_of = {code: np.unique(self.rows[self.category == code]) for code in codes.tolist()}
        labels = {code: ShuffledCycle(rng, own) for code, own in labels_of.items()}
        rows = {code: ShuffledCycle(rng, own) for code, own in grouped(self.rows).items()}
        in_turn = ShuffledCycle(rng, codes)
        for _ in range(len(self)):
            n = self.batch_categories
            chosen = in_turn.take(n) if self.distinct else rng.choice(codes, n, replace=False).tolist()
            picked = [label for code in chosen for label in labels[code].take(min(self.labels, len(labels_of[code])))]
            yield [row for label in picked for row in rows[label].take(self.instances)]
