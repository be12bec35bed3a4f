"""Which predictions to accept so that no more than a given share of them is wrong."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float64, Int64

from bb.probe.statistics.multiclass.by_class import FEWEST, share_interval
from bb.probe.statistics.multiclass.intervals import bounds, spread, too_few

SPARE = 0.5  # errors that are counted beyond those seen


@dataclass(frozen=True)
class Acceptance:
    """Predictions at least as probable as `threshold` are accepted; None where no threshold keeps the error down.

    accepted   share of the labelled images that it accepts
    error      share of these that is wrong, with its 95 % interval (None where there are too few)
    """

    threshold: float | None
    accepted: float
    error: float | None
    interval: tuple[float, float] | None


def accept(
    confidence: Float64[np.ndarray, " n"],
    right: Bool[np.ndarray, " n"],
    target_error: float,
    *,
    group: Int64[np.ndarray, " n"] | None = None,
    weight: Float64[np.ndarray, " n"] | None = None,
) -> Acceptance:
    """The lowest threshold at which a share of at most `target_error` of those accepted is expected to be wrong.

    confidence, right  of images that the model was not fitted on. A threshold passes where (wrong + SPARE)/(accepted +
            SPARE) is at most the target. With a whole error to spare it is conformal risk control (Angelopoulos et al.
            2024, arXiv 2208.02814), whose bound is for all images and not for a share of those accepted: there the mean
            error stays below the target, and of few images none are accepted. The lowest of several thresholds that
            pass is a lucky one, which half an error makes up for: scripts/bench/predict.py measures what is left. It is
            half-way to the next lower confidence, which of few images is far.
    group   the units of the interval: images of one are not independent
    weight  how many images each stands for
    """
    w = np.ones(len(right)) if weight is None else weight / weight.mean()
    order = np.argsort(-confidence, kind="stable")
    ranked = confidence[order]
    accepted, wrong = np.cumsum(w[order]), np.cumsum((w * ~right)[order])
    last = np.append(ranked[1:] != ranked[:-1], True)  # images of equal confidence are accepted together
    passes = np.flatnonzero(last & ((wrong + SPARE) / (accepted + SPARE) <= target_error))
    if not len(passes):
        return Acceptance(None, 0.0, None, None)
    m = int(passes[-1]) + 1
    rows, error = order[:m], float(wrong[m - 1] / accepted[m - 1])
    if group is None and weight is None:
        interval = share_interval(round(wrong[m - 1]), m, 0.95)
    else:
        units = group[rows] if group is not None else None
        found = spread(w[rows] * (~right[rows] - error) / accepted[m - 1], units)
        interval = None if m < FEWEST or too_few("the error", units, found, 1.0) else bounds(error, found, 1.0, 0.95)
    threshold = (ranked[m - 1] + ranked[min(m, len(ranked) - 1)]) / 2
    return Acceptance(float(threshold), float(accepted[m - 1] / w.sum()), error, interval)
