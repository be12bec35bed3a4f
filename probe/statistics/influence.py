"""What each item and each unit adds to a statistic: its influence, from which variances and covariances follow.

Strata. What is given and not drawn again: the tasks, and for all metrics but accuracy each task's class shares. A
statistic is a function of the strata's means, or close to one; an item's influence h is its derivative, from the
jackknife within strata where the statistic bends (Efron and Stein, Annals of Statistics 9, 1981), and is 0 in the mean
over a stratum. A unit's influence g is the sum over its items, those of a stratum times 1/√(1 - a), a the unit's share
of the stratum, since it drew the stratum's mean its way (CR2: Bell and McCaffrey, Survey Methodology 28, 2002). With
one item a unit that is n/(n - 1). The variance is Σg².

Degrees of freedom are those of Σg² if all items of a unit had one common value, the units' values independent and of
equal variance: 2 E²/Var of a quadratic form of normals (Satterthwaite; Imbens and Kolesár, Review of Economics and
Statistics 98, 2016), one less than the number of units where all have the same weight.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64, Int

DENSE = 500  # units up to which the quadratic form is written out; with more, degrees of freedom are many


@dataclass(frozen=True, eq=False)
class WeightedTasks:
    """Of a statistic that is a weighted mean over tasks.

    influence  (n, columns) h
    bias       (columns,) of the estimate, of the order 1/n; 0 for means
    weight     (n,) of each item, 1 in sum
    task, stratum  (n,)
    unit       (n,) the unit that each item is of
    """

    influence: Float64[np.ndarray, "n columns"]
    bias: Float64[np.ndarray, " columns"]
    weight: Float64[np.ndarray, " n"]
    task: Int[np.ndarray, " n"]
    stratum: Int[np.ndarray, " n"]
    unit: Int[np.ndarray, " n"]


@dataclass(frozen=True, eq=False)
class UnitInfluence:
    """
    influence  (units, columns) g
    cells      (cells, columns) the part of g from each stratum, by unit and stratum; unit, item: (cells,) the unit, and
               one of the items
    freedom    degrees of freedom of Σg²
    size       how many units of equal weight these are worth
    """

    influence: Float64[np.ndarray, "units columns"]
    cells: Float64[np.ndarray, "cells columns"]
    unit: Int[np.ndarray, " cells"]
    item: Int[np.ndarray, " cells"]
    freedom: float
    size: float


def of_units(items: WeightedTasks) -> UnitInfluence:
    order = np.lexsort((items.stratum, items.unit))
    unit, stratum, weight = items.unit[order], items.stratum[order], items.weight[order]
    starts = np.flatnonzero(np.r_[True, (np.diff(unit) != 0) | (np.diff(stratum) != 0)])
    cell_unit, cell_stratum, cell_weight = unit[starts], stratum[starts], np.add.reduceat(weight, starts)
    total = np.bincount(cell_stratum, cell_weight)
    share = cell_weight / np.where(total > 0, total, 1)[cell_stratum]
    # A stratum of one unit says nothing of its variance, and its influence is 0.
    factor = np.where(share < 1 - 1e-12, 1 / np.sqrt(np.maximum(1 - share, 1e-12)), 1.0)
    cells = np.add.reduceat(items.influence[order], starts, axis=0) * factor[:, None]
    firsts = np.flatnonzero(np.r_[True, np.diff(cell_unit) != 0])
    influence = np.add.reduceat(cells, firsts, axis=0)
    by_unit = np.add.reduceat(cell_weight, firsts)
    scale, freedom = _quadratic(cell_unit, cell_stratum, cell_weight * factor, share, by_unit, firsts)
    scale = np.sqrt(scale)
    size = float((by_unit**2).sum())
    return UnitInfluence(influence * scale, cells * scale, cell_unit, order[starts], freedom, 1 / size if size else 1.0)


def _quadratic(
    unit: Int[np.ndarray, " cells"],
    stratum: Int[np.ndarray, " cells"],
    pull: Float64[np.ndarray, " cells"],
    share: Float64[np.ndarray, " cells"],
    weight: Float64[np.ndarray, " units"],
    firsts: Int[np.ndarray, " units"],
) -> tuple[float, float]:
    """What makes the expectation of Σg² right where all items of a unit have one value; its degrees of freedom."""
    own = np.add.reduceat(pull, firsts)
    if len(own) > DENSE and own.any():
        return 1.0, float((own**2).sum() ** 2 / (own**4).sum())
    _, strata = np.unique(stratum, return_inverse=True)
    place = np.repeat(np.arange(len(own)), np.diff(firsts, append=len(unit)))
    pulls, shares = np.zeros((2, len(own), strata.max() + 1))
    pulls[place, strata], shares[place, strata] = pull, share
    form = np.diag(own) - pulls @ shares.T
    square = form @ form.T
    expected = float(np.trace(square))
    if expected <= 1e-12 * float((weight**2).sum()):
        return 1.0, 0.0
    return float((weight**2).sum()) / expected, expected**2 / float((square**2).sum())
