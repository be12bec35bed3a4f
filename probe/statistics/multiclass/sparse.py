"""Ranking of images by one class after another, also where most probabilities are 0, as the votes of neighbours are.

In each class the images of probability 0 are equals at the end of the order, so only the others are sorted. Sums are
taken in the order in which they would be over all images: results are the same to the bit.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Float64, Int

MOST = 0.25  # of the probabilities that are not 0
AT_ONCE = 64  # classes of which all probabilities are copied together


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
        from bb.probe.statistics.multiclass.rank_kernels import count_columns, fill_columns

        given = for_kernels(given)
        starts = np.append(0, np.cumsum(count_columns(given)))
        if starts[-1] > MOST * given.size:
            return None
        rows, values = np.empty(starts[-1], np.int32), np.empty(starts[-1], given.dtype)
        fill_columns(given, starts, rows, values)
        return cls(len(given), rows, values, starts)

    def column(self, k: int) -> tuple[Int[np.ndarray, " m"], Float[np.ndarray, " m"]]:
        """A class's images and probabilities."""
        here = slice(self.starts[k], self.starts[k + 1])
        return self.rows[here], self.values[here]


@dataclass(frozen=True, eq=False)
class Ranked:
    """The classes that some but not all images are of, each ranked against the rest.

    scored            these classes
    average_precision of each
    auroc, precision  what each image contributes to the sum over classes of AUROC (twice) and average precision
    """

    scored: Int[np.ndarray, " scored"]
    average_precision: Float64[np.ndarray, " scored"]
    auroc: Float64[np.ndarray, " n"]
    precision: Float64[np.ndarray, " n"]

    @classmethod
    def of(cls, given: Float[np.ndarray, "n classes"], columns: Columns | None, y: Int[np.ndarray, " n"]) -> "Ranked":
        """`columns` of the probabilities `given`, where most are 0."""
        from bb.probe.statistics.multiclass.rank_kernels import rank_class

        n, size, y = len(y), np.bincount(y, minlength=given.shape[1]), y.astype(np.int64, copy=False)
        scored = np.flatnonzero((size > 0) & (size < n))
        found, auroc, precision = np.empty(len(scored)), np.zeros(n), np.zeros(n)
        each: Iterator[tuple[np.ndarray, np.ndarray]]
        each = map(columns.column, scored.tolist()) if columns else _whole(given, scored)
        for c, (rows, values) in enumerate(each):
            k = scored[c]
            found[c] = rank_class(rows, values, np.argsort(values), y, k, size[k], auroc, precision)
        return cls(scored, found, auroc, precision)


def for_kernels(given: Float[np.ndarray, "n classes"]) -> Float[np.ndarray, "n classes"]:
    """Contiguous, and float32 in place of float16, which numba does not have."""
    return np.ascontiguousarray(given, np.float32 if given.dtype == np.float16 else given.dtype)


def _whole(
    given: Float[np.ndarray, "n classes"], scored: Int[np.ndarray, " scored"]
) -> Iterator[tuple[Int[np.ndarray, " n"], Float[np.ndarray, " n"]]]:
    rows = np.arange(len(given), dtype=np.int32)
    for start in range(0, len(scored), AT_ONCE):
        for values in for_kernels(given[:, scored[start : start + AT_ONCE]].T):
            yield rows, values
