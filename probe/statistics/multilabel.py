"""Metrics of images that have any number of traits, with intervals: macro-F1, mean AP, exact match.

`macro_f1` is of the positives, `macro_f1@biobench` the mean over both answers of each trait.

A trait is scored on the images of which it is known, an exact match on those of which all traits are.

An image contributes to all traits together, which may depend on each other in any way. Contributions are derivatives of
a metric by an image's weight; the intervals are those of multiclass/intervals.py, over images or groups of them. An
interval of macro-F1 or mean AP needs FEWEST_POSITIVES images of every trait.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from jaxtyping import Bool, Float, Float64, Int

from bb.probe.statistics.multiclass.contributions import precision_terms
from bb.probe.statistics.multiclass.intervals import WIDENING, MetricEstimate, bounds, spread, these, too_few
from bb.store.errors import BBError

FEWEST_POSITIVES = 10
FEWEST_IN_FOLDS = 200  # images


@dataclass(frozen=True, eq=False)
class Traits:
    """Which of the traits images have, and what was predicted.

    decisions  higher where a trait is likelier; None for a classifier that gives none
    group      of images that are not independent; None where they are
    seen       which traits are known of which images; None where all are
    fold       which fitted classifier answered; None where one answered all
    """

    true: Bool[np.ndarray, "n traits"]
    predicted: Bool[np.ndarray, "n traits"]
    decisions: Float[np.ndarray, "n traits"] | None = None
    group: Int[np.ndarray, " n"] | None = None
    seen: Bool[np.ndarray, "n traits"] | None = None
    fold: Int[np.ndarray, " n"] | None = None

    @cached_property
    def known(self) -> Bool[np.ndarray, "n traits"]:
        return np.ones_like(self.true) if self.seen is None else self.seen

    @cached_property
    def whole(self) -> Bool[np.ndarray, " n"]:
        """Images of which all traits are known, but those that are known of no image."""
        some = self.known.any(axis=0)
        return np.asarray(self.known[:, some].all(axis=1)) & some.any()

    def among(self, rows: Bool[np.ndarray, " n"]) -> "Traits":
        parts = (self.true, self.predicted, self.decisions, self.group, self.seen, self.fold)
        return Traits(*(None if part is None else part[rows] for part in parts))  # type: ignore[arg-type]

    @property
    def given(self) -> Float[np.ndarray, "n traits"]:
        """The decisions. Errors: BBError where there are none."""
        if self.decisions is None:
            raise BBError("the classifier gives no decisions: choose one that does, or a metric of predictions.")
        return self.decisions

    @property
    def varying(self) -> Int[np.ndarray, " varying"]:
        """Traits that some but not all images have."""
        have = (self.true & self.known).sum(axis=0)
        return np.flatnonzero((have > 0) & (have < self.known.sum(axis=0)))


Contributions = Float64[np.ndarray, " n"]


@dataclass(frozen=True)
class MultilabelMetric:
    """As bb.probe.statistics.multiclass.metrics.MulticlassMetric; for all, higher is better and the highest value is 1.

    by_trait  whether it is a mean over traits
    fewest_in_folds  how many images an interval over folds needs
    """

    name: str
    value: Callable[[Traits], float]
    contributions: Callable[[Traits], Contributions]
    needs_decisions: bool = False
    by_trait: bool = True
    fewest_in_folds: int = FEWEST_IN_FOLDS


def _f1(p: Traits) -> tuple[Float64[np.ndarray, " traits"], Float64[np.ndarray, " traits"]]:
    true, predicted = p.true & p.known, p.predicted & p.known
    both = (true.sum(axis=0) + predicted.sum(axis=0)).astype(np.float64)
    return 2 * (true & predicted).sum(axis=0) / np.maximum(both, 1), np.maximum(both, 1)


def _macro_f1(p: Traits) -> float:
    scored = p.known.any(axis=0)
    return float(_f1(p)[0][scored].mean()) if scored.any() else float("nan")


def _macro_f1_contributions(p: Traits) -> Contributions:
    f1, both = _f1(p)
    true, predicted, scored = p.true & p.known, p.predicted & p.known, p.known.any(axis=0)
    each = 2.0 * (true & predicted) - f1 * (true.astype(np.float64) + predicted)
    return (each / both)[:, scored].mean(axis=1)


def _absent(p: Traits) -> Traits:
    """Which images miss which trait."""
    return Traits(~p.true, ~p.predicted, None, p.group, p.seen)


def _f1_of_both(p: Traits) -> float:
    return (_macro_f1(p) + _macro_f1(_absent(p))) / 2


def _f1_of_both_contributions(p: Traits) -> Contributions:
    return (_macro_f1_contributions(p) + _macro_f1_contributions(_absent(p))) / 2


def _mean_ap(p: Traits) -> float:
    from sklearn.metrics import average_precision_score

    each = [average_precision_score(p.true[rows, t], p.given[rows, t]) for t in p.varying for rows in [p.known[:, t]]]
    return float(np.mean(each)) if each else float("nan")


def _mean_ap_contributions(p: Traits) -> Contributions:
    """A precision's share of its trait's mean falls where the trait has more images."""
    from sklearn.metrics import average_precision_score

    total = np.zeros(len(p.true))
    for t in p.varying:
        rows = p.known[:, t]
        mine, given = p.true[rows, t], p.given[rows, t]
        terms = precision_terms(given, mine)
        total[rows] += terms - mine * average_precision_score(mine, given) / mine.sum()
    return total / len(p.varying)


def _exact(p: Traits) -> float:
    return float((p.true == p.predicted).all(axis=1)[p.whole].mean()) if p.whole.any() else float("nan")


def _exact_contributions(p: Traits) -> Contributions:
    return ((p.true == p.predicted).all(axis=1) & p.whole) / max(int(p.whole.sum()), 1)


METRICS: dict[str, MultilabelMetric] = {
    metric.name: metric
    for metric in (
        MultilabelMetric("macro_f1", _macro_f1, _macro_f1_contributions),
        MultilabelMetric("macro_f1@biobench", _f1_of_both, _f1_of_both_contributions),
        MultilabelMetric("mean_ap", _mean_ap, _mean_ap_contributions, needs_decisions=True, fewest_in_folds=500),
        MultilabelMetric("exact_match", _exact, _exact_contributions, by_trait=False),
    )
}


def estimate(p: Traits, metric: MultilabelMetric, level: float = 0.95) -> MetricEstimate:
    """A classifier's metric. Errors: BBError where it needs decisions and there are none."""
    p = p if metric.by_trait else p.among(p.whole)
    return _with_bounds(metric, p, metric.value(p), lambda: metric.contributions(p), level, apart=False)


def difference(first: Traits, second: Traits, metric: MultilabelMetric, level: float = 0.95) -> MetricEstimate:
    """How much higher the first one's metric is, of predictions of the same images."""
    first, second = (p if metric.by_trait else p.among(p.whole) for p in (first, second))
    value = metric.value(first) - metric.value(second)
    return _with_bounds(
        metric, first, value, lambda: metric.contributions(first) - metric.contributions(second), level, apart=True
    )


def _with_bounds(
    metric: MultilabelMetric,
    p: Traits,
    value: float,
    contributions: Callable[[], Contributions],
    level: float,
    *,
    apart: bool,
) -> MetricEstimate:
    claim = f"{these('classifier', p.fold)}, on {'further images' if p.group is None else 'further groups of images'}"
    if np.isnan(value):
        return MetricEstimate(metric.name, value, None, claim, f"{metric.name} has no value here")
    counts = (p.true & p.known).sum(axis=0)
    if "@biobench" in metric.name:
        counts = np.minimum(counts, p.known.sum(axis=0) - counts)
    scored = p.known.any(axis=0)
    positives = int(counts[scored].min()) if scored.any() else 0
    if metric.by_trait and positives < FEWEST_POSITIVES:
        reason = f"{positives} images of a trait are too few: an interval of {metric.name} needs {FEWEST_POSITIVES}"
        return MetricEstimate(metric.name, value, None, claim, reason)
    found = spread(contributions(), p.group, of_answers=not metric.by_trait)
    reason = too_few(metric.name, p.group, found, 1.0)
    if p.fold is not None and len(np.unique(p.fold)) > 1 and not apart:
        found = replace(found, variance=found.variance * (1 + WIDENING), units=found.units / (1 + WIDENING))
        if len(p.true) < (fewest := metric.fewest_in_folds):
            reason = f"{len(p.true)} images are too few: over folds, an interval of {metric.name} needs {fewest}"
    return MetricEstimate(
        metric.name, value, None if reason else bounds(value, found, 1.0, level, apart=apart), claim, reason
    )
