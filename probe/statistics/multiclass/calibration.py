"""Probabilities that say how often they are right: temperature scaling on held-out folds, and reliability diagrams."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Float64, Int
from scipy.optimize import brentq
from scipy.special import logsumexp, softmax

from bb.probe.statistics.multiclass.by_class import Bounds, share_interval
from bb.probe.statistics.multiclass.contributions import BINS, equal_counts, equal_widths, width_bins
from bb.probe.statistics.multiclass.predictions import Predictions
from bb.store.errors import BBError

COLDEST, HOTTEST = 1e-3, 1e3
UNTRAINED = -1e30  # in place of -inf, which no probability 0 could be multiplied by


def temperature(decisions: Float[np.ndarray, "n classes"], y_true: Int[np.ndarray, " n"]) -> float:
    """The T for which softmax(decisions / T) has the least negative log likelihood (Guo et al. 2017), 0.001 to 1,000.

    decisions  of held-out images: logits, or logarithms of probabilities, which are as good; -inf of a class that the
               classifier was not trained on, whose images say nothing of T. 1 where there are no others
    The loss is convex in β = 1/T, and its derivative, the mean of E_β[z] - z_y, is increasing: T is where it is 0. If
    all images are right the least loss is at β = ∞, and T is the lowest; if decisions say nothing, the highest.
    """
    told = np.isfinite(decisions[np.arange(len(decisions)), y_true])
    if not told.any():
        return 1.0
    z, y_true = decisions[told].astype(np.float64), y_true[told]
    z = np.maximum(z - z.max(axis=1, keepdims=True), UNTRAINED)
    own = z[np.arange(len(z)), y_true]

    def slope(log_temperature: float) -> float:
        beta = np.exp(-log_temperature)
        return float((np.einsum("nk,nk->n", softmax(beta * z, axis=1), z) - own).mean())

    low, high = np.log(COLDEST), np.log(HOTTEST)
    if slope(low) <= 0:
        return COLDEST
    if slope(high) >= 0:
        return HOTTEST
    return float(np.exp(brentq(slope, low, high, xtol=1e-10)))


def calibrated(
    decisions: Float[np.ndarray, "n classes"], y_true: Int[np.ndarray, " n"], fold: Int[np.ndarray, " n"]
) -> Float64[np.ndarray, "n classes"]:
    """Probabilities of images whose temperature was fitted on the other folds' images.

    decisions  of images that their classifier was not fitted on;  fold: at least two
    Errors: BBError with one fold.
    """
    folds = np.unique(fold)
    if len(folds) < 2:
        raise BBError("one fold leaves no other images to fit the temperature on: give two folds or more.")
    out = np.empty(decisions.shape)
    for k in folds:
        mine = fold == k
        out[mine] = probabilities(decisions[mine], temperature(decisions[~mine], y_true[~mine]))
    return out


def probabilities(decisions: Float[np.ndarray, "n classes"], heat: float) -> Float64[np.ndarray, "n classes"]:
    """softmax(decisions / heat)."""
    z = decisions.astype(np.float64) / heat
    return np.exp(z - logsumexp(z, axis=1, keepdims=True))


@dataclass(frozen=True)
class Bin:
    """Images of about the same confidence.

    low, high   the edges; of bins with equal counts, the least and the greatest confidence
    n           how many images
    confidence, accuracy  their means
    interval    of the accuracy, 95% or another level, on further images of this confidence; None below 8 images, or
                in groups
    """

    low: float
    high: float
    n: int
    confidence: float
    accuracy: float
    interval: Bounds


def reliability(p: Predictions, *, adaptive: bool = False, level: float = 0.95) -> list[Bin]:
    """The bins with images that the ECE is the sum of, from the least confident. adaptive: with equal counts."""
    place = equal_counts(p) if adaptive else equal_widths(p)
    return _bins(p.confidence, p.hit, place, adaptive, p.group is not None, level)


def reliability_of(
    confidence: Float64[np.ndarray, " n"], hit: Bool[np.ndarray, " n"], *, grouped: bool, level: float = 0.95
) -> list[Bin]:
    """As `reliability` with bins of equal width, of the predicted classes' probabilities and whether they are right.

    grouped  whether images are in groups, so that no interval is stated
    """
    return _bins(confidence, hit, width_bins(confidence), False, grouped, level)


def _bins(
    confidence: Float64[np.ndarray, " n"],
    hit: Bool[np.ndarray, " n"],
    place: Int[np.ndarray, " n"],
    adaptive: bool,
    grouped: bool,
    level: float,
) -> list[Bin]:
    found = []
    for b in np.unique(place):
        mine = place == b
        inside, n, right = confidence[mine], int(mine.sum()), int(hit[mine].sum())
        edges = (float(inside.min()), float(inside.max())) if adaptive else (b / BINS, (b + 1) / BINS)
        interval = None if grouped else share_interval(right, n, level)
        found.append(Bin(edges[0], edges[1], n, float(inside.mean()), right / n, interval))
    return found
