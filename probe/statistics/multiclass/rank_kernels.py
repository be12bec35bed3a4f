"""Ranking of images by the probabilities of one class after another, compiled: each class is sorted once, and the
contributions of images to its AUROC and average precision follow from one walk.

Sums over classes, and over the images of a class, have a fixed order: where zeros are left out, results are the same to
the bit.
"""

# mypy: disallow-untyped-defs=False
# numba infers the types of what it compiles.

import numpy as np

from bb.probe.numba_cache import compiled


@compiled()
def rank_class(rows, values, order, y, k, m, auroc, precision):
    """Adds what each image contributes to the AUROC and to the average precision of class k; returns the latter.

    rows, values  images and their probabilities of the class; those of the others are 0, and less
    order         places in them, ascending by value
    y, m          (n,) classes; how many images class k has, some but not all
    auroc, precision  (n,) float64, changed in place
    """
    n, kept = y.size, rows.size
    zeros, others = n - kept, n - m
    own = 0
    for j in range(kept):
        own += y[rows[j]] == k
    own_zeros = m - own
    gain = loss = area = 0.0
    if zeros:
        all_of, rest = np.float64(m), np.float64(n - m)
        square = (all_of + rest) ** 2
        for _ in range(own_zeros):
            gain += rest / square
            loss += all_of / square
        before = np.empty((2, kept))
        for j in range(kept):
            before[0, j], before[1, j] = auroc[rows[j]], precision[rows[j]]
        mine_a = ((zeros + 1) / 2 - own_zeros / 2 - 0.5) / (others * m)
        other_a = (m - own_zeros / 2) / (m * others)
        mine_p = (all_of / (all_of + rest) + gain - rest / square) / m
        other_p = -loss / m
        for i in range(n):
            auroc[i] += mine_a if y[i] == k else other_a
            precision[i] += mine_p if y[i] == k else other_p
        for j in range(kept):
            auroc[rows[j]], precision[rows[j]] = before[0, j], before[1, j]
    terms, groups, low, lower = np.empty(kept), 0, 0, 0
    while low < kept:
        value, high, step = values[order[low]], low, 0
        while high < kept and values[order[high]] == value:
            step += y[rows[order[high]]] == k
            high += 1
        t, f = np.float64(own - lower), np.float64(kept - low - own + lower)  # at or above it
        square = (t + f) ** 2
        for _ in range(step):
            gain += f / square
            loss += t / square
        rank, below = zeros + (low + 1 + high) / 2, (2 * lower + step) / 2 + own_zeros
        # An image of the class counts the others below it, one of another the images of the class above it.
        mine_a, other_a = (rank - below - 0.5) / (others * m), (m - below) / (m * others)
        mine_p, other_p = (t / (t + f) + gain - f / square) / m, -loss / m
        for j in range(low, high):
            i = rows[order[j]]
            auroc[i] += mine_a if y[i] == k else other_a
            precision[i] += mine_p if y[i] == k else other_p
        if step:
            terms[groups] = step * t / (t + f)
            groups += 1
        low, lower = high, lower + step
    for g in range(groups):
        area += terms[groups - 1 - g]
    if own_zeros:
        area += own_zeros * np.float64(m) / n
    return area / m


@compiled()
def count_columns(x_NK):
    """(k,) how many of each column are not 0."""
    out = np.zeros(x_NK.shape[1], np.int64)
    for i in range(x_NK.shape[0]):
        for j in range(x_NK.shape[1]):
            out[j] += 1 if x_NK[i, j] != 0 else 0
    return out


@compiled()
def fill_columns(x_NK, starts, rows, values):
    """The rows and values of what is not 0, column after column, from each one's start."""
    place = starts[:-1].copy()
    for i in range(x_NK.shape[0]):
        for j in range(x_NK.shape[1]):
            if x_NK[i, j] != 0:
                rows[place[j]], values[place[j]] = i, x_NK[i, j]
                place[j] += 1


@compiled()
def count_before(x_NK, y):
    """(n,) how many classes of each row have more than class y of it, or the same and a lower number."""
    out = np.empty(x_NK.shape[0], np.int64)
    for i in range(x_NK.shape[0]):
        row, own, count = x_NK[i], x_NK[i, y[i]], 0
        for j in range(row.size):
            count += 1 if row[j] > own else 0
        for j in range(y[i]):
            count += 1 if row[j] == own else 0
        out[i] = count
    return out
