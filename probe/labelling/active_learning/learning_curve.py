"""How a classifier's accuracy grows with the number of labels, and what further labels would bring.

The accuracies are of cross-validation: images of a fold are predicted by classifiers that were fitted on samples of the
other folds' labels, of a growing number of images. Through them goes an inverse power law, a - b m^-c (Cortes et al.
1993, "Learning curves: asymptotic values and rate of convergence"). The interval at more labels has three parts: which
images are labelled (they are drawn again, each with its whole row of answers), the exponent c, of which a few dozen
labels say little (it is drawn from EXPONENTS, those weighted more that fit better), and the luck of further labels.
scripts/bench/learning_curve.py measures how often the intervals hold.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Float64, Int64

from bb.probe.classifiers.multiclass.ridge import Ridge
from bb.probe.classifiers.preprocess import preprocess

LEAST = 20  # labels below which nothing is stated
FOLDS, REPEATS = 5, 3
SIZES = 6  # numbers of labels at which the accuracy is measured
EXPONENTS = np.linspace(0.2, 1.2, 11)
DRAWS = 1000
LEVEL = 0.95
LUCK = 0.5  # of a step between the two largest sizes


@dataclass(frozen=True)
class Point:
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

    points: tuple[Point, ...]
    forecast: tuple[Point, ...]
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
    points = tuple(Point(*each) for each in zip(sizes, means.tolist(), low.tolist(), high.tolist(), strict=True))
    made = []
    for more in further:
        values = _forecast(sizes, drawn, spread, len(y) + more, rng)
        low_at, middle, high_at = np.quantile(values, [tail, 0.5, 1 - tail]).tolist()
        made.append(Point(len(y) + more, middle, low_at, high_at))
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


def _forecast(
    sizes: list[int],
    drawn: Float64[np.ndarray, "b s"],
    spread: Float64[np.ndarray, " s"],
    target: int,
    rng: np.random.Generator,
) -> Float64[np.ndarray, " b"]:
    """Accuracies at `target` labels of laws through each draw, one of them for each draw, by how well it fits.

    Two kinds, half of the weight each: the power law, with an asymptote of at most 1, and odds that grow as a power
    of the number of labels, which is what curves do before they bend. Later sizes count more, as their numbers.
    """
    at, share = np.asarray(sizes, np.float64), np.asarray(sizes) / np.sum(sizes)
    laws = []
    for c in EXPONENTS:
        u, goal = at**-c, target**-c
        centre, level = share @ u, drawn @ share
        slope = np.minimum((drawn * share) @ (u - centre) / (share @ (u - centre) ** 2), 0)
        slope = np.where(level - slope * centre > 1, (level - 1) / centre, slope)  # through 1 and the middle
        top = level - slope * centre
        laws.append((top[:, None] + slope[:, None] * u, top + slope * goal, 1 / len(EXPONENTS)))
    u, goal = np.log(at), np.log(target)
    bounded = np.clip(drawn, 0.5 * spread**2, 1 - 0.5 * spread**2)
    odds = np.log(bounded / (1 - bounded))
    centre, level = share @ u, odds @ share
    slope = np.maximum((odds * share) @ (u - centre) / (share @ (u - centre) ** 2), 0)
    fitted = level[:, None] + slope[:, None] * (u - centre)
    laws.append((_share_of(fitted), _share_of(level + slope * (goal - centre)), 1.0))
    misfit = np.array([(((drawn - fit) / spread) ** 2 * share).sum(axis=1) * len(sizes) for fit, _, _ in laws])
    weight = np.exp(-0.5 * (misfit - misfit.min(axis=0))) * np.array([prior for *_, prior in laws])[:, None]
    weight /= weight.sum(axis=0)
    chosen = (np.cumsum(weight, axis=0) < rng.random(len(drawn))).sum(axis=0)
    made = np.array([value for _, value, _ in laws])[np.minimum(chosen, len(laws) - 1), np.arange(len(drawn))]
    # A classifier of other labels, as many, is a little better or worse: about as far as from one size to the next.
    luck = np.abs(np.diff(drawn.mean(axis=0)[-2:])).max(initial=0)
    return np.clip(made + LUCK * luck * rng.standard_normal(len(made)), 0, 1)


def _share_of(log_odds: Float64[np.ndarray, "..."]) -> Float64[np.ndarray, "..."]:
    return 1 / (1 + np.exp(-log_odds))
