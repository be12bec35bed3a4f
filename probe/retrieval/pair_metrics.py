"""How well distance alone tells pairs of one label from pairs of two: AUROC and FNMR@FMR, over all pairs.

A pair is a query and a gallery item that may answer it. Their distances are counted in 2^20 bins of equal width, from
float32 products, so that memory does not grow with the 3.6 billion pairs of 60,000 images. Distances in one bin are
taken as equal; `tied` says how much that could matter.
"""

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
from jaxtyping import Int64
from joblib import cpu_count
from threadpoolctl import threadpool_limits

from bb.probe.retrieval.labels import RetrievalLabels
from bb.probe.retrieval.search import BLOCK, Vectors, both_sides, tiles_of
from bb.probe.search_kernels import count_pairs
from bb.store.errors import UsageError

BINS = 2**20  # over distances from 0 to 2: of cosine, and of euclidean where no norm is above 1
FMRS = (0.1, 0.01, 0.001)


@dataclass(frozen=True, eq=False)
class PairHistogram:
    """Pairs counted by distance, nearest bin first.

    positive, negative  (BINS,) pairs of one label, pairs of two
    """

    positive: Int64[np.ndarray, " bins"]
    negative: Int64[np.ndarray, " bins"]

    @property
    def complete(self) -> bool:
        """Whether there are pairs of either kind; without, nothing can be said."""
        return bool(self.positive.any() and self.negative.any())

    def auroc(self) -> float:
        """The chance that a pair of one label is nearer than one of two; equal ones count half. NaN if incomplete."""
        if not self.complete:
            return float("nan")
        farther = self.negative.sum() - np.cumsum(self.negative)
        wins = (self.positive * (farther + self.negative / 2)).sum()
        return float(wins / (float(self.positive.sum()) * float(self.negative.sum())))

    def tied(self) -> float:
        """By how much `auroc` could be off at most for taking the distances in a bin as equal."""
        if not self.complete:
            return float("nan")
        together = (self.positive * self.negative.astype(float)).sum()
        return float(together / 2 / (float(self.positive.sum()) * float(self.negative.sum())))

    def fnmr(self, fmr: float) -> float:
        """The share of pairs of one label that are refused by the widest threshold at which no more than the share
        `fmr` of the pairs of two is accepted. NaN if incomplete.
        """
        check_fmrs([fmr])
        if not self.complete:
            return float("nan")
        accepted = np.cumsum(self.negative) <= fmr * self.negative.sum()
        last = int(accepted.sum())  # bins before this one are accepted
        return float(1 - self.positive[:last].sum() / self.positive.sum())

    def values(self, fmrs: Sequence[float] = FMRS) -> Mapping[str, float]:
        """By name: "auroc", "fnmr@fmr=0.01"; those that can't be said are left out."""
        found = {"auroc": self.auroc(), **{f"fnmr@fmr={fmr:g}": self.fnmr(fmr) for fmr in fmrs}}
        return {name: value for name, value in found.items() if not np.isnan(value)}


def check_fmrs(fmrs: Sequence[float]) -> None:
    """Errors: UsageError unless each is a share."""
    if wrong := [fmr for fmr in fmrs if not 0 <= fmr <= 1]:
        raise UsageError(f"a false match rate of {wrong[0]:g} is not a share: choose between 0 and 1.")


def pair_up(
    vectors: Vectors,
    items: RetrievalLabels,
    *,
    jobs: int | None = None,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> PairHistogram:
    """Counts all pairs; an item is not a pair with itself or its sequence. Time and memory are those of a search."""
    jobs = jobs or cpu_count()
    queries, gallery = items.queries, items.gallery
    both = np.array_equal(queries, gallery)
    sequence = np.full(len(items), -1, np.int64) if items.sequence is None else items.sequence
    asking, answering = both_sides(vectors, items, jobs)
    tiles = tiles_of(len(queries), len(gallery), both)
    # One count for each thread, taken by a tile while it works.
    counts = [np.zeros((2, BINS), np.int64) for _ in range(jobs)]
    free = list(range(jobs))

    def count(tile: tuple[int, int]) -> None:
        i, j = tile
        scores = asking(i) @ answering(j).T
        own = free.pop()
        count_pairs(
            scores, queries[i * BLOCK : (i + 1) * BLOCK], gallery[j * BLOCK : (j + 1) * BLOCK], sequence,
            items.label_codes, vectors.is_cosine, 2 if both and i != j else 1, counts[own],
        )  # fmt: skip
        free.append(own)

    with threadpool_limits(1, "blas"), ThreadPoolExecutor(jobs) as pool:
        for done, _ in enumerate(pool.map(count, tiles), 1):
            progress(done, len(tiles))
    negative, positive = np.sum(counts, axis=0)
    return PairHistogram(positive, negative)
