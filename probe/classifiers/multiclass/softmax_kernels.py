"""The compiled half of the multinomial path: products with the part of the Hessian that is kept row by row."""

# mypy: disallow-untyped-defs=False
# numba infers the types of what it compiles.

import numpy as np

from bb.probe.numba_cache import compiled


@compiled(fastmath=True)
def add_product(z_ND, start_N, class_P, p_P, other_N, v_KD, out_KD, first, last):
    """Adds sum_i (diag p_i - p_i p_iᵀ) v z_i z_iᵀ over rows first … last - 1; pairs start[i] … are row i's.

    other_N[i] is the sum of p_i over the row's other pairs. Products are taken as differences from that of the
    likeliest class: where its p is near 1, all that counts is what the others differ from it.
    """
    d = z_ND.shape[1]
    along = np.empty(v_KD.shape[0], np.float32)
    for i in range(first, last):
        begin, end = start_N[i], start_N[i + 1]
        z = z_ND[i]
        likeliest = begin
        for t in range(begin, end):
            v = v_KD[class_P[t]]
            total = np.float32(0)
            for j in range(d):
                total += z[j] * v[j]
            along[t - begin] = total
            if p_P[t] > p_P[likeliest]:
                likeliest = t
        level = along[likeliest - begin]
        mean = np.float32(0)
        for t in range(begin, end):
            along[t - begin] -= level
            mean += p_P[t] * along[t - begin]
        mean -= other_N[i] * level
        for t in range(begin, end):
            weight = p_P[t] * (along[t - begin] - mean)
            out = out_KD[class_P[t]]
            for j in range(d):
                out[j] += weight * z[j]


@compiled(fastmath=True)
def add_diagonal(z_ND, start_N, class_P, weight_P, out_KD, first, last):
    """Adds the diagonal of the same matrix; weights are p (1 - p)."""
    d = z_ND.shape[1]
    for i in range(first, last):
        z = z_ND[i]
        for t in range(start_N[i], start_N[i + 1]):
            out = out_KD[class_P[t]]
            for j in range(d):
                out[j] += weight_P[t] * z[j] * z[j]
