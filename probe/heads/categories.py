"""Batches that are even in categories: groups of labels, such as species where labels are individuals."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from jaxtyping import Integer

from probe.heads.balanced import Turns, check_sizes
from probe.heads.batches import Seed
from store.errors import UsageError


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

    @property
    def batch_categories(self) -> int:
        return min(self.categories, len(np.unique(self.category)))

    def __len__(self) -> int:
        return max(1, round(len(self.rows) / (self.batch_categories * self.labels * self.instances)))

    def __iter__(self) -> Iterator[list[int]]:
        rng = np.random.default_rng(self.seed)
        codes = np.unique(self.category)
        labels_of = {code: np.unique(self.rows[self.category == code]) for code in codes.tolist()}
        labels = {code: Turns(rng, own) for code, own in labels_of.items()}
        rows = {code: Turns(rng, np.flatnonzero(self.rows == code)) for code in np.unique(self.rows).tolist()}
        in_turn = Turns(rng, codes)
        for _ in range(len(self)):
            n = self.batch_categories
            chosen = in_turn.take(n) if self.distinct else rng.choice(codes, n, replace=False).tolist()
            picked = [label for code in chosen for label in labels[code].take(min(self.labels, len(labels_of[code])))]
            yield [row for label in picked for row in rows[label].take(self.instances)]
