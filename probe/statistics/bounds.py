"""Interval bounds of scores and differences, from their variance and its degrees of freedom.

Few units. A variance Σg² of few contributions is too small where a rare large one was not drawn. So one that is
estimated gets two more, V' = V + 2c, as Agresti and Coull, and Bonett and Price, add observations: c = Σg⁴/Σg² is the
size of a contribution, less V 3/(n + 2), what it is of n normal ones, which t quantiles allow for.

Scores. A score p between 0 and 1 is as sure as the share of right answers among n = 1 + p(1 - p)/V' independent ones
(Kish's effective sample size; n itself for n independent answers, with V from n - 1). So its bounds are Agresti and
Coull's (The American Statistician 52, 1998), which hold near 0 and 1 where p ± z √V does not, in samples of groups too
(Dean and Pagano, Journal of Survey Statistics and Methodology 3, 2015). Where V is estimated with few degrees of
freedom, n is smaller by (z/t)² (Korn and Graubard, Survey Methodology 24, 1998). For large n this is p ± t √V.

Differences. d ± t √V', where for right and wrong answers of independent units, whose quantile is z, all of c counts: it
is 1/n², one answer (Bonett and Price, British Journal of Mathematical and Statistical Psychology 65, 2012). Where two
models agree on all that was seen, V' is that of two answers, one in favour of each.
"""

import numpy as np
from jaxtyping import Float64
from scipy.special import ndtri, stdtrit

Bounds = tuple[Float64[np.ndarray, " k"], Float64[np.ndarray, " k"]]
_ROUNDING = 1e-12


def quantile(level: float, freedom: Float64[np.ndarray, " k"]) -> Float64[np.ndarray, " k"]:
    """Of Student's t, both tails together 1 - level; with infinite degrees of freedom the normal's."""
    finite = np.isfinite(freedom)
    return np.where(finite, stdtrit(np.where(finite, freedom, 1.0), (1 + level) / 2), ndtri((1 + level) / 2))


def widened(
    variance: Float64[np.ndarray, " k"],
    concentration: Float64[np.ndarray, " k"],
    freedom: Float64[np.ndarray, " k"],
    units: float,
    differences: bool,
) -> Float64[np.ndarray, " k"]:
    """V'. `concentration` is Σg⁴/(Σg²)². Infinite degrees of freedom stand for independent answers, right or wrong: the
    variance of a score follows from the score then, and that of a difference needs two more answers."""
    estimated = np.maximum(concentration - 3 / (units + 2), 0)
    return variance * (1 + 2 * np.where(np.isfinite(freedom), estimated, concentration if differences else 0.0))


def score_bounds(
    score: Float64[np.ndarray, " k"],
    variance: Float64[np.ndarray, " k"],
    freedom: Float64[np.ndarray, " k"],
    units: float,
    level: float,
) -> Bounds:
    """Of scores between 0 and 1. `units` is how many independent ones there are where nothing varies."""
    # A sum of right answers may miss 1 in its last bit, and its variance 0: then nothing varies.
    score = np.where(score > 1 - _ROUNDING, 1.0, np.where(score < _ROUNDING, 0.0, score))
    spread, varies = score * (1 - score), variance > _ROUNDING**2
    n = np.where(varies & (spread > 0), 1 + spread / np.where(varies, variance, 1), units)
    z = float(ndtri((1 + level) / 2))
    n = n * (z / quantile(level, freedom)) ** 2
    centre = (n * score + z**2 / 2) / (n + z**2)
    half = z * np.sqrt(centre * (1 - centre) / (n + z**2))
    return np.clip(centre - half, 0, 1), np.clip(centre + half, 0, 1)
