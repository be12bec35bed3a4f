"""Which predictions to accept so that no more than a given share of them is wrong."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float64

from bb.probe.statistics.multiclass.by_class import share_interval


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


def accept(confidence: Float64[np.ndarray, " n"], right: Bool[np.ndarray, " n"], target_error: float) -> Acceptance:
    """The lowest threshold at which a share of at most `target_error` of those accepted is expected to be wrong.

    confidence, right  of images that the model was not fitted on. A threshold passes where (wrong + 1)/(accepted + 1)
    is at most the target: one more image, exchangeable with these, is then wrong no more often (conformal risk control,
    Angelopoulos et al. 2024, arXiv 2208.02814, for a share among those accepted, to which it holds approximately).
    """
    order = np.argsort(-confidence, kind="stable")
    ranked = confidence[order]
    wrong = np.cumsum(~right[order])
    last = np.append(ranked[1:] != ranked[:-1], True)  # images of equal confidence are accepted together
    passes = np.flatnonzero(last & ((wrong + 1) / (np.arange(len(ranked)) + 2) <= target_error))
    if not len(passes):
        return Acceptance(None, 0.0, None, None)
    m, errors = int(passes[-1]) + 1, int(wrong[passes[-1]])
    return Acceptance(float(ranked[m - 1]), m / len(ranked), errors / m, share_interval(errors, m, 0.95))
