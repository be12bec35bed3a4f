"""Average precision and AUROC of weighted decisions, compiled: many resamples of one task at once.

The decisions of a column are sorted once; each resample then walks that order with its own weights, a group of
equal decisions at a time, as scikit-learn's curves have one point for each distinct threshold.
"""

import numpy as np
from jaxtyping import Bool, Float, Float64, Int32

from bb.probe.numba_cache import compiled


def descending(
    decision: Float[np.ndarray, "columns n"],
) -> tuple[Int32[np.ndarray, "columns n"], Bool[np.ndarray, "columns n"]]:
    """Each column's order from its highest decision to its lowest, and where in it a group of equal ones ends."""
    order = np.argsort(-decision, axis=1, kind="stable")
    ranked = np.take_along_axis(decision, order, axis=1)
    last = np.ones(ranked.shape, bool)
    last[:, :-1] = ranked[:, 1:] != ranked[:, :-1]
    return order.astype(np.int32), last


@compiled()
def average_precision(
    order: Int32[np.ndarray, "columns n"],
    last: Bool[np.ndarray, "columns n"],
    positive: Bool[np.ndarray, " n"],
    weights: Float64[np.ndarray, "resamples n"],
) -> Float64[np.ndarray, "resamples columns"]:
    """Sum over thresholds of the step in recall times the precision there; NaN without positives."""
    out = np.empty((weights.shape[0], order.shape[0]))
    for b in range(weights.shape[0]):
        for c in range(order.shape[0]):
            drawn = hits = group = area = 0.0
            for j in range(order.shape[1]):
                i = order[c, j]
                weight = weights[b, i]
                drawn += weight
                if positive[i]:
                    group += weight
                if last[c, j]:
                    hits += group
                    if group > 0:
                        area += group * hits / drawn
                    group = 0.0
            out[b, c] = area / hits if hits > 0 else np.nan
    return out


@compiled()
def auroc(
    order: Int32[np.ndarray, "columns n"],
    last: Bool[np.ndarray, "columns n"],
    positive: Bool[np.ndarray, " n"],
    weights: Float64[np.ndarray, "resamples n"],
) -> Float64[np.ndarray, "resamples columns"]:
    """Weight of the pairs of a positive and a negative that are in order, ties counting half; NaN with one class."""
    out = np.empty((weights.shape[0], order.shape[0]))
    for b in range(weights.shape[0]):
        for c in range(order.shape[0]):
            above = misses = hits = group = area = 0.0  # above: positives of higher decisions
            for j in range(order.shape[1]):
                i = order[c, j]
                if positive[i]:
                    group += weights[b, i]
                else:
                    misses += weights[b, i]
                if last[c, j]:
                    area += misses * (above + group / 2)
                    above += group
                    hits += misses
                    group = misses = 0.0
            out[b, c] = area / (above * hits) if above > 0 and hits > 0 else np.nan
    return out


@compiled()
def _precision(hits: float, positives: float, misses: float, negatives: float) -> float:
    """Precision among the others at or above a positive; 1 at the highest item, which has no others."""
    if hits + misses <= 0:
        return 1.0
    return hits * positives / (hits * positives + misses * negatives)


@compiled()
def apart_average_precision(
    order: Int32[np.ndarray, "columns n"],
    last: Bool[np.ndarray, "columns n"],
    positive: Bool[np.ndarray, " n"],
    shares_given: bool,
) -> tuple[Float64[np.ndarray, " columns"], Float64[np.ndarray, "columns n"]]:
    """The mean precision among the items at or above each positive, itself apart; and the same without each item.

    Of the others there, each is positive with a chance that is the precision at that threshold; so their share is
    without bias, where average precision, which counts the item itself, is high by (1 - precision) / (others + 1).
    Others of the item's class are weighted up to the class's size; so are, with given shares, those that are left of
    a class without an item. NaN where less than two positives are left.

    Without an item, thresholds above its own keep their counts and all others lose one: so sums over thresholds from
    above and from below serve all items.
    """
    columns, n = order.shape
    value, without = np.full(columns, np.nan), np.full((columns, n), np.nan)
    m = positive.sum()
    k = n - m
    if m < 2:
        return value, without
    group_of = np.empty(n, np.int64)
    new, a, b = np.empty(n), np.empty(n), np.empty(n)  # positives at a threshold; positives and negatives at or above
    higher, lower = np.zeros(n + 1), np.zeros(n + 1)  # sums over thresholds above g, and at g and below
    for c in range(columns):
        groups = 0
        at = above = below = 0.0
        for j in range(n):
            group_of[j] = groups
            if positive[order[c, j]]:
                at += 1
            else:
                below += 1
            if last[c, j]:
                above += at
                new[groups], a[groups], b[groups] = at, above, below
                groups, at = groups + 1, 0.0
        total = 0.0
        for g in range(groups):
            if new[g] > 0:
                total += new[g] * _precision(a[g] - 1, m / (m - 1), b[g], 1.0)
        value[c] = total / m
        if k > 1:
            left = k / (k - 1) if shares_given else 1.0
            higher[0] = lower[groups] = 0.0
            for g in range(groups):
                step = new[g] * _precision(a[g] - 1, m / (m - 1), b[g], left) if new[g] > 0 else 0.0
                higher[g + 1] = higher[g] + step
            for g in range(groups - 1, -1, -1):
                step = new[g] * _precision(a[g] - 1, m / (m - 1), max(b[g] - 1, 0.0), left) if new[g] > 0 else 0.0
                lower[g] = lower[g + 1] + step
            for j in range(n):
                if not positive[order[c, j]]:
                    without[c, order[c, j]] = (higher[group_of[j]] + lower[group_of[j]]) / m
        if m > 2:
            left = (m if shares_given else m - 1) / (m - 2)
            higher[0] = lower[groups] = 0.0
            for g in range(groups):
                step = new[g] * _precision(a[g] - 1, left, b[g], 1.0) if new[g] > 0 else 0.0
                higher[g + 1] = higher[g] + step
            for g in range(groups - 1, -1, -1):
                step = new[g] * _precision(a[g] - 2, left, b[g], 1.0) if new[g] > 0 and a[g] > 1 else 0.0
                lower[g] = lower[g + 1] + step
            for j in range(n):
                if positive[order[c, j]]:
                    g = group_of[j]
                    own = _precision(a[g] - 2, left, b[g], 1.0) if a[g] > 1 else 0.0
                    without[c, order[c, j]] = (higher[g] + lower[g] - own) / (m - 1)
    return value, without
