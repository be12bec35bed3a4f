"""The largest of many linear functions of each row, without the (m, k) matrix of them all in float64.

Float32 products propose, float64 sums decide. With u = 2^-24, a float32 product x·w of d terms with w rounded first is
off by less than (d + 18) u |x| |w| (Higham, Accuracy and Stability of Numerical Algorithms, 3.1), and adding the
intercept b rounds once more; so a class that is lower than the highest by more than twice such an error is not the
largest.
"""

import numpy as np
from jaxtyping import Float32, Float64, Int64

AT_ONCE = 1 << 24  # products
FEW = 64  # functions below which float64 products of all cost less
U, LEAST = 2.0**-24, 2.0**-149  # float32's rounding, and its least number


def largest(
    x: Float32[np.ndarray, "m d"], coef: Float64[np.ndarray, "k d"], intercept: Float64[np.ndarray, " k"]
) -> tuple[Int64[np.ndarray, " m"], Float64[np.ndarray, " m"]]:
    """The place of the largest x·w + b of each row, of equal ones the first, and its value. x is finite."""
    m, (k, d) = len(x), coef.shape
    if k < FEW:
        return _of_all(x, coef, intercept)
    middle = (intercept.max() + intercept.min()) / 2
    with np.errstate(over="ignore"):
        rounded, shift = coef.astype(np.float32), (intercept - middle).astype(np.float32)
    longest = float(np.sqrt(np.einsum("kd,kd->k", coef, coef).max()))
    furthest = float(np.abs(intercept - middle).max())
    place, value = np.empty(m, np.int64), np.empty(m)
    size = max(AT_ONCE // k, 64)
    for start in range(0, m, size):
        rows = x[start : start + size]
        with np.errstate(over="ignore", invalid="ignore"):
            products = rows @ rounded.T
            products += shift
            highest = products.max(axis=1)
        length = np.sqrt(np.einsum("md,md->m", rows, rows, dtype=np.float64))
        error = (d + 18) * U * (length * longest + furthest) + d * LEAST
        if not (np.isfinite(highest).all() and np.isfinite(rounded).all()):  # too large for float32
            place[start : start + size], value[start : start + size] = _of_all(rows, coef, intercept)
            continue
        least = np.nextafter((highest - 2 * error).astype(np.float32), np.float32(-np.inf))
        row, candidate = np.nonzero(products >= least[:, None])
        found = np.empty(len(row))
        for a in range(0, len(row), size):
            some = slice(a, a + size)
            found[some] = np.einsum("nd,nd->n", rows[row[some]].astype(np.float64), coef[candidate[some]])
        found += intercept[candidate]
        first = np.searchsorted(row, np.arange(len(rows)))
        best = np.maximum.reduceat(found, first)
        is_best = np.flatnonzero(found == best[row])
        winner = is_best[np.searchsorted(row[is_best], np.arange(len(rows)))]
        place[start : start + size], value[start : start + size] = candidate[winner], best
    return place, value


def _of_all(
    x: Float32[np.ndarray, "m d"], coef: Float64[np.ndarray, "k d"], intercept: Float64[np.ndarray, " k"]
) -> tuple[Int64[np.ndarray, " m"], Float64[np.ndarray, " m"]]:
    """The same of float64 products."""
    products = x.astype(np.float64) @ coef.T + intercept
    place = products.argmax(axis=1)
    return place, products[np.arange(len(x)), place]
