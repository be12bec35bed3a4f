"""Which predictions to accept so that no more than a given share of them is wrong."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float64, Int64

from bb.probe.statistics.multiclass.by_class import FEWEST, share_interval
from bb.probe.statistics.multiclass.intervals import bounds, spread, too_few


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

    confidence, right  of images that the model was not fitted on. A threshold passes where at most the target of those
            accepted and one further image at the threshold is wrong. That image counts as wrong with the probability
            that its confidence gives; counted as certainly wrong, it gives the bound of conformal risk control
            (Angelopoulos et al. 2024, arXiv 2208.02814), which of few images accepts none. Between the last confidence
            that passes and the next the excess is taken to be linear, and the threshold is where it is zero: else a
            whole error is missing to the target, which of few images is far. So no bound holds for any data; how near
            the mean error is to the target, scripts/bench/predict.py measures. Of n images none is accepted at a target
            below 1/n, of which they would show no error.
    group   the units of the interval: images of one are not independent
    weight  how many images each stands for
    """
    w = np.ones(len(right)) if weight is None else weight / weight.mean()
    order = np.argsort(-confidence, kind="stable")
    ranked = confidence[order]
    accepted, wrong = np.cumsum(w[order]), np.cumsum((w * ~right)[order])
    ends = np.flatnonzero(np.append(ranked[1:] != ranked[:-1], True))  # images of equal confidence go together
    excess = wrong[ends] + (1 - ranked[ends]) - target_error * (accepted[ends] + 1)
    passes = np.flatnonzero(excess <= 0)
    if not len(passes) or target_error * len(right) < 1 - 1e-9:
        return Acceptance(None, 0.0, None, None)
    here, after = int(passes[-1]), min(int(passes[-1]) + 1, len(ends) - 1)
    m = int(ends[here]) + 1
    rows, error = order[:m], float(wrong[m - 1] / accepted[m - 1])
    if group is None and weight is None:
        interval = share_interval(round(wrong[m - 1]), m, 0.95)
    else:
        units = group[rows] if group is not None else None
        found = spread(w[rows] * (~right[rows] - error) / accepted[m - 1], units)
        interval = None if m < FEWEST or too_few("the error", units, found, 1.0) else bounds(error, found, 1.0, 0.95)
    part = excess[here] / (excess[here] - excess[after]) if after > here else 0.0
    threshold = ranked[m - 1] + part * (ranked[ends[after]] - ranked[m - 1])
    return Acceptance(float(threshold), float(accepted[m - 1] / w.sum()), error, interval)
