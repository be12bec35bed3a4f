"""Stands in until the metrics are there."""

import numpy as np
from jaxtyping import Bool, Float, Int


def map_at_r(hits: Bool[np.ndarray, "q n"], relevant: Int[np.ndarray, " q"]) -> Float[np.ndarray, " q"]:
    """MAP@R of each query, NaN where nothing is relevant."""
    inside = np.arange(hits.shape[1]) < relevant[:, None]
    precision = np.cumsum(hits, axis=1) / (1 + np.arange(hits.shape[1]))
    with np.errstate(invalid="ignore"):
        return (precision * hits * inside).sum(axis=1) / np.where(relevant > 0, relevant, np.nan)
