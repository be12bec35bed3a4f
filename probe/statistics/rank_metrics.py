"""Average precision and AUROC of weighted decisions, compiled: many resamples of one task at once.

The decisions of a column are sorted once; each resample then walks that order with its own weights, a group of
equal decisions at a time, as scikit-learn's curves have one point for each distinct threshold.
"""

import inspect
from collections.abc import Callable
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Float64, Int32
from numba import njit


def _compiled(function: Callable[..., Any]) -> Any:
    """numba's njit of the function inside, for tests have jaxtyping wrap all to check annotations."""
    return njit(cache=True, nogil=True, error_model="numpy")(inspect.unwrap(function))


def descending(
    decision: Float[np.ndarray, "columns n"],
) -> tuple[Int32[np.ndarray, "columns n"], Bool[np.ndarray, "columns n"]]:
    """Each column's order from its highest decision to its lowest, and where in it a group of equal ones ends."""
    order = np.argsort(-decision, axis=1, kind="stable")
    ranked = np.take_along_axis(decision, order, axis=1)
    last = np.ones(ranked.shape, bool)
    last[:, :-1] = ranked[:, 1:] != ranked[:, :-1]
    return order.astype(np.int32), last


@_compiled
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


@_compiled
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
