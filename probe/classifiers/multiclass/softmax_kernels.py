"""The compiled half of the multinomial path: products with the part of the Hessian that is kept row by row."""

# mypy: disallow-untyped-defs=False
# numba infers the types of what it compiles.

import numpy as np

from bb.probe.numba_cache import compiled


@compiled(fastmath=True)
def add_product(z_ND, start_N, class_P, p_P, v_KD, out_KD, first, last):
    """Adds sum_i (diag p_i - p_i p_iᵀ) v z_i z_iᵀ over rows first … last - 1; pairs start[i] … are row i's."""
    d = z_ND.shape[1]
    along = np.empty(v_KD.shape[0], np.float32)
    for i in range(first, last):
        begin, end = start_N[i], start_N[i + 1]
        z = z_ND[i]
        mean = np.float32(0)
        for t in range(begin, end):
            v = v_KD[class_P[t]]
            total = np.float32(0)
            for j in range(d):
                total += z[j] * v[j]
            along[t - begin] = total
            mean += p_P[t] * total
        for t in range(begin, end):
            weight = p_P[t] * (along[t - begin] - mean)
            out = out_KD[class_P[t]]
            for j in range(d):
                out[j] += weight * z[j]


@compiled(fastmath=True)
def add_diagonal(z_ND, start_N, class_P, p_P, out_KD, first, last):
    """Adds the diagonal of the same matrix."""
    d = z_ND.shape[1]
    for i in range(first, last):
        z = z_ND[i]
        for t in range(start_N[i], start_N[i + 1]):
            weight = p_P[t] * (1 - p_P[t])
            out = out_KD[class_P[t]]
            for j in range(d):
                out[j] += weight * z[j] * z[j]
