"""The metrics of tasks of any number of classes, in one table."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Literal

import numpy as np
from jaxtyping import Float64

from bb.probe.statistics.multiclass import contributions as of_images
from bb.probe.statistics.multiclass.contributions import Contributions
from bb.probe.statistics.multiclass.mean_gap import mean_gap_bounds
from bb.probe.statistics.multiclass.predictions import Predictions

FEWEST_RANKED, FEWEST_BINNED = 10, 2_000
FEWEST_WRONG = 5  # answers, on which losses and gaps of sure classifiers depend

Sampled = Literal["images", "counts"]


@dataclass(frozen=True)
class MulticlassMetric:
    """A number of one task's predictions.

    name       as it is asked for
    better     which way models are better
    value      its value; NaN where it has none. Errors: BBError where it needs probabilities and there are none
    contributions  of each image: contributions.py
    chance     its value for the guess that gives each class the same probability; None where that says nothing
    needs_probabilities  whether predicted classes are not enough
    sampled    what an interval imagines to be drawn again: "images", or images with the same "counts" of classes
    fewest     how many images each class that is there needs for an interval
    fewest_wrong  how many wrong answers an interval needs: a loss or gap that a few decide says little of further ones
    fewest_images, over_groups  how many images an interval needs, and whether any over groups was shown to hold
    greatest   its highest value; the least is 0
    of_answers  whether it is a mean of right and wrong answers
    bounds      of an interval at a level, with a variance multiplied by a factor; None where contributions give them
    """

    name: str
    better: Literal["higher", "lower"]
    value: Callable[[Predictions], float]
    contributions: Callable[[Predictions], Contributions]
    chance: Callable[[Predictions], float] | None
    needs_probabilities: bool = False
    sampled: Sampled = "images"
    greatest: float = 1.0
    of_answers: bool = False
    fewest: int = 1
    fewest_wrong: int = 0
    fewest_images: int = 1
    over_groups: bool = True
    bounds: Callable[[Predictions, float, float], tuple[float, float]] | None = None


def majority(p: Predictions) -> float:
    """The accuracy of always naming the commonest class."""
    return float(p.size.max() / len(p))


def _sum(contributions: Callable[[Predictions], Contributions]) -> Callable[[Predictions], float]:
    return lambda p: float(contributions(p).sum())


def _accuracy(p: Predictions) -> float:
    """A count over a count, so that classifiers with as many right answers have the same one to the bit."""
    return np.count_nonzero(p.hit) / len(p)


def _top_5(p: Predictions) -> float:
    return np.count_nonzero(of_images.top_5(p)) / len(p) if p.classes > of_images.TOP else float("nan")


def _share(contributions: Callable[[Predictions], Contributions]) -> Callable[[Predictions], float]:
    """A sum of which rounding may make a little more than 1."""
    return lambda p: min(float(contributions(p).sum()), 1.0)


def _f1_of_present(p: Predictions) -> float:
    return float(of_images.f1(p)[p.present].mean())


def _f1_of_all(p: Predictions) -> float:
    return float(of_images.f1(p).sum() / of_images.biobench_classes(p))


def _ece(place: Callable[[Predictions], np.ndarray], p: Predictions) -> float:
    return float(np.abs(of_images.gaps(p, place(p))).sum())


def _ece_contributions(place: Callable[[Predictions], np.ndarray], p: Predictions) -> Contributions:
    return of_images.ece(p, place(p))


def _ece_bounds(
    place: Callable[[Predictions], np.ndarray], p: Predictions, level: float, widening: float
) -> tuple[float, float]:
    return mean_gap_bounds(_ece(place, p), of_images.gap_errors(p, place(p)), level, widening)


def _aurc(p: Predictions) -> float:
    order, weight, _ = of_images.aurc_weights(p)
    return float((weight * ~p.hit[order]).sum())


def _auroc(p: Predictions) -> float:
    """Mean over the classes that some but not all images are of, one against the rest."""
    if p.present.sum() < 2:
        return float("nan")
    # Half of the contributions are of the classes' own images, half of the others.
    return float(of_images.auroc(p).sum() / 2)


def _average_precision(p: Predictions) -> float:
    """Mean over the classes that some but not all images are of, one against the rest; as scikit-learn's."""
    return float(np.mean(p.ranked.average_precision)) if len(p.ranked.scored) else float("nan")


def _guessed_f1(p: Predictions) -> Float64[np.ndarray, " classes"]:
    """F1 of each class that is named for one of `classes` images, whatever they show."""
    n, k = len(p), p.classes
    return 2 * p.size / k / (p.size + n / k)


_ALL = (
    MulticlassMetric("accuracy", "higher", _accuracy, of_images.accuracy, lambda p: 1 / p.classes, of_answers=True),
    MulticlassMetric(
        "balanced_accuracy",
        "higher",
        _share(of_images.balanced_accuracy),
        of_images.balanced_accuracy,
        lambda p: 1 / p.classes,
        sampled="counts",
        of_answers=True,
    ),
    MulticlassMetric(
        "macro_f1@wilds",
        "higher",
        _f1_of_present,
        of_images.f1_of_present,
        lambda p: float(_guessed_f1(p)[p.present].mean()),
        sampled="counts",
        of_answers=True,
    ),
    MulticlassMetric(
        "macro_f1@biobench",
        "higher",
        _f1_of_all,
        of_images.f1_of_all,
        lambda p: float(_guessed_f1(p).mean()),
        sampled="counts",
        of_answers=True,
    ),
    MulticlassMetric(
        "top_5",
        "higher",
        _top_5,
        of_images.top_5,
        lambda p: of_images.TOP / p.classes,
        needs_probabilities=True,
        of_answers=True,
    ),
    MulticlassMetric(
        "average_precision",
        "higher",
        _average_precision,
        of_images.average_precision,
        lambda p: float(p.size[p.present].mean() / len(p)),
        needs_probabilities=True,
        sampled="counts",
        fewest=FEWEST_RANKED,
    ),
    MulticlassMetric(
        "auroc",
        "higher",
        _auroc,
        of_images.auroc,
        lambda _: 0.5,
        needs_probabilities=True,
        sampled="counts",
        fewest=FEWEST_RANKED,
    ),
    MulticlassMetric(
        "ece",
        "lower",
        partial(_ece, of_images.equal_widths),
        partial(_ece_contributions, of_images.equal_widths),
        None,
        needs_probabilities=True,
        fewest_images=FEWEST_BINNED,
        fewest_wrong=FEWEST_WRONG,
        over_groups=False,
        bounds=partial(_ece_bounds, of_images.equal_widths),
    ),
    MulticlassMetric(
        "ece_adaptive",
        "lower",
        partial(_ece, of_images.equal_counts),
        partial(_ece_contributions, of_images.equal_counts),
        None,
        needs_probabilities=True,
        fewest_images=FEWEST_BINNED,
        fewest_wrong=FEWEST_WRONG,
        over_groups=False,
        bounds=partial(_ece_bounds, of_images.equal_counts),
    ),
    MulticlassMetric(
        "nll",
        "lower",
        _sum(of_images.nll),
        of_images.nll,
        lambda p: float(np.log(p.classes)),
        needs_probabilities=True,
        greatest=np.inf,
        fewest_wrong=FEWEST_WRONG,
    ),
    MulticlassMetric(
        "brier",
        "lower",
        _sum(of_images.brier),
        of_images.brier,
        lambda p: 1 - 1 / p.classes,
        needs_probabilities=True,
        greatest=2.0,
        fewest_wrong=FEWEST_WRONG,
    ),
    MulticlassMetric(
        "aurc",
        "lower",
        _aurc,
        of_images.aurc,
        lambda p: 1 - 1 / p.classes,
        needs_probabilities=True,
        fewest_wrong=FEWEST_WRONG,
    ),
)
METRICS: dict[str, MulticlassMetric] = {metric.name: metric for metric in _ALL}
