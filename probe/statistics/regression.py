"""Metrics of numbers that were predicted, with intervals: R², MAE, RMSE and Spearman's rank correlation.

The variance is that of independent contributions, the derivatives of a metric by each image's weight, or of their sums
by group; quantiles are Student's t with one degree of freedom less than there are images or groups. Bounds are made
where a metric is closer to normal, and transformed back: of RMSE the logarithm, of R² that of 1 - R², of a correlation
its inverse hyperbolic tangent.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np
from jaxtyping import Float64, Int

from bb.probe.statistics.bounds import quantile
from bb.probe.statistics.multiclass.intervals import MetricEstimate, not_shown, these
from bb.store.errors import BBError

FEWEST_GROUPS, FEWEST_IMAGES = 10, 30
Numbers = Float64[np.ndarray, " n"]


@dataclass(frozen=True, eq=False)
class Scale:
    """Where bounds are made: a function of the metric, its derivative, and its inverse."""

    to: Callable[[float], float]
    slope: Callable[[float], float]
    back: Callable[[float], float]


LOGARITHM = Scale(lambda v: float(np.log(v)), lambda v: 1 / v, lambda u: float(np.exp(u)))
OF_LEFT_OVER = Scale(lambda v: float(-np.log(1 - v)), lambda v: 1 / (1 - v), lambda u: float(1 - np.exp(-u)))
FISHER = Scale(lambda v: float(np.arctanh(v)), lambda v: 1 / (1 - v**2), lambda u: float(np.tanh(u)))


@dataclass(frozen=True, eq=False)
class RegressionMetric:
    """name, better as of bb.probe.statistics.multiclass.metrics.MulticlassMetric.

    value          of true and predicted numbers; NaN where all true ones are equal and it needs others
    contributions  of each image, 0 in the mean
    exact          the value that no error makes, where there is no interval
    by_fold        whether the value over folds is the mean of theirs: what each model predicts of no signal is near the
                   mean of its training images, which is the lower, the higher those that it is tested on
    """

    name: str
    better: Literal["higher", "lower"]
    value: Callable[[Numbers, Numbers], float]
    contributions: Callable[[Numbers, Numbers], Numbers]
    scale: Scale
    exact: float
    by_fold: bool = False

    def of_folds(self, y: Numbers, predicted: Numbers, fold: Int[np.ndarray, " n"] | None) -> float:
        """The value where several models predicted; folds in which it has none are left out."""
        if fold is None or not self.by_fold:
            return self.value(y, predicted)
        names, size = np.unique(fold, return_counts=True)
        each = np.array([self.value(y[fold == k], predicted[fold == k]) for k in names])
        known = ~np.isnan(each)
        return float(np.average(each[known], weights=size[known])) if known.any() else float("nan")


def _r2(y: Numbers, predicted: Numbers) -> float:
    total = float(((y - y.mean()) ** 2).sum())
    return 1 - float(((y - predicted) ** 2).sum()) / total if total > 0 else float("nan")


def _r2_contributions(y: Numbers, predicted: Numbers) -> Numbers:
    """Of 1 - A/B, A the mean squared error and B the variance."""
    squares, around = (y - predicted) ** 2, (y - y.mean()) ** 2
    a, b = squares.mean(), around.mean()
    return (a * (around - b) / b - (squares - a)) / b / len(y)


def _mae(y: Numbers, predicted: Numbers) -> float:
    return float(np.abs(y - predicted).mean())


def _mae_contributions(y: Numbers, predicted: Numbers) -> Numbers:
    each = np.abs(y - predicted)
    return (each - each.mean()) / len(y)


def _rmse(y: Numbers, predicted: Numbers) -> float:
    return float(np.sqrt(((y - predicted) ** 2).mean()))


def _rmse_contributions(y: Numbers, predicted: Numbers) -> Numbers:
    each = (y - predicted) ** 2
    return (each - each.mean()) / (2 * np.sqrt(each.mean())) / len(y)


def _spearman(y: Numbers, predicted: Numbers) -> float:
    a, b = _ranks(y), _ranks(predicted)
    both = np.sqrt((a**2).sum() * (b**2).sum())
    return float((a * b).sum() / both) if both > 0 else float("nan")


def _ranks(values: Numbers) -> Numbers:
    """Between -1/2 and 1/2, 0 in the mean."""
    from scipy.stats import rankdata

    rank = rankdata(values)
    return (rank - rank.mean()) / len(values)


def _spearman_contributions(y: Numbers, predicted: Numbers) -> Numbers:
    """Of a ratio of means of products of ranks; an image's value also moves all higher ones' ranks."""
    a, b = _ranks(y), _ranks(predicted)
    cross, of_a, of_b = (float((u * v).mean()) for u, v in ((a, b), (a, a), (b, b)))
    rho = cross / np.sqrt(of_a * of_b)

    def moved(u: Numbers, v: Numbers) -> Numbers:
        """a*b, and what the ranks u of the others take from a further image: the mean of v over higher ones."""
        order = np.argsort(u, kind="stable")
        sums = np.append(np.cumsum(v[order][::-1])[::-1], 0) / len(u)
        left, right = np.searchsorted(u[order], u), np.searchsorted(u[order], u, side="right")
        return (sums[left] + sums[right]) / 2

    product = a * b + moved(a, b) + moved(b, a)
    squares = [u**2 + 2 * moved(u, u) for u in (a, b)]
    out = product / np.sqrt(of_a * of_b) - rho * (squares[0] / of_a + squares[1] / of_b) / 2
    return (out - out.mean()) / len(y)


METRICS: dict[str, RegressionMetric] = {
    metric.name: metric
    for metric in (
        RegressionMetric("r2", "higher", _r2, _r2_contributions, OF_LEFT_OVER, 1.0),
        RegressionMetric("mae", "lower", _mae, _mae_contributions, LOGARITHM, 0.0),
        RegressionMetric("rmse", "lower", _rmse, _rmse_contributions, LOGARITHM, 0.0),
        RegressionMetric("spearman", "higher", _spearman, _spearman_contributions, FISHER, 1.0, by_fold=True),
    )
}


def estimate(
    y_true: Float64[np.ndarray, " n"],
    predicted: Float64[np.ndarray, " n"],
    metric: RegressionMetric,
    *,
    group: Int[np.ndarray, " n"] | None = None,
    fold: Int[np.ndarray, " n"] | None = None,
    level: float = 0.95,
) -> MetricEstimate:
    """A model's metric on further images, or further groups of them. fold: which of several models predicted each."""
    value = metric.of_folds(y_true, predicted, fold)
    claim = f"{these('model', fold)}, on {'further images' if group is None else 'further groups of images'}"
    if np.isnan(value):
        return MetricEstimate(metric.name, value, None, claim, _no_value(metric, y_true, predicted))
    units, reason = _units(group, len(y_true))
    if fold is not None and len(np.unique(fold)) > 1:
        reason = reason or f"{not_shown(f'{metric.name} over folds')}; a column of splits has one"
    if not reason and abs(value - metric.exact) < 1e-12:
        reason = "nothing is wrong in these images, which does not say how little is in others"
    if reason:
        return MetricEstimate(metric.name, value, None, claim, reason)
    half = _half(metric.contributions(y_true, predicted), group, units, level) * metric.scale.slope(value)
    middle = metric.scale.to(value)
    return MetricEstimate(
        metric.name, value, (metric.scale.back(middle - half), metric.scale.back(middle + half)), claim
    )


def difference(
    y_true: Float64[np.ndarray, " n"],
    first: Float64[np.ndarray, " n"],
    second: Float64[np.ndarray, " n"],
    metric: RegressionMetric,
    *,
    group: Int[np.ndarray, " n"] | None = None,
    level: float = 0.95,
) -> MetricEstimate:
    """How much higher the first model's metric is. Errors: BBError where both predicted the same."""
    if np.array_equal(first, second):
        raise BBError("both models predicted the same numbers: compare two models.")
    value = metric.value(y_true, first) - metric.value(y_true, second)
    claim = f"these models, on {'further images' if group is None else 'further groups of images'}"
    if np.isnan(value):
        return MetricEstimate(metric.name, value, None, claim, _no_value(metric, y_true, first))
    units, reason = _units(group, len(y_true))
    if reason:
        return MetricEstimate(metric.name, value, None, claim, reason)
    half = _half(metric.contributions(y_true, first) - metric.contributions(y_true, second), group, units, level)
    return MetricEstimate(metric.name, value, (value - half, value + half), claim)


def _no_value(metric: RegressionMetric, y: Numbers, predicted: Numbers) -> str:
    """Why a metric that divides by a spread has none."""
    known = [what for what, x in (("true", y), ("predicted", predicted)) if not np.ptp(x)]
    return f"{metric.name} has no value where all {known[0] if known else 'predicted'} values are equal"


def _units(group: Int[np.ndarray, " n"] | None, images: int) -> tuple[int, str]:
    units, fewest, what = (
        (images, FEWEST_IMAGES, "images") if group is None else (len(np.unique(group)), FEWEST_GROUPS, "groups")
    )
    return units, f"{units} {what} are too few: an interval needs {fewest}" if units < fewest else ""


def _half(g: Numbers, group: Int[np.ndarray, " n"] | None, units: int, level: float) -> float:
    if group is not None:
        g = np.bincount(np.unique(group, return_inverse=True)[1], g)
    variance = float((g**2).sum()) * units / (units - 1)
    return float(quantile(level, np.array([units - 1.0]))[0]) * float(np.sqrt(variance))
