"""Ranking of images by one class after another where most probabilities are 0, as the votes of neighbours are.

In each class the images of probability 0 are equals at the end of the order, so only the others are sorted. Sums are
taken in the order in which they would be over all images: results are the same to the bit.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Float64, Int

MOST = 0.25  # of the probabilities that are not 0


@dataclass(frozen=True, eq=False)
class Columns:
    """Probabilities of n images that are not 0, class after class.

    rows, values  the images of each class in order, and their probabilities
    starts        (classes + 1,) where each class begins
    """

    n: int
    rows: Int[np.ndarray, " kept"]
    values: Float[np.ndarray, " kept"]
    starts: Int[np.ndarray, " classes1"]

    @classmethod
    def of(cls, given: Float[np.ndarray, "n classes"]) -> "Columns | None":
        """None where too many are not 0."""
        if np.count_nonzero(given) > MOST * given.size:
            return None
        from scipy.sparse import csc_array

        found = csc_array(given)
        return cls(len(given), found.indices, found.data, found.indptr)

    def column(self, k: int) -> tuple[Int[np.ndarray, " m"], Float[np.ndarray, " m"]]:
        """A class's images and probabilities."""
        here = slice(self.starts[k], self.starts[k + 1])
        return self.rows[here], self.values[here]

    def average_precisions(self, y: Int[np.ndarray, " n"], scored: Sequence[int]) -> Iterator[float]:
        """Of each class against the rest; as rank_metrics.average_precision."""
        total = np.bincount(y, minlength=len(self.starts) - 1)
        for k in scored:
            rows, values = self.column(k)
            order = np.argsort(-values, kind="stable")
            last = np.append(values[order][1:] != values[order][:-1], True)[: len(order)]
            hits = np.append(np.cumsum(y[rows[order]] == k)[last], total[k]).astype(np.float64)
            drawn = np.append(np.flatnonzero(last) + 1, self.n)
            step = np.diff(hits, prepend=0.0)
            terms = (step * hits / drawn)[step > 0]
            yield float(np.cumsum(terms)[-1] / total[k])

    def auroc(self, y: Int[np.ndarray, " n"], k: int) -> Float64[np.ndarray, " n"]:
        """As one class's part of contributions.auroc."""
        from scipy.stats import rankdata

        rows, values = self.column(k)
        mine, zeros = y == k, self.n - len(rows)
        own, m = np.sort(values[mine[rows]]), int(mine.sum())
        others, own_zeros = self.n - m, m - len(own)
        below = (np.searchsorted(own, values) + np.searchsorted(own, values, side="right")) / 2 + own_zeros
        rank, rank_of_zero, below_zero = zeros + rankdata(values), (zeros + 1) / 2, own_zeros / 2
        found = np.where(mine, (rank_of_zero - below_zero - 0.5) / (others * m), (m - below_zero) / (m * others))
        found[rows] = np.where(mine[rows], (rank - below - 0.5) / (others * m), (m - below) / (m * others))
        return found

    def precision_terms(self, positive: Bool[np.ndarray, " n"], k: int) -> Float64[np.ndarray, " n"]:
        """As contributions.precision_terms of a class's probabilities."""
        rows, values = self.column(k)
        order = np.argsort(-values, kind="stable")
        ordered, mine, m = -values[order], positive[rows[order]], int(positive.sum())
        first, last = np.searchsorted(ordered, ordered), np.searchsorted(ordered, ordered, side="right") - 1
        t, f = np.cumsum(mine)[last].astype(np.float64), np.cumsum(~mine)[last].astype(np.float64)
        t0, f0 = np.float64(m), np.float64(self.n - m)
        zero_positives = m - int(mine.sum())
        gain0, loss0 = (_repeated(part / (t0 + f0) ** 2, zero_positives) for part in (f0, t0))
        gain, loss = (
            np.cumsum(np.append(start, (mine * part / (t + f) ** 2)[::-1]))[1:][::-1][first]
            for start, part in ((gain0, f), (loss0, t))
        )
        found = np.where(positive, t0 / (t0 + f0) + gain0 - f0 / (t0 + f0) ** 2, -loss0) / m
        found[rows[order]] = np.where(mine, t / (t + f) + gain - f / (t + f) ** 2, -loss) / m
        return found


def _repeated(value: float, count: int) -> float:
    """The value added up `count` times, one after the other."""
    return float(np.cumsum(np.full(count, value))[-1]) if count else 0.0
