"""How a classifier's accuracy grows with the number of labels, and what further labels would bring.

The accuracies are of cross-validation: images of a fold are predicted by classifiers that were fitted on samples of the
other folds' labels, of a growing number of images. Through them go the laws of statistics/learning_law.py, with images
that are drawn again, each with its whole row of answers.
scripts/bench/learning_curve.py measures how often the intervals hold.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Float64, Int64

from bb.probe.classifiers.multiclass.ridge import Ridge
from bb.probe.classifiers.preprocess import preprocess
from bb.probe.statistics.learning_law import forecast

LEAST = 20  # labels below which nothing is stated
FOLDS, REPEATS = 5, 3
SIZES = 6  # numbers of labels at which the accuracy is measured
DRAWS = 1000
LEVEL = 0.95


@dataclass(frozen=True)
class LearningPoint:
    """The accuracy that `labels` labels give, with its 95 % interval."""

    labels: int
    value: float
    low: float
    high: float

    def record(self) -> dict[str, Any]:
        return {"labels": self.labels, "value": self.value, "low": self.low, "high": self.high}


@dataclass(frozen=True)
class LearningCurve:
    """points: measured, ascending in labels; forecast: at those asked for; tested: images that it was measured on."""

    points: tuple[LearningPoint, ...]
    forecast: tuple[LearningPoint, ...]
    tested: int


def learning_curve(
    x: Float[np.ndarray, "n d"],
    y: Int64[np.ndarray, " n"],
    further: tuple[int, ...] = (100,),
    *,
    tested: Bool[np.ndarray, " n"] | None = None,
    preprocessing: str = "center-l2",
    seed: int = 0,
) -> LearningCurve | None:
    """The curve of ridge regression on n labelled images; None where there are fewer than LEAST, or one class alone.

    further  how many more labels to forecast for, each from 0
    tested   images that accuracy is measured on, all by default: those drawn at random, where others were chosen
    """
    if len(y) < LEAST or len(np.unique(y)) < 2:
        return None
    if tested is None or tested.sum() < LEAST:
        tested = np.ones(len(y), bool)
    rng = np.random.default_rng(seed)
    sizes = _sizes(len(y), len(np.unique(y)))
    right = _answers(x, y, tested, sizes, preprocessing, rng)
    means = right.mean(axis=0)
    drawn = right[rng.integers(0, len(right), (DRAWS, len(right)))].mean(axis=1)
    # Accuracies of 0 and 1 would have no error: one answer more of each kind is added (Agresti & Coull 1998).
    floor = (len(right) * means + 1) / (len(right) + 2)
    spread = np.sqrt(floor * (1 - floor) / len(right))
    noise = np.maximum(spread**2 - drawn.var(axis=0), 0) ** 0.5
    drawn = drawn + noise * rng.standard_normal((DRAWS, 1))
    tail = (1 - LEVEL) / 2
    low, high = np.clip(np.quantile(drawn, [tail, 1 - tail], axis=0), 0, 1)
    points = tuple(
        LearningPoint(*each) for each in zip(sizes, means.tolist(), low.tolist(), high.tolist(), strict=True)
    )
    made = []
    for more in further:
        values = forecast(sizes, drawn, spread, len(y) + more, rng)
        low_at, middle, high_at = np.quantile(values, [tail, 0.5, 1 - tail]).tolist()
        made.append(LearningPoint(len(y) + more, middle, low_at, high_at))
    return LearningCurve(points, tuple(made), len(right))


def _sizes(n: int, classes: int) -> list[int]:
    """Numbers of labels, geometric, up to those that all folds but one have."""
    most = n - -(-n // FOLDS)
    least = min(max(2 * classes, 8), most // 2)
    return np.unique(np.geomspace(least, most, SIZES).round().astype(int)).tolist()


def _answers(
    x: Float[np.ndarray, "n d"],
    y: Int64[np.ndarray, " n"],
    tested: Bool[np.ndarray, " n"],
    sizes: list[int],
    preprocessing: str,
    rng: np.random.Generator,
) -> Float64[np.ndarray, "t s"]:
    """Of each tested image how often it is right with each number of labels."""
    right = np.zeros((len(y), len(sizes)))
    for _ in range(REPEATS):
        fold = rng.permutation(len(y)) % FOLDS
        for k in range(FOLDS):
            tests = np.flatnonzero(tested & (fold == k))
            others = rng.permutation(np.flatnonzero(fold != k))
            for s, size in enumerate(sizes):
                rows = others[:size]
                if len(tests):
                    right[tests, s] += _predict(x[rows], y[rows], x[tests], preprocessing) == y[tests]
    return right[tested] / REPEATS


def _predict(
    x: Float[np.ndarray, "n d"], y: Int64[np.ndarray, " n"], x_test: Float[np.ndarray, "m d"], preprocessing: str
) -> Int64[np.ndarray, " m"]:
    if len(np.unique(y)) < 2:
        return np.full(len(x_test), y[0])
    train, test = preprocess(preprocessing, x, x_test)
    return Ridge().fit(train, y).predict(test).astype(np.int64)
