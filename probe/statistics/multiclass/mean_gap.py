"""An interval of the expected calibration error, Σ|x_b| of the gaps x_b of bins, over as many further images.

A gap is normal around μ_b with standard error s_b, so |x_b| is folded normal. With t = |μ_b|/s_b, taken to be the same
in all bins, the sum has the mean m(t) = f(t) Σ s_b and the variance v(t) Σ s_b²,

    f(t) = √(2/π) exp(-t²/2) + t (1 - 2 Φ(-t)),   v(t) = 1 + t² - f(t)².

The bounds are those of the means m(t) with which the sum is in accord, each with its own variance, as in a score
interval: the variance at the estimate is the larger, the larger that happens to be. No mean is below m(0), that of a
calibrated classifier. So near it a sum is compared with what the best of all t explains (Feldman and Cousins, Physical
Review D 57, 1998), which for normal sums a distance d above m(0) accepts from -(d² + h²)/(2d) to h, h where that has
the level. Where m(0) is among the means the lower bound is 0, as errors s_b are estimates and m(0) is one, too.
"""

import numpy as np
from jaxtyping import Float64
from scipy.special import ndtr, ndtri

GRID = 1_000  # values of t
HALVINGS = 40


def mean_gap_bounds(
    value: float, errors: Float64[np.ndarray, " bins"], level: float, widening: float = 1.0
) -> tuple[float, float]:
    """Of the mean over further samples. They hold the value.

    value     the sum of the gaps' sizes;  errors  their standard errors
    widening  multiplies the variance
    """
    errors = errors * np.sqrt(widening)
    total, square = float(errors.sum()), float(np.sqrt((errors**2).sum()))
    if total == 0:
        return value, value
    t = np.linspace(max(0, (value - 6 * square) / total - 1), (value + 6 * square) / total + 1, GRID)
    folded = np.sqrt(2 / np.pi) * np.exp(-(t**2) / 2) + t * (1 - 2 * ndtr(-t))
    mean, deviation = total * folded, square * np.sqrt(1 + t**2 - folded**2)
    below, above = _accepted((mean - total * np.sqrt(2 / np.pi)) / deviation, level)
    low, high = np.flatnonzero((value - mean >= below * deviation) & (value - mean <= above * deviation))[[0, -1]]
    return float(min(value, mean[low])) if t[low] else 0.0, float(max(value, mean[high]))


def _accepted(
    d: Float64[np.ndarray, " t"], level: float
) -> tuple[Float64[np.ndarray, " t"], Float64[np.ndarray, " t"]]:
    """From where to where a standard normal is accepted whose mean is d above the least one possible."""
    z = float(ndtri((1 + level) / 2))
    low, high = np.full_like(d, ndtri(level)), np.full_like(d, z)
    with np.errstate(divide="ignore"):
        for _ in range(HALVINGS):
            h = (low + high) / 2
            enough = ndtr(h) - ndtr(-(d**2 + h**2) / (2 * d)) >= level
            low, high = np.where(enough, low, h), np.where(enough, h, high)
        return np.where(d < z, -(d**2 + high**2) / (2 * d), -z), np.where(d < z, high, z)
