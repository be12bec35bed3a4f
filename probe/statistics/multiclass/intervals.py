"""Intervals of the metrics of one task of any number of classes, and of differences between two classifiers.

docs/statistics.md has what each claims and how often it was found to hold. The variance V is the sum of squares of what
units (images, or groups of them) contribute, influence.py; the bounds from V are bounds.py's.

Metrics that are means over classes are for further images with these class counts: contributions are centred in each
true class, of n_c images, and weigh n_c/(n_c - 1). The population's macro-F1 has no interval: that of a class of few
images is too biased. A class of one image shows no variance. All such classes together have V_1 around their common
mean, of which the part within classes is taken to be what it is in classes of 2 to FEW images: V_2/V'_2, the variance
within them over that around a mean common to all classes of the same size, 1 at most.
"""

from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Float64, Int

from bb.probe.statistics.bounds import quantile, score_bounds, widened
from bb.probe.statistics.influence import WeightedTasks, of_units
from bb.probe.statistics.multiclass.metrics import MulticlassMetric
from bb.probe.statistics.multiclass.predictions import Predictions
from bb.store.errors import BBError

FEWEST_UNITS = 5
FEWEST_OF_LOSSES = 20  # which a few images can have most of
FEWEST_FREEDOM = 3.0
FEWEST_IN_FOLDS = 50  # images of a class, in the mean
FEW = 4
# More variance than independent answers have, if all are tested: each image is in the training sets of the other folds,
# too, so that answers spread more about what these classifiers get of further images. The factor tends to 1 with more
# images (Bayle et al. 2020, arXiv 2007.12671), and one cross-validation can't estimate it without bias (Bengio and
# Grandvalet 2004, JMLR 5); 1 + K/(K - 1) of Nadeau and Bengio (2003) is for other training sets, too, and far wider.
# So it is measured, by scripts/bench/predict.py.
WIDENING = 0.15


@dataclass(frozen=True)
class MetricEstimate:
    """A metric, or the difference of two classifiers' in it.

    interval  95% bounds, or those of another level; None where none was shown to hold
    claim     what the interval is of
    reason    why there is no interval; empty where there is
    """

    metric: str
    value: float
    interval: tuple[float, float] | None
    claim: str
    reason: str = ""


def estimate(p: Predictions, metric: MulticlassMetric, level: float = 0.95, *, widening: float = 1.0) -> MetricEstimate:
    """A classifier's metric.

    widening  multiplies the variance, where answers are less independent than their units say
    Errors: BBError where it needs probabilities and there are none.
    """
    value = metric.value(p)
    if not np.isnan(value) and (reason := _few_images(metric, p)):
        return MetricEstimate(metric.name, value, None, _claim(metric, p), reason)
    return _with_bounds(metric, p, value, metric.contributions(p), level, widening=widening)


def difference(
    first: Predictions, second: Predictions, metric: MulticlassMetric, level: float = 0.95, *, widening: float = 1.0
) -> MetricEstimate:
    """How much higher the first one's metric is. widening: as of `estimate`.

    Errors: BBError where they are not of the same images.
    """
    same = np.array_equal(first.y_true, second.y_true) and (
        (first.group is None and second.group is None)
        or (first.group is not None and second.group is not None and np.array_equal(first.group, second.group))
    )
    if not same:
        raise BBError("the classifiers were not tested on the same images: compare predictions of the same rows.")
    value = metric.value(first) - metric.value(second)
    apart = metric.contributions(first) - metric.contributions(second)
    worse = max(first, second, key=lambda p: int((~p.hit).sum()))
    return _with_bounds(metric, worse, value, apart, level, apart=True, widening=widening)


@dataclass(frozen=True)
class Spread:
    """V, its degrees of freedom, Σg³/V, Σg⁴/V², and how many units of equal weight there are."""

    variance: float
    freedom: float
    skew: float
    concentration: float
    units: float

    @classmethod
    def of(cls, g: Float64[np.ndarray, " units"], more: float, freedom: float, units: float) -> "Spread":
        """Of independent contributions, and more variance than theirs."""
        own = float((g**2).sum())
        skew, concentration = (float((g**3).sum()) / own, float((g**4).sum()) / own**2) if own > 0 else (0.0, 0.0)
        return cls(own + more, freedom, skew, concentration, units)


def spread(
    contributions: Float64[np.ndarray, " n"],
    group: Int[np.ndarray, " n"] | None,
    stratum: Int[np.ndarray, " n"] | None = None,
    of_answers: bool = False,
) -> Spread:
    """Of a sum of contributions of images, or groups of them, centred in strata where these are given.

    of_answers  whether each is right or wrong, so that the variance follows from the mean
    """
    n = len(contributions)
    inside = np.zeros(n, np.int64) if stratum is None else np.unique(stratum, return_inverse=True)[1]
    size = np.bincount(inside)
    centred = contributions - (np.bincount(inside, contributions) / size)[inside]
    weight = 1 / (len(size) * size[inside])
    if group is None:
        g = centred * np.sqrt(size / np.maximum(size - 1, 1))[inside]
        lone = _of_lone(contributions, inside, size)
        return Spread.of(g, lone, np.inf if of_answers else n - 1.0, 1 / float((weight**2).sum()))
    unit, task = np.unique(group, return_inverse=True)[1], np.zeros(n, np.int64)
    units = of_units(WeightedTasks(centred[:, None], np.zeros(1), weight, task, inside, unit))
    return Spread.of(units.influence[:, 0], 0.0, units.freedom, units.size)


def bounds(value: float, found: Spread, greatest: float, level: float, *, apart: bool = False) -> tuple[float, float]:
    """Of a metric between 0 and `greatest`, or a difference. They hold the value.

    Where losses without an upper bound are skewed, bounds are further up by SE γ (2 z² + 1)/6, γ the skewness of their
    mean, which is the first term of the Edgeworth expansion of their t (Hall, Annals of Statistics 11, 1983).
    """
    one, freedom = np.array([value]), np.array([found.freedom])
    variance = widened(
        np.array([found.variance]), np.array([found.concentration]), freedom, found.units, differences=apart
    )
    if apart or not np.isfinite(greatest):
        z = quantile(level, freedom)
        half = z * np.sqrt(np.where(variance > 0, variance, 2 / found.units**2))
        shift = 0.0 if apart else found.skew * (2 * z**2 + 1) / 6
        low, high = one + shift - half, one + shift + half
        low = low if apart else np.maximum(low, 0.0)
    else:
        low, high = score_bounds(one / greatest, variance / greatest**2, freedom, found.units, level)
        low, high = greatest * low, greatest * high
    return min(float(low[0]), value), max(float(high[0]), value)


def _of_lone(
    contributions: Float64[np.ndarray, " n"], stratum: Int[np.ndarray, " n"], size: Int[np.ndarray, " strata"]
) -> float:
    """What classes of one image are taken to add to the variance."""
    alone = contributions[size[stratum] == 1]
    if not len(alone):
        return 0.0
    around = float(((alone - alone.mean()) ** 2).sum()) * len(alone) / max(len(alone) - 1, 1)
    within = total = 0.0
    for n in range(2, FEW + 1):
        of_size = contributions[size[stratum] == n]
        if len(of_size) > n:
            rows = np.argsort(stratum[size[stratum] == n], kind="stable")
            each = of_size[rows].reshape(-1, n)
            within += float(each.var(axis=1, ddof=1).sum()) * n
            total += float(each.var(ddof=1)) * each.size
    return around * min(within / total if total > 0 else 1.0, 1.0)


def _with_bounds(
    metric: MulticlassMetric,
    p: Predictions,
    value: float,
    contributions: Float64[np.ndarray, " n"],
    level: float,
    *,
    apart: bool = False,
    widening: float = 1.0,
) -> MetricEstimate:
    claim = _claim(metric, p)
    if np.isnan(value):
        return MetricEstimate(metric.name, value, None, claim, f"{metric.name} has no value here")
    found = spread(contributions, p.group, p.y_true if metric.sampled == "counts" else None, metric.of_answers)
    found = replace(found, variance=found.variance * widening, units=found.units / widening)
    reason = _few_images(metric, p) or too_few(metric.name, p.group, found, metric.greatest)
    if reason:
        interval = None
    elif metric.bounds and not apart:
        interval = metric.bounds(p, level, widening)
    else:
        interval = bounds(value, found, metric.greatest, level, apart=apart)
    return MetricEstimate(metric.name, value, interval, claim, reason)


def these(what: str, fold: Int[np.ndarray, " n"] | None) -> str:
    """Of which fitted models an interval is."""
    count = 1 if fold is None else len(np.unique(fold))
    return f"the mean over these {count} fitted {what}s" if count > 1 else f"this {what}"


def _claim(metric: MulticlassMetric, p: Predictions) -> str:
    images = "further images" if p.group is None else "further groups of images"
    counts = " with these class counts" if metric.sampled == "counts" else ""
    return f"{these('classifier', p.fold)}, on {images}{counts}"


def not_shown(what: str) -> str:
    """Why there is no interval of a kind that was simulated and failed, or was not simulated."""
    return f"intervals of {what} were not shown to hold"


def too_few(name: str, group: Int[np.ndarray, " n"] | None, found: Spread, greatest: float) -> str:
    """Why there can be no interval over groups; empty where there can."""
    if group is None:
        return ""
    count = len(np.unique(group))
    fewest = FEWEST_UNITS if np.isfinite(greatest) else FEWEST_OF_LOSSES
    if count < fewest:
        return f"{count} groups are too few: an interval of {name} needs {fewest}"
    if found.freedom < FEWEST_FREEDOM:
        return f"a few of the {count} groups have most of the weight: an interval needs more even ones"
    return ""


def _few_images(metric: MulticlassMetric, p: Predictions) -> str:
    """With few images of a class, those of one fold change what the others' classifiers answer too much."""
    if p.group is not None and not metric.over_groups:
        return not_shown(f"{metric.name} over groups")
    if len(p) < metric.fewest_images:
        return f"{len(p)} images are too few: an interval of {metric.name} needs {metric.fewest_images}"
    if (wrong := int((~p.hit).sum())) < metric.fewest_wrong:
        return f"{wrong} wrong answers are too few: an interval of {metric.name} needs {metric.fewest_wrong}"
    if (smallest := int(p.size[p.present].min())) < metric.fewest:
        return f"{smallest} images of a class are too few: an interval of {metric.name} needs {metric.fewest}"
    mean, name = len(p) / p.present.sum(), metric.name
    in_folds = p.fold is not None and len(np.unique(p.fold)) > 1
    if metric.sampled == "counts" and in_folds and mean < FEWEST_IN_FOLDS:
        return f"{mean:.0f} images a class are too few: over folds, an interval of {name} needs {FEWEST_IN_FOLDS}"
    return ""
