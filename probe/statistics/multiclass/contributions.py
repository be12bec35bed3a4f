"""What each image adds to a metric: its value as a mean, and its influence on one that is not.

A metric that is a mean over images or classes has a value of each image; one that is not has a derivative by the
image's weight (Hampel 1974), of which the mean over the images is 0. Either is divided by the number that the mean is
over, so that a metric varies from sample to sample as the sum of independent contributions does.
"""

from collections.abc import Callable
from functools import wraps

import numpy as np
from jaxtyping import Bool, Float, Float64, Int
from scipy.special import ndtr

from bb.probe.statistics.multiclass.predictions import Predictions
from bb.probe.statistics.multiclass.sparse import for_kernels

Contributions = Float64[np.ndarray, " n"]

TOP = 5
ALIKE = 10  # images up to which a class takes its part in macro-F1 from all classes of its size
BINS = 15  # Guo, Pleiss, Sun and Weinberger, "On Calibration of Modern Neural Networks", 2017
LEAST = float(np.finfo(np.float64).eps)  # probabilities are at least this in a logarithm, as in scikit-learn's log_loss


def once(of: Callable[[Predictions], Contributions]) -> Callable[[Predictions], Contributions]:
    """The same function, which computes only once of the same predictions."""

    @wraps(of)
    def found(p: Predictions) -> Contributions:
        if of not in p.known:
            p.known[of] = of(p)
        return p.known[of]

    return found


def accuracy(p: Predictions) -> Contributions:
    return p.hit / len(p)


@once
def top_5(p: Predictions) -> Contributions:
    """Whether fewer than five classes have a higher probability than the true one, or the same and a lower number."""
    from bb.probe.statistics.multiclass.rank_kernels import count_before  # numba takes half a second to import

    return (count_before(for_kernels(p.given), p.y_true) < TOP) / len(p)


def balanced_accuracy(p: Predictions) -> Contributions:
    return p.hit / (p.size[p.y_true] * p.present.sum())


def f1(p: Predictions) -> Float64[np.ndarray, " classes"]:
    """Of each class; 0 where it is neither there nor predicted."""
    both = p.size + np.bincount(p.y_pred, minlength=p.classes)
    return 2 * np.bincount(p.y_true, p.hit, p.classes) / np.maximum(both, 1)


def biobench_classes(p: Predictions) -> int:
    """The number of classes of biobench's macro-F1: up to the highest that is there or predicted."""
    return int(max(p.y_true.max(), p.y_pred.max())) + 1


def f1_of_present(p: Predictions) -> Contributions:
    return _macro_f1(p, p.present) / p.present.sum()


def f1_of_all(p: Predictions) -> Contributions:
    return _macro_f1(p, np.ones(p.classes, bool)) / biobench_classes(p)


def _macro_f1(p: Predictions, scored: Bool[np.ndarray, " classes"]) -> Contributions:
    """F = 2 t / d, d the class's images and predictions. What an image's answer changes, compared with no answer: a
    right one raises F of its class to 2 t / d from 2 (t - 1) / (d - 1), by (2 - F) / (d - 1); a wrong one lowers that
    of the class it was taken for, by F / (d + 1).

    What matters is the mean of this over the other images' answers. For classes of up to ALIKE images it is taken to be
    the mean over the classes with as many images; of the former in squares, in which its variance counts as well.
    Derivatives at the answers seen are far too small for classes of one image, and these differences too large.
    """
    each = f1(p)
    d = p.size + np.bincount(p.y_pred, minlength=p.classes)
    right = (2 - each[p.y_true]) / np.where(p.hit, np.maximum(d[p.y_true] - 1, 1), d[p.y_true] + 1)
    alike = np.where(p.size <= ALIKE, p.size, ALIKE + 1 + np.arange(p.classes))
    gain = np.sqrt(_mean_by(alike[p.y_true], right**2))
    loss = _mean_by(alike, each / (d + 1))
    return np.where(p.hit, scored[p.y_true] * gain, -(scored * loss)[p.y_pred])


def _mean_by(group: Int[np.ndarray, " k"], values: Float64[np.ndarray, " k"]) -> Float64[np.ndarray, " k"]:
    count = np.bincount(group)
    return (np.bincount(group, values) / np.maximum(count, 1))[group]


@once
def nll(p: Predictions) -> Contributions:
    return -np.log(np.clip(p.of_true, LEAST, 1)) / len(p)


@once
def brier(p: Predictions) -> Contributions:
    """Sum over classes of squared differences from 0 or 1: 0 to 2, twice scikit-learn's for two classes."""
    squares = np.einsum("nk,nk->n", p.given, p.given, dtype=np.float64)
    return (squares + 1 - 2 * p.of_true) / len(p)


def equal_widths(p: Predictions) -> Int[np.ndarray, " n"]:
    """The bin of each confidence: above its lower edge, up to its upper one."""
    return width_bins(p.confidence)


def width_bins(confidence: Float64[np.ndarray, " n"]) -> Int[np.ndarray, " n"]:
    """As `equal_widths`."""
    return np.clip(np.ceil(confidence * BINS).astype(np.int64) - 1, 0, BINS - 1)


def equal_counts(p: Predictions) -> Int[np.ndarray, " n"]:
    """The bin of each confidence, from the least, each bin with as many images (Nguyen and O'Connor 2015); the same
    confidence is in the same bin."""
    from scipy.stats import rankdata

    least = rankdata(p.confidence, method="min").astype(np.int64) - 1
    return least * min(BINS, len(p)) // len(p)


def gaps(p: Predictions, place: Int[np.ndarray, " n"]) -> Float64[np.ndarray, " bins"]:
    """How much the confidences of each bin exceed its right answers, in shares of all images."""
    return np.bincount(place, p.confidence - p.hit, BINS) / len(p)


def gap_errors(p: Predictions, place: Int[np.ndarray, " n"]) -> Float64[np.ndarray, " bins"]:
    """Standard errors of the gaps; 0 of a bin of one image."""
    count = np.bincount(place, minlength=BINS)
    mean = np.bincount(place, p.confidence - p.hit, BINS) / np.maximum(count, 1)
    squares = np.bincount(place, (p.confidence - p.hit - mean[place]) ** 2, BINS)
    return np.sqrt(squares * count / np.maximum(count - 1, 1)) / len(p)


def ece(p: Predictions, place: Int[np.ndarray, " n"]) -> Contributions:
    """A bin's gap x adds |x|. Where x is not far from 0 for its standard error s, |x| varies less than x does: as the
    folded normal distribution of mean μ and deviation s, μ² estimated by x² - s². As in all samples of c images, what
    is around a bin's mean is multiplied by √(c/(c - 1))."""
    gap, s = gaps(p, place), np.maximum(gap_errors(p, place), LEAST)
    middle = np.sqrt(np.maximum(gap**2 - s**2, 0))
    folded = s * np.sqrt(2 / np.pi) * np.exp(-(middle**2) / (2 * s**2)) + middle * (1 - 2 * ndtr(-middle / s))
    kept = np.sqrt(np.clip((middle**2 + s**2 - folded**2) / s**2, 0, 1))
    count = np.bincount(place, minlength=BINS)
    mean = gap / np.maximum(count, 1)
    wider = np.sqrt(count / np.maximum(count - 1, 1))
    each = mean[place] + wider[place] * ((p.confidence - p.hit) / len(p) - mean[place])
    return (np.sign(gap) * kept)[place] * each


def selective_order(p: Predictions) -> tuple[Int[np.ndarray, " n"], Int[np.ndarray, " n"], Int[np.ndarray, " n"]]:
    """Images from the most confident one; and how many are surer than each place's, and as sure or surer."""
    order = np.argsort(-p.confidence, kind="stable")
    ordered = -p.confidence[order]
    return order, np.searchsorted(ordered, ordered), np.searchsorted(ordered, ordered, side="right")


def aurc_weights(p: Predictions) -> tuple[Int[np.ndarray, " n"], Float64[np.ndarray, " n"], Int[np.ndarray, " n"]]:
    """The order, and what an error at each place adds to the mean over all coverages of the share of errors among the
    images that are covered; of equally sure images the mean over their orders."""
    order, first, last = selective_order(p)
    n = len(p)
    tail = np.append(np.cumsum((1 / np.arange(1, n + 1))[::-1])[::-1], 0)
    sums = np.append(0, np.cumsum(tail[:-1]))
    return order, (sums[last] - sums[first]) / (last - first) / n, last


def aurc(p: Predictions) -> Contributions:
    """An image adds its own error at its place, and takes from the risks of those that are less sure."""
    order, weight, last = aurc_weights(p)
    n = len(p)
    error = (~p.hit[order]).astype(np.float64)
    diluted = np.append(0, np.cumsum((error / last)[::-1]))[::-1]  # of errors at this place and after it
    first = np.searchsorted(-p.confidence[order], -p.confidence[order])
    out = np.empty(n)
    out[order] = error * weight - diluted[first] / n
    return out


def auroc(p: Predictions) -> Contributions:
    """Of the pairs of an image of the class and one of another, the share in order: DeLong's components (1988)."""
    return p.ranked.auroc / len(p.ranked.scored) if len(p.ranked.scored) else np.full(len(p), np.nan)


def average_precision(p: Predictions) -> Contributions:
    """As `precision_terms` of each class."""
    return p.ranked.precision / len(p.ranked.scored) if len(p.ranked.scored) else np.full(len(p), np.nan)


def precision_terms(decision: Float[np.ndarray, " n"], positive: Bool[np.ndarray, " n"]) -> Float64[np.ndarray, " n"]:
    """What each image adds to the average precision of one class.

    A positive adds the precision at its threshold, with t positives and f others at or above it. One more of either
    there adds f/(t + f)² or -t/(t + f)² to it, in addition to a positive's own place.
    """
    order = np.argsort(-decision, kind="stable")
    ordered = -decision[order]
    first, last = np.searchsorted(ordered, ordered), np.searchsorted(ordered, ordered, side="right") - 1
    mine = positive[order]
    t, f = np.cumsum(mine)[last].astype(np.float64), np.cumsum(~mine)[last].astype(np.float64)
    gain = np.cumsum((mine * f / (t + f) ** 2)[::-1])[::-1][first]
    loss = np.cumsum((mine * t / (t + f) ** 2)[::-1])[::-1][first]
    out = np.empty(len(decision))
    out[order] = np.where(mine, t / (t + f) + gain - f / (t + f) ** 2, -loss) / mine.sum()
    return out
