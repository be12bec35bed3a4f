"""What a search returns: the nearest gallery items of each query."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float32, Int64

from bb.probe.retrieval.labels import RetrievalLabels

NO_MATCH = -1  # stands in `nearest` where a query has fewer items than there are columns


@dataclass(frozen=True, eq=False)
class Ranking:
    """The nearest gallery items of each query, nearest first. Items of equal distance stand in order of image ID.

    query     (q,) rows of the items
    nearest   (q, n) rows of the items (not places in the gallery), -1 where there are fewer than n
    distance  (q, n) ascending, inf where there is none
    relevant  (q,) how many relevant gallery items there are, without the query itself and its sequence
    """

    query: Int64[np.ndarray, " q"]
    nearest: Int64[np.ndarray, "q n"]
    distance: Float32[np.ndarray, "q n"]
    relevant: Int64[np.ndarray, " q"]

    def __len__(self) -> int:
        """The number of queries."""
        return len(self.query)

    @property
    def retrieved(self) -> Int64[np.ndarray, " q"]:
        """How many items each query has."""
        return (self.nearest != NO_MATCH).sum(axis=1)

    def top(self, n: int) -> "Ranking":
        """The first n items of each query."""
        # Copies: a view would keep all of a deep ranking in memory.
        return Ranking(self.query, self.nearest[:, :n].copy(), self.distance[:, :n].copy(), self.relevant)


def hits(items: RetrievalLabels, ranking: Ranking) -> Bool[np.ndarray, "q n"]:
    """Which of the retrieved items have their query's label."""
    same = items.label_codes[ranking.nearest] == items.label_codes[ranking.query][:, None]
    return same & (ranking.nearest != NO_MATCH)


def count_relevant(items: RetrievalLabels) -> Int64[np.ndarray, " q"]:
    """How many gallery items have each query's label, without the query itself and the images of its sequence."""
    label, gallery, query = items.label_codes, items.gallery, items.queries
    relevant = np.bincount(label[gallery], minlength=len(items.labels))[label[query]]
    itself = items.frame["is_gallery"].to_numpy()[query]
    if items.sequence is None:
        return relevant - itself
    sequences = int(items.sequence.max()) + 1
    both = label * (sequences + 1) + items.sequence + 1  # a label and a sequence, or none
    pairs, counts = np.unique(both[gallery], return_counts=True)
    place = np.minimum(np.searchsorted(pairs, both[query]), len(pairs) - 1)
    together = np.where(pairs[place] == both[query], counts[place], 0)
    return relevant - np.where(items.sequence[query] >= 0, together, itself)
