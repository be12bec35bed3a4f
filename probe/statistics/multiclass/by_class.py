"""How each class does, and which are taken for each other."""

from dataclasses import dataclass

import numpy as np

from bb.probe.statistics.bounds import score_bounds
from bb.probe.statistics.multiclass.predictions import Predictions

FEWEST = 8  # images of which a share has an interval: docs/statistics.md's tables begin there

Bounds = tuple[float, float] | None


@dataclass(frozen=True)
class OfClass:
    """A class's numbers, NaN where there is nothing to divide by; intervals are None below FEWEST images, or in groups.

    n, predicted  images of it, and taken for it
    recall        of further images of it
    precision     of further images taken for it
    f1            of further images that are of it or taken for it, of which J = F/(2 - F) is the share that are both
    """

    label: int
    n: int
    predicted: int
    recall: float
    precision: float
    f1: float
    recall_interval: Bounds
    precision_interval: Bounds
    f1_interval: Bounds


def by_class(p: Predictions, level: float = 0.95) -> list[OfClass]:
    """Of all classes that have images or are predicted."""
    right, predicted = np.diagonal(p.confusion), p.confusion.sum(axis=0)
    found = []
    for k in np.flatnonzero((p.size > 0) | (predicted > 0)):
        t, n, m = int(right[k]), int(p.size[k]), int(predicted[k])
        grouped = p.group is not None
        of_recall, of_precision, of_either = (
            None if grouped else share_interval(t, of, level) for of in (n, m, n + m - t)
        )
        of_f1 = of_either and (2 * of_either[0] / (1 + of_either[0]), 2 * of_either[1] / (1 + of_either[1]))
        found.append(
            OfClass(
                int(k),
                n,
                m,
                t / n if n else float("nan"),
                t / m if m else float("nan"),
                float(2 * t / (n + m)),
                of_recall,
                of_precision,
                of_f1,
            )
        )
    return found


@dataclass(frozen=True)
class Confused:
    """How many images of class `true` were taken for `predicted`, and their share of the class's."""

    true: int
    predicted: int
    n: int
    share: float


def most_confused(p: Predictions, most: int = 10) -> list[Confused]:
    """The most frequent pairs of a class and another that it was taken for, then by share, then by number."""
    wrong = p.confusion - np.diag(np.diagonal(p.confusion))
    true, predicted = np.nonzero(wrong)
    n = wrong[true, predicted]
    share = n / p.size[true]
    first = np.lexsort((predicted, true, -share, -n))[:most]
    return [Confused(int(true[i]), int(predicted[i]), int(n[i]), float(share[i])) for i in first]


def share_interval(right: int, of: int, level: float) -> Bounds:
    """Of a share of independent answers; None where they are less than FEWEST."""
    if of < FEWEST:
        return None
    share = right / of
    low, high = score_bounds(
        np.array([share]), np.array([share * (1 - share) / max(of - 1, 1)]), np.array([np.inf]), float(of), level
    )
    return min(float(low[0]), share), max(float(high[0]), share)
